"""Quiet and loud places: what an image tells of a concept wherever it is, without a map.

A map loses what moves from image to image, and what shows only where there is something to be changed. So the
places of every image are ordered, by how much goes on in them and by their grey values. A thing that is
confined leaves the quiet ones as they are; what is spread over the image shows in them as well. The places at
the ends hold the thing wherever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation

from shortcutscope.probes.crossfit import cross_fitted_scores
from shortcutscope.probes.extent.cells import CHANCE, CellMap, chance_deviation, empty_cells
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Array, Bools, Floats

#: Filters of `input_filters` that say how much goes on in a cell, beside one of edges for each axis.
ACTIVITY = 2
#: Quantiles of an image's places that are read: of how little goes on in them, of the grey values of the
#: quiet half, and at both ends of everything.
LOW, MIDDLE, ENDS = (0.05, 0.1, 0.2, 0.3), (0.25, 0.5, 0.75), (0.0, 0.02, 0.98, 1.0)
#: Smallest number of places that are not empty: of an image with fewer all are read.
FEWEST = 8
#: Share of its mean that is added to how much goes on before the logarithm, and of the mean deviation of all
#: places to that of one.
FLOOR = 0.05


@dataclass(frozen=True)
class Places:
    """Cross-fitted within-class AUROC of a concept from quantiles over the places of each image.

    Attributes
    ----------
    quiet, moving : float
        From the quiet ones, and from those at the ends, of the places that do not tell it by themselves; NaN
        where too few are left.
    loud : float
        From those at the ends of all: the loudest, quietest, brightest and darkest ones.
    by_chance : float
        What chance stays below in 95 % of cases.
    """

    quiet: float = float("nan")
    moving: float = float("nan")
    loud: float = float("nan")
    by_chance: float = 0.5


def read_places(
    features: Floats, cells: CellMap, concept: Floats, labels: Array, folds: Array, *, smallest: int
) -> Places:
    """How well a concept is told from the quiet places of an image, and from those at the ends.

    Parameters
    ----------
    features : ndarray
        (N, F, *cells) of `input_filters`, averaged over cells.
    cells : CellMap
        Made from them: lit cells and their neighbours are not asked.
    concept, labels, folds : ndarray
        (N,); the concept is 0 or 1.
    smallest : int
        Cells that have to be left for the quiet ones to be asked.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> features, concept = rng.random((40, 6, 8, 8)), np.arange(40) % 2.0
    >>> features[concept == 1, 2:] += 1  # everywhere
    >>> cells = CellMap(np.full((8, 8), 0.5), 0.0)
    >>> folds = np.arange(40) // 2 % 4
    >>> read_places(features, cells, concept, np.zeros(40), folds, smallest=26).quiet
    1.0
    """
    values = np.moveaxis(features.reshape(*features.shape[:2], -1), 1, 2)
    level, activity = _described(values, features.ndim - 2)

    def auroc(described: Sequence[Floats]) -> float:
        columns = np.concatenate(described, axis=1)
        centred = columns - columns.mean(0)
        scores = cross_fitted_scores(centred, concept, labels, folds, centre=True)
        return float(within_class_auroc(concept, scores, labels))

    both = np.concatenate([level, activity], axis=2)

    def ends(places: Bools) -> float:
        chosen = np.broadcast_to(places, values.shape[:2])
        return auroc([quantiles(one, chosen, ENDS) for one in (both, _standardised(both))])

    by_chance = 0.5 + CHANCE * chance_deviation(concept, labels)
    loud = ends(np.ones(values.shape[1], np.bool_))
    dark = _dark(cells, smallest)
    if dark is None:
        return Places(loud=loud, by_chance=by_chance)
    shown = dark & ~empty_cells(np.ascontiguousarray(values.transpose(1, 0, 2))).T
    shown[shown.sum(1) < FEWEST] = dark
    half = _quiet_half(activity[..., ACTIVITY - 1], shown)
    quiet = auroc([quantiles(_standardised(level), half, MIDDLE), quantiles(activity, shown, LOW)])
    return Places(quiet, loud if dark.all() else ends(dark), loud, by_chance)


def quantiles(values: Floats, chosen: Bools, shares: Sequence[float]) -> Floats:
    """Quantiles of each sample's chosen places.

    Parameters
    ----------
    values : ndarray
        (N, P, F) of P places.
    chosen : ndarray
        (N, P), at least one of each sample.

    Returns
    -------
    ndarray
        (N, len(shares) * F), interpolated as `numpy.quantile` does.
    """
    last = chosen.sum(1)[:, None] - 1
    rising = np.sort(np.where(chosen[..., None], values, np.inf), axis=1)
    position = np.asarray(shares) * last
    below = np.floor(position).astype(np.int64)
    part = (position - below)[..., None]
    low, high = (np.take_along_axis(rising, k[..., None], 1) for k in (below, np.minimum(below + 1, last)))
    return np.asarray(((1 - part) * low + part * high).reshape(len(values), -1))


def _described(values: Floats, axes: int) -> tuple[Floats, Floats]:
    """Grey values (N, P, ...) of the places, and the logarithm of how much goes on in them."""
    first = values.shape[2] - ACTIVITY - axes
    activity = values[..., first:].astype(np.float64)
    mean = activity.mean((0, 1))
    return values[..., :first].astype(np.float64), np.log(activity + FLOOR * mean + np.finfo(float).tiny)


def _standardised(values: Floats) -> Floats:
    """Less the mean of its place, in deviations there."""
    deviation = values.std(0)
    unit = deviation + FLOOR * deviation.mean(0)
    return np.asarray((values - values.mean(0)) / np.where(unit > 0, unit, 1))


def _dark(cells: CellMap, smallest: int) -> Bools | None:
    """Cells (P,) that do not tell the concept; without neighbours of those that do, where enough remain."""
    lit = cells.lit if cells.lit is not None else np.zeros(cells.auroc.shape, np.bool_)
    near = binary_dilation(lit, np.ones((3,) * lit.ndim, np.bool_))
    some = [dark.ravel() for dark in (~near, ~lit) if dark.sum() >= smallest]
    return some[0] if some else None


def _quiet_half(spread: Floats, shown: Bools) -> Bools:
    """The half (N, P) of each sample's shown places with the least spread."""
    rank = np.argsort(np.argsort(np.where(shown, spread, np.inf), axis=1), axis=1)
    return np.asarray(rank < np.maximum(1, shown.sum(1)[:, None] // 2))
