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
    turn = scale.sign * (1 if direction == "with" else -1) / scale.spread
    rows, moved, flipped = own.by_image()
    null_rows, null_moved, null_flipped = null.by_image()
    labels, null_labels = scale.labels[rows], scale.labels[null_rows]
    shared = [k for k in np.unique(labels) if (null_labels == k).sum() >= FEWEST_OF_NULL]
    if not shared:
        labels, null_labels, shared = np.zeros_like(labels), np.zeros_like(null_labels), [0]
    in_shared, null_kept = np.isin(labels, shared), np.isin(null_labels, shared)
    all_rows = np.unique(np.concatenate([rows, null_rows]))
    draws = np.concatenate(
        [np.ones((1, len(all_rows))), cluster_weights(scale.groups[all_rows], n_bootstrap, seed)]
    )
    weight = draws[:, np.searchsorted(all_rows, rows[in_shared])]
    null_weight = draws[:, np.searchsorted(all_rows, null_rows[null_kept])]
    shares = {k: float((labels[in_shared] == k).mean()) for k in shared}

    def over_labels(values: Floats, classes: Ints, weights: Floats) -> Floats:
        total = np.zeros(len(weights))
        with np.errstate(invalid="ignore", divide="ignore"):
            for k, share in shares.items():
                member = classes == k
                total += share * (weights[:, member] @ values[member]) / weights[:, member].sum(1)
        return total

    effect = over_labels(turn * moved[in_shared], labels[in_shared], weight)
    expected = over_labels(turn * null_moved[null_kept], null_labels[null_kept], null_weight)
    flips = over_labels(flipped[in_shared], labels[in_shared], weight)
    null_flips = over_labels(null_flipped[null_kept], null_labels[null_kept], null_weight)
    excess = effect - expected
    deviation = float(np.nanstd(excess[1:]))
    by_class = {
        str(k): {
            "effect": float(turn * moved[member].mean()),
            "null": _mean(turn * null_moved[scale.labels[null_rows] == k]),
            "flips": float(flipped[member].mean()),
            "n": int(member.sum()),
        }
        for k in np.unique(scale.labels[rows])
        if (member := scale.labels[rows] == k).any()
    }
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
        by_class,
        null_of,
    )


def _with_interval(values: Floats) -> tuple[float, tuple[float, float]]:
    """The first value, which is that of the samples themselves, and the interval of the others."""
    return float(values[0]), percentile_interval(values[1:])


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None


def _pair(ends: Sequence[float | None]) -> tuple[float, float]:
    """Both ends of an interval, null as NaN."""
    low, high = (float("nan") if end is None else float(end) for end in ends)
    return low, high
