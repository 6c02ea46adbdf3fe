"""Edges of a circuit: whose relevance leads to whom, by conditional relevance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from torch import Tensor, nn

from shortcutscope.attribution.lrp.conditional import Channels, conditional_relevance
from shortcutscope.attribution.slope import Explained
from shortcutscope.discover.circuits.problem import CircuitProblem
from shortcutscope.models.heads.head import Output
from shortcutscope.types import Bools, Record

EDGE_COLUMNS = ("source_layer", "source_channel", "target_layer", "target_channel", "weight")

#: Layers between which edges are drawn, and channels of each.
DRAWN_LAYERS, DRAWN_CHANNELS = 5, 5
#: Samples with and without the concept of each class, whose relevance the edges are.
EDGE_SAMPLES = 8


def strongest_nodes(
    nodes: pd.DataFrame,
    layers: Sequence[str],
    decisive: str | None = None,
    channels: int = DRAWN_CHANNELS,
) -> pd.DataFrame:
    """The nodes that edges are computed for: the strongest of a few layers, the decisive one included.

    Parameters
    ----------
    nodes
        See `Circuit`.
    layers
        Names, from the input to the decision.
    decisive
        The layer whose channels are ablated.
    channels
        Most channels of a layer.
    """
    present = [name for name in layers if (nodes["layer"] == name).any()]
    at = np.unique(np.linspace(0, len(present) - 1, min(DRAWN_LAYERS, len(present))).round().astype(int))
    names = {present[i] for i in at} | ({decisive} & set(present))
    parts = [nodes[nodes["layer"] == name].nlargest(channels, "score") for name in present if name in names]
    return pd.concat(parts, ignore_index=True) if parts else nodes.iloc[:0]


def find_edges(
    model: nn.Module,
    problem: CircuitProblem,
    nodes: pd.DataFrame,
    decisive: str,
    names: Sequence[str],
    positive: int,
    output: Output,
) -> pd.DataFrame:
    """Conditional relevance between the strongest nodes of neighbouring layers.

    Parameters
    ----------
    model
        Lent out by `frozen`.
    problem
        Its samples.
    nodes, decisive, names
        See `strongest_nodes`.
    positive, output
        The score that is explained.

    Returns
    -------
    edges
        ``EDGE_COLUMNS``: of the absolute relevance that passes through the target, the share that comes from
        the source, in carriers minus that in the others.
    """
    selection = strongest_nodes(nodes, names, decisive)
    columns = list(dict.fromkeys(selection["layer"]))
    images, carriers = _edge_samples(problem)
    network = problem.network
    rows: list[Record] = []
    for below, above in pairwise(columns):
        sources = selection.loc[selection["layer"] == below, "channel"].tolist()
        gated = [network.layer(below), network.layer(above)]
        for channel in selection.loc[selection["layer"] == above, "channel"]:
            passed = conditional_relevance(
                model,
                images,
                Channels(above, [int(channel)]),
                gated,
                explained=Explained(positive, output=output),
            )
            relevance = passed.channels[below].double().cpu().numpy()
            total = float(passed.start.double().abs().mean()) or 1.0
            contrast = (relevance[carriers].mean(0) - relevance[~carriers].mean(0)) / total
            rows += [
                dict(zip(EDGE_COLUMNS, (below, int(s), above, int(channel), float(contrast[s])), strict=True))
                for s in sources
            ]
    return pd.DataFrame(rows, columns=list(EDGE_COLUMNS))


def _edge_samples(problem: CircuitProblem) -> tuple[Tensor, Bools]:
    """Images of as many carriers and others of either class, and which carry."""
    rows = np.concatenate(
        [
            np.flatnonzero((problem.y == label) & (problem.a == carrier))[:EDGE_SAMPLES]
            for label in (0, 1)
            for carrier in (0, 1)
        ]
    )
    images = problem.network.images[rows].to(problem.network.device)
    return images, problem.a[rows] == 1
