"""Quiet and loud places: what an image tells of a concept wherever it is, without a map.

A map loses what moves from image to image, and what shows only where there is something to be changed. So the
places of every image are ordered, by how much goes on in them and by their grey values. A thing that is
confined leaves the quiet ones as they are; what is spread over the image shows in them as well. The places at
the ends hold the thing wherever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor
from torch.nn import functional

from shortcutscope.probes.crossfit import cross_fitted_scores
from shortcutscope.probes.extent.cells import (
    CERTAIN,
    CHANCE,
    CellMap,
    cells_of,
    chance_deviation,
    empty_cells,
    local_mean,
    resampled_cells,
)
from shortcutscope.types import Array, Bools, Floats

#: Filters of `input_filters` that say how much goes on in a cell, beside one of edges for each axis.
ACTIVITY = 2
#: Sizes of the surroundings of which `peaks` measure the contrast, and how many features these are.
SURROUNDINGS = (1, 3, 7)
PEAKS = 2 * (len(SURROUNDINGS) - 1)
#: Quantiles of an image's places that are read: of how little goes on in them, of the grey values of the
#: quiet half, at both ends of everything, at the upper end of peaks, and of these in the loud half.
LOW, MIDDLE, ENDS = (0.05, 0.1, 0.2, 0.3), (0.25, 0.5, 0.75), (0.0, 0.02, 0.98, 1.0)
TOP, LOUD_HALF = (0.98, 1.0), (0.6, 0.7, 0.8, 0.9)
#: Smallest number of places that are not empty: of an image with fewer all are read.
FEWEST = 8
#: Share of its mean that is added to how much goes on before the logarithm, and of the mean deviation of all
#: places to that of one.
FLOOR = 0.05


@dataclass(frozen=True)
class PlaceReadings:
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
    moving_apart, loud_apart : bool
        Whether those at the ends tell more than the loud half of the places does, in 99 % of the resamples.
        Something that is done to all edges shows in the whole half.
    """

    quiet: float = float("nan")
    moving: float = float("nan")
    loud: float = float("nan")
    by_chance: float = 0.5
    moving_apart: bool = True
    loud_apart: bool = True


@dataclass(frozen=True, eq=False)
class _Seen:
    """Of N samples and P places: what there is to be read, and how well quantiles of it tell the concept."""

    level: Floats
    activity: Floats
    peaks: Floats
    scored: Callable[[Sequence[Floats]], Floats]
    areas: Callable[[Sequence[Floats]], Floats]

    def ends(self, places: Bools) -> tuple[float, bool]:
        """AUROC from the ends of some places (P,), and whether they stand out from the loud half."""
        chosen = np.broadcast_to(places, self.level.shape[:2])

        def both(values: Floats, shares: Sequence[float]) -> list[Floats]:
            return [quantiles(one, chosen, shares) for one in (values, _standardised(values))]

        all_values = np.concatenate([self.level, self.activity], axis=2)
        at_ends = self.scored([*both(all_values, ENDS), *both(self.peaks, TOP)])
        in_half = self.scored(both(self.peaks, LOUD_HALF))
        (told, *more), (_, *less) = self.areas([at_ends, in_half])
        return float(told), bool(np.mean(np.greater(more, less)) >= CERTAIN)

    def quiet(self, places: Bools, shown: Bools) -> float:
        """AUROC from the quiet ones of some places (P,), as far as they are shown (N, P)."""
        shown = places & shown
        shown[shown.sum(1) < FEWEST] = places
        half = _quiet_half(self.activity[..., ACTIVITY - 1], shown)
        described = [quantiles(_standardised(self.level), half, MIDDLE), quantiles(self.activity, shown, LOW)]
        return float(self.areas([self.scored(described)])[0, 0])


def peaks(x: Tensor) -> Tensor:
    """How much a place is brighter, or darker, than its surroundings: the most of each cell.

    Parameters
    ----------
    x : Tensor
        (N, C, *spatial) with one to three spatial axes.

    Returns
    -------
    Tensor
        (N, PEAKS, *cells): of single places beside their neighbours, and of these beside a wider field.
    """
    means = [local_mean(x.mean(1, keepdim=True), size) for size in SURROUNDINGS]
    contrast = torch.cat([inner - outer for inner, outer in pairwise(means)], 1)
    pools: tuple[Callable[..., Tensor], ...] = (
        functional.adaptive_max_pool1d,
        functional.adaptive_max_pool2d,
        functional.adaptive_max_pool3d,
    )
    cells = cells_of(x.shape[2:])
    return pools[x.ndim - 3](torch.cat([contrast, -contrast], 1), cells if len(cells) > 1 else cells[0])


def read_places(
    features: Floats,
    cells: CellMap,
    concept: Floats,
    labels: Array,
    folds: Array,
    weights: Floats,
    *,
    smallest: int,
) -> PlaceReadings:
    """How well a concept is told from the quiet places of an image, and from those at the ends.

    Parameters
    ----------
    features : ndarray
        (N, F, *cells) of `input_filters`, averaged over cells, and `peaks`.
    cells : CellMap
        Made from the filters: lit cells and their neighbours are not asked.
    concept, labels, folds : ndarray
        (N,); the concept is 0 or 1.
    weights : ndarray
        (B, N) bootstrap multiplicities (whole patients).
    smallest : int
        Cells that have to be left for the quiet ones to be asked.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> features, concept = rng.random((40, 6 + PEAKS, 8, 8)), np.arange(40) % 2.0
    >>> features[concept == 1, 2:6] += 1  # everywhere
    >>> cells, folds = CellMap(np.full((8, 8), 0.5), 0.0), np.arange(40) // 2 % 4
    >>> read_places(features, cells, concept, np.zeros(40), folds, np.ones((1, 40)), smallest=26).quiet
    1.0
    """
    values = np.moveaxis(features.reshape(*features.shape[:2], -1), 1, 2)
    filters, at_peaks = values[..., :-PEAKS], values[..., -PEAKS:]
    every = np.concatenate([np.ones((1, len(values))), weights])

    def scored(described: Sequence[Floats]) -> Floats:
        columns = np.concatenate(described, axis=1)
        return cross_fitted_scores(columns - columns.mean(0), concept, labels, folds, centre=True)

    def areas(scores: Sequence[Floats]) -> Floats:
        return resampled_cells(concept, np.stack(scores), labels, every)

    seen = _Seen(*_described(filters, features.ndim - 2), at_peaks.astype(np.float64), scored, areas)
    by_chance = 0.5 + CHANCE * chance_deviation(concept, labels)
    loud, loud_apart = seen.ends(np.ones(values.shape[1], np.bool_))
    dark = _dark(cells, smallest)
    if dark is None:
        return PlaceReadings(loud=loud, by_chance=by_chance, loud_apart=loud_apart)
    moving, moving_apart = (loud, loud_apart) if dark.all() else seen.ends(dark)
    quiet = seen.quiet(dark, ~empty_cells(np.ascontiguousarray(filters.transpose(1, 0, 2))).T)
    return PlaceReadings(quiet, moving, loud, by_chance, moving_apart, loud_apart)


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
