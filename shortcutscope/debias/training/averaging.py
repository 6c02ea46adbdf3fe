"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shortcutscope.debias.training.checkpoint import Tensors, restore, snapshot, tensors_of

__all__ = ["MovingAverage"]


class MovingAverage:
    """The average of a module's weights and floating buffers (batch norm's statistics) over the steps.

    The decay rises to its final value as ``(1 + t) / (10 + t)`` after t steps, so that the first weights do
    not weigh on short trainings (as in TensorFlow's ExponentialMovingAverage).

    Attributes
    ----------
    tensors
        The average; buffers of whole numbers are the latest.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module, self._decay = module, decay
        self.tensors: Tensors = snapshot(module)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after this many steps."""
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        for name, value in tensors_of(self._module).items():
            if value.is_floating_point():
                self.tensors[name].lerp_(value, weight)
            else:
                self.tensors[name].copy_(value)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from an average that was kept."""
        for name, value in self.tensors.items():
            value.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averaged weights inside, and its own again behind."""
        weights = snapshot(self._module)
        restore(self._module, self.tensors)
        try:
            yield
        finally:
            restore(self._module, weights)
