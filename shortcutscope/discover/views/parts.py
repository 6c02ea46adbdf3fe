"""Scores of parts of the classes: components of features, and clusters and prototypes inside the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from shortcutscope.discover.candidates import SampleInfo
from shortcutscope.discover.clusters import NEIGHBOURS, Clusters, cluster
from shortcutscope.discover.components import class_components
from shortcutscope.discover.prototypes import fit_prototypes, rare_members
from shortcutscope.discover.views import ViewInput
from shortcutscope.models.layers import Layer
from shortcutscope.probes.crossfit import cross_fitted_scores
from shortcutscope.types import Array, Bools, Floats, Ints

#: Largest part of a class that a cluster may be to be its rare side.
LARGEST_CLUSTER = 0.4
SMALLEST_CLUSTER = 8
#: Fewest samples of a class that parts are looked for in.
FEWEST_IN_CLASS = 4 * NEIGHBOURS


def component_scores(
    name: str, features: Array, count: int, samples: SampleInfo, *, skewed: bool = False
) -> Iterator[tuple[str, Floats]]:
    """Name and scores (N, K) of `count` components of features (N, F), of all classes and of each."""
    components = class_components(features, samples.labels, count, skewed=skewed, seed=samples.seed)
    for where, scores in components:
        yield f"{name}{count} components, {where}", scores


def member_views(kind: str, layer: Layer, inputs: ViewInput) -> Iterator[tuple[str, Floats]]:
    """Scores of the small parts of all classes at a layer, read off the input out of fold.

    Late in a network every cluster knows the decision, and a score read off there would be the logit under
    another name: two groups, used and associated. So it is asked what the members have in common before.
    """
    scan, samples, notes = inputs.scan, inputs.samples, inputs.notes
    vectors = scan.relevance(layer) if kind == "relevance" else scan.activation(layer)
    parts: dict[str, list[Floats]] = {}
    for label in np.unique(samples.labels):
        inside = np.flatnonzero(samples.labels == label)
        if len(inside) < FEWEST_IN_CLASS:
            notes.append(f"class {label} has too few samples to be divided: {len(inside)}")
            continue
        for view, members in _small_parts(kind, vectors, inside, samples.seed, layer.name, notes):
            target = np.full(len(vectors), np.nan)
            target[inside] = members
            parts.setdefault(view, []).append(target)
    for view, targets in parts.items():
        yield view, read_off(inputs, targets)


def read_off(inputs: ViewInput, targets: Sequence[Floats]) -> Floats:
    """Scores (N, T) of sets of samples, 1, 0 or NaN for unknown, by a probe of the early features."""
    samples = inputs.samples
    return cross_fitted_scores(inputs.early.values, np.stack(targets, axis=1), samples.labels, samples.folds)


def _small_parts(
    kind: str,
    vectors: Array,
    inside: Ints,
    seed: int,
    layer: str,
    notes: list[str],
) -> Iterator[tuple[str, Bools]]:
    """View and members (n,) of the small parts of a class: clusters, and components of its decisions."""
    clusters = cluster(vectors[inside], seed=seed)
    if clusters.note:
        notes.append(f"{kind} at {layer}: {clusters.note}")
    for members in _rare(clusters):
        yield f"{kind}: clusters at {layer}", members
    if kind == "relevance":
        for members in rare_members(fit_prototypes(vectors, rows=inside, seed=seed)):
            yield f"relevance: prototypes at {layer}", members


def _rare(clusters: Clusters) -> Iterator[Bools]:
    """Members (n,) of each cluster that is a small part of its class."""
    for assignment in (clusters.spectral, clusters.dense):
        for number in range(int(assignment.max()) + 1):
            members = assignment == number
            if SMALLEST_CLUSTER <= members.sum() <= LARGEST_CLUSTER * len(members):
                yield members


def at_depths(layers: Sequence[Layer], depths: Sequence[float]) -> list[Layer]:
    """The layers nearest to some depths of the network, each once."""
    nearest = (min(layers, key=lambda layer: abs(layer.depth - depth)) for depth in depths)
    return list(dict.fromkeys(nearest))
