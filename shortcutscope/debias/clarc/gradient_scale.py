"""The weight of a penalty relative to the task loss, by the lengths of their gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from shortcutscope.errors import InputError


class GradientScale(nn.Module):
    """Weighs a penalty so that its gradient is `strength` times as long as that of the task loss.

    Weights of penalties on gradients are published between 10 and 1e11, since their size depends on the
    network, the layer and the input's range. Relative to the task loss one number fits all: at strength 1
    both pull the weights equally hard at the beginning.

    Parameters
    ----------
    strength
        Length of the penalty's gradient as a share of the task loss's.
    batches
        Number of batches, from the first in which the penalty has a gradient, over which both lengths are
        averaged; then the weight stays as it is.
    momentum
        Of a running average of both lengths, which goes on through the whole training; instead of `batches`.
    every
        With `momentum`, steps between two measurements, each of which costs two more backward passes.

    Attributes
    ----------
    task, penalty
        Mean gradient lengths so far.
    calls, measured
        Steps seen, and batches measured. All four are buffers, so that a checkpoint keeps them.

    Raises
    ------
    InputError
        An option out of range.
    """

    task: Tensor
    penalty: Tensor
    calls: Tensor
    measured: Tensor

    def __init__(
        self, strength: float, *, batches: int = 8, momentum: float | None = None, every: int = 10
    ) -> None:
        super().__init__()
        if strength < 0 or batches < 1 or every < 1 or not (momentum is None or 0 <= momentum < 1):
            raise InputError(
                f"strength={strength}, batches={batches}, momentum={momentum}, every={every}: allowed are "
                "strength >= 0, batches >= 1, every >= 1 and a momentum from 0 to below 1, or None"
            )
        self._strength, self._batches, self._momentum, self._every = strength, batches, momentum, every
        for name in ("task", "penalty"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        for name in ("calls", "measured"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))

    @property
    def weight(self) -> float:
        """Factor of the penalty; 0 as long as nothing could be measured."""
        return self._strength * float(self.task / self.penalty) if self.penalty > 0 else 0.0

    def forward(self, task: Tensor, penalty: Tensor, parameters: Iterable[Tensor]) -> Tensor:
        """The weighted penalty, a scalar.

        Parameters
        ----------
        task, penalty
            Scalars with graph.
        parameters
            With respect to which the lengths are taken; those that need no gradient are passed over.
        """
        if penalty.requires_grad and self._due():
            self._measure(task, penalty, [p for p in parameters if p.requires_grad])
        self.calls += 1
        return self.weight * penalty

    def _due(self) -> bool:
        if self._momentum is None:
            return int(self.measured) < self._batches
        return int(self.measured) == 0 or int(self.calls) % self._every == 0

    def _measure(self, task: Tensor, penalty: Tensor, parameters: list[Tensor]) -> None:
        lengths = torch.stack([_length(loss, parameters) for loss in (task, penalty)])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # So that all processes go on with one weight.
            torch.distributed.all_reduce(lengths)
            lengths /= torch.distributed.get_world_size()
        if not bool(torch.isfinite(lengths).all()) or float(lengths[1]) == 0:
            return
        count = int(self.measured)
        keep = count / (count + 1) if self._momentum is None else (self._momentum if count else 0.0)
        for average, new in zip((self.task, self.penalty), lengths, strict=True):
            average.mul_(keep).add_((1 - keep) * new.to(average))
        self.measured += 1

    @property
    def note(self) -> str:
        """What a reader should know of the weight."""
        how = (
            f"measured on the first {self._batches} batches and then fixed"
            if self._momentum is None
            else f"a running average (momentum {self._momentum}) measured every {self._every} steps"
        )
        return (
            f"lambda is relative: the penalty's gradient was {self._strength:g} times as long as the task "
            f"loss's, {how}; as an absolute factor {self.weight:.3g}"
        )


def _length(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    squares = [g.detach().double().square().sum() for g in gradients if g is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros((), dtype=torch.float64)
