"""Which properties tell carriers from others within a label, beyond what chance over all of them would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from shortcutscope.discover.naming.words import LEVEL
from shortcutscope.types import Array, Floats, Ints

#: Patients on either side, in a label, from which the label is looked at.
FEWEST = 3
#: A level of a column of words that fewer share on both sides is not looked at.
RAREST = 0.05
PERMUTATIONS = 999
_AT_ONCE = 128


@dataclass(frozen=True)
class PropertyScore:
    """How one property tells carriers from others.

    Attributes
    ----------
    name
        Of the property.
    auroc
        Of carriers against others, within label; of graded values (1 + the rank correlation) / 2. Above .5
        where carriers have more of it.
    effect
        Difference of the means in standard deviations of either side, within label.
    z
        Of the rank statistic, in standard deviations of chance.
    carriers, others
        Means of the property, the labels weighted alike on both sides.
    p
        Over all properties at once.
    """

    name: str
    auroc: float
    effect: float
    z: float
    carriers: float
    others: float
    p: float = float("nan")

    @property
    def strength(self) -> float:
        """The AUROC in the direction that is above .5."""
        return abs(self.auroc - 0.5) + 0.5


@dataclass(frozen=True)
class RankedProperties:
    """Properties by strength, and what chance reaches.

    Attributes
    ----------
    scores
        Strongest first.
    p
        Of the strongest, over all properties that give names at once (max-T); None where nothing could be
        compared.
    carriers, others
        Patients (images, where there are none) that were compared.
    """

    scores: tuple[PropertyScore, ...]
    p: float | None
    carriers: int
    others: int


def rank_properties(
    properties: Mapping[str, Array],
    values: Floats,
    labels: Ints,
    groups: Array,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> RankedProperties:
    """Rank properties by how well they tell carriers from others of the same label.

    Patients count once a label and side, with the mean of their images. Chance is what the values reach when
    they are shuffled among the patients of each label, in whichever property they reach most (max-T, Westfall
    and Young 1993).

    Parameters
    ----------
    properties
        Name to a value per image, numbers (NaN where unknown) or words (None where unknown).
    values
        1 of carriers, 0 of others, NaN where unknown; or a graded score.
    labels, groups
        Label and patient per image.
    permutations
        Shuffles.
    seed
        Of the shuffles.

    Examples
    --------
    >>> grey = np.array([0.4, 0.5, 0.45, 0.6, 0.7, 0.65])
    >>> carriers = np.array([1.0, 1, 1, 0, 0, 0])
    >>> ranking = rank_properties({"mean grey": grey}, carriers, np.zeros(6, int), np.arange(6))
    >>> ranking.scores[0].auroc
    0.0
    """
    finite = np.isfinite(values)
    graded = not set(np.unique(values[finite])) <= {0.0, 1.0}
    units = _units(
        _numbers(properties, finite), values[finite], labels[finite], groups[finite], graded=graded
    )
    if not len(units.values):
        return RankedProperties((), None, 0, 0)
    ranks, target = _ranks(units), _target(units, graded=graded)
    variance = _chance_variance(units, ranks, target)
    looked_at = variance > 0
    if not looked_at.any():
        return RankedProperties((), None, units.carriers, len(units.values) - units.carriers)
    scale = np.sqrt(variance[looked_at])
    z = (target @ ranks)[looked_at] / scale
    most = _most_by_chance(target, units.labels, ranks[:, looked_at] / scale, permutations, seed)
    p = (1 + (most >= np.abs(z)[:, None] - 1e-9).sum(1)) / (1 + permutations)
    aurocs = _aurocs(units, ranks, target, graded=graded)[looked_at]
    names = [name for name, use in zip(units.names, looked_at, strict=True) if use]
    columns = units.columns[:, looked_at]
    scores = [
        PropertyScore(
            name, round(float(a), 9), *_means(column, units, graded=graded, z=float(one)), float(own)
        )
        for name, a, one, own, column in zip(names, aurocs, z, p, columns.T, strict=True)
    ]
    scores.sort(key=lambda score: (-score.strength, -abs(score.effect)))
    return RankedProperties(tuple(scores), float(p.min()), units.carriers, len(units.values) - units.carriers)


@dataclass(frozen=True)
class _Units:
    """Patients of a label on one side.

    Attributes
    ----------
    names, columns
        Properties, and their values (units, properties).
    values, labels
        Of the units; of labels with too few on a side none are here.
    """

    names: list[str]
    columns: Floats
    values: Floats
    labels: Ints

    @property
    def carriers(self) -> int:
        return int((self.values > 0.5).sum())


def _numbers(properties: Mapping[str, Array], finite: Array) -> dict[str, Floats]:
    """Numbers as they are, words as an indicator per level."""
    columns: dict[str, Floats] = {}
    for name, raw in properties.items():
        column = np.asarray(raw)[finite]
        if column.dtype.kind in "fiub":
            columns[name] = column.astype(np.float64)
            continue
        words = pd.Series(column, dtype="object")
        shares = words.value_counts(normalize=True)
        for level in shares.index[(shares >= RAREST) & (shares <= 1 - RAREST)]:
            columns[f"{name}{LEVEL}{level}"] = (words == level).to_numpy(np.float64)
    return columns


def _units(
    columns: dict[str, Floats], values: Floats, labels: Ints, groups: Array, *, graded: bool
) -> _Units:
    frame = pd.DataFrame(columns)
    keys = [labels, groups.astype(str)] if graded else [labels, groups.astype(str), values]
    names = list(frame.columns)
    frame["_value"], frame["_label"] = values, labels
    means = frame.groupby(keys, sort=True).mean()
    if graded:
        counted = means.groupby("_label")["_value"].transform("size") >= 2 * FEWEST
    else:
        carry = means["_value"]
        size = carry.groupby(means["_label"])
        counted = (size.transform("sum") >= FEWEST) & (
            size.transform("size") - size.transform("sum") >= FEWEST
        )
    means = means[counted]
    return _Units(
        names, means[names].to_numpy(np.float64), means["_value"].to_numpy(), means["_label"].to_numpy(int)
    )


def _ranks(units: _Units) -> Floats:
    """Ranks within label, centred, by the number that is known; 0 where a property is unknown."""
    ranks = np.zeros_like(units.columns)
    for label in np.unique(units.labels):
        rows = np.flatnonzero(units.labels == label)
        for k, column in enumerate(units.columns[rows].T):
            finite = np.isfinite(column)
            if finite.sum() > 1:
                order = rankdata(column[finite])
                ranks[rows[finite], k] = (order - order.mean()) / finite.sum()
    return ranks


def _target(units: _Units, *, graded: bool) -> Floats:
    """The values, or of graded ones their ranks, centred within label."""
    target = np.empty(len(units.values))
    for label in np.unique(units.labels):
        rows = units.labels == label
        own = rankdata(units.values[rows]) / rows.sum() if graded else units.values[rows]
        target[rows] = own - own.mean()
    return target


def _chance_variance(units: _Units, ranks: Floats, target: Floats) -> Floats:
    """Of the rank statistic when the target is shuffled within label."""
    variance = np.zeros(ranks.shape[1])
    for label in np.unique(units.labels):
        rows = units.labels == label
        if rows.sum() > 1:
            variance += (ranks[rows] ** 2).sum(0) * (target[rows] ** 2).sum() / (rows.sum() - 1)
    return variance


def _most_by_chance(target: Floats, labels: Ints, scaled: Floats, permutations: int, seed: int) -> Floats:
    """Of each shuffle of the target within label the largest |z| over all properties."""
    generator = np.random.default_rng(seed)
    of_labels = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    most = np.empty(permutations)
    for start in range(0, permutations, _AT_ONCE):
        shuffled = np.tile(target, (min(_AT_ONCE, permutations - start), 1))
        for one in shuffled:
            for rows in of_labels:
                one[rows] = target[generator.permutation(rows)]
        most[start : start + len(shuffled)] = np.abs(shuffled @ scaled).max(1)
    return most


def _aurocs(units: _Units, ranks: Floats, target: Floats, *, graded: bool) -> Floats:
    """Of every property, each label weighted by n1 n0 / n of those that are known."""
    if graded:
        size = np.sqrt((ranks**2).sum(0) * (target**2).sum())
        correlation: Floats = np.divide(target @ ranks, size, out=np.zeros(len(size)), where=size > 0)
        return 0.5 + correlation / 2
    statistic, weight = np.zeros(ranks.shape[1]), np.zeros(ranks.shape[1])
    for label in np.unique(units.labels):
        rows = units.labels == label
        finite, carry = np.isfinite(units.columns[rows]), units.values[rows][:, None]
        ones, n = (finite * carry).sum(0), finite.sum(0)
        statistic += (ranks[rows] * carry).sum(0)
        weight += np.divide(ones * (n - ones), n, out=np.zeros(len(n)), where=n > 0)
    aurocs: Floats = 0.5 + np.divide(statistic, weight, out=np.zeros(len(weight)), where=weight > 0)
    return aurocs


def _means(column: Floats, units: _Units, *, graded: bool, z: float) -> tuple[float, float, float, float]:
    """Effect, z, and the means of both sides; of graded values the sides are their upper and lower half."""
    one = zero = spread = weight = 0.0
    for label in np.unique(units.labels):
        rows = (units.labels == label) & np.isfinite(column)
        values = units.values[rows]
        carry = values > np.median(values) if graded and len(values) else values == 1
        upper, lower = column[rows][carry], column[rows][~carry]
        if not len(upper) or not len(lower):
            continue
        w = len(upper) * len(lower) / (len(upper) + len(lower))
        one, zero, weight = one + w * upper.mean(), zero + w * lower.mean(), weight + w
        spread += w * (upper.var() + lower.var()) / 2
    if not weight:
        return 0.0, z, float("nan"), float("nan")
    effect = (one - zero) / weight / (np.sqrt(spread / weight) + 1e-9)
    return float(np.clip(effect, -999, 999)), z, one / weight, zero / weight
