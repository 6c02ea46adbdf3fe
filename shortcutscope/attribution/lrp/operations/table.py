"""The table of operations that need a rule."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from shortcutscope.attribution.lrp.composites import Composite
from shortcutscope.attribution.lrp.functions import Affine
from shortcutscope.attribution.lrp.saved import SavedTensors
from shortcutscope.types import Operation


class Propagating(Protocol):
    """What a rule knows of the forward pass that it is part of, see `shortcutscope.attribution.lrp.mode`."""

    composite: Composite
    measure: bool
    saved: SavedTensors
    calls: list[Affine]
    on_attention: Callable[[Tensor], None] | None


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
    def applied(run: Propagating, func: Operation, input: object, *args: object, **kwargs: object) -> Any:
        if not follows(input):
            return func(input, *args, **kwargs)
        return rule(run, func, input, *args, **kwargs)

    return applied
