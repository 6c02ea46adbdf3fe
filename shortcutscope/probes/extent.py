"""Extent: is a concept confined to a part of the image, or spread over it?

The cell map asks of every cell of a grid over the image: how well can the concept be read here,
within a class, on samples the reader was not fitted on? A localized artifact lights up few cells, a
diffuse one most of them. It is made from filters on the input, which says what the artifact *is*, and
from every spatial layer of the network, which says how the model *sees* it. Neither depends on which
value of the concept is called present.

The participation ratio is the second witness: the share of the positions over which the response to
the concept's activation vector spreads, in samples of one value compared with those of the other. It
is read in both directions. Where the witnesses disagree the verdict is undetermined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shortcutscope.models.layers import Layer
from shortcutscope.scan.capture import forward_reduced
from shortcutscope.stats.bootstrap import cluster_weights, percentile_interval
from shortcutscope.stats.metrics import within_class_auroc

Extent = Literal["localized", "diffuse", "undetermined"]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

#: Cells along each axis of an image, a volume and a signal.
CELLS: Mapping[int, tuple[int, ...]] = {1: (32,), 2: (8, 8), 3: (4, 4, 4)}


@dataclass(frozen=True)
class ExtentRule:
    """Limits of the extent verdict, fixed before any benchmark was run.

    Attributes
    ----------
    lit_above : float
        A cell counts as lit when the concept's AUROC in it is at least this.
    localized_below, diffuse_above : float
        Limits on the share of lit cells. Between them the verdict is undetermined, and so it is when
        the interval of the share reaches from one side to the other.
    disagreement : float
        Change of the participation ratio that counts as a statement of the second witness.
    smallest_cell : int
        Samples that every (class, concept) group needs before anything is said.
    """

    lit_above: float = 0.60
    localized_below: float = 0.35
    diffuse_above: float = 0.65
    disagreement: float = 0.03
    smallest_cell: int = 8


@dataclass(frozen=True)
class CellMap:
    """Cross-fitted within-class AUROC of a concept in every cell, and the share of lit cells.

    Attributes
    ----------
    auroc : ndarray
        (cells...), at least .5 where the cell knows anything.
    lit : float
        Share of cells at or above the rule's limit.
    interval : tuple of float
        Bootstrap interval of ``lit``, by patient; NaN when it was not asked for.
    """

    auroc: FloatArray
    lit: float
    interval: tuple[float, float] = (float("nan"), float("nan"))


@dataclass(frozen=True)
class ExtentResult:
    """What the witnesses say, and the verdict."""

    verdict: Extent
    reason: str
    input_map: CellMap | None = None
    layer_maps: Mapping[str, CellMap] = field(default_factory=dict)
    participation: Mapping[str, float] = field(default_factory=dict)


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

    mean, wide = smooth(grey, 3), smooth(grey, 7)
    spread = (smooth(grey**2, 5) - smooth(grey, 5) ** 2).clamp_min(0).sqrt()
    edges = [torch.gradient(grey, dim=axis + 2)[0].abs() for axis in range(axes)]
    responses = [x, grey**2, (grey - mean).abs(), (mean - wide).abs(), spread, wide, *edges]
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
    pool = (
        functional.adaptive_avg_pool1d,
        functional.adaptive_avg_pool2d,
        functional.adaptive_avg_pool3d,
    )[values.ndim - 3]
    pooled = pool(values.float(), cells if len(cells) > 1 else cells[0])
    if pooled.shape[1] > channels:
        generator = torch.Generator().manual_seed(pooled.shape[1])
        projection = torch.randn(pooled.shape[1], channels, generator=generator) / channels**0.5
        pooled = torch.einsum("nc...,ck->nk...", pooled, projection.to(pooled.device))
    return pooled.cpu()


def cell_map(
    features: FloatArray,
    concept: FloatArray,
    labels: np.ndarray[Any, Any],
    folds: np.ndarray[Any, Any],
    *,
    rule: ExtentRule,
    weights: FloatArray | None = None,
    penalty: float = 0.05,
) -> CellMap:
    """Cross-fitted within-class AUROC of a concept in every cell.

    A class-stratified ridge classifier per cell: features and concept are centred within each class of
    the training folds, so that a concept that follows the label is not read off the label.

    Parameters
    ----------
    features : ndarray
        (N, F, *cells), see `cell_features`.
    concept, labels, folds : ndarray
        (N,); the concept is 0 or 1.
    rule : ExtentRule
        For the limit of a lit cell.
    weights : ndarray, optional
        (B, N) bootstrap multiplicities (whole patients) for the interval of the lit share.
    penalty : float
        Ridge penalty relative to the number of training samples.
    """
    cells = features.shape[2:]
    flat = features.reshape(*features.shape[:2], -1).transpose(2, 0, 1)
    scores = np.empty((len(concept), flat.shape[0]))
    for fold in np.unique(folds):
        held = folds == fold
        scores[held] = _ridge_scores(flat[:, ~held], concept[~held], labels[~held], flat[:, held], penalty).T
    auroc = np.nan_to_num(within_class_auroc(concept, scores, labels), nan=0.5)
    interval = (float("nan"), float("nan"))
    if weights is not None:
        resampled = np.stack([within_class_auroc(concept, column, labels, weights) for column in scores.T])
        interval = percentile_interval((np.nan_to_num(resampled, nan=0.5) >= rule.lit_above).mean(0))
    return CellMap(auroc.reshape(cells), float((auroc >= rule.lit_above).mean()), interval)


def _ridge_scores(
    train: FloatArray, concept: FloatArray, labels: np.ndarray[Any, Any], held: FloatArray, penalty: float
) -> FloatArray:
    """Scores (cells, held) of class-centred ridge classifiers, one per cell, solved together."""
    target = concept.astype(float).copy()
    centred = train.astype(np.float64)
    for value in np.unique(labels):
        member = labels == value
        target[member] -= target[member].mean()
        centred[:, member] -= centred[:, member].mean(1, keepdims=True)
    scale = centred.std(1, keepdims=True)
    scale = np.maximum(scale, 1e-4 * scale.max(axis=2, keepdims=True) + 1e-12)
    centred /= scale
    gram = centred.transpose(0, 2, 1) @ centred
    gram[:, np.arange(gram.shape[1]), np.arange(gram.shape[1])] += penalty * len(target)
    filters = np.linalg.solve(gram, (centred.transpose(0, 2, 1) @ target)[..., None])
    return ((held / scale) @ filters)[..., 0]


def participation_ratio(response: FloatArray, reference: np.ndarray[Any, Any]) -> FloatArray:
    """Share of the positions over which each sample's response exceeds the reference.

    The response is standardised at every position by the reference samples' mean and standard
    deviation; ``PR = (sum e)^2 / (P sum e^2)`` with ``e = max(z, 0)^2``.

    Parameters
    ----------
    response : ndarray
        (N, P).
    reference : ndarray
        (N,) bool.
    """
    spread = response[reference].std(0)
    z = (response - response[reference].mean(0)) / (spread + 0.05 * spread.mean() + 1e-12)
    e = np.clip(z, 0, None) ** 2
    return e.sum(1) ** 2 / (e.shape[1] * (e**2).sum(1) + 1e-12)


def participation_change(
    response: FloatArray, concept: FloatArray, labels: np.ndarray[Any, Any], present: int
) -> float:
    """Median participation ratio of the samples with the value called present, minus that of the others.

    Parameters
    ----------
    response : ndarray
        (N, P) response along the concept's vector, larger where the concept is 1.
    present : int
        Which value is called present: 1, or 0 for the other direction.
    """
    signed = response if present == 1 else -response
    ratio = participation_ratio(signed, concept != present)
    changes = [
        np.median(ratio[(labels == c) & (concept == present)]) - np.median(ratio[(labels == c) & (concept != present)])
        for c in np.unique(labels)
        if np.unique(concept[labels == c]).size == 2
    ]
    return float(np.mean(changes)) if changes else float("nan")


def decide(cells: CellMap, participation: Mapping[str, float], rule: ExtentRule) -> tuple[Extent, str]:
    """Turn the two witnesses into a verdict; symmetric in the values of the concept."""
    low, high = cells.interval
    share = f"{cells.lit:.0%} of the image cells know the concept (interval {low:.0%} to {high:.0%})"
    if cells.auroc.max() < rule.lit_above and cells.lit == 0 and not participation:
        return "undetermined", f"{share}, and no second witness was heard"
    verdict: Extent
    if cells.lit <= rule.localized_below and high < rule.diffuse_above:
        verdict, contradiction = "localized", 1.0
    elif cells.lit >= rule.diffuse_above and low > rule.localized_below:
        verdict, contradiction = "diffuse", -1.0
    else:
        return "undetermined", f"{share}: between localized and diffuse"
    spoken = [v for v in participation.values() if np.isfinite(v) and abs(v) >= rule.disagreement]
    if spoken and all(v * contradiction > 0 for v in spoken):
        return "undetermined", f"{share}, which says {verdict}, but the participation ratio says otherwise"
    return verdict, share


def measure_extent(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Callable[[], Any],
    concept: FloatArray,
    labels: np.ndarray[Any, Any],
    groups: np.ndarray[Any, Any],
    folds: np.ndarray[Any, Any],
    vectors: Mapping[str, FloatArray],
    *,
    rule: ExtentRule | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> ExtentResult:
    """Measure the extent of one concept on a set of samples, in one forward pass.

    Parameters
    ----------
    model : nn.Module
        Frozen, see `shortcutscope.models.frozen.frozen`.
    layers : sequence of Layer
        Spatial ones are used.
    batches : callable
        Gives an iterable of input batches (N, C, *spatial), in the order of ``concept``.
    concept, labels, groups, folds : ndarray
        (N,); the concept is 0 or 1.
    vectors : mapping
        Layer name to pattern CAVs (folds, C), one fitted without each fold, for the early layers at
        which the participation ratio is read.
    """
    rule = rule or ExtentRule()
    counts = [int(((labels == c) & (concept == t)).sum()) for c in np.unique(labels) for t in (0, 1)]
    usable = [c for c in np.unique(labels) if min(((labels == c) & (concept == t)).sum() for t in (0, 1)) > 0]
    if sum(counts) == 0 or not usable or min((concept == t).sum() for t in (0, 1)) < rule.smallest_cell:
        return ExtentResult("undetermined", "too few samples of one value of the concept to map its cells")
    spatial = [layer for layer in layers if layer.spatial and len(layer.grid) in CELLS]
    collected = _collect(model, spatial, batches, vectors)
    weights = cluster_weights(groups, n_bootstrap, seed).astype(float)

    def mapped(values: Tensor, w: FloatArray | None = None) -> CellMap:
        return cell_map(values.numpy(), concept, labels, folds, rule=rule, weights=w)

    input_map = mapped(collected.inputs, weights) if collected.inputs is not None else None
    maps = {name: mapped(values) for name, values in collected.layers.items()}
    responses, each = list(collected.responses.values()), np.arange(len(concept))
    participation = {
        f"present={present}": _mean_finite(
            [participation_change(r[each, folds].numpy(), concept, labels, present) for r in responses]
        )
        for present in (1, 0)
        if responses
    }
    if input_map is None:
        return ExtentResult("undetermined", "the input has no spatial axes", None, maps, participation)
    verdict, reason = decide(input_map, participation, rule)
    return ExtentResult(verdict, reason, input_map, maps, participation)


@dataclass
class _Collected:
    inputs: Tensor | None
    layers: dict[str, Tensor]
    responses: dict[str, Tensor]


def _collect(
    model: nn.Module, layers: Sequence[Layer], batches: Callable[[], Any], vectors: Mapping[str, FloatArray]
) -> _Collected:
    """One forward pass: cell features of the input and of every layer, responses along the vectors."""
    directions = {name: torch.as_tensor(v, dtype=torch.float32) for name, v in vectors.items()}
    inputs: list[Tensor] = []
    cells: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    responses: dict[str, list[Tensor]] = {}

    def reduce(layer: Layer, values: Tensor) -> Tensor:
        if layer.name in directions:
            along = torch.einsum("nc...,kc->nk...", values.float(), directions[layer.name].to(values.device))
            responses.setdefault(layer.name, []).append(along.flatten(2).cpu())
        return cell_features(values)

    for x in batches():
        if x.ndim - 2 in CELLS:
            inputs.append(cell_features(input_filters(x.float())))
        _, reduced = forward_reduced(model, x, layers, reduce)
        for name, values in reduced.items():
            cells[name].append(values)
    return _Collected(
        torch.cat(inputs) if inputs else None,
        {name: torch.cat(parts) for name, parts in cells.items()},
        {name: torch.cat(parts) for name, parts in responses.items()},
    )


def _mean_finite(values: Sequence[float]) -> float:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else float("nan")
