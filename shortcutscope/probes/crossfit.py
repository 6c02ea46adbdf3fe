"""Availability: how well a layer's features tell a concept, out of fold, within class, against permutations.

The probe is the class-stratified ridge of :mod:`shortcutscope.probes.ridge`. In-sample probe scores are
never reported as encoding: every score is by a model that saw neither the sample nor its patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from shortcutscope.data.splits import grouped_folds
from shortcutscope.errors import InputError
from shortcutscope.probes.blocks import Blocks, FeatureRows
from shortcutscope.probes.ridge import PENALTY, Ridge, RidgeScores, cross_fitted_ridge
from shortcutscope.stats.bootstrap import cluster_intervals
from shortcutscope.stats.metrics import auroc, permuted_auroc, resampled_auroc, within_class_auroc
from shortcutscope.stats.testing import permutation_p, permute_within
from shortcutscope.types import Array, Bools, Floats, Ints

if TYPE_CHECKING:
    from shortcutscope.probes.concept import Concept


#: Quantile of the null that ``null_high`` reports.
NULL_QUANTILE = 0.95
#: Bytes of permutations that are kept: as long as they are fewer, each is drawn once for all layers.
MOST_KEPT = 1 << 24


@dataclass(frozen=True)
class ProbeSettings:
    """How a concept is probed.

    Attributes
    ----------
    n_folds : int
        Folds of the cross-fitting, by patient.
    n_permutations, n_bootstrap : int
        Permutations of the concept within class, and bootstrap resamples of the patients.
    seed : int
        Seed of folds, permutations and resamples.
    """

    n_folds: int = 4
    n_permutations: int = 200
    n_bootstrap: int = 300
    seed: int = 0


@dataclass(frozen=True)
class Availability:
    """How well one layer tells each of ``K`` concepts.

    Attributes
    ----------
    table
        One row per concept, in the order given, indexed by name or number: ``auroc`` (within class, out of
        fold), ``low`` and ``high`` (95 % bootstrap interval by patient), ``auroc_overall`` (over all classes;
        what also a probe of the label would reach), ``null_mean``, ``null_high`` (95th percentile of the
        permutations), ``p`` (one-sided).
    scores
        ``(N, K)`` out-of-fold scores that do not use the sample's own label; also of samples whose concept
        value is unknown.
    null
        ``(n_permutations, K)`` within-class AUROC of the permuted concepts. Column k of two layers belongs to
        the same permutations, so that the maximum over layers has the maximum of the nulls as its null.
    """

    table: pd.DataFrame
    scores: Floats
    null: Floats


def make_folds(
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    concept: npt.ArrayLike | None = None,
    n_folds: int = 4,
    seed: int = 0,
) -> Ints:
    """Folds that keep groups together, stratified by label x concept where that is possible.

    Parameters
    ----------
    labels, groups
        ``(N,)`` class and patient of each sample.
    concept
        ``(N,)`` or ``(N, K)`` with NaN for unknown, or ``None``. Combinations with fewer than ``n_folds``
        samples are stratified by label only.
    n_folds, seed
        Number of folds, seed of the shuffling.

    Returns
    -------
    array of shape (N,)
        Fold of each sample, 0 ... ``n_folds`` - 1.

    Raises
    ------
    InputError
        With fewer groups than folds, or fewer than 2 folds.
    """
    _, strata = np.unique(np.asarray(labels), return_inverse=True)
    if concept is not None:
        columns = np.nan_to_num(np.asarray(concept, np.float64).reshape(len(strata), -1), nan=-1.0)
        cells = np.unique(np.column_stack([strata, columns]), axis=0, return_inverse=True)[1].ravel()
        strata = np.where(np.bincount(cells)[cells] >= n_folds, cells + strata.max() + 1, strata)
    return np.asarray(grouped_folds(groups, strata, n_folds, seed), np.intp)


def cross_fitted_scores(
    features: npt.ArrayLike | FeatureRows | Blocks,
    targets: npt.ArrayLike,
    labels: npt.ArrayLike,
    folds: npt.ArrayLike,
    penalty: float = PENALTY,
    *,
    centre: bool = False,
) -> Floats:
    """Out-of-fold scores of class-stratified ridge probes, one per target.

    Parameters
    ----------
    features
        ``(N, D)``.
    targets
        ``(N, T)`` or ``(N,)``; samples with NaN are scored but not trained on.
    labels, folds
        ``(N,)`` class and fold of each sample.
    penalty
        Ridge penalty relative to the number of training samples, on features of unit variance.
    centre
        Whether the score of a sample is centred by its own class's mean, for comparisons within a class.

    Returns
    -------
    array of the shape of ``targets``

    Raises
    ------
    InputError
        When shapes do not agree, features are not finite, or there is one fold only.
    """
    target_values = np.asarray(targets, np.float64)
    columns = target_values.reshape(len(target_values), -1)
    blocks = Blocks.of(features)
    codes, numbers = _check(blocks, columns, labels, folds)
    scores = np.empty(columns.shape)
    for positions, is_known in same_known(columns):
        ridge = cross_fitted_ridge(blocks, codes, numbers, is_known, penalty)
        result = ridge.scores(columns[:, positions])
        scores[:, positions] = result.residual if centre else result.plain
    return scores.reshape(target_values.shape)


@dataclass(frozen=True, eq=False)
class Permutations:
    """Permutations of some concepts inside label strata, drawn when asked for and the same at every time.

    They are kept where those of all concepts take little memory, see `MOST_KEPT`.

    Attributes
    ----------
    values
        ``(N, K)`` 0, 1 or NaN.
    labels, groups
        ``(N,)`` class and patient (``None``: each sample its own).
    n, seed
        Permutations of a concept, and their seed.
    """

    values: Floats
    labels: Array
    groups: Array | None
    n: int
    seed: int

    def __len__(self) -> int:
        return int(self.values.shape[1])

    def of(self, k: int) -> Bools:
        """Where the permutations of concept ``k`` are 1, ``(n, N)``."""
        if k in self._kept:
            return self._kept[k]
        # A seed per concept: concepts that are alike must not share their permutations' luck.
        seed = int(np.random.SeedSequence([self.seed, k]).generate_state(1)[0])
        drawn = permute_within(self.values[:, k], self.labels, self.groups, self.n, seed)
        if self.n * self.values.size <= MOST_KEPT:
            drawn.flags.writeable = False
            self._kept[k] = drawn
        return drawn

    @cached_property
    def _kept(self) -> dict[int, Bools]:
        return {}


def availability(
    features: npt.ArrayLike | FeatureRows | Blocks,
    concepts: npt.ArrayLike | Sequence[Concept],
    labels: npt.ArrayLike,
    groups: npt.ArrayLike | None,
    folds: npt.ArrayLike,
    *,
    settings: ProbeSettings | None = None,
    names: Sequence[str] | None = None,
    permutations: Permutations | None = None,
) -> Availability:
    """Availability of concepts at one layer.

    Parameters
    ----------
    features
        ``(N, D)``, for example a scan's ``[mean, max, std]``, as an array or to be read in blocks.
    concepts
        ``(N, K)`` values 0, 1 or NaN, or a sequence of concepts aligned to the samples. Concepts with the
        same unknown samples share their statistics.
    labels, groups, folds
        ``(N,)`` class, patient (``None``: each sample its own) and fold of each sample.
    settings
        Size of the null, number of bootstrap resamples, seed of both: the same permutations at every layer.
    names
        Row names of the table; the concepts' own by default.
    permutations
        Of the concepts, where they are drawn already; those of the settings by default.

    Returns
    -------
    Availability

    Raises
    ------
    InputError
        As :func:`cross_fitted_scores`, and for concept values other than 0, 1 and NaN.
    """
    settings, values, blocks = settings or ProbeSettings(), _columns(concepts), Blocks.of(features)
    codes, numbers = _check(blocks, values, labels, folds)
    units = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if permutations is None:
        own = None if groups is None else units
        permutations = Permutations(values, codes, own, settings.n_permutations, settings.seed)
    scores, null = np.empty(values.shape), np.empty((permutations.n, values.shape[1]))
    rows: list[dict[str, float]] = [{} for _ in range(values.shape[1])]
    for positions, is_known in same_known(values):
        ridge = cross_fitted_ridge(blocks, codes, numbers, is_known, PENALTY)
        known = _Known(values[np.ix_(is_known, positions)], codes[is_known], units[is_known], is_known)
        observed = known.observed(ridge.scores(np.nan_to_num(values[:, positions])), settings)
        for k, (row, plain) in zip(positions, observed, strict=True):
            rows[k], scores[:, k] = row, plain
        del known, observed  # nothing of every sample lies in memory beside the permutations but the scores
        null[:, positions] = _null(ridge, permutations, positions, codes, is_known)
    rows = [{**row, **_against(row["auroc"], null[:, k])} for k, row in enumerate(rows)]
    index = _names(concepts) if names is None else list(names)
    return Availability(pd.DataFrame(rows, index=pd.Index(index)), scores, null)


def _null(
    ridge: Ridge, permutations: Permutations, positions: Sequence[int], labels: Ints, known: Bools
) -> Floats:
    """AUROC ``(n, K)`` of the permutations of concepts that are known at the same samples."""
    areas: list[Floats] = [np.empty(0)]
    n = permutations.n
    at_once = ridge.targets_at_once(n)
    concepts = max(1, at_once // max(1, n))
    for first in range(0, len(positions), concepts):
        targets = np.concatenate([permutations.of(k) for k in positions[first : first + concepts]])
        for begin in range(0, len(targets), at_once):
            part = targets[begin : begin + at_once]
            scored = ridge.null_scores(part)
            if not known.all():
                part, scored = part[:, known], scored[:, known]
            # Single precision is ranked several times as fast, and tells neighbours apart all the same.
            areas.append(permuted_auroc(part, scored.astype(np.float32, copy=False), labels[known]))
    return np.concatenate(areas).reshape(len(positions), n).T


def _against(observed: float, null: Floats) -> dict[str, float]:
    """What a row of the table says of the permutations."""
    return {
        "null_mean": float(null.mean()) if len(null) else float("nan"),
        "null_high": float(np.quantile(null, NULL_QUANTILE)) if len(null) else float("nan"),
        "p": permutation_p(observed, null),
    }


@dataclass(frozen=True, eq=False)
class _Known:
    """Concepts ``(n, K)`` at the ``n`` samples at which they are known."""

    concepts: Floats
    labels: Ints
    groups: Ints
    known: Bools

    def observed(
        self, scores: RidgeScores, settings: ProbeSettings
    ) -> Iterator[tuple[dict[str, float], Floats]]:
        """Of each concept the row of the table but for the null, and its scores of all samples."""
        residual, plain = scores.residual, scores.plain
        if not self.known.all():
            residual, plain = residual[self.known], plain[self.known]
        intervals = [(float("nan"), float("nan"))] * self.concepts.shape[1]
        if settings.n_bootstrap >= 1 and len(residual):
            columns = zip(self.concepts.T, residual.T, strict=True)
            statistics = [resampled_auroc(*column, self.labels) for column in columns]
            intervals = cluster_intervals(statistics, self.groups, n=settings.n_bootstrap, seed=settings.seed)
        for k, (low, high) in enumerate(intervals):
            row = {
                "auroc": float(within_class_auroc(self.concepts[:, k], residual[:, k], self.labels)),
                "low": low,
                "high": high,
                "auroc_overall": auroc(self.concepts[:, k], plain[:, k]),
            }
            yield row, scores.plain[:, k]


def _columns(concepts: Any) -> Floats:
    """Concept values ``(N, K)`` of an array or of a list of concepts."""
    if _are_concepts(concepts):
        concepts = np.column_stack([np.asarray(concept.values, np.float64) for concept in concepts])
    values = np.asarray(concepts, np.float64)
    if values.ndim != 2:
        raise InputError(f"concepts of shape {values.shape}; an array (N, K) or a list of concepts is needed")
    wrong = values[~(np.isnan(values) | (values == 0) | (values == 1))]
    if len(wrong):
        raise InputError(f"concepts hold {wrong[0]:g}; allowed are 0, 1 and NaN (unknown)")
    return values


def _names(concepts: Any) -> list[Any]:
    if _are_concepts(concepts):
        return [concept.name for concept in concepts]
    return list(range(np.shape(concepts)[1]))


def _are_concepts(concepts: object) -> bool:
    return isinstance(concepts, Sequence) and len(concepts) > 0 and hasattr(concepts[0], "values")


def same_known(columns: Floats) -> Iterator[tuple[list[int], Bools]]:
    """Columns grouped by the samples at which they are known."""
    is_known = ~np.isnan(columns)
    groups: dict[bytes, list[int]] = {}
    for k in range(columns.shape[1]):
        groups.setdefault(is_known[:, k].tobytes(), []).append(k)
    for positions in groups.values():
        yield positions, is_known[:, positions[0]]


def _check(blocks: Blocks, columns: Floats, labels: npt.ArrayLike, folds: npt.ArrayLike) -> tuple[Ints, Ints]:
    """Class codes and fold numbers of input that fits together."""
    shape, labels, folds = blocks.shape, np.asarray(labels), np.asarray(folds)
    if {shape[0]} != {len(columns), *labels.shape, *folds.shape}:
        raise InputError(
            f"features {shape}, concepts {columns.shape}, labels {labels.shape} and folds {folds.shape}; "
            "needed are (N, D), (N, K), (N,) and (N,) of the same N samples"
        )
    if len(np.unique(folds)) < 2:
        raise InputError("all samples are in one fold; at least 2 folds are needed to score out of fold")
    codes = np.unique(labels, return_inverse=True)[1]
    numbers = np.unique(folds, return_inverse=True)[1]
    return np.asarray(codes, np.intp), np.asarray(numbers, np.intp)
