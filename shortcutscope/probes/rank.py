"""Effective rank of a concept at a layer: how many directions must go until it can no longer be read.

A localized mark is often one direction; a diffuse shortcut can sit in many.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shortcutscope.errors import InputError
from shortcutscope.probes.ridge import PENALTY, FoldModel, cross_fitted_ridge
from shortcutscope.stats.bootstrap import cluster_interval
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Floats, Ints

#: Below this AUROC a concept counts as unreadable, however narrow its interval.
CHANCE = 0.55


def effective_rank(
    features: npt.ArrayLike,
    concept: npt.ArrayLike,
    labels: npt.ArrayLike,
    folds: npt.ArrayLike,
    max_directions: int = 16,
    *,
    groups: npt.ArrayLike | None = None,
    n_bootstrap: int = 300,
    seed: int = 0,
) -> tuple[int | None, Floats]:
    """Iterative nullspace projection (Ravfogel et al. 2020), cross-fitted and class-stratified.

    In each fold the ridge direction is fitted on the other folds and projected out, again and again; each
    time the fold's samples are scored by the probe that is refitted on what is left.

    Parameters
    ----------
    features
        ``(N, D)``.
    concept
        ``(N,)`` 0, 1 or NaN (left out).
    labels, folds
        ``(N,)``.
    max_directions
        Number of directions after which to give up.
    groups
        ``(N,)`` patients for the interval; each sample its own by default.
    n_bootstrap, seed
        Of the interval.

    Returns
    -------
    n_directions
        Number of erased directions after which the within-class AUROC is below .55 or its 95 % interval
        reaches down to .5; 0 if the concept is not readable to begin with; ``None`` if it still is after
        ``max_directions``, or if the AUROC is not defined.
    auroc_after
        ``(k,)`` AUROC after 1, 2, ... k erased directions, k being where it stopped.
    """
    t, x = np.asarray(concept, np.float64), np.asarray(features)
    y, fold = np.asarray(labels), np.asarray(folds)
    if not len(x) == len(t) == len(y) == len(fold):
        raise InputError("effective_rank: features, concept, labels and folds are of different lengths")
    is_known = ~np.isnan(t)
    t, x, fold = t[is_known], x[is_known], fold[is_known]
    units = np.arange(len(t)) if groups is None else np.asarray(groups)[is_known]
    codes = np.asarray(np.unique(y[is_known], return_inverse=True)[1], np.intp)
    ridge = cross_fitted_ridge(x, codes, fold, np.full(len(t), True), PENALTY)
    scores = np.zeros((len(t), max_directions + 1))
    for model in ridge.models():
        samples, rows = model.standardised()
        scores[samples] = rows @ _erased_in_turn(model, t, max_directions)
    areas = np.atleast_1d(within_class_auroc(t, scores, codes))
    for erased, area in enumerate(areas):
        if math.isnan(area):
            return None, areas[1:1]
        if area < CHANCE or _reaches_chance(scores[:, erased], t, codes, units, n_bootstrap, seed):
            return erased, areas[1 : erased + 1]
    return None, areas[1:]


def _erased_in_turn(model: FoldModel, concept: Floats, max_directions: int) -> Floats:
    """``(D, max_directions + 1)`` probes: column k is fitted after k directions were projected out.

    The ridge on projected features is the ridge under the constraint that its weights are orthogonal to the
    erased directions U: w = A^-1 (r - U m) with m such that U'w = 0. So A is factorised once for all of them.
    """
    target = model.covariance(concept)
    unconstrained = model.solve(target[:, None])[:, 0]
    probes = np.zeros((len(target), max_directions + 1))
    erased, solved = np.empty((len(target), 0)), np.empty((len(target), 0))
    for k in range(max_directions + 1):
        weights = unconstrained
        if k:
            multiplier = np.linalg.lstsq(erased.T @ solved, erased.T @ unconstrained, rcond=None)[0]
            weights = unconstrained - solved @ multiplier
            weights = weights - erased @ (erased.T @ weights)  # against rounding
        length = float(np.linalg.norm(weights))
        if length <= 1e-10 * float(np.linalg.norm(unconstrained)):
            break  # nothing is left of the concept; the remaining probes stay 0
        probes[:, k] = weights
        erased = np.column_stack([erased, weights / length])
        solved = np.column_stack([solved, model.solve(erased[:, -1:])])
    return probes


def _reaches_chance(
    scores: Floats,
    concept: Floats,
    labels: Ints,
    groups: npt.NDArray[np.generic],
    n: int,
    seed: int,
) -> bool:
    low, _ = cluster_interval(
        lambda weights: within_class_auroc(concept, scores, labels, weights),
        groups,
        n=n,
        seed=seed,
        by="rows",
    )
    return low <= 0.5  # False for NaN: without an interval the AUROC alone decides
