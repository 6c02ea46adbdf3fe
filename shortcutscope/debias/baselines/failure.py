"""Learning from failure: a network made to be biased tells which samples it finds relatively hard."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor, distributed, nn

from shortcutscope.allowed import Number
from shortcutscope.debias.budget import train
from shortcutscope.debias.objective import Batch, Objective, cross_entropies
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.models.heads.targets import find_logits


class LearningFromFailure(Objective):
    """Cross-entropy weighted by relative difficulty, beside the training of a biased network.

    Nam et al. 2020 ("Learning from failure: training debiased classifier from biased classifier"),
    algorithm 1: the biased network minimises the generalised cross-entropy, and the other's samples weigh
    W = L_b / (L_b + L_d), where L_b and L_d are the two networks' cross-entropies, averaged
    exponentially over a sample's visits and divided by the largest of its class, as in the authors' code.

    Parameters
    ----------
    biased
        The network that is to become biased; a part of the objective, trained along.
    labels
        (N,) of the training table.
    q
        Of the generalised cross-entropy.
    decay
        Of the moving averages, alpha in the authors' code.
    """

    averages: Tensor
    seen: Tensor
    _labels: Tensor

    def __init__(self, biased: nn.Module, labels: Tensor, *, q: float = 0.7, decay: float = 0.7) -> None:
        super().__init__()
        self.biased = biased
        self.q, self.decay = q, decay
        # Averages by row of the biased network (0) and of the one that is wanted (1).
        self.register_buffer("averages", torch.zeros(2, len(labels)))
        self.register_buffer("seen", torch.zeros(len(labels)))
        self.register_buffer("_labels", labels.clone(), persistent=False)
        self._n_classes = int(labels.max()) + 1

    def networks(self) -> tuple[nn.Module, ...]:  # noqa: D102
        return (self.biased,)

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        biased = cross_entropies(find_logits(self.biased(batch.images)), batch.labels)
        target_losses = cross_entropies(find_logits(model(batch.images)), batch.labels)
        weights = self._difficulty(torch.stack([biased, target_losses]).detach(), batch)
        return {"ce": (weights * target_losses).mean(), "biased": generalised(biased, self.q).mean()}

    @torch.no_grad()
    def _difficulty(self, losses: Tensor, batch: Batch) -> Tensor:
        """W of every sample of the batch (N,), after its losses (2, N) have entered the averages."""
        rows = batch.rows.to(self.averages.device)
        visits = self.averages.new_zeros(3, len(self.seen))
        visits[:2, rows], visits[2, rows] = losses.to(visits.dtype), 1
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(visits)
        averages = self.decay * self.averages + (1 - self.decay * self.seen) * visits[:2]
        self.averages.copy_(torch.where(visits[2] > 0, averages, self.averages))
        self.seen.copy_(torch.maximum(self.seen, visits[2]))
        largest = self.averages.new_zeros(2, self._n_classes)
        largest = largest.scatter_reduce(1, self._labels.expand(2, -1), self.averages, "amax")
        relative = self.averages[:, rows] / largest[:, batch.labels].clamp(min=1e-12)
        return relative[0] / (relative.sum(0) + 1e-8)


def generalised(losses: Tensor, q: float) -> Tensor:
    """Generalised cross-entropy (1 - p^q) / q of the label's probability p = exp(-cross-entropy).

    Zhang & Sabuncu 2018; its gradient is p^q times that of the cross-entropy (Nam et al. 2020), so that
    it amplifies what is easy.
    """
    return -torch.expm1(-q * losses) / q


def lff(
    problem: DebiasProblem,
    *,
    q: Annotated[float, Number(0, 1, whole=False, above=True)] = 0.7,
    decay: Annotated[float, Number(0, 1, whole=False, below=True)] = 0.7,
) -> Outcome:
    """Learning from failure (Nam et al. 2020, algorithm 1).

    Sees labels only. The biased network is trained along at every step, on the same batch, so that a step
    costs twice as much; it begins as the student does; of new weights, with the next seed.

    Parameters
    ----------
    problem
        Biased samples and labels are enough.
    q
        Amplification of what is easy, in (0, 1].
    decay
        Of the moving averages of the losses, in [0, 1).
    """
    labels = torch.as_tensor(problem.train.frame["label"].to_numpy(copy=True), dtype=torch.long)
    biased = replace(problem, seed=problem.seed + 1).network()
    objective = LearningFromFailure(biased, labels, q=q, decay=decay)
    return train(problem, objective, "lff").with_notes(["a step trains two networks"])
