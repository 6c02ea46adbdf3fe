"""The views in which shortcuts are looked for, one file each: inputs, activations, relevances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shortcutscope.discover.candidates import SampleInfo
from shortcutscope.discover.early import EarlyFeatures
from shortcutscope.registry import Entry, Registry
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Floats


@dataclass(frozen=True, eq=False)
class ViewInput:
    """What a view looks at.

    Attributes
    ----------
    scan, early, samples
        The network's values, those of the input, and labels, patients and folds.
    notes
        A view that cannot be had says so here.
    neurons
        Whether outlying neurons are looked at, too.
    progress
        Whether to show it.
    """

    scan: Scan
    early: EarlyFeatures
    samples: SampleInfo
    notes: list[str]
    neurons: bool = False
    progress: bool = False


#: Gives names and scores (N, K). What stands before a name's colon is the kind of the view.
View = Callable[[ViewInput], Iterator[tuple[str, Floats]]]

_HERE = "shortcutscope.discover.views"

#: Views by name, in the order in which they are taken.
VIEWS = Registry[View](
    "discovery view",
    "shortcutscope.discovery_views",
    {
        "filters": Entry(f"{_HERE}.filters:filter_view", "components of the input's filter bank"),
        "activation": Entry(f"{_HERE}.activation:activation_view", "clusters of activations"),
        "relevance": Entry(f"{_HERE}.relevance:relevance_view", "clusters and prototypes of relevances"),
    },
)


def view_scores(inputs: ViewInput) -> Iterator[tuple[str, Floats]]:
    """Name and scores (N, K) of every view; what cannot be had is noted."""
    for _, view in VIEWS.items():
        yield from view(inputs)
