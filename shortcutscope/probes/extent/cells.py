"""The cell map: in which parts of the image can a concept be read?

Of every cell of a grid over the image it is asked how well the concept can be read there, within a
class, on samples the reader was not fitted on. Features are averaged over the cell; they come from
filters on the input, or from a layer of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shortcutscope.probes.alive import alive
from shortcutscope.probes.crossfit import cross_fitted_scores
from shortcutscope.probes.ridge import PENALTY
from shortcutscope.stats.bootstrap import percentile_interval
from shortcutscope.stats.metrics import permuted_auroc
from shortcutscope.types import Array, Bools, Floats

#: Cells along each axis of a signal, an image and a volume.
CELLS: Mapping[int, tuple[int, ...]] = {1: (64,), 2: (16, 16), 3: (6, 6, 6)}
#: Feature maps that are averaged in cells, at most.
CHANNELS = 64
#: Difference that is none, in standard deviations of a feature: less than a step of a 12-bit image.
NOTHING = 1e-4
#: Share of the samples that have to be alike in a cell for it to be empty in them; where to look for them.
ALIKE, QUANTILES = 0.05, (0.1, 0.3, 0.5, 0.7, 0.9)
#: A dark cell that is empty on both sides of more than this share of the pairs is left out.
MOST_EMPTY = 0.5
#: Deviations that chance stays below in 95 % of cases.
CHANCE = 1.645
#: Share of the resamples in which something is so, to count as certain.
CERTAIN = 0.99


@dataclass(frozen=True)
class CellMap:
    """Cross-fitted within-class AUROC of a concept in every cell, and the share of lit cells.

    Attributes
    ----------
    auroc : ndarray
        (cells...), at least .5 where the cell knows anything; NaN where it cannot, because it is empty in
        nearly all samples, such as the black around a segmented organ.
    lit_share : float
        Share of lit cells among those that show anything; NaN where none does.
    interval : tuple of float
        Bootstrap interval of ``lit_share``, by patient; NaN when it was not asked for.
    dim : float
        Share of the resamples in which the cells that are not lit know the concept all the same: their mean
        AUROC is above chance. 0 where no interval is wanted.
    lit : ndarray, optional
        (cells...) which ones are lit.
    has_empty : bool
        Whether a cell is empty in any sample.
    """

    auroc: Floats
    lit_share: float
    interval: tuple[float, float] = (float("nan"), float("nan"))
    dim: float = 0.0
    lit: Bools | None = None
    has_empty: bool = False

    @property
    def counted(self) -> int:
        """Cells that show anything."""
        return int(np.isfinite(self.auroc).sum())


def input_filters(x: Tensor) -> Tensor:
    """Filter bank on the model's input: intensity, edges, curvature, local mean, spread, energy.

    Parameters
    ----------
    x : Tensor
        (N, C, *spatial) with one to three spatial axes.

    Returns
    -------
    Tensor
        (N, F, *spatial).
    """
    axes = x.ndim - 2
    grey = x.mean(1, keepdim=True)
    mean, squares = local_mean(grey, 3), local_mean(grey**2, 3)
    variance = squares - mean**2
    # The difference of two squares is no more precise than they are: on an even background it is rounding.
    spread = torch.where(variance > 8 * torch.finfo(x.dtype).eps * squares, variance, 0.0).sqrt()
    edges = [torch.gradient(grey, dim=axis + 2)[0].abs() for axis in range(axes)]
    responses = [x, grey**2, (grey - mean).abs(), spread, *edges]
    return torch.cat(responses, 1)


def local_mean(values: Tensor, size: int) -> Tensor:
    """Mean over a cube of an odd size about every place of (N, C, *spatial), the edge repeated beyond it."""
    axes = values.ndim - 2
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[axes - 1]
    padded = functional.pad(values, [size // 2] * (2 * axes), mode="replicate")
    return pool(padded, size, stride=1)


def cell_features(values: Tensor, channels: int = CHANNELS) -> Tensor:
    """Average feature maps within cells; many channels are first reduced by a fixed random projection.

    Parameters
    ----------
    values : Tensor
        (N, C, *grid).
    channels : int
        More channels than this are projected onto this many random directions, which keeps distances
        (Johnson and Lindenstrauss 1984) and bounds the memory.

    Returns
    -------
    Tensor
        (N, min(C, channels), *cells) in float32, where they are; fewer cells where the grid is smaller.
    """
    cells = cells_of(values.shape[2:])
    pools: tuple[Callable[..., Tensor], ...] = (
        functional.adaptive_avg_pool1d,
        functional.adaptive_avg_pool2d,
        functional.adaptive_avg_pool3d,
    )
    pooled: Tensor = pools[values.ndim - 3](values.float(), cells if len(cells) > 1 else cells[0])
    if pooled.shape[1] > channels:
        directions = _directions(pooled.shape[1], channels, pooled.device)
        pooled = torch.einsum("nc...,ck->nk...", pooled, directions)
    return pooled


def cells_of(grid: Sequence[int]) -> list[int]:
    """How many cells each axis of a grid has."""
    return [min(c, g) for c, g in zip(CELLS[len(grid)], grid, strict=True)]


@lru_cache(maxsize=64)
def _directions(width: int, channels: int, device: torch.device) -> Tensor:
    """Random directions (width, channels), the same on every device, to which they are sent once."""
    generator = torch.Generator().manual_seed(width)
    directions: Tensor = torch.randn(width, channels, generator=generator) / channels**0.5
    return directions.to(device)


def cell_map(
    features: Floats,
    concept: Floats,
    labels: Array,
    folds: Array,
    *,
    lit_above: float,
    weights: Floats | None = None,
) -> CellMap:
    """Cross-fitted within-class AUROC of a concept in every cell.

    A class-stratified ridge probe per cell, so that a concept that follows the label is not read off the
    label. A cell that is dark because it is empty says nothing of the extent, and does not count.

    Parameters
    ----------
    features : ndarray
        (N, F, *cells), see `cell_features`.
    concept, labels, folds : ndarray
        (N,); the concept is 0 or 1.
    lit_above : float
        AUROC from which a cell counts as lit, among the pairs in which it is not empty on both sides; with
        few carriers the limit is the 95th percentile of what chance gives, if that is higher.
    weights : ndarray, optional
        (B, N) bootstrap multiplicities (whole patients) for the interval of the lit share.
    """
    flat = features.reshape(*features.shape[:2], -1)
    cells = np.ascontiguousarray(flat.transpose(2, 0, 1))  # so that a cell is one matrix
    empty = empty_cells(cells)
    scores = np.zeros(empty.shape, cells.dtype)
    filled = np.flatnonzero(~empty.all(1))
    scores[filled] = cell_scores(
        cells if len(filled) == len(cells) else cells[filled], concept, labels, folds
    )
    areas = permuted_auroc(np.broadcast_to(concept == 1, scores.shape), scores, labels)
    auroc = np.nan_to_num(areas, nan=0.5)
    visible = 1 - _empty_pairs(empty, concept, labels)
    # Pairs that are empty on both sides are ties: they hold the AUROC at .5 and say nothing.
    weight = np.where(visible >= 1 - MOST_EMPTY, visible, 1.0)
    limit = 0.5 + np.maximum((lit_above - 0.5) * weight, CHANCE * chance_deviation(concept, labels))
    lit = auroc >= limit
    counted = lit | (visible >= 1 - MOST_EMPTY)
    lit_share, interval, dim = float("nan"), (float("nan"), float("nan")), 0.0
    if counted.any():
        lit_share = float(lit[counted].mean())
        if weights is not None:
            resampled = np.nan_to_num(resampled_cells(concept, scores[counted], labels, weights), nan=0.5)
            interval = percentile_interval((resampled >= limit[counted, None]).mean(0))
            dark = ~lit[counted]
            if dark.any():
                dim = float((resampled[dark].mean(0) > 0.5).mean())
    grid = features.shape[2:]
    values = np.where(counted, auroc, np.nan).reshape(grid)
    return CellMap(values, lit_share, interval, dim, lit.reshape(grid), bool(empty.any()))


def resampled_cells(concept: Floats, scores: Floats, labels: Array, weights: Floats) -> Floats:
    """Within-class AUROC of many columns of scores under many resamples.

    What `shortcutscope.stats.metrics.within_class_auroc` gives column by column, from the pairs that are won:
    with a few hundred samples that is a product of small matrices. Counts are whole and halves, so exact.

    Parameters
    ----------
    concept, labels : ndarray
        (N,); the concept is 0 or 1.
    scores : ndarray
        (P, N).
    weights : ndarray
        (B, N) multiplicities.

    Returns
    -------
    ndarray
        (P, B), NaN where no class has both values.
    """
    total = np.zeros((len(scores), len(weights)))
    size = np.zeros(len(weights))
    for value in np.unique(labels):
        sides = [(labels == value) & (concept == t) for t in (1, 0)]
        pairs = np.prod([weights[:, side].sum(axis=1, dtype=np.float64) for side in sides], axis=0)
        n = np.where(pairs > 0, weights[:, labels == value].sum(axis=1), 0.0)
        share = np.divide(n, pairs, out=np.zeros_like(n), where=pairs > 0)
        single = pairs.max(initial=0.0) < 2**22
        kind = np.float32 if single else np.float64
        resamples: list[Floats] = [weights[:, side].astype(kind) for side in sides]
        carriers, others = resamples
        for row, column in zip(total, scores, strict=True):
            above, below = column[sides[0], None], column[None, sides[1]]
            beaten = (above > below).astype(kind) + kind(0.5) * (above == below)
            row += share * np.einsum("bn,bn->b", carriers @ beaten, others)
        size += n
    return np.asarray(total / np.where(size > 0, size, np.nan))


def cell_scores(cells: Floats, concept: Floats, labels: Array, folds: Array) -> Floats:
    """Out-of-fold scores of one class-stratified ridge probe a cell, centred by class, of all cells at once.

    What `shortcutscope.probes.crossfit.cross_fitted_scores` gives cell by cell: all training statistics are
    those of all samples less the fold's. Features of single precision are not given more: they are centred.

    Parameters
    ----------
    cells : ndarray
        (P, N, F) of P cells.
    concept, labels, folds : ndarray
        (N,); all known.

    Returns
    -------
    ndarray
        (P, N).
    """
    n_cells, n_samples, width = cells.shape
    if width > np.unique(folds, return_counts=True)[1].min():  # the kernel is smaller
        scored = [cross_fitted_scores(one, concept, labels, folds, centre=True) for one in cells]
        return np.stack(scored) if scored else np.empty((0, n_samples))
    order = np.argsort(folds, kind="stable")  # so that a fold is a slice
    rows = np.take(cells, order, axis=1)
    size = np.sqrt(np.einsum("pnf,pnf->pf", rows, rows) / max(1, n_samples))
    # The Gram matrix of features far from 0 would lose digits.
    rows -= _mean(rows, 1)
    codes = np.unique(labels, return_inverse=True)[1][order]
    member = (codes == np.arange(codes.max() + 1)[:, None]).astype(rows.dtype)  # (K, N)
    ends = np.cumsum(np.unique(folds, return_counts=True)[1])
    spans = [slice(start, end) for start, end in zip(np.r_[0, ends[:-1]], ends, strict=True)]
    carries = concept[order].astype(rows.dtype)
    sums = [_Sums.of(rows[:, span], carries[span], member[:, span]) for span in spans]
    total = sum(sums[1:], start=sums[0])
    scores = np.empty((n_cells, n_samples), rows.dtype)
    for span, held_out in zip(spans, sums, strict=True):
        weights, means = (total - held_out).probes(size)
        raw = (rows[:, span] @ weights[..., None])[..., 0]
        centre = (means @ weights[..., None])[..., 0]  # (P, K)
        scores[:, order[span]] = raw - centre @ member[:, span]
    return scores


@dataclass(frozen=True, eq=False)
class _Sums:
    """What the probes of all cells need to know of some samples.

    Attributes
    ----------
    gram, products
        (P, F, F) and (P, F): features with each other, and with the concept.
    sums
        (P, K, F) by class.
    counts, carriers
        (K,) samples and carriers by class.
    """

    gram: Floats
    products: Floats
    sums: Floats
    counts: Floats
    carriers: Floats

    @classmethod
    def of(cls, rows: Floats, concept: Floats, member: Floats) -> Self:
        gram = rows.transpose(0, 2, 1) @ rows
        return cls(gram, concept @ rows, member @ rows, member.sum(axis=1), member @ concept)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: _Sums) -> _Sums:
        return _Sums(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def probes(self, size: Floats) -> tuple[Floats, Floats]:
        """Weights (P, F) of the probes fitted on these samples, and class means (P, K, F)."""
        n, width = self.gram.dtype.type(max(1.0, float(self.counts.sum()))), self.gram.shape[1]
        share = np.divide(1.0, self.counts, out=np.zeros_like(self.counts), where=self.counts > 0)
        means = self.sums * share[:, None]
        within = self.gram - (self.sums * share[:, None]).transpose(0, 2, 1) @ self.sums
        diagonal = np.arange(width)
        spread = np.sqrt(np.maximum(within[:, diagonal, diagonal] / n, 0))
        if (self.counts == 0).any() and (self.counts > 0).any():
            means[:, self.counts == 0] = means[:, self.counts > 0].mean(axis=1, keepdims=True)
        inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=alive(spread, size))
        within *= inverse[:, :, None]
        within *= inverse[:, None, :] / n
        within[:, diagonal, diagonal] += PENALTY
        covariance = (self.products - (self.carriers * share) @ self.sums) * inverse / n
        return np.linalg.solve(within, covariance[..., None])[..., 0] * inverse, means


def empty_cells(cells: Floats) -> Bools:
    """Which samples have nothing but the background in a cell.

    In a cell with content no two samples are alike; where a background is empty, many are. It is looked for
    among the samples at some quantiles of a random projection, which a group of a fifth of them cannot miss.

    Parameters
    ----------
    cells : ndarray
        (P, N, F) features of P cells.

    Returns
    -------
    ndarray
        (P, N): no feature differs by more than `NOTHING` of its deviation over all samples and cells from
        what most samples that are alike have there, if these are `ALIKE` of all at least.
    """
    n_samples, width = cells.shape[1:]
    flat = cells.reshape(-1, width)
    centred = flat - _mean(flat, 0)
    unit = np.asarray(np.sqrt(np.einsum("nf,nf->f", centred, centred) / max(1, len(flat))))
    inverse = np.divide(1.0, unit, out=np.zeros_like(unit), where=unit > 0)
    directions = np.random.default_rng(0).standard_normal((width,))
    projected = (centred @ (directions * inverse).astype(cells.dtype)).reshape(cells.shape[:2])
    order = np.argsort(projected, axis=1)
    # Who is alike in all features is so along their projection: most cells are ruled out by it.
    reach = 2 * NOTHING * float(np.abs(directions[unit > 0]).sum())
    empty = np.zeros(projected.shape, np.bool_)
    for quantile in QUANTILES:
        sample = order[:, int(quantile * (n_samples - 1))]
        near = np.abs(projected - np.take_along_axis(projected, sample[:, None], axis=1)) <= reach
        candidates = np.flatnonzero(near.mean(axis=1) >= ALIKE)
        if not len(candidates):
            continue
        own = cells[candidates]
        differs = np.abs(own - own[np.arange(len(own)), sample[candidates]][:, None]) * inverse
        alike = (differs <= NOTHING).all(axis=2)
        better = (alike.mean(axis=1) >= ALIKE) & (alike.sum(axis=1) > empty[candidates].sum(axis=1))
        empty[candidates[better]] = alike[better]
    return empty


def _mean(values: Floats, axis: int) -> Floats:
    """Mean, summed in double precision, which torch does several times as fast."""
    mean = torch.from_numpy(values).mean(axis, keepdim=True, dtype=torch.float64)
    return np.asarray(mean.numpy().astype(values.dtype))


def _empty_pairs(empty: Bools, concept: Floats, labels: Array) -> Floats:
    """Share (P,) of the pairs of a carrier and another of its class in which the cell is empty in both."""
    share, size = np.zeros(len(empty)), 0
    for value in np.unique(labels):
        sides = [(labels == value) & (concept == t) for t in (0, 1)]
        if all(side.any() for side in sides):
            n = int(sum(side.sum() for side in sides))
            share += n * empty[:, sides[0]].mean(axis=1) * empty[:, sides[1]].mean(axis=1)
            size += n
    return np.asarray(share / max(1, size))


def chance_deviation(concept: Floats, labels: Array) -> float:
    """Standard deviation of a within-class AUROC under no difference (Mann and Whitney 1947)."""
    variance, size = 0.0, 0
    for value in np.unique(labels):
        carriers, others = (int(((labels == value) & (concept == t)).sum()) for t in (1, 0))
        if carriers and others:
            n = carriers + others
            variance += n**2 * (n + 1) / (12 * carriers * others)
            size += n
    return float(np.sqrt(variance) / size) if size else float("nan")
