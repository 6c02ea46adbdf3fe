"""Automatic feature reweighting: the last layer fitted again, what is doubted weighing more."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from shortcutscope.allowed import NotNegative, Positive
from shortcutscope.debias.baselines.held_out_head import (
    HELD_OUT_SHARE,
    HeldOutHead,
    HeldOutShare,
    held_out_head,
    worst_group,
)
from shortcutscope.debias.baselines.last_layer import clean_groups, last_features
from shortcutscope.debias.objective import cross_entropies
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.errors import InputError
from shortcutscope.models.heads.targets import predicted_class

#: Steps of L-BFGS at most.
MAX_STEPS = 500


def afr(
    problem: DebiasProblem,
    *,
    gamma: Positive | Sequence[Positive] = 14.0,
    penalty: NotNegative | Sequence[NotNegative] = 0.2,
    held_out_share: HeldOutShare = HELD_OUT_SHARE,
) -> Outcome:
    """Automatic feature reweighting (Qiu et al. 2023): held-out samples that the network doubts weigh more.

    Sees labels only. The last layer is fitted again on held-out samples, by the cross-entropy under the
    weights of `afr_weights` and a penalty on its distance from the weights that it had (`fit_towards`). The
    defaults are those of the authors' code for Waterbirds.

    Parameters
    ----------
    problem
        Its `validation` samples are the held-out ones; without them a share of `train` is, see
        `shortcutscope.debias.baselines.held_out_head.held_out_head`.
    gamma
        How much more a doubtful sample weighs. Several, and of `penalty`, are tried, as in the paper: of them
        the pair of the best worst-group accuracy on the clean samples is taken.
    penalty
        lambda, of the squared distance.
    held_out_share
        Of the training samples.

    Raises
    ------
    InputError
        When the last layer is no ``nn.Linear``; for a class with too few held-out samples; for several values
        without clean samples to choose by.
    """
    pairs = _pairs(problem, gamma, penalty)
    head = held_out_head(problem, "afr", held_out_share)
    fits = [fit_towards(head, afr_weights(head, one), by) for one, by in pairs]
    best, notes = _choose(problem, head, pairs, fits) if len(pairs) > 1 else (0, ())
    weights = afr_weights(head, pairs[best][0])
    heavy = float((weights > 1 / len(weights)).double().mean())
    details: dict[str, object] = {"gamma": pairs[best][0], "penalty": pairs[best][1], "share_heavier": heavy}
    return head.outcome(*fits[best], notes, details)


def afr_weights(head: HeldOutHead, gamma: float) -> Tensor:
    """beta_y exp(-gamma p) of every held-out sample (N,), of sum 1 (Qiu et al. 2023).

    p is the network's probability of the sample's label, beta_y the inverse frequency of its class.
    """
    probability = head.log_probabilities.gather(1, head.labels[:, None])[:, 0].exp()
    counts = torch.bincount(head.labels).double()
    weights = torch.exp(-gamma * probability) / counts[head.labels]
    return weights / weights.sum()


def fit_towards(head: HeldOutHead, weights: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """The last layer that minimises sum_i w_i CE_i + penalty |theta - theta_0|^2 (Qiu et al. 2023, equation
    4).

    Its least value is found by L-BFGS, in double precision, where the authors take 500 steps of gradient
    descent and stop at the best worst-group accuracy on samples whose groups they know.

    Parameters
    ----------
    head
        With theta_0, features and labels.
    weights
        (N,) of the samples.
    penalty
        Of the squared distance of weights and bias from what they were.

    Returns
    -------
    weight, bias
        (K, F) and (K,).
    """
    weight, bias = (x.clone().requires_grad_(True) for x in (head.weight, head.bias))
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=MAX_STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-8
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = cross_entropies(head.features @ weight.T + bias, head.labels)
        away = (weight - head.weight).pow(2).sum() + (bias - head.bias).pow(2).sum()
        loss = (weights * losses).sum() + penalty * away
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def _pairs(
    problem: DebiasProblem, gamma: float | Sequence[float], penalty: float | Sequence[float]
) -> list[tuple[float, float]]:
    gammas, penalties = (np.atleast_1d(np.asarray(x, dtype=float)).tolist() for x in (gamma, penalty))
    pairs = list(product(gammas, penalties))
    if not pairs:
        raise InputError("gamma or penalty is empty; give a number, or several")
    if len(pairs) > 1 and (problem.clean is None or len(problem.clean) == 0):
        raise InputError(
            f"afr chooses among {len(pairs)} pairs of gamma and penalty by the worst group of clean "
            "samples, and there are none; give clean=, or one value of each"
        )
    return pairs


def _choose(
    problem: DebiasProblem,
    head: HeldOutHead,
    pairs: Sequence[tuple[float, float]],
    fits: Sequence[tuple[Tensor, Tensor]],
) -> tuple[int, tuple[str, ...]]:
    """Which pair has the best worst-group accuracy on the clean samples, and by what groups."""
    clean = problem.clean
    assert clean is not None
    labels = clean.frame["label"].to_numpy(dtype=np.int64)
    groups, notes = clean_groups(labels, problem.clean_carries)
    features = torch.from_numpy(last_features(head.model, clean, head.name, problem.training.batch_size))
    scores = []
    for weight, bias in fits:
        right = predicted_class(features @ weight.T + bias).numpy() == labels
        scores.append(worst_group(right[groups >= 0], labels[groups >= 0], groups[groups >= 0]))
    best = max(range(len(pairs)), key=lambda row: scores[row])
    return best, (
        *notes,
        f"gamma and penalty are the best of {len(pairs)} pairs on {len(clean)} clean samples",
    )
