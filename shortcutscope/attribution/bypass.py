"""Code that takes part in a forward pass without the rules seeing it.

A function mode sees the operations that Python calls. Scripted code and custom autograd functions run past
it, and their relevance is anyone's guess. A defect need not show it: the operation behind them, if it has a
bias, takes the blame. The graph does show it: autograd numbers its nodes in the order of their making, and
a node that no seen operation made was made unseen.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from shortcutscope.attribution.lrp import Composite, Propagation
from shortcutscope.attribution.lrp.scope import ModuleScope
from shortcutscope.types import Arguments, Operation, Record

#: Nodes of leaves are numbered like this, since they are not made by an operation.
_LEAF = 2**64 - 1


@dataclass(frozen=True)
class Unseen:
    """A node that no seen operation made.

    Attributes
    ----------
    node
        Autograd's name of it; custom functions have their own.
    place
        The modules of the operations before and behind it, in words.
    """

    node: str
    place: str


class WatchedPropagation(Propagation):
    """A propagation that knows which nodes of the graph its operations made.

    Parameters
    ----------
    composite
        The rules.
    scope
        Entered around the forward pass.

    Attributes
    ----------
    checkpointed
        Module in which tensors are thrown away and computed anew in the backward pass, None if there is
        none: computed outside of this mode, they are not those that the rules have saved.
    """

    def __init__(self, composite: Composite, scope: ModuleScope) -> None:
        super().__init__(composite)
        self.checkpointed: str | None = None
        self._scope = scope
        self._first = self._last = _next_number()
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._modules: list[str] = []

    def __exit__(self, *error: object) -> None:
        self._last = _next_number()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def operate(self, name: str, func: Operation, args: Arguments, kwargs: Record) -> Any:
        """See `Propagation.operate`."""
        start = _next_number()
        if self.checkpointed is None and _is_checkpointed():
            self.checkpointed = self._scope.current
        result = super().operate(name, func, args, kwargs)
        self._starts.append(start)
        self._stops.append(_next_number())
        self._modules.append(self._scope.current)
        return result

    def unseen(self, output: Tensor) -> Unseen | None:
        """A node behind `output` that was made during the forward pass, but by no operation."""
        for node in _nodes(output):
            number = node._sequence_nr()
            if number == _LEAF or not self._first <= number < self._last:
                continue  # not of this forward pass
            before = bisect_right(self._starts, number) - 1
            if before < 0 or number >= self._stops[before]:
                return Unseen(node.name(), self._place(before))
        return None

    def _place(self, before: int) -> str:
        modules = self._modules[max(before, 0) : before + 2]
        names = [module or "the model itself" for module in modules]
        if len(set(names)) == 1:
            return f"in {names[0]}"
        return f"between {' and '.join(names)}" if names else "in the model"


def _nodes(output: Tensor) -> Iterator[Node]:
    waiting, visited = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


def _next_number() -> int:
    number: int = torch._C._autograd._get_sequence_nr()
    return number


def _is_checkpointed() -> bool:
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint"


__all__ = ["Unseen", "WatchedPropagation"]
