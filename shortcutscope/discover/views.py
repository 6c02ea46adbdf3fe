"""The views in which shortcuts are looked for: components of the input, clusters inside the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.filters import threshold_otsu
from tqdm.auto import tqdm

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.candidates import Setting
from shortcutscope.discover.clusters import NEIGHBOURS, Clusters, cluster
from shortcutscope.discover.components import class_components
from shortcutscope.discover.filters import image_bank, refusal
from shortcutscope.discover.neurons import outlier_scores, profile_neurons
from shortcutscope.discover.prototypes import fit_prototypes, rare_members
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer
from shortcutscope.probes.crossfit import cross_fitted_scores
from shortcutscope.scan.reading import Scan

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Components of the filter bank, alone and together with the first layer.
BANK_COMPONENTS = (16, 24)
#: Depths of the layers whose relevances, and whose activations, are clustered.
RELEVANCE_DEPTHS = (0.5, 0.8)
ACTIVATION_DEPTHS = (0.25, 0.5)
#: Largest part of a class that a cluster may be to be its rare side.
LARGEST_CLUSTER = 0.4
SMALLEST_CLUSTER = 8
#: Fewest samples of a class that parts are looked for in.
FEWEST_IN_CLASS = 4 * NEIGHBOURS


@dataclass(frozen=True, eq=False)
class Early:
    """What can be seen of the samples before the network has mixed it with the label.

    Attributes
    ----------
    values
        (N, F) responses of the filter bank, where the input has one, and features of the first layer.
    n_bank
        How many of the F are the bank's.
    note
        Why there is no bank; empty where there is one.
    """

    values: npt.NDArray[np.float32]
    n_bank: int
    note: str = ""


def early_features(scan: Scan, table: ImageTable, *, progress: bool, **reading: Any) -> Early:
    """Read the images once; `reading` are the batch size and the workers."""
    first = scan.features(scan.layers[0])
    reason = refusal(table.shape)
    if reason is not None:
        return Early(first, 0, reason)
    bank = image_bank(table, progress=progress, **reading).values
    return Early(np.concatenate([bank, first], axis=1), bank.shape[1])


def views(
    scan: Scan, early: Early, setting: Setting, notes: list[str], *, neurons: bool, progress: bool
) -> Iterator[tuple[str, Floats]]:
    """Name and scores (N, K) of every view; what cannot be had is noted.

    Samples on which outlying neurons are active are a view only on request (`neurons`): beside planted
    shortcuts they told carriers no better than neurons drawn at random.
    """
    first = scan.layers[0].name
    if early.n_bank:
        bank = early.values[:, : early.n_bank]
        few, many = BANK_COMPONENTS
        yield from _components("filters: ", bank, few, setting, skewed=True)
        yield from _components("filters: ", bank, many, setting)
        yield from _components(f"filters: with {first}, ", early.values, many, setting)
    else:
        notes.append(early.note)
        count = BANK_COMPONENTS[-1]
        yield from _components(f"activation: {first}, ", early.values, count, setting, skewed=True)
    layers = _at_depths(scan.layers, ACTIVATION_DEPTHS)
    for layer in tqdm(layers, desc="activations", unit="layer", disable=not progress, leave=False):
        yield from _member_views("activation", layer, early, scan, setting, notes)
        if neurons:
            yield f"activation: neurons at {layer.name}", _neuron_scores(layer, early, scan, setting)
    try:
        scan.relevance(scan.layers[-1])
    except InputError as error:
        notes.append(f"nothing was looked for in relevances: {error}")
        return
    layers = _at_depths(scan.layers, RELEVANCE_DEPTHS)
    for layer in tqdm(layers, desc="relevances", unit="layer", disable=not progress, leave=False):
        yield from _member_views("relevance", layer, early, scan, setting, notes)


def _components(
    name: str, features: npt.NDArray[Any], count: int, setting: Setting, *, skewed: bool = False
) -> Iterator[tuple[str, Floats]]:
    found = class_components(features, setting.labels, count, skewed=skewed, seed=setting.seed)
    for where, scores in found:
        yield f"{name}{count} components, {where}", scores


def _member_views(
    kind: str, layer: Layer, early: Early, scan: Scan, setting: Setting, notes: list[str]
) -> Iterator[tuple[str, Floats]]:
    """Scores of the small parts of all classes at a layer, read off the input out of fold.

    Late in a network every cluster knows the decision, and a score read off there would be the logit under
    another name: two groups, used and associated. So it is asked what the members have in common before.
    """
    vectors = scan.relevance(layer) if kind == "relevance" else scan.activation(layer)
    parts: dict[str, list[Floats]] = {}
    for label in np.unique(setting.labels):
        inside = np.flatnonzero(setting.labels == label)
        if len(inside) < FEWEST_IN_CLASS:
            notes.append(f"class {label} has too few samples to be divided: {len(inside)}")
            continue
        for view, members in _small_parts(kind, vectors, inside, setting.seed, layer.name, notes):
            target = np.full(len(vectors), np.nan)
            target[inside] = members
            parts.setdefault(view, []).append(target)
    for view, targets in parts.items():
        yield view, _read_off(early, targets, setting)


def _read_off(early: Early, targets: Sequence[Floats], setting: Setting) -> Floats:
    """Scores (N, T) of sets of samples, 1, 0 or NaN for unknown, by a probe of the early features."""
    return cross_fitted_scores(early.values, np.stack(targets, axis=1), setting.labels, setting.folds)


def _small_parts(
    kind: str,
    vectors: npt.NDArray[Any],
    inside: npt.NDArray[np.intp],
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


def _neuron_scores(layer: Layer, early: Early, scan: Scan, setting: Setting) -> Floats:
    """Scores of the samples on which a neuron that is unlike the others is active, for each of a few."""
    targets = []
    for _, activation in outlier_scores(scan, profile_neurons(scan, layer)):
        for label in np.unique(setting.labels):
            inside = setting.labels == label
            threshold = threshold_otsu(activation[inside])  # type: ignore[no-untyped-call]
            targets.append(np.where(inside, activation > threshold, np.nan))
    return _read_off(early, targets, setting)


def _rare(clusters: Clusters) -> Iterator[Bools]:
    """Members (n,) of each cluster that is a small part of its class."""
    for assignment in (clusters.spectral, clusters.dense):
        for number in range(int(assignment.max()) + 1):
            members = assignment == number
            if SMALLEST_CLUSTER <= members.sum() <= LARGEST_CLUSTER * len(members):
                yield members


def _at_depths(layers: Sequence[Layer], depths: Sequence[float]) -> list[Layer]:
    nearest = (min(layers, key=lambda layer: abs(layer.depth - depth)) for depth in depths)
    return list(dict.fromkeys(nearest))
