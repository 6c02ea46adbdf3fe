"""The table of operations that need a rule."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from shortcutscope.attribution.lrp.mode import Propagation

Operation = Callable[..., Any]

#: Operation name -> what to call in its place, with the mode and the operation in front.
TABLE: dict[str, Operation] = {}


def follows(value: object) -> bool:
    """Whether relevance flows through a value: a tensor of the graph."""
    return isinstance(value, Tensor) and value.requires_grad


def on(*names: str) -> Callable[[Operation], Operation]:
    """Enter a rule into the table under these names."""

    def register(rule: Operation) -> Operation:
        TABLE.update(dict.fromkeys(names, rule))
        return rule

    return register


def of_one(rule: Operation) -> Operation:
    """A rule of operations on one activation, which others of the same name (on constants) do not need."""

    @functools.wraps(rule)
    def applied(run: Propagation, func: Operation, input: Any, *args: Any, **kwargs: Any) -> Any:
        if not follows(input):
            return func(input, *args, **kwargs)
        return rule(run, func, input, *args, **kwargs)

    return applied
