"""Effective rank of concepts at a layer: how many directions must go until they can no longer be read.

A localized mark is often one direction; a diffuse shortcut can sit in many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shortcutscope.errors import InputError
from shortcutscope.probes.blocks import Blocks, FeatureRows
from shortcutscope.probes.crossfit import same_known
from shortcutscope.probes.extent.cells import chance_deviation
from shortcutscope.probes.ridge import PENALTY, Ridge, cross_fitted_ridge
from shortcutscope.stats.bootstrap import (
    MIN_CLUSTERS,
    cluster_interval,
    cluster_weights,
    percentile_interval,
)
from shortcutscope.stats.metrics import resampled_auroc, within_class_auroc
from shortcutscope.types import Floats, Ints

#: Below this AUROC a concept counts as unreadable, however narrow its interval.
CHANCE = 0.55
#: Deviations under the null by which an AUROC lies so far above chance that its interval cannot reach down to
#: it: its own deviation is at most 1.73 times as large (van Dantzig 1951), and the interval 1.96 of those.
CERTAIN = 9
#: Scores of concepts that are held at a time.
SCORES = 1 << 19
#: Resamples that are drawn first: where chance lies as far from their interval as that is wide, no more are.
FIRST_LOOK = 50


def effective_ranks(
    features: npt.ArrayLike | FeatureRows,
    concepts: npt.ArrayLike,
    labels: npt.ArrayLike,
    folds: npt.ArrayLike,
    max_directions: int = 16,
    *,
    groups: npt.ArrayLike | None = None,
    n_bootstrap: int = 300,
    seed: int = 0,
) -> list[tuple[int | None, Floats]]:
    """Iterative nullspace projection (Ravfogel et al. 2020), cross-fitted and class-stratified.

    In each fold the ridge direction is fitted on the other folds and projected out, again and again; each
    time the fold's samples are scored by the probe that is refitted on what is left.

    Parameters
    ----------
    features
        ``(N, D)``, as an array or to be read in blocks.
    concepts
        ``(N, K)`` 0, 1 or NaN (left out). Those that are known at the same samples share their statistics.
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
    list of (n_directions, auroc_after)
        For each concept the number of erased directions after which the within-class AUROC is below .55 or
        its 95 % interval reaches down to .5; 0 if the concept is not readable to begin with; ``None`` if it
        still is after ``max_directions``, or if the AUROC is not defined. And the AUROC ``(k,)`` after 1, 2,
        ... k erased directions, k being where it stopped.
    """
    t, blocks = np.asarray(concepts, np.float64), Blocks.of(features)
    y, fold = np.asarray(labels), np.asarray(folds)
    if t.ndim != 2 or not blocks.shape[0] == len(t) == len(y) == len(fold):
        raise InputError(
            "effective_ranks: features, concepts, labels and folds are of different lengths, "
            f"{blocks.shape}, {t.shape}, {y.shape} and {fold.shape}; needed are (N, D), (N, K), (N,) and (N,)"
        )
    codes, numbers = (np.asarray(np.unique(x, return_inverse=True)[1], np.intp) for x in (y, fold))
    units = np.arange(len(t)) if groups is None else np.unique(groups, return_inverse=True)[1]
    results: list[tuple[int | None, Floats]] = [(None, np.empty(0))] * t.shape[1]
    at_once = max(1, SCORES // (len(t) * (max_directions + 1)))
    for positions, is_known in same_known(t):
        ridge = cross_fitted_ridge(blocks, codes, numbers, is_known, PENALTY)
        for first in range(0, len(positions), at_once):
            some = positions[first : first + at_once]
            scores = _erased_scores(ridge, np.nan_to_num(t[:, some]), max_directions)[is_known]
            for k, own in zip(some, np.split(scores, len(some), axis=1), strict=True):
                erased = _Erased(t[is_known, k], codes[is_known], units[is_known], n_bootstrap, seed)
                results[k] = erased.rank(own)
    return results


def _erased_scores(ridge: Ridge, concepts: Floats, max_directions: int) -> Floats:
    """``(N, K * (max_directions + 1))`` scores of each concept after 0, 1, ... directions are erased."""
    probes = [
        _erased_in_turn(ridge, fold, targets, max_directions)
        for fold, targets in enumerate(ridge.covariances(concepts))
    ]
    return ridge.residual_scores(probes)


def _erased_in_turn(ridge: Ridge, fold: int, targets: Floats, max_directions: int) -> Floats:
    """``(D, K * (max_directions + 1))`` probes of each concept, each fitted after one direction more is gone.

    The ridge on projected features is the ridge under the constraint that its weights are orthogonal to the
    erased directions U: w = A^-1 (r - U m) with m such that U'w = 0. So A is factorised once for all of them.
    With a basis of U that is orthonormal in A^-1, each direction takes one term more from w.

    Parameters
    ----------
    targets
        ``(D, K)`` covariances of the concepts with the fold's standardised training features.
    """
    weights = ridge.solve(fold, targets)
    first = np.linalg.norm(weights, axis=0)
    probes, erased, basis, solved = np.zeros((4, max_directions + 1, *targets.shape))
    for k in range(max_directions + 1):
        weights = weights - _along(weights, erased[:k])  # against rounding
        length = np.linalg.norm(weights, axis=0)
        left = length > 1e-10 * first  # else nothing is left of the concept, and the other probes stay 0
        weights = np.where(left, weights, 0.0)
        probes[k], erased[k] = weights, weights / np.where(left, length, 1.0)
        basis[k], solved[k] = erased[k], ridge.solve(fold, erased[k])
        for _ in range(2):  # the second time against rounding
            shares = np.einsum("jdk,dk->jk", solved[:k], basis[k])
            basis[k] -= np.einsum("jk,jdk->dk", shares, basis[:k])
            solved[k] -= np.einsum("jk,jdk->dk", shares, solved[:k])
        size = np.sqrt(np.maximum((basis[k] * solved[k]).sum(axis=0), 0.0))
        scale = np.divide(1.0, size, out=np.zeros_like(size), where=left & (size > 0))
        basis[k] *= scale
        solved[k] *= scale
        weights = weights - solved[k] * (basis[k] * weights).sum(axis=0)
    return np.asarray(probes.transpose(1, 2, 0).reshape(len(targets), -1))


def _along(vectors: Floats, directions: Floats) -> Floats:
    """What vectors ``(D, K)`` have of orthonormal directions ``(j, D, K)``."""
    shares = np.einsum("jdk,dk->jk", directions, vectors)
    return np.asarray(np.einsum("jk,jdk->dk", shares, directions))


@dataclass(frozen=True)
class _Erased:
    """One concept at its known samples, and how far its AUROC falls."""

    concept: Floats
    labels: Ints
    groups: Ints
    n_bootstrap: int
    seed: int

    def rank(self, scores: Floats) -> tuple[int | None, Floats]:
        """From scores ``(n, k)`` after 0, 1, ... erased directions."""
        areas = np.atleast_1d(within_class_auroc(self.concept, scores, self.labels))
        for erased, area in enumerate(areas.tolist()):
            if math.isnan(area):
                return None, areas[1:1]
            if area < CHANCE or self._reaches_chance(area, scores[:, erased]):
                return erased, areas[1 : erased + 1]
        return None, areas[1:]

    def _reaches_chance(self, area: float, scores: Floats) -> bool:
        if area - CERTAIN * self._deviation > 0.5:
            return False
        statistic = resampled_auroc(self.concept, scores, self.labels)
        if self._first_look is not None:
            low, high = percentile_interval(statistic(self._first_look))
            if low - 0.5 > high - low:
                return False
        low, _ = cluster_interval(statistic, self.groups, n=self.n_bootstrap, seed=self.seed, by="rows")
        return low <= 0.5  # False for NaN: without an interval the AUROC alone decides

    @cached_property
    def _first_look(self) -> Ints | None:
        """The first resamples, which tell where the interval ends far from chance."""
        if self.n_bootstrap <= FIRST_LOOK or len(np.unique(self.groups)) < MIN_CLUSTERS:
            return None
        return cluster_weights(self.groups, FIRST_LOOK, self.seed)

    @cached_property
    def _deviation(self) -> float:
        """Of the AUROC under the null, as if the samples of a patient were one and the same (Kish 1965)."""
        sizes = np.bincount(self.groups)
        return chance_deviation(self.concept, self.labels) * math.sqrt((sizes**2).sum() / sizes.sum())
