"""Clusters and prototypes of relevances, late in the network."""

from __future__ import annotations

from collections.abc import Iterator

from tqdm.auto import tqdm

from shortcutscope.discover.views import ViewInput
from shortcutscope.discover.views.parts import at_depths, member_views
from shortcutscope.errors import InputError
from shortcutscope.types import Floats

#: Of the layers whose relevances are clustered.
RELEVANCE_DEPTHS = (0.5, 0.8)


def relevance_view(seen: ViewInput) -> Iterator[tuple[str, Floats]]:
    """See `shortcutscope.discover.views.View`."""
    try:
        seen.scan.relevance(seen.scan.layers[-1])
    except InputError as error:
        seen.notes.append(f"nothing was looked for in relevances: {error}")
        return
    layers = at_depths(seen.scan.layers, RELEVANCE_DEPTHS)
    for layer in tqdm(layers, desc="relevances", unit="layer", disable=not seen.progress, leave=False):
        yield from member_views("relevance", layer, seen)
