"""What training minimises: named terms whose sum is the loss, and how often each sample is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone reads)
from torch import Tensor, nn

from shortcutscope.attribution.hooks import visiting
from shortcutscope.debias.callables import SampleLosses, name_of
from shortcutscope.errors import InputError
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.layers import Layer

__all__ = ["Batch", "CrossEntropy", "Objective", "cross_entropy", "forward_with_layers"]


@dataclass(frozen=True)
class Batch:
    """What one training step is given.

    Attributes
    ----------
    images
        (N, C, *spatial) inputs of the model, augmented, on its device.
    labels
        (N,) int64.
    rows
        (N,) int64 on the CPU: rows of the training table, by which an objective finds what it knows of a
        sample.
    progress
        Share of the training that is done, in [0, 1).
    generator
        On the CPU, drawn anew for every step; for whatever an objective draws (mixup).
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    progress: float = 0.0
    generator: torch.Generator = field(default_factory=torch.Generator)


class Objective(nn.Module, ABC):
    """Base of all training objectives.

    Its own parameters (probes, adapters, an adversary) are trained along with the model, and its buffers
    are part of a checkpoint. What it knows of each sample is no buffer but a plain tensor on the CPU,
    which `at` looks up.
    """

    #: False where the loss needs the images as they are, for example beside cached outputs of a teacher.
    allows_augmentation: bool = True
    #: Whether the label's losses are those of `losses`, so that the user's own can take their place.
    takes_loss: bool = False
    #: Loss of every sample (N,) from scores (N, K) and classes (N,).
    losses: SampleLosses

    def __init__(self) -> None:
        super().__init__()
        self.losses = cross_entropies

    def take_loss(self, losses: SampleLosses) -> None:
        """Learn labels by the user's loss instead of the cross-entropy.

        Raises
        ------
        InputError
            When the loss of this objective is its own.
        """
        if not self.takes_loss:
            raise InputError(
                f"loss={name_of(losses)}: {type(self).__name__} has a loss of its own; leave loss out, or "
                "choose a recipe that learns labels by cross-entropy, such as 'erm', 'finetune' or "
                "'group-balanced'"
            )
        self.losses = losses

    @abstractmethod
    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Named scalars, already weighted; their sum is what is minimised."""

    def draws(self) -> Tensor | None:
        """How often each row of the training table is drawn, (N,) relative weights; None for all alike."""
        return None

    def networks(self) -> tuple[nn.Module, ...]:
        """Further networks that are given the batch's images, beside the model."""
        return ()

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """As `terms`; so that a wrapper for several processes can stand around it."""
        return self.terms(model, batch)


def at(values: Tensor, batch: Batch) -> Tensor:
    """The batch's rows of something kept per sample, on the batch's device."""
    return values[batch.rows].to(batch.images.device)


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy, in float32, of (N, K) logits, or of (N, 1) for a binary task.

    `weights` (N,) multiply the samples' losses before the mean is taken.
    """
    losses = cross_entropies(logits, labels)
    return (losses if weights is None else losses * weights).mean()


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every sample (N,)."""
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits.dtype), reduction="none")
    return F.cross_entropy(logits, labels, reduction="none")


class CrossEntropy(Objective):
    """Empirical risk minimisation, with a weight for every sample where wanted.

    Parameters
    ----------
    weights
        (N,) per row of the training table, of mean 1; None for all alike.
    draws
        (N,) relative frequency with which each row is drawn; None for all alike.
    """

    takes_loss = True

    def __init__(self, weights: Tensor | None = None, draws: Tensor | None = None) -> None:
        super().__init__()
        self._weights, self._draws = weights, draws

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        losses = self.losses(find_logits(model(batch.images)), batch.labels)
        return {"ce": (losses if self._weights is None else losses * at(self._weights, batch)).mean()}

    def draws(self) -> Tensor | None:  # noqa: D102
        return self._draws


def forward_with_layers(
    model: nn.Module, images: Tensor, layers: Sequence[Layer]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits (N, K) and every layer's output (N, C, *grid), in one forward pass and with its graph."""
    outputs: dict[str, Tensor] = {}

    def keep(layer: Layer, values: Tensor) -> None:
        outputs[layer.name] = layer.channels_first(values.clone() if layer.overwritten else values)

    with visiting(model, layers, keep):
        logits = find_logits(model(images))
    return logits, outputs
