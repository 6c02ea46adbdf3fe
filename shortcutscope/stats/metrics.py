"""What a concept costs a model, and how well scores tell a concept: ranking and group metrics.

Every metric takes ``weights``: ``None``, one row of sample weights ``(N,)``, or ``B`` rows ``(B, N)``, as a
bootstrap makes them (multiplicities), and then returns one value a row. Labels and concepts may hold NaN,
"unknown": such samples are left out. A metric that is not defined on what remains (one class only, an empty
group) is NaN, never an error, so that one empty bootstrap resample does not end an audit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from shortcutscope.errors import InputError
from shortcutscope.types import Array, Bools, Floats, Ints

#: Elements of the (resamples x samples) blocks that are worked on at a time: 8 MiB in float64.
_BLOCK = 1 << 20
#: Pairs up to which sums of wholes and halves are exact in single precision.
_EXACT_PAIRS = 1 << 22


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Any:
    """Area under the ROC curve by mid-ranks (Mann-Whitney), over many columns at once.

    Parameters
    ----------
    labels
        ``(N,)`` or ``(N, K)``; 0, 1 or NaN (unknown, left out).
    scores
        ``(N,)`` or ``(N, K)``; a column with a NaN score at a known label has the AUROC NaN.
    weights
        ``None``, ``(N,)`` or ``(B, N)``; only for one column of labels and scores.

    Returns
    -------
    float or array
        A float for one column, ``(K,)`` for ``K``, ``(B,)`` for ``B`` rows of weights; NaN where only one
        of the labels occurs.

    Raises
    ------
    InputError
        When the shapes do not agree, a label is neither 0, 1 nor NaN, or weights meet several columns.
    """
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if labels.ndim not in (1, 2) or scores.ndim not in (1, 2) or len(labels) != len(scores):
        raise InputError(
            f"auroc: labels of shape {labels.shape} and scores of shape {scores.shape}; "
            "both must be (N,) or (N, K) with the same N"
        )
    _check_binary(labels, "labels")
    if weights is not None:
        if labels.ndim != 1 or scores.ndim != 1:
            raise InputError("auroc: weights are allowed with one column of labels and scores only")
        rows, single = _rows(weights, len(labels))
        return _scalar(weighted_auroc(labels, scores, rows), single)
    single = labels.ndim == 1 and scores.ndim == 1
    columns = max(_columns(labels), _columns(scores))
    if {_columns(labels), _columns(scores)} - {1, columns}:
        raise InputError(f"auroc: {_columns(labels)} label columns and {_columns(scores)} score columns")
    return _scalar(_ranked_auroc(_as_rows(labels, columns), _as_rows(scores, columns)), single)


def weighted_auroc(labels: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """AUROC under ``B`` rows of sample weights; the scores are sorted once for all of them.

    Parameters
    ----------
    labels, scores
        ``(N,)``; labels 0, 1 or NaN (left out).
    weights
        ``(B, N)``, not negative.

    Returns
    -------
    array of shape (B,)
        Equals the AUROC of the samples repeated ``weights`` times; NaN where a label has no weight.
    """
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    rows = np.atleast_2d(np.asarray(weights))
    is_known = ~np.isnan(labels)
    result = np.full(len(rows), np.nan)
    if not is_known.any() or np.isnan(scores[is_known]).any():
        return result
    ranking = _Ranking.of(labels, scores, np.flatnonzero(is_known))
    step = max(1, _BLOCK // len(ranking))
    for begin in range(0, len(rows), step):
        result[begin : begin + step] = ranking.auroc(rows[begin : begin + step])[0]
    return result


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Samples with and without, for many weightings of them.

    Attributes
    ----------
    positive
        The samples whose label is 1.
    negative
        The others, in the order of their scores.
    below, up_to
        For each positive sample, how many of the others score less, and how many no more.
    """

    positive: Ints
    negative: Ints
    below: Ints
    up_to: Ints

    def __len__(self) -> int:
        return len(self.positive) + len(self.negative)

    @classmethod
    def of(cls, labels: Floats, scores: Floats, samples: Ints) -> Self:
        is_positive = labels[samples] == 1
        positive, others = samples[is_positive], samples[~is_positive]
        negative = others[np.argsort(scores[others], kind="stable")]
        ranked, own = scores[negative], scores[positive]
        return cls(
            positive, negative, np.searchsorted(ranked, own), np.searchsorted(ranked, own, side="right")
        )

    def auroc(self, rows: Array) -> tuple[Floats, Floats]:
        """Of the samples repeated as often as each row ``(B, N)`` says, and how many these are, ``(B,)``."""
        # A column a resample, so that sums run over whole rows; weights that are stored so need no copy.
        kind = np.float32 if np.issubdtype(rows.dtype, np.integer) else np.float64
        above: Floats = np.take(rows.T, self.positive, axis=0).astype(kind)
        others: Floats = np.take(rows.T, self.negative, axis=0).astype(kind)
        n_above, n_others = above.sum(axis=0, dtype=np.float64), others.sum(axis=0, dtype=np.float64)
        pairs = n_above * n_others
        if pairs.max(initial=0) >= _EXACT_PAIRS:
            above, others = above.astype(np.float64), others.astype(np.float64)
        beaten = np.zeros((len(others) + 1, len(rows)), others.dtype)
        np.cumsum(others, axis=0, out=beaten[1:])
        won = beaten[self.below]
        if (self.up_to > self.below).any():  # samples of one score count half against each other
            won = (won + beaten[self.up_to]) / 2
        return _ratio(np.einsum("nb,nb->b", above, won), pairs), n_above + n_others


def resampled_auroc(
    concept: npt.ArrayLike, scores: npt.ArrayLike, classes: npt.ArrayLike
) -> Callable[[Array], Floats]:
    """`within_class_auroc` as a function of weights ``(B, N)``, for many of them: the scores are sorted once.

    Parameters
    ----------
    concept, scores, classes
        ``(N,)``; the concept 0, 1 or NaN (left out), where it is known the scores are no NaN.
    """
    concept, scores = np.asarray(concept, np.float64), np.asarray(scores, np.float64)
    classes = np.asarray(classes)
    inside = [np.flatnonzero((classes == c) & ~np.isnan(concept)) for c in np.unique(classes)]
    rankings = [_Ranking.of(concept, scores, samples) for samples in inside if len(samples)]

    def auroc_of(weights: Array) -> Floats:
        if not rankings:
            return np.full(len(weights), np.nan)
        areas, sizes = zip(*(ranking.auroc(weights) for ranking in rankings), strict=True)
        return _by_size(np.stack(areas), np.stack(sizes))

    return auroc_of


def permuted_auroc(positive: Bools, scores: Floats, classes: npt.ArrayLike) -> Floats:
    """`within_class_auroc` of many permutations of a concept that is known everywhere.

    Parameters
    ----------
    positive
        ``(T, N)`` where each permutation is 1.
    scores
        ``(T, N)`` of each permutation; finite. In single precision they are ranked several times as fast.
    classes
        ``(N,)``.

    Returns
    -------
    array of shape (T,)
    """
    values, sizes = np.unique(np.asarray(classes), return_counts=True)
    areas = np.full((len(values), len(positive)), np.nan)
    for area, value, size in zip(areas, values, sizes, strict=True):
        inside = np.flatnonzero(classes == value)
        step = max(1, _BLOCK // size)
        for begin in range(0, len(positive), step):
            part = slice(begin, begin + step)
            rank = _packed_auroc if scores.dtype == np.float32 else _known_auroc
            area[part] = rank(positive[part][:, inside], scores[part][:, inside])
    return _by_size(areas, np.broadcast_to(sizes[:, None], areas.shape))


def within_class_auroc(
    concept: npt.ArrayLike,
    scores: npt.ArrayLike,
    classes: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> Any:
    """AUROC of a concept inside each class, averaged by the classes' size.

    A shortcut goes with the label, so a score that merely reads the label has a high AUROC for the concept
    over all samples; inside a class it is at chance.

    Parameters
    ----------
    concept, scores
        ``(N,)`` or ``(N, K)``; the concept 0, 1 or NaN.
    classes
        ``(N,)``; any hashable class labels.
    weights
        ``None``, ``(N,)`` or ``(B, N)``; only for one column.

    Returns
    -------
    float or array
        As :func:`auroc`. A class with one concept value only has no AUROC and is left out of the average;
        NaN if that holds for all.
    """
    concept, scores = np.asarray(concept, np.float64), np.asarray(scores, np.float64)
    classes = np.asarray(classes)
    if classes.ndim != 1 or len(classes) != len(concept):
        raise InputError(f"within_class_auroc: {classes.shape} classes for {concept.shape} concept values")
    if not len(classes):
        return auroc(concept, scores, weights)
    values, sizes = [], []
    for value in np.unique(classes):
        inside = classes == value
        inner = None if weights is None else np.asarray(weights)[..., inside]
        values.append(np.asarray(auroc(concept[inside], scores[inside], inner)))
        is_known = ~np.isnan(concept[inside])
        sizes.append(
            is_known.sum(axis=0) if inner is None else np.asarray(inner @ is_known.astype(np.float64))
        )
    area = np.stack([np.atleast_1d(v) for v in values])
    size = np.broadcast_to(np.stack([np.atleast_1d(s) for s in sizes]), area.shape)
    return _scalar(_by_size(area, size), values[0].ndim == 0)


def robust_auroc(
    y: npt.ArrayLike, a: npt.ArrayLike, score: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """AUROC of the label over the conflicting samples, {y=1, a=0} and {y=0, a=1} (Saab et al. 2022).

    ``a`` is the shortcut that goes with ``y = 1``; where it goes with ``y = 0``, pass ``1 - a``. A model that
    only reads the shortcut has 0. NaN where one of the two groups is empty.
    """
    y, a = _binary_pair(y, a)
    return auroc(np.where(y != a, y, np.nan), score, weights)


def aligned_auroc(
    y: npt.ArrayLike, a: npt.ArrayLike, score: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """AUROC of the label over the aligned samples, {y=1, a=1} and {y=0, a=0}; else as robust_auroc."""
    y, a = _binary_pair(y, a)
    return auroc(np.where(y == a, y, np.nan), score, weights)


def balanced_auroc(
    y: npt.ArrayLike, a: npt.ArrayLike, score: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """AUROC of the label with the same total weight on each of the four groups (y, a).

    It is what the AUROC would be where the concept is as frequent in both classes; NaN where a group is
    empty.
    """
    y, a = _binary_pair(y, a)
    rows, single = _rows(weights, len(y))
    balanced = np.zeros(rows.shape)
    for label in (0, 1):
        for carrier in (0, 1):
            group = (y == label) & (a == carrier)
            balanced[:, group] = rows[:, group] / _positive(rows[:, group].sum(axis=1))[:, None]
    result = weighted_auroc(y, np.asarray(score, np.float64), np.nan_to_num(balanced))
    return _scalar(np.where(np.isnan(balanced).any(axis=1) | _lacks_group(y, a), np.nan, result), single)


def worst_group_accuracy(
    y: npt.ArrayLike, a: npt.ArrayLike, prediction: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """Smallest accuracy over the groups (class, concept value) that have samples (Sagawa et al. 2020).

    ``y`` and ``prediction`` are class indices (any number of classes). NaN where no group has samples.
    """
    y, a, prediction = np.asarray(y), np.asarray(a, np.float64), np.asarray(prediction)
    _check_binary(a, "a")
    rows, single = _rows(weights, len(a))
    accuracies = [
        _share(rows, (y == label) & (a == carrier), prediction == y)
        for label in np.unique(y)
        for carrier in (0, 1)
    ]
    stacked = np.stack(accuracies) if accuracies else np.full((1, len(rows)), np.nan)
    worst = np.where(np.isnan(stacked), np.inf, stacked).min(axis=0)
    return _scalar(np.where(np.isinf(worst), np.nan, worst), single)


def delta_tpr(
    y: npt.ArrayLike, a: npt.ArrayLike, prediction: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Any:
    """True-positive rate of the carriers minus that of the others, in [-1, 1] (equal opportunity).

    ``y`` and ``prediction`` are 0 or 1. NaN where no positive carrier, or no positive other, exists.
    """
    y, a = _binary_pair(y, a)
    positives = np.asarray(prediction) == 1
    rows, single = _rows(weights, len(y))
    carriers, others = (_share(rows, (y == 1) & (a == value), positives) for value in (1, 0))
    return _scalar(carriers - others, single)


def flip_rate(prediction: npt.ArrayLike, other: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Any:
    """Share of samples whose predicted class differs between two paired predictions; NaN without samples."""
    prediction, other = np.asarray(prediction), np.asarray(other)
    if prediction.shape != other.shape or prediction.ndim != 1:
        raise InputError(
            f"flip_rate: paired predictions of shapes {prediction.shape} and {other.shape}; both must be (N,)"
        )
    rows, single = _rows(weights, len(prediction))
    return _scalar(_share(rows, np.ones(len(prediction), bool), prediction != other), single)


def expected_calibration_error(
    y: npt.ArrayLike, p: npt.ArrayLike, *, n_bins: int = 15, weights: npt.ArrayLike | None = None
) -> Any:
    """Expected calibration error of the predicted class (Guo et al. 2017), in [0, 1].

    Parameters
    ----------
    y
        ``(N,)`` class indices.
    p
        ``(N, K)`` probabilities, or ``(N,)`` the probability of class 1.
    n_bins
        Number of equally wide bins of the confidence in (0, 1].
    weights
        ``None``, ``(N,)`` or ``(B, N)``.
    """
    y, p = np.asarray(y), np.asarray(p, np.float64)
    if len(p) and (np.isnan(p).any() or p.min() < -1e-6 or p.max() > 1 + 1e-6):
        raise InputError(f"expected_calibration_error: p holds values outside [0, 1] ({p.min()}, {p.max()})")
    p = np.stack([1 - p, p], axis=1) if p.ndim == 1 else p
    rows, single = _rows(weights, len(y))
    confidence = p.max(axis=1)
    gap = (p.argmax(axis=1) == y) - confidence
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    per_bin = np.stack([np.abs(rows[:, bins == b] @ gap[bins == b]) for b in range(n_bins)])
    return _scalar(_ratio(per_bin.sum(axis=0), rows.sum(axis=1)), single)


def _ranked_auroc(labels: Floats, scores: Floats) -> Floats:
    """Row-wise AUROC, ``(K, N)`` each; rows that share their known samples are ranked together."""
    result = np.full(len(labels), np.nan)
    is_known = ~np.isnan(labels)
    masks, member = np.unique(np.packbits(is_known, axis=1), axis=0, return_inverse=True)
    for index in range(len(masks)):
        rows = np.flatnonzero(member.ravel() == index)
        keep = is_known[rows[0]]
        step = max(1, _BLOCK // max(1, int(keep.sum())))
        for begin in range(0, len(rows), step):
            part = rows[begin : begin + step]
            result[part] = _known_auroc(labels[part][:, keep], scores[part][:, keep])
    return result


def _by_size(areas: Floats, sizes: Array) -> Floats:
    """Mean over the classes ``(C, T)`` by their size; those without an AUROC are left out."""
    sizes = np.where(np.isnan(areas), 0.0, sizes)
    return _ratio(np.nansum(areas * sizes, axis=0), sizes.sum(axis=0))


def _packed_auroc(positive: Bools, scores: Floats) -> Floats:
    """Row-wise AUROC of single-precision scores: sorted in place, the label in a bit that they leave free."""
    ranked = scores.astype(np.float64) + 0.0  # no -0
    bits = ranked.view(np.int64)
    bits |= positive
    ranked.sort(axis=1)
    carries = (bits & 1).astype(np.float64)
    bits &= -2
    n, n_positive = bits.shape[1], carries.sum(axis=1)
    wins = carries @ np.arange(1.0, n + 1) - n_positive * (n_positive + 1) / 2
    # Of equal scores the positive ones lie farther from 0: they won all of their pairs or none, for half.
    tied = np.flatnonzero(ranked[:, 1:] == ranked[:, :-1])
    if len(tied):
        tied += tied // (n - 1)  # position in the rows of n
        first = np.flatnonzero(np.r_[True, np.diff(tied) > 1])
        last = np.r_[first[1:], len(tied)] - 1
        carriers = np.add.reduceat(carries.ravel()[tied], first) + carries.ravel()[tied[last] + 1]
        others = last - first + 2 - carriers
        half = np.where(ranked.ravel()[tied[first]] < 0, -0.5, 0.5) * carriers * others
        wins -= np.bincount(tied[first] // n, half, len(wins))
    return _ratio(wins, n_positive * (n - n_positive))


def _known_auroc(labels: Array, scores: Floats) -> Floats:
    n = labels.shape[1]
    order = np.argsort(scores, axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    positive = np.take_along_axis(labels, order, axis=1)
    n_positive = positive.sum(axis=1)
    rank_sum = positive @ np.arange(1.0, n + 1)
    for row in np.flatnonzero((ranked[:, 1:] == ranked[:, :-1]).any(axis=1)):
        rank_sum[row] = positive[row] @ _mid_ranks(ranked[row])
    wins = rank_sum - n_positive * (n_positive + 1) / 2
    area = _ratio(wins, n_positive * (n - n_positive))
    return np.where(np.isnan(scores).any(axis=1), np.nan, area)


def _mid_ranks(ranked: Floats) -> Floats:
    """Ranks from 1 of sorted scores, tied ones sharing their mean rank."""
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    counts = np.diff(np.r_[starts, len(ranked)])
    return np.asarray(np.repeat(starts + (counts + 1) / 2, counts), np.float64)


def _share(rows: Floats, group: Bools, hit: Bools) -> Floats:
    """Weighted share of hits within a group, per row of weights; NaN where the group has no weight."""
    inside = rows[:, group]
    return _ratio(inside @ hit[group].astype(np.float64), inside.sum(axis=1))


def _lacks_group(y: Floats, a: Floats) -> bool:
    return any(not ((y == label) & (a == carrier)).any() for label in (0, 1) for carrier in (0, 1))


def _ratio(numerator: Floats, denominator: Array) -> Floats:
    return np.asarray(numerator / _positive(denominator), np.float64)


def _positive(total: Array) -> Floats:
    """Totals with NaN in place of 0: what is divided by them becomes NaN without a warning."""
    return np.where(total > 0, total, np.nan)


def _rows(weights: npt.ArrayLike | None, n: int) -> tuple[Floats, bool]:
    """Weights as rows ``(B, N)``, and whether one value is to be returned."""
    if weights is None:
        return np.ones((1, n)), True
    array = np.asarray(weights, np.float64)
    if array.ndim not in (1, 2) or array.shape[-1] != n:
        raise InputError(f"weights of shape {array.shape} for {n} samples; allowed are ({n},) and (B, {n})")
    return np.atleast_2d(array), array.ndim == 1


def _binary_pair(y: npt.ArrayLike, a: npt.ArrayLike) -> tuple[Floats, Floats]:
    y, a = np.asarray(y, np.float64), np.asarray(a, np.float64)
    if y.shape != a.shape or y.ndim != 1:
        raise InputError(f"labels of shape {y.shape} and concept of shape {a.shape}; both must be (N,)")
    _check_binary(y, "y")
    _check_binary(a, "a")
    unknown = np.isnan(y) | np.isnan(a)
    return np.where(unknown, np.nan, y), np.where(unknown, np.nan, a)


def _check_binary(values: Floats, name: str) -> None:
    wrong = values[~(np.isnan(values) | (values == 0) | (values == 1))]
    if len(wrong):
        raise InputError(f"{name} holds {wrong[0]:g}; allowed are 0, 1 and NaN (unknown)")


def _columns(values: Floats) -> int:
    return 1 if values.ndim == 1 else values.shape[1]


def _as_rows(values: Floats, columns: int) -> Floats:
    rows = values[None] if values.ndim == 1 else values.T
    return np.ascontiguousarray(np.broadcast_to(rows, (columns, rows.shape[1])))


def _scalar(values: Floats, single: bool) -> Any:
    return float(values[0]) if single else values
