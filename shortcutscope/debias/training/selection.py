"""Which weights of a training are returned: a rule on held-out samples that needs no concept labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from shortcutscope.debias.objective import cross_entropies
from shortcutscope.debias.training.checkpoint import Tensors
from shortcutscope.debias.training.settings import Select
from shortcutscope.models.heads.targets import find_logits

__all__ = ["RULES", "Best", "Score", "validate"]

#: What is the best by each rule, in words.
RULES: dict[Select, str] = {
    "loss": "least loss",
    "accuracy": "best accuracy",
    "worst-class": "best worst-class accuracy",
}


@dataclass(frozen=True)
class Score:
    """How a model does on the validation samples.

    Attributes
    ----------
    loss
        Mean loss: the cross-entropy, or the user's own.
    accuracy
        Over all samples.
    worst_class
        Least accuracy over the classes that occur.
    """

    loss: float
    accuracy: float
    worst_class: float

    def key(self, select: Select) -> tuple[float, float]:
        """Smaller is better; what is recognised equally well is told apart by the loss."""
        if select == "loss":
            return self.loss, 0.0
        return -(self.accuracy if select == "accuracy" else self.worst_class), self.loss


@dataclass
class Best:
    """The best validation so far.

    Attributes
    ----------
    step
        Optimiser steps that its weights had; 0 before the first validation.
    score, tensors
        What it scored, and its weights.
    since
        Validations since.
    """

    step: int = 0
    score: Score | None = None
    since: int = 0
    tensors: Tensors = field(default_factory=dict)

    def improves(self, score: Score, select: Select) -> bool:
        """Whether a score is better than the best."""
        return self.score is None or score.key(select) < self.score.key(select)


@torch.no_grad()
def validate(
    model: nn.Module,
    images: Callable[[Tensor], Tensor],
    labels: Tensor,
    *,
    batch_size: int,
    share: slice,
    total: Callable[[Tensor], Tensor],
    losses: Callable[[Tensor, Tensor], Tensor] = cross_entropies,
) -> Score:
    """Score a model, which is in evaluation mode, on one process's share of the samples and sum over all.

    Parameters
    ----------
    images
        The model's inputs for some rows.
    labels
        (N,) of all validation samples, on the CPU.
    share
        Rows that this process scores.
    total
        Sums a tensor over all processes.
    losses
        Of samples, from scores and classes.
    """
    anchor = next(model.parameters())
    classes = int(labels.max()) + 1
    dtype = torch.float32 if anchor.device.type == "mps" else torch.float64
    # Summed loss, then correct samples and all samples of each class.
    sums = torch.zeros(3, classes, dtype=dtype, device=anchor.device)
    for rows in torch.split(torch.arange(len(labels))[share], batch_size):
        target = labels[rows].to(anchor.device)
        logits = find_logits(model(images(rows)))
        predicted = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
        sums[0, 0] += losses(logits, target).sum()
        sums[1] += torch.bincount(target[predicted == target], minlength=classes)
        sums[2] += torch.bincount(target, minlength=classes)
    loss, correct, count = total(sums).cpu()
    accuracies = correct[count > 0] / count[count > 0]
    n = len(labels)
    return Score(float(loss[0]) / n, float(correct.sum()) / n, float(accuracies.min()))
