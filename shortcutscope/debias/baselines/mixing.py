"""Samples mixed with others: with any (mixup), or with those that keep label or concept (LISA)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.allowed import Positive, Share
from shortcutscope.debias.budget import train
from shortcutscope.debias.callables import SampleLosses
from shortcutscope.debias.groups import Groups, balanced_weights, training_groups
from shortcutscope.debias.objective import Batch, Objective
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.models.heads.targets import find_logits

Strategy = Literal["label", "concept"]


class Mixup(Objective):
    """Cross-entropy of x = t x_i + (1 - t) x_j against both labels, weighted by t and 1 - t.

    Zhang et al. 2018 ("mixup: beyond empirical risk minimization"); one t ~ Beta(alpha, alpha)
    per batch, as in the authors' code.
    """

    takes_loss = True

    def __init__(self, alpha: float = 0.2) -> None:
        super().__init__()
        self.alpha = alpha

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        share = _beta(self.alpha, 1, batch.generator).expand(len(batch.rows))
        partners = torch.randperm(len(batch.rows), generator=batch.generator)
        return {"ce_mixed": mixed_losses(self.losses, model, batch, partners, share)}


class Lisa(Objective):
    """Mixup of samples of one label with another concept, or of one concept with another label.

    Yao et al. 2022 ("Improving out-of-distribution robustness via selective augmentation"):
    intra-label mixing with probability `p_label`, else intra-domain mixing, chosen per batch; one t per
    sample, as in the authors' code. Partners come from the batch, in which every group is drawn alike. A
    sample without a partner, or of unknown concept, stays as it is.

    Parameters
    ----------
    groups
        Of the training table.
    alpha
        Of the Beta distribution.
    p_label
        Probability of intra-label mixing.
    """

    takes_loss = True

    def __init__(self, groups: Groups, *, alpha: float = 2.0, p_label: float = 0.5) -> None:
        super().__init__()
        self.alpha, self.p_label = alpha, p_label
        self._labels, self._index = torch.from_numpy(groups.labels), groups.tensor()
        self._draws = balanced_weights(groups)

    def draws(self) -> Tensor:
        """Every group alike."""
        return self._draws

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        generator = batch.generator
        first = float(torch.rand((), generator=generator)) < self.p_label
        strategy: Strategy = "label" if first else "concept"
        partners = lisa_partners(self._labels[batch.rows], self._index[batch.rows], strategy, generator)
        share = _beta(self.alpha, len(batch.rows), generator)
        return {"ce_mixed": mixed_losses(self.losses, model, batch, partners, share)}


def lisa_partners(labels: Tensor, index: Tensor, strategy: Strategy, generator: torch.Generator) -> Tensor:
    """With whom every sample of a batch is mixed, (N,); itself where nobody fits. All on the CPU.

    Parameters
    ----------
    labels
        (N,).
    index
        (N,) groups as in `Groups`: odd where the concept is carried, -1 where not known.
    strategy
        ``"label"``: the same label and the other concept; ``"concept"``: the same concept, another label.
    generator
        Draws among those that fit, all alike.
    """
    same_label = labels == labels.unsqueeze(1)
    same_concept = (index % 2) == (index % 2).unsqueeze(1)
    grouped = (index >= 0) & (index >= 0).unsqueeze(1)
    fits = grouped & (same_label & ~same_concept if strategy == "label" else same_concept & ~same_label)
    alone = ~fits.any(1)
    fits[alone, alone.nonzero().flatten()] = True
    return torch.multinomial(fits.float(), 1, generator=generator).flatten()


def mixed_losses(
    losses: SampleLosses, model: nn.Module, batch: Batch, partners: Tensor, share: Tensor
) -> Tensor:
    """Mean loss of mixed samples against the labels of both, by `share` (N,) of the first."""
    device = batch.images.device
    share, partners = share.to(device), partners.to(device)
    along = share.to(batch.images.dtype).reshape(-1, *[1] * (batch.images.dim() - 1))
    mixed = along * batch.images + (1 - along) * batch.images[partners]
    logits = find_logits(model(mixed))
    first, second = (losses(logits, labels) for labels in (batch.labels, batch.labels[partners]))
    return (share.to(first.dtype) * first + (1 - share).to(first.dtype) * second).mean()


def _beta(alpha: float, n: int, generator: torch.Generator) -> Tensor:
    # torch's Beta takes no generator of one's own; a NumPy one is seeded from the batch's, whose state is
    # part of a checkpoint.
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, n)).float()


def mixup(problem: DebiasProblem, *, alpha: Positive = 0.2) -> Outcome:
    """Mixup (Zhang et al. 2018).

    Sees labels only.

    Parameters
    ----------
    problem
        Biased samples and labels are enough.
    alpha
        Of the Beta distribution, above 0.
    """
    return train(problem, Mixup(alpha), "mixup")


def lisa(problem: DebiasProblem, *, alpha: Positive = 2.0, p_label: Share = 0.5) -> Outcome:
    """LISA, selective mixing (Yao et al. 2022).

    Sees labels and the concept of the biased samples.

    Parameters
    ----------
    problem
        With `carries`.
    alpha
        Of the Beta distribution, above 0.
    p_label
        Probability with which a batch is mixed within labels, and not within concepts.

    Raises
    ------
    InputError
        Without concept labels, or with an empty group.
    """
    groups = training_groups(problem, "lisa")
    outcome = train(problem, Lisa(groups, alpha=alpha, p_label=p_label), "lisa")
    notes = tuple(
        note.replace("they weigh 1, the mean, and", "they stay unmixed, and") for note in groups.notes
    )
    return outcome.with_notes(notes)
