"""How far inputs are from those that a network was trained on, as its batch norms remember them.

A batch norm keeps mean and variance of every channel over the training images. Labels play no part in it, so
that it tells readings apart on few images; images of another origin are further away too, in any reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: Largest divergence of one channel that counts: a channel that hardly varied in training says little.
MOST = 10.0


class BatchNorms:
    """The batch norms of a model, listening.

    Parameters
    ----------
    model
        Lent out, in evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [m for m in model.modules() if isinstance(m, _NORMS) and m.running_mean is not None]
        self._norms: list[Any] = [m for m in norms if not m.training]
        self._sums: dict[str, dict[int, Tensor]] = {}

    @property
    def known(self) -> bool:
        """Whether there are any."""
        return bool(self._norms)

    @contextmanager
    def listening(self, name: str) -> Iterator[None]:
        """Count what goes in during the passes of one reading."""
        sums = self._sums.setdefault(name, {})

        def listen(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0].detach().float()
            axes = [axis for axis in range(x.ndim) if axis != 1]
            count = torch.full((x.shape[1],), x.numel() / x.shape[1], device=x.device)
            now = torch.stack([count, x.sum(axes), x.square().sum(axes)]).double()
            sums[id(module)] = sums[id(module)] + now if id(module) in sums else now

        handles = [module.register_forward_pre_hook(listen) for module in self._norms]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def distance(self, name: str) -> float:
        """Kullback-Leibler divergence of the inputs of a reading from those in training, NaN without norms.

        Of normal distributions by channel; the mean over channels, and then over the batch norms.
        """
        sums = self._sums.get(name, {})
        distances = [_divergence(norm, sums[id(norm)]) for norm in self._norms if id(norm) in sums]
        return sum(distances) / len(distances) if distances else float("nan")


def _divergence(norm: Any, sums: Tensor) -> float:
    count, first, second = sums
    mean, expected = first / count, norm.running_mean.double()
    variance = (second / count - mean**2).clamp(min=0) + norm.eps
    reference = norm.running_var.double() + norm.eps
    ratio = variance / reference
    apart = (ratio + (mean - expected) ** 2 / reference - 1 - ratio.log()) / 2
    return float(apart.clamp(max=MOST).nan_to_num(MOST).mean())
