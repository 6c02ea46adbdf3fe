"""Examine the concepts of an audit: association, availability, use, extent, verdict, cost, pictures.

Every piece is kept in the run directory as soon as it is measured, so that an interrupted audit goes on
where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from torch import nn

from shortcutscope.audit.appearance.contrast import FOLDER as CONTRASTS
from shortcutscope.audit.appearance.contrast import ContrastSheet
from shortcutscope.audit.appearance.stage import Seen, with_appearance
from shortcutscope.audit.associations import NO_ASSOCIATION, ConceptValues, association_if_any
from shortcutscope.audit.audited_data import AuditedData
from shortcutscope.audit.context import Context, ExamineSettings
from shortcutscope.audit.doubtful_labels import samples_of_doubtful_label
from shortcutscope.audit.finding import FindingRecord, Measurements, conclude, rank, untested
from shortcutscope.audit.interventions.held_fixed import besides, used_alone
from shortcutscope.audit.interventions.use_and_extent import Case, measure_use_and_extent
from shortcutscope.audit.layer_probing import LayerProbing, probe_layers, rank_layers
from shortcutscope.audit.other_kinds import other_kinds
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.audit.subgroups import FILE as SUBGROUPS
from shortcutscope.data.table import ImageTable
from shortcutscope.files import slug, write_json
from shortcutscope.probes.affected import Gallery, draw_galleries
from shortcutscope.probes.association import Association
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.concept_relevance import ConceptRelevance
from shortcutscope.probes.profile import assemble
from shortcutscope.probes.together.beside import HeldFixed
from shortcutscope.probes.verdict import layer_weights, untestable
from shortcutscope.processes import is_main
from shortcutscope.scan.scanner import Scan
from shortcutscope.stats.testing import benjamini_hochberg
from shortcutscope.types import JSON, Floats, Record


@dataclass
class Examination:
    """Everything that the examination found."""

    findings: list[FindingRecord]
    profile: pd.DataFrame
    concepts: pd.DataFrame
    galleries: dict[str, Gallery]
    contrasts: Mapping[str, ContrastSheet] = field(default_factory=dict)


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
    context = Context.of(model, scan, table, audited, run, settings)
    examined = examine_outputs(context, [Subject(context, concepts)])
    return look_at(examined, [scan], context)[0]


@dataclass(frozen=True, eq=False)
class Subject:
    """One output, and the concepts that are examined of it.

    Attributes
    ----------
    context
        Of the output.
    concepts
        Covering its samples (unknown where they say nothing).
    """

    context: Context
    concepts: Sequence[Concept]

    @cached_property
    def aligned(self) -> dict[str, Concept]:
        """The concepts over its samples."""
        return {c.name: self.context.aligned(c) for c in self.concepts}

    @cached_property
    def _untestable(self) -> dict[str, str | None]:
        context = self.context
        rule = context.settings.verdict
        return {
            n: untestable(c.values, context.labels, context.groups, rule) for n, c in self.aligned.items()
        }

    @cached_property
    def associations(self) -> dict[str, tuple[Association, str]]:
        """Of the testable concepts, where it can be measured, and from which samples."""
        tested = [c for c in self.concepts if self._untestable[c.name] is None]
        measured = {c.name: _association_if_any(self.context, c) for c in tested}
        return {name: association for name, association in measured.items() if association is not None}

    @cached_property
    def reasons(self) -> dict[str, str]:
        """Why a concept is not tested, of those that are not."""
        why = {name: reason for name, reason in self._untestable.items() if reason is not None}
        return {
            c.name: why.get(c.name, NO_ASSOCIATION) for c in self.concepts if c.name not in self.associations
        }

    @property
    def testable(self) -> list[Concept]:
        """Aligned."""
        return [self.aligned[c.name] for c in self.concepts if c.name in self.associations]

    def positive(self, name: str) -> int:
        """The class that a concept's effects refer to."""
        return self.associations[name][0].positive


def examine_outputs(whole: Context, subjects: Sequence[Subject]) -> list[Examination]:
    """Examine concepts at one output or several of a network.

    Whether a layer encodes a concept, and over how much of the image it spreads, has nothing to do with what
    the network answers: it is measured once, within the classes of the concept's primary output, see
    `primary_outputs`. Use, association and cost are measured at each.

    Parameters
    ----------
    whole
        What the outputs share; of one output its own context.
    subjects
        The outputs.
    """
    primary = primary_outputs(subjects)
    probings = []
    probes: dict[str, Record] = {}
    scores: dict[str, Floats] = {}
    with whole.run.stage("probe"):
        for k, subject in enumerate(subjects):
            own = [c for c in subject.testable if primary[c.name] == k]
            probings.append(LayerProbing(subject.context, own, [subject.positive(c.name) for c in own]))
            more, out_of_fold = probe_layers(probings[-1])
            probes |= more
            scores |= {name: _in_whole(subject.context, values) for name, values in out_of_fold.items()}
    q = dict(zip(probes, benjamini_hochberg(np.array([p["p"] for p in probes.values()])), strict=True))
    encoded = {n: bool(q[n] <= whole.settings.verdict.level) for n in probes}
    cases = [
        Case(
            subject.context,
            concept,
            subject.positive(concept.name),
            encoded[concept.name],
            probes[concept.name] if encoded[concept.name] and primary[concept.name] == k else None,
        )
        for k, subject in enumerate(subjects)
        for concept in subject.testable
    ]
    use, extents, held = measure_use_and_extent(whole, cases)
    extent = {c.name: one for c, one in zip(cases, extents, strict=True) if one is not None}
    ranks: dict[str, dict[str, int | None]] = {}
    with whole.run.stage("rank"):
        for probing in probings:
            ranks |= rank_layers(probing, encoded)
    examinations = []
    for k, subject in enumerate(subjects):
        measured = {c.name: u for c, u in zip(cases, use, strict=True) if c.context is subject.context}
        beside = {c.name: h for c, h in zip(cases, held, strict=True) if h and c.context is subject.context}
        known = _Known(
            {name: probes[name] if primary[name] == k else _elsewhere(probes[name]) for name in measured},
            {name: float(q[name]) for name in measured},
            {name: encoded[name] for name in measured},
            measured,
            {name: extent[name] for name in measured if name in extent},
            {name: ranks.get(name, {}) for name in measured},
            beside,
        )
        own_scores = {n: subject.context.own_rows(scores[n]) for n in measured if n in scores}
        examinations.append(_examined(subject, known, own_scores))
    return examinations


def primary_outputs(subjects: Sequence[Subject]) -> dict[str, int]:
    """Concept to the output whose label it is associated with most, which looks at no prediction."""
    strength: dict[str, tuple[float, int]] = {}
    for k, subject in enumerate(subjects):
        for name, (association, _) in subject.associations.items():
            phi = abs(association.phi)
            if name not in strength or phi > strength[name][0]:
                strength[name] = (phi, k)
    return {name: k for name, (_, k) in strength.items()}


def _in_whole(context: Context, values: Floats) -> Floats:
    """Of all samples that outputs share what is known of those of one output, NaN elsewhere."""
    everywhere = np.full(len(context.shared.scan), np.nan)
    everywhere[context.shared_rows(np.arange(len(values)))] = values
    return everywhere


def _elsewhere(probe: JSON) -> Record:
    """What layers say of a concept at another output than its primary one: no derivative is of its logit."""
    return {**probe, "rows": [{**row, "derivative": None, "derivative_p": None} for row in probe["rows"]]}


@dataclass(frozen=True)
class _Known:
    """What was measured of the testable concepts of one output, by name."""

    probes: Mapping[str, JSON]
    q: Mapping[str, float]
    encoded: Mapping[str, bool]
    use: Mapping[str, dict[str, Record]]
    extents: Mapping[str, Record]
    ranks: Mapping[str, Mapping[str, int | None]]
    held: Mapping[str, HeldFixed]


def _examined(subject: Subject, known: _Known, scores: Mapping[str, Floats]) -> Examination:
    """Findings, profile and pictures of one output."""
    context, aligned = subject.context, subject.aligned
    weights = {n: _weights(known.use[n]) if known.encoded[n] else {} for n in known.probes}
    by_chance = [a.p * aligned[n].selected_from for n, (a, _) in subject.associations.items()]
    q_associated = benjamini_hochberg(np.minimum(by_chance, 1.0))
    with context.run.stage("usage"):
        measured_with = {name: association for name, (association, _) in subject.associations.items()}
        alone = used_alone(context, subject.testable, known.encoded, known.use)
        beside = besides(context, subject.testable, alone, known.held, measured_with)
        doubtful = samples_of_doubtful_label(context, subject.testable, alone, measured_with)
        kinds = other_kinds(context, subject.testable, alone, measured_with)
    measurements = {
        name: Measurements(
            association=association,
            q_association=float(q_value),
            association_source=source,
            probe=known.probes[name],
            q=known.q[name],
            encoded=known.encoded[name],
            use=known.use[name],
            extent=known.extents.get(name),
            weights=weights[name],
            beside=beside.get(name, {}),
            doubtful=doubtful.get(name, ()),
            other_kind=kinds.get(name),
        )
        for (name, (association, source)), q_value in zip(
            subject.associations.items(), q_associated, strict=True
        )
    }
    findings = _findings(context, subject.concepts, aligned, subject.reasons, measurements)
    galleries = _galleries(context, findings, known, aligned)
    profile = assemble(known.probes, known.use, known.extents, known.ranks, weights)
    return Examination(findings, profile, _concept_frame(context.scan, aligned, scores), galleries)


def _galleries(
    context: Context, findings: Sequence[FindingRecord], known: _Known, aligned: Mapping[str, Concept]
) -> dict[str, Gallery]:
    """Pictures of what the encoded concepts move most; drawn by the main process alone."""
    settings, decision = context.settings, context.scan.layers[-1].name
    with context.run.stage("gallery"):
        # Of several outputs only of what moves them: there would be pictures of every concept for each.
        statement = "used" if context.whole else "encoded"
        uses = {f.name: known.use[f.name][decision] for f in findings if getattr(f, statement).get("value")}
        if not is_main():
            return {}
        galleries = draw_galleries(
            context.model, context.table, context.scan, uses, count=settings.gallery, output=settings.output
        )
        own = ConceptRelevance(context.model, context.table, context.scan, settings.output)
        return {
            name: own.added_to(gallery, aligned[name].values, known.probes[name]["rows"])
            for name, gallery in galleries.items()
        }


def _findings(
    context: Context,
    concepts: Sequence[Concept],
    aligned: Mapping[str, Concept],
    reasons: Mapping[str, str],
    measurements: Mapping[str, Measurements],
) -> list[FindingRecord]:
    """The finding on every concept, what cannot be tested among them, by rank."""
    findings = [
        untested(aligned[c.name], reasons[c.name], _association_if_any(context, c))
        for c in concepts
        if c.name in reasons
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


def _association_if_any(context: Context, concept: Concept) -> tuple[Association, str] | None:
    settings = context.settings
    return association_if_any(
        concept,
        context.audited,
        context.scan.samples,
        positive=settings.positive,
        n_bootstrap=settings.n_bootstrap,
        seed=settings.seed,
        values=ConceptValues(context.in_training(concept), context.aligned(concept).values),
    )


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


def _concept_frame(scan: Scan, concepts: Mapping[str, Concept], scores: Mapping[str, Floats]) -> pd.DataFrame:
    """Concept values, and out-of-fold scores at the layer that knows each concept best."""
    columns: Record = {"sample_id": scan.samples["sample_id"].to_numpy()}
    for name, concept in concepts.items():
        columns[name] = pd.Series(concept.values).astype("Int8")
        columns[f"{name}.score"] = scores.get(name, np.nan)
    return pd.DataFrame(columns)


def look_at(examined: Sequence[Examination], scans: Sequence[Scan], whole: Context) -> list[Examination]:
    """The same with what every finding looks like; the images are read once for all of them.

    Parameters
    ----------
    examined, scans
        Of every output.
    whole
        What the outputs share; of one output its own context.
    """
    with whole.run.stage("appearance"):
        settings = whole.settings
        looked = with_appearance(
            [Seen(one.findings, one.concepts, scan) for one, scan in zip(examined, scans, strict=True)],
            whole.table,
            texts=settings.texts,
            seed=settings.seed,
            workers=settings.workers,
            progress=settings.progress,
        )
    return [
        replace(one, findings=seen.findings, contrasts=seen.contrasts)
        for one, seen in zip(examined, looked, strict=True)
    ]


def write_examination(run: RunDirectory, examined: Examination, subgroups: JSON) -> None:
    """Write profile, concepts, subgroups, galleries and, last, the findings."""
    if is_main():
        write_json(run.path / SUBGROUPS, subgroups)
    run.write_frame("profile.parquet", examined.profile)
    run.write_frame("concepts.parquet", examined.concepts)
    for name, gallery in examined.galleries.items():
        run.write_arrays(
            f"gallery/{slug(name)}.npz",
            images=gallery.images,
            maps=gallery.maps,
            sample_ids=np.array(gallery.sample_ids),
            captions=np.array(gallery.captions),
            kind=np.array(gallery.kind),
            concept_maps=gallery.concept_maps,
            concept_layer=np.array(gallery.concept_layer),
            no_concept_maps=np.array(gallery.no_concept_maps),
        )
    for name, contrast in examined.contrasts.items():
        run.write_arrays(f"{CONTRASTS}/{slug(name)}.npz", **contrast.arrays())
    run.finish([f.to_dict() for f in examined.findings])
