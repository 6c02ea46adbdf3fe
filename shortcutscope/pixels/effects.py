"""How far an intervention moves the output beyond what it does to images that it should not move.

Changes are in standard deviations of the margin within a label, towards the label that the concept goes
with: positive where the network relies on the concept as its association has it. Flips lie beside them, never
alone: they depend on how many images are near the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, Self

import numpy as np

from shortcutscope.stats.bootstrap import cluster_weights, percentile_interval
from shortcutscope.types import JSON, Array, Floats, Ints, Record

#: A concept is taken out of the images that carry it, or put into those that do not.
Direction = Literal["without", "with"]
DIRECTIONS: tuple[Direction, ...] = ("without", "with")
#: Fewest images of a label that a null is read from.
FEWEST_OF_NULL = 3


@dataclass(frozen=True, eq=False)
class Changes:
    """Margins of images before and after an intervention; an image may stand in several rows.

    Attributes
    ----------
    rows
        (n,) of the table.
    before, after
        (n,) margins.
    """

    rows: Ints
    before: Floats
    after: Floats

    def __len__(self) -> int:
        return len(self.rows)

    def by_image(self) -> tuple[Ints, Floats, Floats]:
        """Rows, each once, with the mean change and the share of flips."""
        rows, member = np.unique(self.rows, return_inverse=True)
        count = np.bincount(member)
        moved = np.bincount(member, self.after - self.before) / count
        flipped = np.bincount(member, (self.before > 0) != (self.after > 0)) / count
        return rows, moved, flipped


@dataclass(frozen=True, eq=False)
class Scale:
    """What changes are measured in.

    Attributes
    ----------
    labels, groups
        (N,) class and patient, as a number, of all samples.
    spread
        Standard deviation of the margin within a label.
    sign
        1 where carriers go with the positive class, -1 where they go against it.
    """

    labels: Ints
    groups: Ints
    spread: float
    sign: int

    def turn(self, direction: Direction) -> float:
        """What a change of a direction is multiplied by, so that it is towards the concept's label."""
        return self.sign * (1 if direction == "with" else -1) / self.spread


@dataclass(frozen=True)
class Response:
    """The response to one direction of an intervention, beside its null.

    Attributes
    ----------
    direction
        ``"without"``: carriers without it; ``"with"``: the others with it.
    effect, null, excess
        Mean change, that of the null, and the difference, label by label; towards the concept's label.
    effect_interval, null_interval, excess_interval
        95 %, by patient.
    z
        The difference by its standard error, by patient.
    flips, null_flips
        Shares of predictions that change.
    n, n_groups, n_null
        Images, their patients, and images of the null.
    by_class
        Class to ``effect``, ``null``, ``n`` and ``flips``.
    null_of
        What the null is.
    doubt
        Why the edited images cannot stand for real ones; empty where they can.
    """

    direction: Direction
    effect: float
    effect_interval: tuple[float, float]
    null: float
    null_interval: tuple[float, float]
    excess: float
    excess_interval: tuple[float, float]
    z: float
    flips: float
    flips_interval: tuple[float, float]
    null_flips: float
    n: int
    n_groups: int
    n_null: int
    by_class: Mapping[str, Record] = field(default_factory=dict)
    null_of: str = ""
    doubt: str = ""

    def to_dict(self) -> Record:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: JSON) -> Self:
        """From JSON values."""
        entries: Record = {k: _pair(v) if k.endswith("interval") else v for k, v in values.items()}
        return cls(**entries)


def response(
    direction: Direction,
    own: Changes,
    null: Changes,
    scale: Scale,
    *,
    null_of: str = "",
    n_bootstrap: int = 300,
    seed: int = 0,
) -> Response:
    """Compare an intervention with its null, label by label.

    Parameters
    ----------
    direction
        Which one it is.
    own, null
        What it does to the images that it is meant for, and to the others.
    scale
        Of all samples.
    null_of
        What the null is, in words.
    n_bootstrap, seed
        Of resamples of the patients.

    Returns
    -------
    Response
        Labels without `FEWEST_OF_NULL` images of the null take no part, unless none has as many: then labels
        are pooled.
    """
    turn = scale.turn(direction)
    rows, moved, flipped = own.by_image()
    null_rows, null_moved, null_flipped = null.by_image()
    means = _MeansOverLabels.of(rows, null_rows, scale, n_bootstrap, seed)
    effect, flips = means.own(turn * moved), means.own(flipped)
    expected, null_flips = means.null(turn * null_moved), means.null(null_flipped)
    excess = effect - expected
    deviation = float(np.nanstd(excess[1:]))
    return Response(
        direction,
        *_with_interval(effect),
        *_with_interval(expected),
        *_with_interval(excess),
        float(excess[0] / deviation) if deviation > 0 else float("nan"),
        *_with_interval(flips),
        float(null_flips[0]),
        len(rows),
        len(np.unique(scale.groups[rows])),
        len(null_rows),
        _by_class(scale.labels[rows], turn * moved, flipped, scale.labels[null_rows], turn * null_moved),
        null_of,
    )


@dataclass(frozen=True, eq=False)
class _MeansOverLabels:
    """Means of images and of those of the null, label by label, in the images themselves and in resamples.

    Attributes
    ----------
    shares
        Label to its share among the images; labels of too few images of the null are left out.
    labels, null_labels
        Of either; all 0 where no label has enough, and labels are pooled.
    weights, null_weights
        (1 + resamples, n) how often each image is drawn, first once each.
    """

    shares: Mapping[int, float]
    labels: Ints
    null_labels: Ints
    weights: Floats
    null_weights: Floats

    @classmethod
    def of(cls, rows: Ints, null_rows: Ints, scale: Scale, n_bootstrap: int, seed: int) -> Self:
        """Of images in rows of the table; whole patients are drawn again."""
        labels, null_labels = scale.labels[rows], scale.labels[null_rows]
        shared = [k for k in np.unique(labels) if (null_labels == k).sum() >= FEWEST_OF_NULL]
        if not shared:
            labels, null_labels, shared = np.zeros_like(labels), np.zeros_like(null_labels), [0]
        every = np.unique(np.concatenate([rows, null_rows]))
        draws = np.concatenate(
            [np.ones((1, len(every))), cluster_weights(scale.groups[every], n_bootstrap, seed)]
        )
        kept = np.isin(labels, shared)
        shares = {k: float((labels[kept] == k).mean()) for k in shared}
        weights, null_weights = (draws[:, np.searchsorted(every, some)] for some in (rows, null_rows))
        return cls(shares, labels, null_labels, weights, null_weights)

    def own(self, values: Floats) -> Floats:
        """Means (1 + resamples,) of a value of each image."""
        return self._means(values, self.labels, self.weights)

    def null(self, values: Floats) -> Floats:
        """The same of images of the null, by the shares that labels have among the others."""
        return self._means(values, self.null_labels, self.null_weights)

    def _means(self, values: Floats, labels: Ints, weights: Floats) -> Floats:
        total = np.zeros(len(weights))
        with np.errstate(invalid="ignore", divide="ignore"):
            for k, share in self.shares.items():
                member = labels == k
                total += share * (weights[:, member] @ values[member]) / weights[:, member].sum(1)
        return total


def _by_class(
    labels: Ints, effects: Floats, flipped: Floats, null_labels: Ints, null_effects: Floats
) -> dict[str, Record]:
    return {
        str(k): {
            "effect": float(effects[labels == k].mean()),
            "null": _mean(null_effects[null_labels == k]),
            "flips": float(flipped[labels == k].mean()),
            "n": int((labels == k).sum()),
        }
        for k in np.unique(labels)
    }


def _with_interval(values: Floats) -> tuple[float, tuple[float, float]]:
    """The first value, which is that of the samples themselves, and the interval of the others."""
    return float(values[0]), percentile_interval(values[1:])


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None


def _pair(ends: Sequence[float | None]) -> tuple[float, float]:
    """Both ends of an interval, null as NaN."""
    low, high = (float("nan") if end is None else float(end) for end in ends)
    return low, high
