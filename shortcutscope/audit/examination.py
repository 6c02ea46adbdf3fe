"""Examine the concepts of an audit: association, availability, use, extent, verdict, cost, pictures.

Every piece is kept in the run directory as soon as it is measured, so that an interrupted audit goes on
where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from shortcutscope.audit.audited_data import AuditedData, Role
from shortcutscope.audit.finding import FindingRecord, Measurements, conclude, rank, untested
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import device_of
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import margin
from shortcutscope.models.layers import Layer
from shortcutscope.models.memory_format import MemoryFormat, choose_memory_format
from shortcutscope.probes.affected import Gallery, draw_galleries
from shortcutscope.probes.association import Association, associate, recorded
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import ProbeSettings, cross_fitted_scores, make_folds
from shortcutscope.probes.extent import (
    ExtentResult,
    ExtentRule,
    ExtentSamples,
    decide,
    measure_extent,
    spread_choice,
)
from shortcutscope.probes.profile import (
    ProbeDesign,
    assemble,
    over_layers,
    pattern_vectors,
    probe_design,
    probe_layer,
    probe_rank,
)
from shortcutscope.probes.usage import (
    EFFECT_THRESHOLD,
    Prefix,
    UseResult,
    UseSamples,
    evaluation_samples,
    projection_use,
)
from shortcutscope.probes.verdict import VerdictRule, layer_weights, untestable
from shortcutscope.progress import progress_bar
from shortcutscope.scan.batches import batches
from shortcutscope.scan.capture import forward_edited
from shortcutscope.scan.scanner import Scan
from shortcutscope.stats.bootstrap import cluster_weights
from shortcutscope.stats.testing import benjamini_hochberg
from shortcutscope.types import JSON, Array, Floats, Ints, Record

#: Layers, from the input, at which the participation ratio is read: later ones have seen too much of
#: the image at every position.
EARLY_LAYERS = 3
#: Samples per (half, class, value) on which use is measured: elsewhere, and for encoded concepts at the
#: decision layer, where the verdict is made.
USE_SAMPLES = (20, 40)
#: Samples on which the extent of a concept is measured, at most.
EXTENT_SAMPLES = 480


@dataclass(frozen=True)
class ExamineSettings:
    """How the concepts of an audit are examined."""

    n_permutations: int = 200
    n_bootstrap: int = 300
    seed: int = 0
    positive: int | None = None
    batch_size: int = 64
    workers: int = 0
    output: Output = None
    gallery: int = 12
    progress: bool = True
    verdict: VerdictRule = field(default_factory=VerdictRule)
    extent: ExtentRule = field(default_factory=ExtentRule)

    def to_dict(self, role: Role) -> Record:
        """What the report shows of the settings, thresholds included."""
        return {**asdict(self), "use_threshold": EFFECT_THRESHOLD[role], "role": role}

    def depends(self) -> Record:
        """What measurements depend on; kept results with other values are not used."""
        return {
            k: v for k, v in asdict(self).items() if k not in ("progress", "batch_size", "workers", "gallery")
        }


@dataclass
class Examination:
    """Everything that the examination found."""

    findings: list[FindingRecord]
    profile: pd.DataFrame
    concepts: pd.DataFrame
    galleries: dict[str, Gallery]


@dataclass(frozen=True)
class _Context:
    """What all measurements share."""

    model: nn.Module
    scan: Scan
    table: ImageTable
    audited: AuditedData
    run: RunDirectory
    settings: ExamineSettings
    device: torch.device
    memory_format: MemoryFormat

    @classmethod
    def of(
        cls,
        model: nn.Module,
        scan: Scan,
        table: ImageTable,
        audited: AuditedData,
        run: RunDirectory,
        settings: ExamineSettings,
    ) -> Self:
        device = device_of(model)
        memory_format = choose_memory_format(model, next(batches(table, 2))[0].to(device))
        memory_format.apply(model)
        return cls(model, scan, table, audited, run, settings, device, memory_format)

    @property
    def labels(self) -> Ints:
        return self.scan.samples["label"].to_numpy().astype(np.int64)

    @property
    def groups(self) -> Array:
        return self.scan.samples["group"].to_numpy()

    def kept(
        self, stage: str, concept: Concept, compute: Callable[[], Any], positive: int | None = None
    ) -> Any:
        also = {} if positive is None else {"positive": positive}
        depends = {"concept": concept.fingerprint(), "settings": self.settings.depends(), **also}
        return self.run.cached(stage, concept.name, depends, compute)

    def bar(self, concepts: Sequence[Concept], what: str) -> Any:
        return progress_bar(concepts, desc=what, unit="concept", progress=self.settings.progress, leave=False)

    def inputs(self, indices: Ints) -> Iterator[Tensor]:
        """Model inputs of some samples, in batches and in their order."""
        table, workers = self.table.take(indices), self.settings.workers
        for x, _, _ in batches(table, self.settings.batch_size, workers=workers):
            yield self.memory_format(x.to(self.device))


def examine(
    model: nn.Module,
    scan: Scan,
    table: ImageTable,
    concepts: Sequence[Concept],
    audited: AuditedData,
    run: RunDirectory,
    settings: ExamineSettings,
) -> Examination:
    """Examine concepts on a scanned table.

    Parameters
    ----------
    model : nn.Module
        Frozen.
    scan : Scan
        Of ``table``, in its order.
    concepts : sequence of Concept
        Covering the samples of ``table`` (unknown where they say nothing).
    """
    context = _Context.of(model, scan, table, audited, run, settings)
    aligned = {c.name: c.aligned_to(scan.samples["sample_id"]) for c in concepts}
    reasons = {
        n: untestable(c.values, context.labels, context.groups, settings.verdict) for n, c in aligned.items()
    }
    testable = [c for c in aligned.values() if reasons[c.name] is None]
    associations = {c.name: _association(context, c) for c in concepts if reasons[c.name] is None}

    with run.stage("probe"):
        probes = _probe(context, testable, associations)
    q = dict(zip(probes, benjamini_hochberg(np.array([p["p"] for p in probes.values()])), strict=True))
    encoded = {n: bool(q[n] <= settings.verdict.level) for n in probes}
    with run.stage("usage"):
        use, ranks = _use_of_all(context, testable, encoded, associations)
    with run.stage("extent"):
        extents = _extent_of_all(context, [c for c in testable if encoded[c.name]], probes)

    weights = {n: _weights(use[n]) if encoded[n] else {} for n in probes}
    by_chance = [association.p * aligned[n].selected_from for n, (association, _) in associations.items()]
    q_associated = benjamini_hochberg(np.minimum(by_chance, 1.0))
    measurements = {
        name: Measurements(
            association=association,
            q_association=float(q_value),
            association_source=source,
            probe=probes[name],
            q=float(q[name]),
            encoded=encoded[name],
            use=use[name],
            extent=extents.get(name),
            weights=weights[name],
        )
        for (name, (association, source)), q_value in zip(associations.items(), q_associated, strict=True)
    }
    findings = _findings(context, concepts, aligned, reasons, measurements)
    with run.stage("gallery"):
        decision = scan.layers[-1].name
        uses = {f.name: use[f.name][decision] for f in findings if f.encoded.get("value")}
        galleries = draw_galleries(model, table, scan, uses, count=settings.gallery, output=settings.output)
    profile = assemble(probes, use, extents, ranks, weights)
    return Examination(findings, profile, _concept_frame(context, aligned, probes), galleries)


def _findings(
    context: _Context,
    concepts: Sequence[Concept],
    aligned: Mapping[str, Concept],
    reasons: Mapping[str, str | None],
    measurements: Mapping[str, Measurements],
) -> list[FindingRecord]:
    """The finding on every concept, what cannot be tested among them, by rank."""
    findings = [
        untested(aligned[c.name], str(reasons[c.name]), _association_if_any(context, c))
        for c in concepts
        if reasons[c.name] is not None
    ]
    settings = context.settings
    for name, one in measurements.items():
        findings.append(
            conclude(
                context.scan,
                aligned[name],
                one,
                context.audited.role,
                settings.verdict,
                n_bootstrap=settings.n_bootstrap,
                seed=settings.seed,
            )
        )
    return rank(findings)


def _association(context: _Context, concept: Concept) -> tuple[Association, str]:
    """Association in the training samples if they know the concept, else in the audited ones."""
    settings = context.settings
    earlier = recorded(context.audited.associations.get(concept.name, {}))
    if earlier is not None and settings.positive in (None, earlier.positive):
        return earlier, "earlier audit"
    measure = partial(
        associate, positive=settings.positive, n_bootstrap=settings.n_bootstrap, seed=settings.seed
    )
    reference = context.audited.reference
    if reference is not None and reference.frame["sample_id"].isin(concept.sample_ids).any():
        carries = concept.aligned_to(reference.frame["sample_id"]).values
        labels = reference.frame["label"].to_numpy()
        finite = np.isfinite(carries)
        if len(np.unique(carries[finite])) == 2 and len(np.unique(labels[finite])) >= 2:
            groups = reference.frame["group"].to_numpy()
            return measure(carries, labels, groups), "training split"
    values = concept.aligned_to(context.scan.samples["sample_id"]).values
    return measure(values, context.labels, context.groups), "audited data"


def _association_if_any(context: _Context, concept: Concept) -> tuple[Association, str] | None:
    """Association of a concept that cannot be tested, where there are two values of it and two classes."""
    try:
        association = _association(context, concept)
    except InputError:
        return None
    return association if np.isfinite(association[0].phi) else None


def _probe_settings(settings: ExamineSettings) -> ProbeSettings:
    return ProbeSettings(
        n_permutations=settings.n_permutations, n_bootstrap=settings.n_bootstrap, seed=settings.seed
    )


def _probe(
    context: _Context, concepts: Sequence[Concept], associations: Mapping[str, tuple[Association, str]]
) -> dict[str, Record]:
    """Probe all concepts, layer by layer; what a layer says is kept."""
    if not concepts:
        return {}
    positives = [associations[c.name][0].positive for c in concepts]
    depends = {
        "concepts": [c.fingerprint() for c in concepts],
        "positives": positives,
        "settings": context.settings.depends(),
    }
    layers = progress_bar(
        context.scan.layers, desc="probing", unit="layer", progress=context.settings.progress, leave=False
    )
    settings = _probe_settings(context.settings)

    @cache
    def design() -> ProbeDesign:  # only where a layer is still to be probed
        return probe_design(context.scan, concepts, settings)

    def probe(layer: Layer) -> Record:
        return probe_layer(context.scan, layer, concepts, positives, design(), settings)

    by_layer = [context.run.cached("probe", x.name, depends, partial(probe, x)) for x in layers]
    return {c.name: probe for c, probe in zip(concepts, over_layers(by_layer), strict=True)}


def _use_of_all(
    context: _Context,
    concepts: Sequence[Concept],
    encoded: Mapping[str, bool],
    associations: Mapping[str, tuple[Association, str]],
) -> tuple[dict[str, Record], Record]:
    """Use, and effective rank: at every layer where a concept is encoded, else at the last one alone."""
    use, ranks = {}, {}
    for concept in context.bar(concepts, "taking concepts out"):
        name = concept.name
        layers = context.scan.layers if encoded[name] else context.scan.layers[-1:]
        positive = associations[name][0].positive
        measure = partial(_use, context, concept, layers, positive)
        stage = "usage" if encoded[name] else "usage-last"
        use[name] = context.kept(stage, concept, measure, positive=positive)
        if encoded[name]:
            count = partial(probe_rank, context.scan, concept, _probe_settings(context.settings))
            ranks[name] = context.kept("rank", concept, count)
    return use, ranks


def _extent_of_all(
    context: _Context, concepts: Sequence[Concept], probes: Mapping[str, JSON]
) -> dict[str, Record]:
    """Extent of the encoded concepts."""
    return {
        concept.name: context.kept(
            "extent", concept, partial(_extent, context, concept, probes[concept.name]["rows"])
        )
        for concept in context.bar(concepts, "mapping extent")
    }


def _use(context: _Context, concept: Concept, layers: Sequence[Layer], positive: int) -> Record:
    """Effect of taking the concept out at each of some layers."""
    scan, settings = context.scan, context.settings
    labels, groups = context.labels, context.groups
    halves = make_folds(labels, groups, concept.values, n_folds=2, seed=settings.seed)
    few, many = (
        evaluation_samples(concept.values, labels, halves, per_cell=n, seed=settings.seed)
        for n in USE_SAMPLES
    )
    decides = len(layers) > 1
    rows = np.concatenate(many if decides else few)
    inputs = list(context.inputs(rows))
    position = {int(s): k for k, s in enumerate(rows)}
    stacked = torch.cat(inputs) if inputs else torch.empty(0)
    samples = UseSamples(concept.values, labels, groups, scan.margin(positive), halves, positive)

    def intervene(layer: Layer) -> Callable[[Ints, Callable[[Tensor], Tensor]], Floats]:
        def run(indices: Ints, edit: Callable[[Tensor], Tensor]) -> Floats:
            rows = torch.tensor([position[int(i)] for i in indices])
            logits = torch.cat(
                [
                    forward_edited(context.model, stacked[part], layer, edit, output=settings.output).cpu()
                    for part in torch.split(rows, settings.batch_size)
                ]
            )
            edited: Floats = margin(logits.float(), scan.task, positive).numpy().astype(float)
            return edited

        return run

    results = {}
    for layer in layers:
        result = projection_use(
            scan.activation(layer.name),
            samples,
            many if decides and layer is layers[-1] else few,
            intervene(layer),
            prefix=Prefix.of(scan, layer),
            n_bootstrap=settings.n_bootstrap,
            seed=settings.seed,
        )
        results[layer.name] = _use_record(result, keep_samples=layer is layers[-1])
    return results


def _use_record(result: UseResult, *, keep_samples: bool) -> Record:
    record = {
        "effect": result.effect,
        "interval": result.interval,
        "p": result.p,
        "flip_rate": result.flip_rate,
        "robust_auroc": result.robust_auroc,
        "worst_group": result.worst_group,
    }
    if keep_samples:
        record |= {"samples": result.samples, "change": result.change}
    return record


def _extent(context: _Context, concept: Concept, rows: Sequence[JSON]) -> Record:
    scan, settings = context.scan, context.settings
    labels, groups = context.labels, context.groups
    values = concept.as_marked(labels)
    generator = np.random.default_rng([settings.seed, 3])
    subset = spread_choice(values, labels, EXTENT_SAMPLES, generator)
    folds = make_folds(labels[subset], groups[subset], values[subset], n_folds=4, seed=settings.seed)
    vectors = {
        x.name: pattern_vectors(scan.activation(x.name)[subset], values[subset], labels[subset], folds)
        for x in local_layers(scan.layers)
    }
    weights = cluster_weights(groups[subset], settings.n_bootstrap, settings.seed)
    result = measure_extent(
        context.model,
        scan.layers,
        lambda: context.inputs(subset),
        ExtentSamples(values[subset], labels[subset], folds, weights),
        vectors,
        encoded_auroc=max(row["auroc"] for row in rows),
        rule=settings.extent,
        output=settings.output,
    )
    return _extent_record(result, {row["layer"]: row["auroc"] for row in rows}, settings.extent)


def local_layers(layers: Iterable[Layer]) -> list[Layer]:
    """Early layers at which the participation ratio is read: none of a network of tokens.

    Attention shows every position the whole image, so that a response does not say where it comes from; and
    what stands in front of it embeds patches linearly, where what has no mean, such as noise, has no vector.
    """
    candidates = list(layers)
    if any(layer.layout == "tokens" for layer in candidates):
        return []
    return [layer for layer in candidates if layer.spatial][:EARLY_LAYERS]


def _strongest(changes: Mapping[str, float]) -> float | None:
    """The larger one of the changes in either direction."""
    return max(changes.values(), key=lambda change: abs(change)) if changes else None


def _extent_record(result: ExtentResult, aurocs: Mapping[str, float], rule: ExtentRule) -> Record:
    layers = {
        name: {
            "statistic": cells.lit_share,
            "verdict": decide(cells, {}, aurocs[name], rule)[0],
            "cell_map": cells.auroc,
            "participation": _strongest(result.layer_participation.get(name, {})),
        }
        for name, cells in result.layer_maps.items()
    }
    input_map = result.input_map
    return {
        "verdict": result.verdict,
        "reason": result.reason,
        "statistic": input_map.lit_share if input_map else None,
        "interval": input_map.interval if input_map else None,
        "cell_map": input_map.auroc if input_map else None,
        "participation": dict(result.participation),
        "layers": layers,
    }


def _weights(use: Mapping[str, JSON]) -> dict[str, float]:
    finite = {
        k: v
        for k, v in use.items()
        if v["effect"] is not None and v["interval"][0] is not None and v["interval"][1] is not None
    }
    return layer_weights(
        {k: v["effect"] for k, v in finite.items()},
        {k: v["interval"][0] for k, v in finite.items()},
        {k: v["interval"][1] for k, v in finite.items()},
    )


def _concept_frame(context: _Context, concepts: Mapping[str, Concept], probes: JSON) -> pd.DataFrame:
    """Concept values, and out-of-fold scores at the layer that knows each concept best."""
    scan, labels = context.scan, context.labels
    columns: Record = {"sample_id": scan.samples["sample_id"].to_numpy()}
    for name, concept in concepts.items():
        columns[name] = pd.Series(concept.values).astype("Int8")
        columns[f"{name}.score"] = np.nan
        if name in probes:
            folds = make_folds(labels, context.groups, concept.values, seed=context.settings.seed)
            features = scan.features(probes[name]["layer"])
            columns[f"{name}.score"] = cross_fitted_scores(features, concept.values, labels, folds)
    return pd.DataFrame(columns)
