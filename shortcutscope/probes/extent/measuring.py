"""Extent: is a concept confined to a part of the image, or spread over it?

The cell map asks of every cell of a grid over the image: how well can the concept be read here,
within a class, on samples the reader was not fitted on? A localized artifact lights up few cells, a
diffuse one most of them. It is made from filters on the input, which says what the artifact *is*, and
from every spatial layer of the network, which says how the model *sees* it. Neither depends on which
value of the concept is called present.

What shows in the quiet places of an image, wherever they are, is diffuse though hardly a cell is lit: it is
seen only where there is something to be changed. What the places at the ends tell (the loudest, brightest and
darkest ones), and the quiet ones do not, is localized, even if the network hardly knows it.

The participation ratio is the last witness: the share of the positions over which the response to the
concept's activation vector spreads, in samples of one value compared with those of the other. It is read in
both directions. Where both contradict the map the verdict is undetermined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from shortcutscope.data.pictures import KINDS
from shortcutscope.models.layers import Layer
from shortcutscope.probes.extent.cells import (
    CELLS,
    CERTAIN,
    CHANNELS,
    CellMap,
    cell_features,
    cell_map,
    input_filters,
)
from shortcutscope.probes.extent.participation import participation_change
from shortcutscope.probes.extent.places import PEAKS, PlaceReadings, peaks, read_places
from shortcutscope.probes.usage import first_drawn
from shortcutscope.types import Array, Floats, Ints

#: Share of the resamples in which cells that are not lit have to know a concept around an empty background.
OFTEN = 0.9

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
        Availability, to the network or from the loud places of the image, from which dark cells mean
        something: a concept that is hardly there leaves every cell dark, be it localized or diffuse. And
        from which what the quiet places tell is diffuse.
    disagreement : float
        Change of the participation ratio, in either direction, from which the second witness contradicts.
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
    places: PlaceReadings = field(default_factory=PlaceReadings)


def spread_choice(concept: Floats, labels: Ints, size: int, order: Ints) -> Ints:
    """At most ``size`` known samples, as evenly over the (class, concept) groups as they allow.

    Parameters
    ----------
    order : ndarray
        (N,) rank of each sample, see `shortcutscope.probes.usage.drawn_order`; the first are taken.
    """
    groups = [np.flatnonzero((labels == c) & (concept == t)) for c in np.unique(labels) for t in (0, 1)]
    parts: list[Ints] = []
    for position, group in enumerate(sorted(groups, key=len)):
        remainder = size - sum(map(len, parts))
        parts.append(first_drawn(group, order, remainder // (len(groups) - position)))
    return np.sort(np.concatenate(parts))


def decide(
    cells: CellMap,
    participation: Mapping[str, float],
    encoded_auroc: float,
    rule: ExtentRule,
    places: PlaceReadings | None = None,
) -> tuple[Extent, str]:
    """Turn the witnesses into a verdict; symmetric in the values of the concept.

    Parameters
    ----------
    participation : mapping
        Change of the participation ratio in either direction; may be empty.
    encoded_auroc : float
        Availability of the concept to the network as a whole.
    places : PlaceReadings, optional
        What the quiet and the loud places of the images tell; of a layer's map there are none.
    """
    places = places or PlaceReadings()
    low, high = cells.interval
    share, whole = _share_text(cells), cells.auroc.size
    if cells.counted < min(rule.smallest_cells, whole):
        return "undetermined", f"{share}: too few to tell localized from diffuse"
    is_lit = cells.lit_share >= rule.diffuse_above and not low <= rule.localized_below
    if is_lit or places.quiet >= rule.strong_above:
        if not is_lit:
            share = f"{share}, and the quiet places of the others tell it, too (AUROC {places.quiet:.2f})"
        if cells.counted <= rule.localized_below * whole:
            why = "which a localized concept may cover as well as a diffuse one"
            return "undetermined", f"{share}, {why}"
        if is_lit and _contradicts(participation, -1.0, rule):
            return "undetermined", f"{share}, which says diffuse, but the participation ratio says otherwise"
        return "diffuse", share
    if not cells.lit_share <= rule.localized_below or high >= rule.diffuse_above:
        return "undetermined", f"{share}: between localized and diffuse"
    doubt = _doubt(cells, participation, encoded_auroc, rule, places)
    return ("undetermined", f"{share}, {doubt}") if doubt else ("localized", share)


def _doubt(
    cells: CellMap,
    participation: Mapping[str, float],
    encoded_auroc: float,
    rule: ExtentRule,
    places: PlaceReadings,
) -> str | None:
    """Why something is not called localized though few cells are lit, None where it is."""
    if places.quiet >= max(rule.lit_above, places.by_chance):
        return f"but the quiet places of the others tell it, too, if more weakly (AUROC {places.quiet:.2f})"
    if places.moving >= rule.strong_above and places.moving_apart:
        return None
    best = np.nan_to_num(cells.auroc).max()
    by_picture = (places.loud >= rule.strong_above and places.loud_apart) or best >= rule.strong_above
    if not by_picture and encoded_auroc < rule.strong_above:
        return f"but it is too weakly encoded (AUROC {encoded_auroc:.2f}) to conclude"
    certain = OFTEN if cells.counted < cells.auroc.size else CERTAIN
    if cells.dim >= certain and (cells.has_empty or not by_picture):
        return "but the others tell it, too, if more weakly"
    if not by_picture and _contradicts(participation, 1.0, rule):
        return "which says localized, but the participation ratio says otherwise"
    return None


def _contradicts(participation: Mapping[str, float], sign: float, rule: ExtentRule) -> bool:
    """Whether the ratio changes by that sign whichever value is called present.

    What is spread is so either way; of a thing in one place one direction may err.
    """
    return bool(participation) and all(v * sign >= rule.disagreement for v in participation.values())


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


@dataclass(frozen=True, eq=False)
class ExtentFeatures:
    """What the extent of a concept is read from, of each of its samples.

    Attributes
    ----------
    inputs
        (N, F, *cells) of the input, see `input_cells`; None for inputs without spatial axes.
    layers
        Layer name to cell features (N, F, *cells), see `cell_features`.
    responses
        Early layer's name to the response (N, P) along the concept's vector.
    """

    inputs: Floats | None
    layers: Mapping[str, Floats]
    responses: Mapping[str, Floats]


def why_unmapped(samples: ExtentSamples, rule: ExtentRule) -> str | None:
    """Why the extent of a concept is not measured on these samples, None where it is."""
    side = min(int((samples.concept == t).sum()) for t in (0, 1))
    labels = samples.labels
    in_one_class = any(len(np.unique(samples.concept[labels == c])) == 2 for c in np.unique(labels))
    if side < rule.smallest_side or not in_one_class:
        return "too few samples of one value of the concept to map its cells"
    return None


def mapped_layers(layers: Sequence[Layer]) -> list[Layer]:
    """Those that have cells."""
    return [layer for layer in layers if layer.spatial and len(layer.grid) in CELLS]


def input_cells(x: Tensor) -> Tensor | None:
    """Filters on inputs (N, C, *spatial), averaged over cells, and their peaks; None without spatial axes.

    Of many channels there is a projection.
    """
    if x.ndim - 2 not in CELLS:
        return None
    filters, channels = input_filters(x.float()), x.shape[1]
    others = cell_features(filters[:, channels:])
    values = cell_features(filters[:, :channels], CHANNELS - others.shape[1])
    return torch.cat([values, others, peaks(x.float())], 1)


def measure_extent(
    samples: ExtentSamples, features: ExtentFeatures, *, encoded_auroc: float, rule: ExtentRule | None = None
) -> ExtentResult:
    """Measure the extent of one concept on a set of samples.

    Parameters
    ----------
    samples : ExtentSamples
        Their concept, classes, folds and resamples.
    features : ExtentFeatures
        Of the same samples.
    encoded_auroc : float
        Availability of the concept at the layer that knows it best.
    """
    rule = rule or ExtentRule()
    concept, labels, folds = samples.concept, samples.labels, samples.folds
    why = why_unmapped(samples, rule)
    if why is not None:
        return ExtentResult("undetermined", why)
    weights = samples.weights.astype(float)

    def mapped(values: Floats, w: Floats | None = None) -> CellMap:
        return cell_map(values, concept, labels, folds, lit_above=rule.lit_above, weights=w)

    maps = {name: mapped(values) for name, values in features.layers.items()}
    heard = min(int((concept == t).sum()) for t in (0, 1)) >= rule.smallest_witness
    participation, by_layer = _participation(features.responses if heard else {}, concept, labels)
    if features.inputs is None:
        return ExtentResult(
            "undetermined", "the input has no spatial axes", None, maps, participation, by_layer
        )
    input_map = mapped(features.inputs[:, :-PEAKS], weights)
    smallest = rule.smallest_cells
    read = read_places(features.inputs, input_map, concept, labels, folds, weights, smallest=smallest)
    verdict, reason = decide(input_map, participation, encoded_auroc, rule, read)
    return ExtentResult(verdict, reason, input_map, maps, participation, by_layer, read)


def _participation(
    responses: Mapping[str, Floats], concept: Floats, labels: Array
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Change of the participation ratio for either value of the concept: the layers' mean, and by layer."""
    by_layer = {
        name: {
            f"present={present}": participation_change(response, concept, labels, present)
            for present in (1, 0)
        }
        for name, response in responses.items()
    }
    if not by_layer:
        return {}, {}
    keys = ("present=1", "present=0")
    return {key: _mean_finite([v[key] for v in by_layer.values()]) for key in keys}, by_layer


def _mean_finite(values: Sequence[float]) -> float:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else float("nan")
