"""Clusters of activations inside the network, and its outlying neurons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from skimage.filters import threshold_otsu

from shortcutscope.discover.neurons import outlier_scores, profile_neurons
from shortcutscope.discover.views import ViewInput
from shortcutscope.discover.views.filters import input_components
from shortcutscope.discover.views.parts import at_depths, member_views, read_off
from shortcutscope.models.layers import Layer
from shortcutscope.progress import progress_bar
from shortcutscope.types import Floats

#: Of the layers whose activations are clustered.
ACTIVATION_DEPTHS = (0.25, 0.5)


def activation_view(inputs: ViewInput) -> Iterator[tuple[str, Floats]]:
    """See `shortcutscope.discover.views.View`.

    Samples on which outlying neurons are active are a view only on request (`neurons`): beside planted
    shortcuts they told carriers no better than neurons drawn at random.
    """
    if not inputs.early.n_bank:
        yield from input_components(inputs.scan, inputs.early, inputs.samples)
    layers = at_depths(inputs.scan.layers, ACTIVATION_DEPTHS)
    for layer in progress_bar(
        layers, desc="activations", unit="layer", progress=inputs.progress, leave=False
    ):
        yield from member_views("activation", layer, inputs)
        if inputs.neurons:
            yield f"activation: neurons at {layer.name}", _neuron_scores(layer, inputs)


def _neuron_scores(layer: Layer, inputs: ViewInput) -> Floats:
    """Scores of the samples on which a neuron that is unlike the others is active, for each of a few."""
    scan, labels = inputs.scan, inputs.samples.labels
    targets = []
    for _, activation in outlier_scores(scan, profile_neurons(scan, layer)):
        for label in np.unique(labels):
            inside = labels == label
            threshold = threshold_otsu(activation[inside])  # type: ignore[no-untyped-call]
            targets.append(np.where(inside, activation > threshold, np.nan))
    return read_off(inputs, targets)
