"""A network's forward passes in mixed precision, whoever calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def autocast_forward(model: nn.Module, device: str, precision: torch.dtype | None) -> Iterator[None]:
    """Autocast in the model's forward pass alone: backward passes run outside, as they should."""
    if precision is None:
        yield
        return
    mixed: AbstractContextManager[object] = torch.autocast(device, dtype=precision)

    def enter(*arguments: Any) -> None:
        mixed.__enter__()

    def leave(*arguments: Any) -> None:
        mixed.__exit__(None, None, None)

    handles = (
        model.register_forward_pre_hook(enter),
        model.register_forward_hook(leave, always_call=True),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
