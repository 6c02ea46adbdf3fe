"""Components of the input's filter bank, alone and together with the first layer."""

from __future__ import annotations

from collections.abc import Iterator

from shortcutscope.discover.candidates import SampleInfo
from shortcutscope.discover.early import EarlyFeatures
from shortcutscope.discover.views import ViewInput
from shortcutscope.discover.views.parts import component_scores
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Floats

#: Components of the filter bank, alone and together with the first layer.
BANK_COMPONENTS = (16, 24)


def filter_view(inputs: ViewInput) -> Iterator[tuple[str, Floats]]:
    """See `shortcutscope.discover.views.View`."""
    early, samples = inputs.early, inputs.samples
    if not early.n_bank:
        inputs.notes.append(early.note)
        return
    yield from input_components(inputs.scan, early, samples)


def input_components(scan: Scan, early: EarlyFeatures, samples: SampleInfo) -> Iterator[tuple[str, Floats]]:
    """Name and scores (N, K) of the components of early features, which need no other layer of the scan."""
    few, many = BANK_COMPONENTS
    first = scan.layers[0].name
    if not early.n_bank:
        yield from component_scores(f"activation: {first}, ", early.values, many, samples, skewed=True)
        return
    bank = early.values[:, : early.n_bank]
    yield from component_scores("filters: ", bank, few, samples, skewed=True)
    yield from component_scores("filters: ", bank, many, samples)
    yield from component_scores(f"filters: with {first}, ", early.values, many, samples)
