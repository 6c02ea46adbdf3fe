"""Where in the image a concept shows: maps of evidence from the input's own filters and from early layers.

Each map is the response of one vector at every position, in standard deviations of what samples without the
concept show at the same position. The vectors are fitted on pooled responses, carriers against the others
and balanced against the label, so no map was ever shown a mask.

- ``input logistic``: a filter on mean responses of an input-level bank; no network takes part.
- ``input pattern``: the difference of the maximum responses (signal; Pahde et al. 2025).
- ``<layer> pattern``: the same of an early layer's activations.
- ``relevance``: LRP from the concept's direction in the later of these layers down to the input, counted from
  the mean activation of samples without it (concept-conditioned relevance).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shortcutscope.attribution.hooks import visiting
from shortcutscope.attribution.lrp.composites import Composite
from shortcutscope.attribution.lrp.conditional import Direction, conditional_relevance
from shortcutscope.attribution.lrp.mode import default_composite
from shortcutscope.masks.mask_files import Maps
from shortcutscope.masks.patches.detector import PatchDetector
from shortcutscope.models.frozen import device_of
from shortcutscope.models.layers import Layer
from shortcutscope.probes.cav import logistic_cav, pattern_cav
from shortcutscope.probes.extent.cells import local_mean
from shortcutscope.retrieval.signals import WORKING_LENGTH, beside, is_signal, pictured, signal_responses
from shortcutscope.types import Array, Floats

#: Longest side of the evidence maps; larger images are averaged down to it. Masks are drawn at full size.
WORKING_SIDE = 96
#: The same of volumes, whose voxels are many.
WORKING_DEPTH = 40
#: Added to every standard deviation, as a share of its mean over the positions.
FLOOR = 1e-3
#: Spread that counts as none, as a share of the median one; least median, as a share of the whole's.
FLATTEST, LEAST_UNIT = 0.05, 0.02
INPUT_LOGISTIC, INPUT_PATTERN, RELEVANCE = "input logistic", "input pattern", "relevance"
#: What was learnt of single places, and of single pixels; the latter is no map of where it is by itself.
PATCHES, DRAWN = "patches", "drawn pixels"


def reduced(x: Tensor) -> Tensor:
    """Images (N, C, *spatial) averaged down to the working size; smaller ones as they are.

    Signals (N, leads, time) become pictures (N, 1, leads, time).
    """
    pictures = pictured(x).float()
    return averaged(pictures, working_size(tuple(pictures.shape[2:]), leads=is_signal(x)))


def averaged(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Images (N, C, *spatial) averaged down to a size."""
    if size == tuple(x.shape[2:]):
        return x
    pools: tuple[Any, ...] = (
        functional.adaptive_avg_pool1d,
        functional.adaptive_avg_pool2d,
        functional.adaptive_avg_pool3d,
    )
    averages: Tensor = pools[len(size) - 1](x, size)
    return averages


def working_size(size: tuple[int, ...], *, leads: bool = False) -> tuple[int, ...]:
    """Size of the evidence maps of images of this size, or of signals (leads, time)."""
    if leads:
        return size[0], min(size[1], WORKING_LENGTH)
    longest = WORKING_SIDE if len(size) <= 2 else WORKING_DEPTH
    shrink = min(1.0, longest / max(size))
    return tuple(max(1, round(side * shrink)) for side in size)


def filtered(x: Tensor) -> Tensor:
    """Input-level filters (N, F, *working size) of a batch of images, volumes or signals."""
    pictures = reduced(x.cpu())
    return signal_responses(pictures, responses) if is_signal(x) else responses(pictures)


def responses(x: Tensor) -> Tensor:
    """Input-level filters: intensity, centre-surround, edges, local mean, spread and flatness, squares.

    Parameters
    ----------
    x
        (N, C, *spatial) with one, two or three spatial axes, at the working size.

    Returns
    -------
    Tensor
        (N, F, *spatial).
    """
    axes = x.ndim - 2

    def spread(t: Tensor, mean_of_t: Tensor, size: int) -> Tensor:
        return (local_mean(t * t, size) - mean_of_t**2).clamp_min(0).sqrt()

    grey = x.mean(1, keepdim=True)
    fine, wide = local_mean(grey, 3), local_mean(grey, 5)
    surround = grey - fine
    edges = [torch.gradient(grey, dim=axis + 2)[0].abs() for axis in range(axes)]
    spreads = spread(grey, wide, 5), spread(grey, fine, 3)
    # What was drawn over an image has none of its noise, which a logarithm brings out. The unit is a median,
    # since the image's deviation as a whole would change with the artifact, and the flatness everywhere.
    whole = grey.flatten(1).std(1)
    flat = []
    for one in spreads:
        unit = one.flatten(1).median(1).values.maximum(LEAST_UNIT * whole) + 1e-6
        flat.append(-(one / unit.view(-1, *[1] * (axes + 1)) + FLATTEST).log())
    channels = [grey, surround, surround.abs(), *edges, wide, *spreads, *flat, grey**2, surround**2]
    if x.shape[1] > 1:
        channels.append(x - grey)
    return torch.cat(channels, 1)


@dataclass(frozen=True, eq=False)
class EvidenceProjection:
    """A direction in feature maps, and what samples without the concept show along it at each position.

    Attributes
    ----------
    weights
        (F,).
    mean, spread
        (*grid).
    """

    weights: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def fit(cls, weights: Floats, without: Tensor) -> EvidenceProjection:
        """From the feature maps (N, F, *grid) of samples without the concept."""
        along = torch.as_tensor(weights, dtype=torch.float32)
        response = torch.einsum("nf...,f->n...", without.float(), along)
        spread = response.std(0)
        return cls(along, response.mean(0), spread + FLOOR * spread.mean() + 1e-9)

    def excess(self, features: Tensor) -> Tensor:
        """(N, *grid) by how many standard deviations the response is larger, at least 0."""
        response = torch.einsum("nf...,f->n...", features.float(), self.weights)
        return ((response - self.mean) / self.spread).clamp_min(0)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Fitted vectors whose responses are the evidence.

    Attributes
    ----------
    inputs
        By name, on the input's filters.
    layers
        The early layers.
    network
        By layer, on its activations.
    start
        Where concept-conditioned relevance begins; None without it.
    last
        The layer that it begins in.
    composite
        The rules of relevance; None for the network's default.
    patches
        What was learnt of single places; None without it.
    """

    inputs: Mapping[str, EvidenceProjection]
    layers: tuple[Layer, ...]
    network: Mapping[str, EvidenceProjection]
    start: Direction | None
    last: Layer | None = None
    composite: Composite | None = None
    patches: PatchDetector | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the maps."""
        network = tuple(f"{name} pattern" for name in self.network)
        return (
            *self.inputs,
            *network,
            *((RELEVANCE,) if self.start else ()),
            *((PATCHES,) if self.patches else ()),
        )

    def only(self, names: Collection[str]) -> Evidence:
        """Some of the maps; what the others need is not computed."""
        network = {name: of for name, of in self.network.items() if f"{name} pattern" in names}
        start = self.start if RELEVANCE in names else None
        return Evidence(
            {name: of for name, of in self.inputs.items() if name in names},
            tuple(layer for layer in self.layers if layer.name in network),
            network,
            start,
            self.last,
            self.composite,
            self.patches if PATCHES in names else None,
        )

    def maps(self, model: nn.Module, x: Tensor) -> dict[str, Maps]:
        """Evidence of a batch (N, C, *spatial), each (N, *working size); `DRAWN` beside the `names`.

        `model` as `shortcutscope.models.frozen.frozen` lends it out.
        """
        leads = is_signal(x)
        size = working_size(tuple(pictured(x).shape[2:]), leads=leads)
        excesses: dict[str, Tensor] = {}
        if self.patches is not None:
            patches, drawn = self.patches.maps(reduced(x.cpu()))
            excesses |= {PATCHES: torch.from_numpy(patches), DRAWN: torch.from_numpy(drawn)}
        if self.inputs:
            filter_maps = filtered(x)
            excesses |= {name: projection.excess(filter_maps) for name, projection in self.inputs.items()}
        if self.layers:
            for name, features in activations(model, x, self.layers).items():
                excess = self.network[name].excess(features)
                excesses[f"{name} pattern"] = beside(excess, size[0]) if leads else excess
        if self.start is not None and self.last is not None:
            on_device = x.to(device_of(model))
            relevance = conditional_relevance(
                model, on_device, self.start, [self.last], composite=self.composite
            )
            excesses[RELEVANCE] = reduced(over_positions(relevance.input).clamp_min(0))[:, 0].cpu()
        return {name: resized(values, size).numpy().astype(np.float32) for name, values in excesses.items()}


def over_positions(relevance: Tensor) -> Tensor:
    """Relevance of images summed over channels, (N, 1, *spatial); of signals (N, leads, time) as it is."""
    return relevance if is_signal(relevance) else relevance.sum(1, keepdim=True)


def activations(model: nn.Module, x: Tensor, layers: Sequence[Layer]) -> dict[str, Tensor]:
    """Feature maps (N, C, *grid) of layers, on the CPU; what lies above the last of them does not run.

    The images may lie anywhere; they are moved to where the model is.
    """
    outputs: dict[str, Tensor] = {}

    def visit(layer: Layer, values: Tensor) -> None:
        outputs[layer.name] = layer.channels_first(values).detach().clone().cpu()
        if len(outputs) == len(layers):
            raise _ReachedError

    with suppress(_ReachedError), torch.no_grad(), visiting(model, layers, visit):
        # A copy, since a model may normalise its input in place.
        model(x.detach().to(device_of(model), copy=True))
    return {layer.name: outputs[layer.name] for layer in layers}


class _ReachedError(Exception):
    """The last layer that was asked for has run."""


def resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (N, *grid) on another grid, interpolated linearly."""
    if tuple(maps.shape[1:]) == size:
        return maps
    mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
    return functional.interpolate(maps[:, None].float(), size=size, mode=mode, align_corners=False)[:, 0]


@dataclass(frozen=True, eq=False)
class Vectors:
    """Weights of the filters' and the layers' features, before anything is known of single positions.

    Attributes
    ----------
    inputs
        By name, (F,).
    network
        By layer, (C,).
    start
        (C,) of the last layer: a logistic filter, from which relevance starts.
    """

    inputs: Mapping[str, Floats]
    network: Mapping[str, Floats]
    start: Floats | None

    @classmethod
    def fit(
        cls,
        pooled: tuple[Floats, Floats] | None,
        peaks: Mapping[str, Array],
        concept: Floats,
        labels: Array,
        *,
        relevance: bool = True,
    ) -> Vectors:
        """Carriers against the others, balanced against the label.

        Parameters
        ----------
        pooled
            Mean and maximum (N, F) of the input's filters; None leaves them out.
        peaks
            By layer the maximum activation (N, C).
        concept, labels
            (N,); the concept may hold NaN.
        relevance
            Whether concept-conditioned relevance is wanted.

        Raises
        ------
        InputError
            When no class has samples with and without the concept.
        """
        inputs = {}
        if pooled is not None:
            mean, peak = pooled
            inputs[INPUT_LOGISTIC] = logistic_cav(mean, concept, labels, C=1.0).filter
            inputs[INPUT_PATTERN] = _pattern(peak, concept, labels)
        network = {name: _pattern(values, concept, labels) for name, values in peaks.items()}
        start = None
        if relevance and peaks:
            start = logistic_cav(list(peaks.values())[-1], concept, labels).filter
        return cls(inputs, network, start)

    def located(self, model: nn.Module, without: Tensor, layers: tuple[Layer, ...]) -> Evidence:
        """The evidence, once images without the concept (N, C, *spatial) show what is usual where."""
        filter_maps = filtered(without)
        inputs = {name: EvidenceProjection.fit(weights, filter_maps) for name, weights in self.inputs.items()}
        feature_maps = activations(model, without, layers) if layers else {}
        network = {
            name: EvidenceProjection.fit(self.network[name], values) for name, values in feature_maps.items()
        }
        start = None
        if self.start is not None:
            last = layers[-1].name
            start = Direction(last, self.start.astype(np.float32), reference=feature_maps[last].mean(0))
        if start is None:
            return Evidence(inputs, layers, network, None)
        # Found out once: each time costs a forward pass.
        rules = default_composite(model, without[:1].to(device_of(model)))
        return Evidence(inputs, layers, network, start, layers[-1], rules)


def _pattern(features: Array, concept: Floats, labels: Array) -> Floats:
    """Difference of the means in units of the features' own variance, as the score of a pattern has it."""
    return pattern_cav(features, concept, labels).filter
