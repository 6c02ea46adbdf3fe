"""Clusters and prototypes of relevances, late in the network."""

from __future__ import annotations

from collections.abc import Iterator

from shortcutscope.discover.views import ViewInput
from shortcutscope.discover.views.parts import at_depths, member_views
from shortcutscope.errors import InputError
from shortcutscope.progress import progress_bar
from shortcutscope.types import Floats

#: Of the layers whose relevances are clustered.
RELEVANCE_DEPTHS = (0.5, 0.8)


def relevance_view(inputs: ViewInput) -> Iterator[tuple[str, Floats]]:
    """See `shortcutscope.discover.views.View`."""
    scan = inputs.scan
    if not scan.has_relevance:
        why = scan.attribution.reason or "scan with relevance=True"
        inputs.notes.append(f"nothing was looked for in relevances, which the scan does not hold: {why}")
        return
    try:
        scan.relevance(scan.layers[-1])
    except InputError as error:
        inputs.notes.append(f"nothing was looked for in relevances: {error}")
        return
    layers = at_depths(scan.layers, RELEVANCE_DEPTHS)
    for layer in progress_bar(layers, desc="relevances", unit="layer", progress=inputs.progress, leave=False):
        yield from member_views("relevance", layer, inputs)
