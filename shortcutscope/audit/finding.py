"""A finding: what the audit says of one concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self

import numpy as np

from shortcutscope.audit.audited_data import Role
from shortcutscope.audit.other_kinds import OtherKind
from shortcutscope.audit.scored import ScoredSamples
from shortcutscope.discover.naming.texts import looks_of
from shortcutscope.errors import InputError
from shortcutscope.files import read_frame
from shortcutscope.probes.affected import most_affected
from shortcutscope.probes.association import Association
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.extent.measuring import Extent
from shortcutscope.probes.reading import Reading
from shortcutscope.probes.together.beside import describe
from shortcutscope.probes.usage import EFFECT_THRESHOLD
from shortcutscope.probes.verdict import (
    CONCERN,
    Verdict,
    VerdictRule,
    effects,
    power,
    qualify_verdict,
    reach_verdict,
)
from shortcutscope.types import JSON, Array, Record

#: Samples named in a finding.
MOST_AFFECTED = 12


@dataclass(frozen=True)
class FindingRecord:
    """The verdict on one concept, with everything it rests on.

    Attributes
    ----------
    name, origin, description : str
        The concept, and where it comes from (metadata, file, picture, planted, marked, score, discovered).
    verdict, reason : str
        ``shortcut``, or what is missing for one; an intervention on the pixels can change both.
    extent, extent_reason : str
        ``localized``, ``diffuse`` or ``undetermined``.
    extent_statistic, extent_interval : float, tuple
        Share of image cells in which the concept can be read, and its interval.
    layers : mapping
        Layer to weight for a later distillation, by use; sums to one.
    encoded, used, association, effect, n_samples, power, evidence, samples : mapping
        The measurements; the keys are those of ``findings.json``.
    notes : tuple of str
        What a reader should know besides.
    reading : Reading or None
        How the concept was read from a column, so that it can be read alike from another table.
    same : tuple of str
        Concepts of other columns that part the audited samples alike, and share this verdict.
    beside : mapping
        What it is beside the tested concepts that it goes with (`shortcutscope.probes.together.beside`);
        empty where it goes with none, or is not used.
    appearance : mapping
        What its carriers look like beside others of their label
        (`shortcutscope.discover.naming.appearance.Appearance`); empty where no carrier is known, and in runs
        of earlier versions.
    output : str, optional
        Of several labels the one whose output it is about.
    pixels : mapping
        What an intervention on the pixels said (`shortcutscope.pixels`): word, reason, the response to each
        direction, and the verdict ``by_layers`` alone; empty where there was none.
    run : Path, optional
        The run directory that it was read from; no part of ``findings.json``.
    """

    name: str
    origin: str
    description: str
    verdict: Verdict
    reason: str
    extent: Extent = "undetermined"
    extent_reason: str = ""
    extent_statistic: float | None = None
    extent_interval: tuple[float, float] | None = None
    layers: Mapping[str, float] = field(default_factory=dict)
    encoded: JSON = field(default_factory=dict)
    used: JSON = field(default_factory=dict)
    association: JSON = field(default_factory=dict)
    effect: JSON = field(default_factory=dict)
    n_samples: Mapping[str, int] = field(default_factory=dict)
    power: Mapping[str, float] = field(default_factory=dict)
    evidence: JSON = field(default_factory=dict)
    samples: Mapping[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reading: Reading | None = None
    same: tuple[str, ...] = ()
    beside: JSON = field(default_factory=dict)
    appearance: JSON = field(default_factory=dict)
    output: str | None = None
    pixels: JSON = field(default_factory=dict)
    run: Path | None = field(default=None, repr=False, compare=False)

    @property
    def statement(self) -> str:
        """The verdict and, where it was tested there, the word on the pixels."""
        word = self.pixels.get("word")
        return f"{self.verdict}, {word} on the pixels" if word else self.verdict

    @property
    def cost(self) -> float:
        """AUROC points lost where the concept disagrees with the label; what findings are ranked by."""
        value = self.effect.get("auroc_gap", {}).get("value")
        return float("-inf") if value is None or value != value else float(value)

    @property
    def looks(self) -> str:
        """What its carriers look like, ``"darker: mean grey 0.45 against 0.63"``; empty if nothing tells.

        Where no property of the picture tells, the texts that do (`shortcutscope.models.texts.TextNaming`).
        """
        return looks_of(self.appearance)

    @property
    def title(self) -> str:
        """Its name, and of one that nobody named what it looks like."""
        return f"{self.name} ({self.looks})" if self.origin == "discovered" and self.looks else self.name

    def to_dict(self) -> Record:
        """The finding as it stands in ``findings.json``."""
        left_out = {
            "run",
            *(() if self.output is not None else ("output",)),
            *(() if self.pixels else ("pixels",)),
        }
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        return values if self.reading is None else {**values, "reading": asdict(self.reading)}

    @property
    def concept(self) -> Concept:
        """The tested values of the audited samples, as the run keeps them.

        Raises
        ------
        InputError
            For a finding that was not read from a run, or a run that is not whole.
        """
        run = self.home()
        table = read_frame(run / "concepts.parquet")
        if self.name not in table:
            raise InputError(f"{run / 'concepts.parquet'} lacks {self.name!r}: run the same audit again")
        values = table[self.name].to_numpy(float, na_value=np.nan)
        ids = table["sample_id"].to_numpy(np.str_)
        return Concept(
            self.name, values, self.origin, ids, self.description, reading=self.reading, same=self.same
        )

    def home(self) -> Path:
        """The run directory that it was read from.

        Raises
        ------
        InputError
            For a finding that was not read from a run.
        """
        if self.run is None:
            raise InputError(f"finding {self.name!r} belongs to no run: take it from Audit.open(...)")
        return self.run

    @classmethod
    def from_dict(cls, values: JSON) -> Self:
        """Read a finding from ``findings.json``; keys of later versions are left out."""
        names = {f.name for f in fields(cls)} - {"run"}
        entries = {k: v for k, v in values.items() if k in names}
        for key in ("extent_interval", "notes", "same"):
            if entries.get(key) is not None:
                entries[key] = tuple(entries[key])
        if entries.get("reading") is not None:
            entries["reading"] = Reading.from_dict(entries["reading"])
        return cls(**entries)

    def __repr__(self) -> str:
        of = "" if self.output is None else f" of {self.output}"
        looks = f", {self.looks}" if self.looks else ""
        return f"Finding({self.name!r}{of}: {self.statement}, {self.extent}{looks})"


@dataclass(frozen=True)
class Measurements:
    """Everything that was measured of one concept, as it is kept in the run directory.

    Attributes
    ----------
    association, q_association, association_source
        Association with the label, its q value, and where it was measured.
    probe, q, encoded
        Availability per layer (see `shortcutscope.probes.profile.over_layers`), q value, verdict.
    use : mapping
        Layer to the effect of taking the concept out there.
    extent : mapping or None
        None where no layer encodes the concept.
    weights : mapping
        Layer to weight.
    beside : mapping
        What it is beside others, see `FindingRecord`.
    doubtful : sequence of str
        Samples that go against it and may be mislabelled, where they are half of all that do.
    other_kind : OtherKind or None
        Of a discovered concept, how far its carriers are another kind of image; None where that was not
        asked.
    """

    association: Association
    q_association: float
    association_source: str
    probe: JSON
    q: float
    encoded: bool
    use: Mapping[str, JSON]
    extent: JSON | None
    weights: Mapping[str, float]
    beside: JSON = field(default_factory=dict)
    doubtful: Sequence[str] = ()
    other_kind: OtherKind | None = None

    @property
    def against(self) -> Sequence[str]:
        """Samples that go against what may be the label, in the order of reading; else empty."""
        return self.doubtful or (self.other_kind["against"] if self.other_kind else ())


def untested(
    concept: Concept, reason: str, association: tuple[Association, str] | None = None
) -> FindingRecord:
    """The finding on a concept that these samples cannot decide about, with its association if known."""
    return FindingRecord(
        name=concept.name,
        origin=concept.origin,
        description=concept.description,
        verdict="not testable",
        reason=reason,
        extent_reason="not measured: the concept is not testable",
        association={} if association is None else _associated(*association),
        n_samples={
            "known": int(np.isfinite(concept.values).sum()),
            "carriers": int((concept.values == 1).sum()),
        },
        notes=tuple(concept.notes),
        reading=concept.reading,
        same=concept.same,
    )


def conclude(
    scan: ScoredSamples,
    concept: Concept,
    measurements: Measurements,
    role: Role,
    rule: VerdictRule,
    *,
    n_bootstrap: int,
    seed: int,
) -> FindingRecord:
    """Draw the conclusion on one concept from what was measured."""
    association = measurements.association
    associated = bool(
        measurements.q_association <= rule.level and abs(np.nan_to_num(association.phi)) >= rule.smallest_phi
    )
    last = measurements.use[scan.layers[-1].name]
    used = use_statement(last, scan.layers[-1].name, role, rule, concept.selected_from)
    costs = _costs(scan, concept, measurements, rule, n_bootstrap=n_bootstrap, seed=seed)
    verdict, reason = _verdict(concept, measurements, used, costs["auroc_gap"], associated=associated)
    mapped = measurements.extent or {
        "verdict": "undetermined",
        "reason": "not measured: no layer encodes the concept",
    }
    affected = scan.samples["sample_id"].to_numpy()[most_affected(last, MOST_AFFECTED)[0]]
    return FindingRecord(
        name=concept.name,
        origin=concept.origin,
        description=concept.description,
        verdict=verdict,
        reason=reason,
        extent=mapped["verdict"],
        extent_reason=mapped["reason"],
        extent_statistic=mapped.get("statistic"),
        extent_interval=tuple(mapped["interval"]) if mapped.get("interval") else None,
        layers=dict(measurements.weights) if used["value"] else {},
        encoded=_encoded(measurements),
        used=used,
        association={
            "value": associated,
            **_associated(association, measurements.association_source),
            "q": measurements.q_association,
        },
        effect=costs,
        n_samples=sample_counts(
            concept, scan.samples["label"].to_numpy(), scan.samples["group"].to_numpy(), association
        ),
        power=power((used["interval"][0], used["interval"][1]), used["threshold"]),
        evidence=_evidence(mapped, measurements.other_kind),
        samples={
            "most_affected": [str(i) for i in affected],
            **({"doubtful_label": list(measurements.against)} if measurements.against else {}),
        },
        notes=(*concept.notes, *_notes_beside(measurements.beside), *_notes_on_labels(measurements)),
        reading=concept.reading,
        same=concept.same,
        beside=measurements.beside,
    )


def _verdict(
    concept: Concept, measurements: Measurements, used: JSON, cost: JSON, *, associated: bool
) -> tuple[Verdict, str]:
    """The verdict on a concept beside the others, and its reason."""
    verdict, reason = reach_verdict(
        encoded=measurements.encoded,
        used=used["value"],
        effect=used["effect"],
        association=measurements.association,
        associated=associated,
        cost=cost,
    )
    kind = measurements.other_kind
    return qualify_verdict(
        verdict,
        reason,
        effect=used["effect"],
        origin=concept.origin,
        beside=measurements.beside,
        another_kind=kind["figures"] if kind and kind["figures"]["is_another"] else None,
    )


def _notes_beside(beside: JSON) -> list[str]:
    """What a reader should know of concepts that it goes with."""
    notes = []
    if beside.get("statement") in ("cannot be told apart from", "one thing with"):
        notes.append(f"{describe(beside)}. The verdict is on all of them together")
    if beside.get("not_held_fixed"):
        names = ", ".join(beside["not_held_fixed"])
        notes.append(f"it goes with {names} as well, known of too few of its samples to be held fixed")
    return notes


def _notes_on_labels(measurements: Measurements) -> list[str]:
    names = measurements.against
    if not names:
        return []
    shown = ", ".join(names[:MOST_AFFECTED]) + (", ..." if len(names) > MOST_AFFECTED else "")
    why = (
        "most samples that go against it have a label that a classifier on the last layer takes for wrong"
        if measurements.doubtful
        else "its carriers are another kind of image"
    )
    return [
        f"it may be what the label should say: {why}. Read the labels of these {len(names)} first: {shown}"
    ]


def _costs(
    scan: ScoredSamples,
    concept: Concept,
    measurements: Measurements,
    rule: VerdictRule,
    *,
    n_bootstrap: int,
    seed: int,
) -> Record:
    """What the shortcut costs on these samples, and what removing it at the last layer changes."""
    association, last = measurements.association, measurements.use[scan.layers[-1].name]
    costs: Record = effects(
        concept.values,
        scan.samples["label"].to_numpy(),
        scan.samples["group"].to_numpy(),
        scan.margin(association.positive),
        association,
        n_bootstrap=n_bootstrap,
        seed=seed,
        smallest=rule.smallest_cell,
    )
    costs["flip_rate"] = {"value": last["flip_rate"], "interval": None}
    costs["without"] = {"robust_auroc": last["robust_auroc"], "worst_group_accuracy": last["worst_group"]}
    return costs


def _evidence(mapped: JSON, other_kind: OtherKind | None) -> Record:
    return {
        "cell_map": mapped.get("cell_map"),
        "participation": mapped.get("participation", {}),
        "places": mapped.get("places", {}),
        "layers": mapped.get("layers", {}),
        **({"kind_of_image": other_kind["figures"]} if other_kind else {}),
    }


def _encoded(measurements: Measurements) -> Record:
    best = next(row for row in measurements.probe["rows"] if row["layer"] == measurements.probe["layer"])
    return {
        "value": measurements.encoded,
        "auroc": best["auroc"],
        "interval": [best["auroc_low"], best["auroc_high"]],
        "layer": measurements.probe["layer"],
        "p": measurements.probe["p"],
        "q": measurements.q,
    }


def _associated(association: Association, source: str) -> Record:
    return {
        "phi": association.phi,
        "interval": association.interval,
        "p": association.p,
        "source": source,
        "positive": association.positive,
        "carriers_by_class": association.carriers_by_class,
        "positives_by_value": association.positives_by_value,
    }


def use_statement(last: JSON, layer: str, role: Role, rule: VerdictRule, selected_from: int = 1) -> Record:
    """Whether the concept is used: a large enough effect at the decision layer, beyond chance.

    The p value of a concept that was chosen of many is corrected by their number (Bonferroni).
    """
    threshold = EFFECT_THRESHOLD[role]
    effect, p, low, high = (_number(v) for v in (last["effect"], last["p"], *last["interval"]))
    p = float(np.minimum(1.0, p * selected_from))
    return {
        "value": bool(abs(effect) > threshold and p <= rule.level),
        "effect": effect,
        "interval": [low, high],
        "threshold": threshold,
        "p": p,
        "layer": layer,
        "flip_rate": last["flip_rate"],
    }


def sample_counts(concept: Concept, labels: Array, groups: Array, association: Association) -> dict[str, int]:
    """Sizes of the audited data, conflicting samples counted in the direction of the association."""
    finite = np.isfinite(concept.values)
    disagree = concept.values[finite] != (labels[finite] == association.positive)
    against = disagree if np.nan_to_num(association.phi) >= 0 else ~disagree
    return {
        "known": int(finite.sum()),
        "carriers": int((concept.values == 1).sum()),
        "conflicting": int(against.sum()),
        "groups": len(np.unique(groups[finite])),
    }


def rank(findings: Sequence[FindingRecord]) -> list[FindingRecord]:
    """Shortcuts first, then the other verdicts in order of concern, each by cost."""
    return sorted(findings, key=lambda f: (CONCERN.index(f.verdict), -f.cost, f.name))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
