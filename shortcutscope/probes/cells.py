"""The cell map: in which parts of the image can a concept be read?

Of every cell of a grid over the image it is asked how well the concept can be read there, within a
class, on samples the reader was not fitted on. Features are averaged over the cell; they come from
filters on the input, or from a layer of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shortcutscope.probes.crossfit import cross_fitted_scores
from shortcutscope.stats.bootstrap import percentile_interval
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Array, Bools, Floats

#: Cells along each axis of a signal, an image and a volume.
CELLS: Mapping[int, tuple[int, ...]] = {1: (64,), 2: (16, 16), 3: (6, 6, 6)}
#: Difference that is none, in standard deviations of a feature: less than a step of a 12-bit image.
NOTHING = 1e-4
#: Share of the samples that have to be alike in a cell for it to be empty in them; where to look for them.
ALIKE, QUANTILES = 0.05, (0.1, 0.3, 0.5, 0.7, 0.9)
#: A dark cell that is empty on both sides of more than this share of the pairs is left out.
MOST_EMPTY = 0.5


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
    dim : bool
        Whether the cells that are not lit know the concept all the same: their mean AUROC is above chance in
        90 % of the resamples. Asked only where there is an empty background, and an interval is wanted.
    """

    auroc: Floats
    lit_share: float
    interval: tuple[float, float] = (float("nan"), float("nan"))
    dim: bool = False

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
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[axes - 1]
    grey = x.mean(1, keepdim=True)

    def smooth(t: Tensor, size: int) -> Tensor:
        padded = functional.pad(t, [size // 2] * (2 * axes), mode="replicate")
        return pool(padded, size, stride=1)

    mean, squares = smooth(grey, 3), smooth(grey**2, 3)
    variance = squares - mean**2
    # The difference of two squares is no more precise than they are: on an even background it is rounding.
    spread = torch.where(variance > 8 * torch.finfo(x.dtype).eps * squares, variance, 0.0).sqrt()
    edges = [torch.gradient(grey, dim=axis + 2)[0].abs() for axis in range(axes)]
    responses = [x, grey**2, (grey - mean).abs(), spread, *edges]
    return torch.cat(responses, 1)


def cell_features(values: Tensor, channels: int = 64) -> Tensor:
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
        (N, min(C, channels), *cells) in float32 on the CPU; fewer cells where the grid is smaller.
    """
    cells = [min(c, g) for c, g in zip(CELLS[values.ndim - 2], values.shape[2:], strict=True)]
    pools: tuple[Callable[..., Tensor], ...] = (
        functional.adaptive_avg_pool1d,
        functional.adaptive_avg_pool2d,
        functional.adaptive_avg_pool3d,
    )
    pooled = pools[values.ndim - 3](values.float(), cells if len(cells) > 1 else cells[0])
    if pooled.shape[1] > channels:
        generator = torch.Generator().manual_seed(pooled.shape[1])
        projection = torch.randn(pooled.shape[1], channels, generator=generator) / channels**0.5
        pooled = torch.einsum("nc...,ck->nk...", pooled, projection.to(pooled.device))
    return pooled.cpu()


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
    empty = empty_cells(flat)
    scores = np.zeros(empty.shape)
    for c in np.flatnonzero(~empty.all(0)):
        scores[:, c] = cross_fitted_scores(flat[..., c], concept, labels, folds, centre=True)
    auroc = np.nan_to_num(within_class_auroc(concept, scores, labels), nan=0.5)
    visible = 1 - _empty_pairs(empty, concept, labels)
    # Pairs that are empty on both sides are ties: they hold the AUROC at .5 and say nothing.
    weight = np.where(visible >= 1 - MOST_EMPTY, visible, 1.0)
    limit = 0.5 + np.maximum((lit_above - 0.5) * weight, 1.645 * chance_deviation(concept, labels))
    counted = (auroc >= limit) | (visible >= 1 - MOST_EMPTY)
    lit_share, interval, dim = float("nan"), (float("nan"), float("nan")), False
    if counted.any():
        limit = limit[counted]
        lit_share = float((auroc[counted] >= limit).mean())
        if weights is not None:
            resampled = np.stack(
                [within_class_auroc(concept, column, labels, weights) for column in scores.T[counted]]
            )
            resampled = np.nan_to_num(resampled, nan=0.5)
            interval = percentile_interval((resampled >= limit[:, None]).mean(0))
            dark = auroc[counted] < limit
            if dark.any() and empty.any():
                dim = bool(np.quantile(resampled[dark].mean(0), 0.1) > 0.5)
    return CellMap(np.where(counted, auroc, np.nan).reshape(features.shape[2:]), lit_share, interval, dim)


def empty_cells(features: Floats) -> Bools:
    """Which samples have nothing but the background in a cell.

    In a cell with content no two samples are alike; where a background is empty, many are. It is looked for
    among the samples at some quantiles of a random projection, which a group of a fifth of them cannot miss.

    Parameters
    ----------
    features : ndarray
        (N, F, P) features of P cells.

    Returns
    -------
    ndarray
        (N, P): no feature differs by more than `NOTHING` of its deviation over all samples and cells from
        what most samples that are alike have there, if these are `ALIKE` of all at least.
    """
    unit = features.std((0, 2), dtype=np.float64)
    varies = unit > 0
    scaled = features[:, varies] / unit[varies, None]
    directions = np.random.default_rng(0).standard_normal(int(varies.sum()))
    order = np.argsort(np.einsum("nfp,f->np", scaled, directions), axis=0)
    empty = np.zeros((len(features), features.shape[2]), np.bool_)
    for quantile in QUANTILES:
        row = order[int(quantile * (len(order) - 1))]
        reference = np.take_along_axis(scaled, row[None, None], axis=0)
        alike = (np.abs(scaled - reference) <= NOTHING).all(1)
        better = (alike.mean(0) >= ALIKE) & (alike.sum(0) > empty.sum(0))
        empty[:, better] = alike[:, better]
    return empty


def _empty_pairs(empty: Bools, concept: Floats, labels: Array) -> Floats:
    """Share (P,) of the pairs of a carrier and another of its class in which the cell is empty in both."""
    share, size = np.zeros(empty.shape[1]), 0
    for value in np.unique(labels):
        sides = [(labels == value) & (concept == t) for t in (0, 1)]
        if all(side.any() for side in sides):
            n = int(sum(side.sum() for side in sides))
            share += n * empty[sides[0]].mean(0) * empty[sides[1]].mean(0)
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
