"""EVaLS: the last layer fitted again on samples of large and small loss, chosen by environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from shortcutscope.allowed import Count, Positive
from shortcutscope.data.splits import holdout
from shortcutscope.debias.baselines.held_out_head import (
    HELD_OUT_SHARE,
    HeldOutHead,
    HeldOutShare,
    held_out_head,
    worst_group,
)
from shortcutscope.debias.baselines.last_layer import fit_last
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.errors import InputError
from shortcutscope.models.heads.targets import predicted_class, two_scores
from shortcutscope.types import Bools, Ints

#: Samples of each class of large loss, and as many of small, among which is chosen, and L1 penalties.
SIZES = (50, 100, 150, 200, 250)
PENALTIES = (0.01, 0.02, 0.1, 0.2, 1.0, 2.0)


def evals(
    problem: DebiasProblem,
    *,
    sizes: Sequence[Count] = SIZES,
    penalties: Sequence[Positive] = PENALTIES,
    held_out_share: HeldOutShare = HELD_OUT_SHARE,
) -> Outcome:
    """Environment-based validation and loss-based sampling (Ghaznavi et al. 2024, EVaLS).

    Sees labels only. One half of the held-out samples gives the sets that the last layer is fitted to again:
    the k samples of largest and the k of smallest loss of each class, by logistic regression with an L1
    penalty on standardised features. On the other half, k and the penalty are chosen by the worst accuracy
    over classes and inferred environments (`environments`). Sizes and penalties are those of the authors'
    search, which fits by Adam and has a fit without a penalty besides.

    Parameters
    ----------
    problem
        Its `validation` samples are the held-out ones; without them a share of `train` is, see
        `shortcutscope.debias.baselines.held_out_head.held_out_head`.
    sizes
        Values of k. Those of which a class has too few samples are left out; where none is left, k is half
        of the smallest class.
    penalties
        Of the L1 norm, beside the mean cross-entropy.
    held_out_share
        Of the training samples.

    Raises
    ------
    InputError
        When the last layer is no ``nn.Linear``; for a class with too few held-out samples.
    """
    if not sizes or not penalties:
        raise InputError("sizes or penalties is empty; give a number at least")
    head = held_out_head(problem, "evals", held_out_share)
    fitted, judged = _halves(head, problem.seed)
    usable, notes = _usable(sizes, fitted)
    names = environments(judged.logits, judged.labels).numpy().astype(np.int64)
    if not names.any() or names.all():
        notes += ("one environment was inferred: k and the penalty are chosen by the worst class",)
    fits, scores, trials = [], [], list(product(usable, penalties))
    for size, penalty in trials:
        weight, bias = _fit(fitted, size, penalty, problem.seed)
        right = predicted_class(judged.features @ weight.T + bias) == judged.labels
        fits.append((weight, bias))
        scores.append(worst_group(right.numpy(), judged.labels.numpy(), names))
    best = max(range(len(trials)), key=lambda row: scores[row])
    size, penalty = trials[best]
    details: dict[str, object] = {
        "size": size, "penalty": penalty, "worst_environment": scores[best][0],
        "second_environment": int(names.sum()),
    }  # fmt: skip
    return head.outcome(*fits[best], notes, details)


def environments(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) bool: which of two environments each sample is of (Creager et al. 2021, EIIL).

    Environments are those that violate invariance most: they maximise the IRMv1 penalty, the sum over both
    environments of (sum_i g_i)^2, g_i being the derivative of a sample's cross-entropy by a factor of its
    scores at 1, g_i = sum_k (p_ik - [k = y_i]) z_ik. With A the sum over the one and S that over all
    samples, that is A^2 + (S - A)^2, which is largest where A is: the second environment is that of g_i > 0.
    EIIL comes near it by gradient ascent. For two classes it is that of the errors.

    Parameters
    ----------
    logits
        (N, K), or (N, 1) of a binary task.
    labels
        (N,).
    """
    z = two_scores(logits)
    expected = (z.softmax(1) * z).sum(1)
    return expected > z.gather(1, labels[:, None])[:, 0]


def losses_at_both_ends(losses: Tensor, labels: Tensor, size: int) -> Bools:
    """(N,) where a sample is one of the `size` largest or smallest losses of its class."""
    chosen = np.zeros(len(losses), dtype=bool)
    for label in set(labels.tolist()):
        rows = torch.nonzero(labels == label)[:, 0]
        order = rows[losses[rows].argsort(stable=True)].numpy()
        chosen[order[:size]] = chosen[order[len(order) - size :]] = True
    return chosen


def _fit(head: HeldOutHead, size: int, penalty: float, seed: int) -> tuple[Tensor, Tensor]:
    losses = -head.log_probabilities.gather(1, head.labels[:, None])[:, 0]
    chosen = losses_at_both_ends(losses, head.labels, size)
    labels = head.labels.numpy()
    # Scikit-learn's C is against a sum of losses, the paper's penalty beside their mean.
    c = 1 / (penalty * int(chosen.sum()))
    weight, bias, _ = fit_last(head.features.numpy()[chosen], labels[chosen], labels[chosen], c, 1, seed)
    return torch.from_numpy(weight), torch.from_numpy(bias)


def _halves(head: HeldOutHead, seed: int) -> tuple[HeldOutHead, HeldOutHead]:
    """Samples to fit on and to choose by, of different patients."""
    rows: Bools = holdout(head.table.frame["group"].to_numpy(), head.labels.numpy(), 0.5, seed)
    parts = []
    for part in (np.flatnonzero(~rows), np.flatnonzero(rows)):
        here = torch.from_numpy(part)
        parts.append(
            replace(head, table=head.table.take(part), features=head.features[here], labels=head.labels[here])
        )
    fitted, judged = parts
    if set(fitted.labels.tolist()) != set(head.labels.tolist()):
        raise InputError(
            "evals halves the held-out samples, and a class is in one half alone; give more of them "
            "(validation=)"
        )
    return fitted, judged


def _usable(sizes: Sequence[int], head: HeldOutHead) -> tuple[list[int], tuple[str, ...]]:
    counts: Ints = np.bincount(head.labels.numpy())
    most = int(counts[counts > 0].min()) // 2
    usable = sorted({int(size) for size in sizes if size <= most})
    if usable:
        return usable, ()
    k = max(1, most)
    return [k], (
        f"k is {k}: a class has {counts[counts > 0].min()} samples for it, fewer than 2 x {min(sizes)}",
    )
