"""Probing all layers for some concepts; what each layer says is kept, and read again where it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from shortcutscope.audit.context import Context
from shortcutscope.models.layers import Layer
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import ProbeSettings
from shortcutscope.probes.profile import ProbeDesign, over_layers, probe_design, probe_layer, probe_rank
from shortcutscope.processes import count, dealt, wait
from shortcutscope.progress import progress_bar
from shortcutscope.types import JSON, Array, Floats, Record


@dataclass(frozen=True)
class LayerProbing:
    """What all layers are probed with, and what their results depend on."""

    context: Context
    concepts: Sequence[Concept]
    positives: Sequence[int]

    @property
    def settings(self) -> ProbeSettings:
        """As the audit's."""
        settings = self.context.settings
        return ProbeSettings(
            n_permutations=settings.n_permutations, n_bootstrap=settings.n_bootstrap, seed=settings.seed
        )

    @cached_property
    def design(self) -> ProbeDesign:
        """What all layers have in common; made only where one is still to be probed."""
        return probe_design(self.context.scan, self.concepts, self.settings)

    def depends(self) -> Record:
        """What a kept result rests on."""
        return {
            "concepts": [c.fingerprint() for c in self.concepts],
            "positives": self.positives,
            "settings": self.context.settings.depends(),
        }

    def layers(self, what: str) -> Iterator[Layer]:
        """All scanned layers, with a bar."""
        context = self.context
        yield from progress_bar(
            context.scan.layers, desc=what, unit="layer", progress=context.settings.progress, leave=False
        )

    def own_layers(self, what: str) -> Iterator[Layer]:
        """Those that this process does for the others, before each reads what is kept of all of them."""
        if count() > 1:
            context, layers = self.context, self.context.scan.layers
            own = [layers[k] for k in dealt([float(layer.channels) ** 2 for layer in layers])]
            yield from progress_bar(
                own, desc=what, unit="layer", progress=context.settings.progress, leave=False
            )
            wait(what)


def probe_layers(probing: LayerProbing) -> tuple[dict[str, Record], dict[str, Floats]]:
    """Probe all concepts, layer by layer, and score the samples at the layer that knows each of them best.

    What a layer says is kept, and beside it the scores of the concepts that no layer before knows as well, of
    those that this process has seen.
    """
    if not probing.concepts:
        return {}, {}

    def probe(layer: Layer, best: Floats) -> tuple[Record, dict[str, Array]]:
        record, scores = probe_layer(
            probing.context.scan,
            layer,
            probing.concepts,
            probing.positives,
            probing.design,
            probing.settings,
        )
        better = np.flatnonzero(_aurocs(record) > best)
        return record, {str(k): scores[:, k] for k in better}

    def probed(layers: Iterator[Layer]) -> Iterator[tuple[Record, dict[str, Array]]]:
        best: Floats = np.full(len(probing.concepts), -np.inf)
        for layer in layers:
            record, columns = probing.context.run.cached_with_arrays(
                "probe", layer.name, probing.depends(), partial(probe, layer, best)
            )
            aurocs = _aurocs(record)
            better = set(np.flatnonzero(aurocs > best).tolist())
            yield record, {probing.concepts[int(k)].name: x for k, x in columns.items() if int(k) in better}
            best = np.fmax(best, aurocs)

    for _ in probed(probing.own_layers("probing")):
        pass
    by_layer, scores = [], {}
    for record, better in probed(probing.layers("probing")):
        by_layer.append(record)
        scores.update(better)
    gathered = over_layers(by_layer)
    return {c.name: probe for c, probe in zip(probing.concepts, gathered, strict=True)}, scores


def _aurocs(record: JSON) -> Floats:
    return np.array([row["auroc"] for row in record["rows"]], float)


def rank_layers(probing: LayerProbing, encoded: Mapping[str, bool]) -> dict[str, dict[str, int | None]]:
    """Effective rank of the encoded concepts at every layer."""
    of = [k for k, concept in enumerate(probing.concepts) if encoded[concept.name]]
    ranks: dict[str, dict[str, int | None]] = {probing.concepts[k].name: {} for k in of}
    if not of:
        return ranks
    depends = {**probing.depends(), "of": of}

    def ranked(layer: Layer) -> list[int | None]:
        def compute() -> list[int | None]:
            return probe_rank(probing.context.scan, layer, of, probing.design, probing.settings)

        kept: list[int | None] = probing.context.run.cached("rank", layer.name, depends, compute)
        return kept

    for layer in probing.own_layers("ranking"):
        ranked(layer)
    for layer in probing.layers("ranking"):
        for k, directions in zip(of, ranked(layer), strict=True):
            ranks[probing.concepts[k].name][layer.name] = directions
    return ranks
