"""The robustness index: are the nearest neighbours of the same class, or of the same confounder?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from shortcutscope.errors import InputError
from shortcutscope.stats.bootstrap import cluster_interval
from shortcutscope.types import Array, Bools, Floats, Ints

#: Balanced draws that are averaged, and samples of each group in one at most.
DRAWS, MOST_DRAWN = 10, 500
#: Queries whose similarities are held at a time.
BLOCK = 1024


@dataclass(frozen=True)
class RobustnessIndex:
    """Share of neighbours that are of the same class, among those that are of one of the two.

    Attributes
    ----------
    value, interval
        0: organised by the confounder alone; 1: by the class alone; None where it was not measured.
    n
        Samples of each (class, confounder) group in a draw.
    why
        Why it was not measured.
    """

    value: float | None
    interval: tuple[float, float] | None
    n: int
    why: str = ""


def robustness_index(
    features: npt.ArrayLike,
    labels: npt.ArrayLike,
    confounder: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    k: int = 10,
    n_bootstrap: int = 300,
    seed: int = 0,
) -> RobustnessIndex:
    """How far an encoder's neighbourhoods are those of the class rather than of a confounder.

    After the robustness index of PathoROB (arXiv 2507.17845). Of the k nearest neighbours of each sample, by
    cosine similarity and among other patients, SO are those of the same class and another value of the
    confounder, OS those of another class and the same value; the index is SO / (SO + OS), summed over the
    samples. Neighbours that share both or neither say nothing. So that frequent groups are no nearer for
    being frequent, as many samples of each (class, confounder) group are drawn, and the sums are taken over
    `DRAWS` draws. There k is chosen by the accuracy of a k-nearest-neighbour classifier, here it is given.

    Parameters
    ----------
    features
        (N, d)
    labels, confounder
        (N,) class and confounder; NaN is unknown and left out.
    groups
        (N,) patients; None: each sample its own.
    k
        Neighbours.
    n_bootstrap, seed
        Resamples of the patients for the interval, in which neighbours stay; seed of these and of the draws.

    Returns
    -------
    RobustnessIndex
        Without a value where a group has fewer than k samples.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels, site = np.repeat([0, 1], 200), np.tile([0, 1], 200)
    >>> features = rng.normal(size=(400, 8)) + 8 * labels[:, None] * np.eye(8)[0]
    >>> robustness_index(features, labels, site).value > 0.9
    True
    """
    values, y = np.asarray(features, np.float64), np.asarray(labels)
    a = np.asarray(confounder, np.float64)
    patients = np.arange(len(y)) if groups is None else np.unique(groups, return_inverse=True)[1]
    _refuse_other_shapes(values, y, a, patients, k)
    rows_known = np.flatnonzero(np.isfinite(a))
    cells = _cells(y[rows_known], a[rows_known])
    n = min((len(cell) for cell in cells), default=0)
    if n < k:
        why = f"the smallest group of class and value has {n} samples; {k} are needed"
        return RobustnessIndex(None, None, n, why)
    n = min(n, MOST_DRAWN)
    same, other = _counts(values, y, a, patients, [rows_known[cell] for cell in cells], (n, k, seed))
    if not (same + other).any():
        return RobustnessIndex(None, None, n, "no neighbour shares the class alone, or the value alone")
    interval = cluster_interval(partial(_index, same, other), patients, n_bootstrap, seed=seed, by="rows")
    return RobustnessIndex(float(_index(same, other, np.ones(len(y)))), interval, n)


def _index(same: Floats, other: Floats, weights: Array) -> Floats:
    """SO / (SO + OS) with weights (..., N) of the samples."""
    mass = weights @ (same + other)
    return np.asarray(weights @ same / np.where(mass > 0, mass, np.nan))


def _refuse_other_shapes(features: Floats, labels: Array, confounder: Array, patients: Array, k: int) -> None:
    if features.ndim != 2 or {len(features)} != {len(labels), len(confounder), len(patients)} or k < 1:
        raise InputError(
            f"features {features.shape}, labels {labels.shape}, confounder {confounder.shape}, k={k}; needed "
            "are (N, d), (N,), (N,) and k of at least 1"
        )


def _counts(
    features: Floats,
    labels: Array,
    confounder: Floats,
    patients: Ints,
    cells: Sequence[Ints],
    drawn: tuple[int, int, int],
) -> tuple[Floats, Floats]:
    """Neighbours (N,) of each sample that share the class alone, and the value alone, over all draws.

    Parameters
    ----------
    drawn
        Samples of each group, neighbours, seed.
    """
    n, k, seed = drawn
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng(seed)
    same, other = np.zeros(len(labels)), np.zeros(len(labels))
    for _ in range(DRAWS if any(len(cell) > n for cell in cells) else 1):
        rows = np.sort(np.concatenate([rng.permutation(cell)[:n] for cell in cells]))
        neighbours, of_others = _nearest(unit[rows], patients[rows], k)
        near = rows[neighbours]
        alike, shared = labels[near] == labels[rows][:, None], confounder[near] == confounder[rows][:, None]
        same[rows] += (alike & ~shared & of_others).sum(axis=1)
        other[rows] += (~alike & shared & of_others).sum(axis=1)
    return same, other


def _cells(labels: Array, confounder: Floats) -> list[Ints]:
    """Samples of each group; none where a class lacks a value."""
    classes, levels = np.unique(labels), np.unique(confounder)
    return [np.flatnonzero((labels == c) & (confounder == v)) for c in classes for v in levels]


def _nearest(unit: Floats, patients: Ints, k: int) -> tuple[Ints, Bools]:
    """(n, k) positions of the most similar samples, and whether they are of other patients."""
    k = min(k, len(unit) - 1)
    nearest = np.empty((len(unit), k), np.int64)
    for begin in range(0, len(unit), BLOCK):
        part = slice(begin, begin + BLOCK)
        similarity = unit[part] @ unit.T
        similarity[patients[part][:, None] == patients] = -np.inf
        nearest[part] = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    return nearest, patients[nearest] != patients[:, None]
