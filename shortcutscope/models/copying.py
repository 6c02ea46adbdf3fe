"""Copies of networks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def copied(model: Module, memo: dict[int, object] | None = None) -> Module:
    """A deep copy of a network, also where its modules keep what they computed.

    ``torch.nn.utils.weight_norm`` and the like keep the weight of the last pass as an attribute with a graph
    behind it, which `copy.deepcopy` refuses; the copy gets its values, which its next pass replaces.

    Parameters
    ----------
    model
        It is not changed.
    memo
        What stands for what, as of `copy.deepcopy`.
    """
    memory = dict(memo or {})
    for module in model.modules():
        for value in _computed(vars(module)):
            memory.setdefault(id(value), value.detach().clone())
    return copy.deepcopy(model, memory)


def _computed(content: object) -> Iterator[Tensor]:
    """The tensors with a graph behind them among attributes, also in lists and dictionaries."""
    if isinstance(content, Tensor):
        if content.grad_fn is not None:
            yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _computed(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _computed(value)
