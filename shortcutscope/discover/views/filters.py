"""Components of the input's filter bank, alone and together with the first layer."""

from __future__ import annotations

from collections.abc import Iterator

from shortcutscope.discover.views import ViewInput
from shortcutscope.discover.views.parts import component_scores
from shortcutscope.types import Floats

#: Components of the filter bank, alone and together with the first layer.
BANK_COMPONENTS = (16, 24)


def filter_view(inputs: ViewInput) -> Iterator[tuple[str, Floats]]:
    """See `shortcutscope.discover.views.View`."""
    early, samples = inputs.early, inputs.samples
    if not early.n_bank:
        inputs.notes.append(early.note)
        return
    bank = early.values[:, : early.n_bank]
    few, many = BANK_COMPONENTS
    first = inputs.scan.layers[0].name
    yield from component_scores("filters: ", bank, few, samples, skewed=True)
    yield from component_scores("filters: ", bank, many, samples)
    yield from component_scores(f"filters: with {first}, ", early.values, many, samples)
