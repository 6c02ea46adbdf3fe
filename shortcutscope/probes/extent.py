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

from shortcutscope.data.pictures import KINDS
from shortcutscope.models.heads.head import Output
from shortcutscope.models.layers import Layer
from shortcutscope.probes.cells import CELLS, CellMap, cell_features, cell_map, input_filters
from shortcutscope.probes.participation import participation_change
from shortcutscope.scan.capture import forward_reduced
from shortcutscope.types import Array, Floats, Ints

Extent = Literal["localized", "diffuse", "undetermined"]


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
    strong_above : float
        Availability from which dark cells mean something: a concept that is hardly encoded at all leaves
        every cell dark, be it localized or diffuse.
    disagreement : float
        Change of the participation ratio that counts as a statement of the second witness.
    smallest_side, smallest_witness : int
        Samples that each value needs for a cell map, and for the participation ratio to be heard.
    smallest_cells : int
        Cells that have to remain where empty ones are left out: of fewer, a share of .38 is not told from
        one of .70 in 95 % of cases (binomial).
    """

    lit_above: float = 0.60
    localized_below: float = 0.38
    diffuse_above: float = 0.70
    strong_above: float = 0.75
    disagreement: float = 0.03
    smallest_side: int = 8
    smallest_witness: int = 20
    smallest_cells: int = 26


@dataclass(frozen=True)
class ExtentResult:
    """What the witnesses say, and the verdict."""

    verdict: Extent
    reason: str
    input_map: CellMap | None = None
    layer_maps: Mapping[str, CellMap] = field(default_factory=dict)
    participation: Mapping[str, float] = field(default_factory=dict)
    layer_participation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def spread_choice(concept: Floats, labels: Ints, size: int, generator: np.random.Generator) -> Ints:
    """At most ``size`` known samples, as evenly over the (class, concept) groups as they allow."""
    groups = [
        generator.permutation(np.flatnonzero((labels == c) & (concept == t)))
        for c in np.unique(labels)
        for t in (0, 1)
    ]
    parts: list[Ints] = []
    for position, group in enumerate(sorted(groups, key=len)):
        remainder = size - sum(map(len, parts))
        parts.append(group[: remainder // (len(groups) - position)])
    return np.sort(np.concatenate(parts))


def decide(
    cells: CellMap, participation: Mapping[str, float], encoded_auroc: float, rule: ExtentRule
) -> tuple[Extent, str]:
    """Turn the two witnesses into a verdict; symmetric in the values of the concept.

    Parameters
    ----------
    participation : mapping
        Change of the participation ratio in either direction; may be empty.
    encoded_auroc : float
        Availability of the concept to the network as a whole.
    """
    low, high = cells.interval
    share, whole = _share_text(cells), cells.auroc.size
    if cells.counted < min(rule.smallest_cells, whole):
        return "undetermined", f"{share}: too few to tell localized from diffuse"
    verdict: Extent
    if cells.lit_share >= rule.diffuse_above and not low <= rule.localized_below:
        if cells.counted <= rule.localized_below * whole:
            why = "which a localized concept may cover as well as a diffuse one"
            return "undetermined", f"{share}, {why}"
        verdict, contradiction = "diffuse", -1.0
    elif cells.lit_share <= rule.localized_below and not high >= rule.diffuse_above:
        if encoded_auroc < rule.strong_above:
            return (
                "undetermined",
                f"{share}, but it is too weakly encoded (AUROC {encoded_auroc:.2f}) to conclude",
            )
        if cells.dim:
            return "undetermined", f"{share}, but the others tell it, too, if more weakly"
        verdict, contradiction = "localized", 1.0
    else:
        return "undetermined", f"{share}: between localized and diffuse"
    spoken = [v for v in participation.values() if abs(v) >= rule.disagreement]
    if spoken and all(v * contradiction > 0 for v in spoken):
        return "undetermined", f"{share}, which says {verdict}, but the participation ratio says otherwise"
    return verdict, share


def _share_text(cells: CellMap) -> str:
    """The share of lit cells in words."""
    kind, (low, high) = KINDS[cells.auroc.ndim], cells.interval
    left_out = cells.auroc.size - cells.counted
    if not cells.counted:
        return f"the {kind} is empty in every cell"
    which = f"{cells.counted} cells of the {kind} that are not empty" if left_out else f"{kind}'s cells"
    ends = f" (interval {low:.0%} to {high:.0%})" if np.isfinite(low) else ""
    if not cells.lit_share:
        return f"none of the {which} tells the concept by itself{ends}: it is small, or moves about"
    return f"{cells.lit_share:.0%} of the {which} tell the concept{ends}"


@dataclass(frozen=True, eq=False)
class ExtentSamples:
    """The samples on which the extent of one concept is measured.

    Attributes
    ----------
    concept, labels, folds
        (N,); the concept is 0 or 1.
    weights
        (B, N) how often each sample occurs in each resample of the patients, see `cluster_weights`.
    """

    concept: Floats
    labels: Array
    folds: Array
    weights: Array


def measure_extent(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Callable[[], Any],
    samples: ExtentSamples,
    vectors: Mapping[str, Floats],
    *,
    encoded_auroc: float,
    rule: ExtentRule | None = None,
    output: Output = None,
) -> ExtentResult:
    """Measure the extent of one concept on a set of samples, in one forward pass.

    Parameters
    ----------
    model : nn.Module
        Frozen, see `shortcutscope.models.frozen.frozen`.
    layers : sequence of Layer
        Spatial ones are used.
    batches : callable
        Gives an iterable of input batches (N, C, *spatial), in the order of the samples.
    samples : ExtentSamples
        Their concept, classes, folds and resamples.
    vectors : mapping
        Layer name to pattern CAVs (folds, C), one fitted without each fold, for the early layers at
        which the participation ratio is read.
    encoded_auroc : float
        Availability of the concept at the layer that knows it best.
    output
        Which part of the model's output holds the scores, see `find_logits`.
    """
    rule = rule or ExtentRule()
    concept, labels, folds = samples.concept, samples.labels, samples.folds
    side = min(int((concept == t).sum()) for t in (0, 1))
    in_one_class = any(len(np.unique(concept[labels == c])) == 2 for c in np.unique(labels))
    if side < rule.smallest_side or not in_one_class:
        return ExtentResult("undetermined", "too few samples of one value of the concept to map its cells")
    spatial = [layer for layer in layers if layer.spatial and len(layer.grid) in CELLS]
    collected = _collect(model, spatial, batches, vectors if side >= rule.smallest_witness else {}, output)
    weights = samples.weights.astype(float)

    def mapped(values: Tensor, w: Floats | None = None) -> CellMap:
        return cell_map(values.numpy(), concept, labels, folds, lit_above=rule.lit_above, weights=w)

    input_map = mapped(collected.inputs, weights) if collected.inputs is not None else None
    maps = {name: mapped(values) for name, values in collected.layers.items()}
    participation, by_layer = _participation(collected.responses, concept, labels, folds)
    if input_map is None:
        return ExtentResult(
            "undetermined", "the input has no spatial axes", None, maps, participation, by_layer
        )
    verdict, reason = decide(input_map, participation, encoded_auroc, rule)
    return ExtentResult(verdict, reason, input_map, maps, participation, by_layer)


def _participation(
    responses: Mapping[str, Tensor], concept: Floats, labels: Array, folds: Array
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Change of the participation ratio for either value of the concept: the layers' mean, and by layer."""
    each = np.arange(len(concept))
    by_layer = {
        name: {
            f"present={present}": participation_change(
                response[each, folds].numpy(), concept, labels, present
            )
            for present in (1, 0)
        }
        for name, response in responses.items()
    }
    if not by_layer:
        return {}, {}
    keys = ("present=1", "present=0")
    return {key: _mean_finite([v[key] for v in by_layer.values()]) for key in keys}, by_layer


@dataclass
class _Collected:
    inputs: Tensor | None
    layers: dict[str, Tensor]
    responses: dict[str, Tensor]


def _collect(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Callable[[], Any],
    vectors: Mapping[str, Floats],
    output: Output,
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
        _, reduced = forward_reduced(model, x, layers, reduce, output=output)
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
