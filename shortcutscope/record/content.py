"""What every record says of a run, once: a line a concept, and every figure as ``findings.json`` has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.record import AuditRecord
from shortcutscope.audit.seal import FILE as SUMS
from shortcutscope.disk import checksum
from shortcutscope.probes.reading import level_text
from shortcutscope.report import wording
from shortcutscope.report.cards import advice
from shortcutscope.report.methods import Methods, methods_of
from shortcutscope.report.run_files import interval, mapping, number, texts
from shortcutscope.report.summary import sentence_case, title_of
from shortcutscope.types import JSON

#: Entries of a finding's ``effect`` that have a value and an interval.
EFFECTS = ("robust_auroc", "aligned_auroc", "auroc_gap", "worst_group_accuracy", "balanced_auroc")
PERFORMANCE = ("auroc", "accuracy", "balanced_accuracy", "ece")
OF_GROUPS = ("auroc", "sensitivity", "specificity")


@dataclass(frozen=True)
class RunFigure:
    """A figure of a run.

    Attributes
    ----------
    name
        Such as ``robust_auroc``.
    value, low, high
        As the run has them, not rounded; an interval of 95 % by patient where there is one.
    part
        Concept or subgroup that it is of; None for all samples.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    part: str | None = None


@dataclass(frozen=True)
class ConceptLine:
    """A concept in a record.

    Attributes
    ----------
    name
        With the output, of several labels.
    verdict, sentence, reason
        As the report has them.
    figures
        Of its own.
    cause, control
        Of a shortcut: how it does harm, and what is to be done about it; empty for others.
    """

    name: str
    verdict: str
    sentence: str
    reason: str
    figures: tuple[RunFigure, ...]
    cause: str = ""
    control: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is a shortcut."""
        return self.verdict == "shortcut"

    @property
    def skipped(self) -> bool:
        """Whether it could not be tested."""
        return self.verdict == "not testable"


@dataclass(frozen=True)
class SubgroupPair:
    """The samples without a concept and those with it.

    Attributes
    ----------
    concept, task
        Names of the concept, and of what the network is to tell.
    groups
        Names of the two.
    prevalence
        Share of the positive class in each, where the association was measured.
    source
        Where that was: ``training split``, ``audited data``, ``earlier audit``.
    figures
        Of the audited samples, ``part`` is one of ``groups``.
    """

    concept: str
    task: str
    groups: tuple[str, str]
    prevalence: tuple[float, float]
    source: str
    figures: tuple[RunFigure, ...]


@dataclass(frozen=True)
class RunContent:
    """What is to be recorded of a run.

    Attributes
    ----------
    model, fingerprint
        Name, and SHA-256 of architecture and weights.
    version, created
        Of the package, and when the audit was begun.
    headline, advice
        The verdict in words, and what it means for the use of the model.
    concepts
        Those that cost most first.
    figures
        Of all samples, and of the subgroups.
    pairs
        The two sides of each concept whose subgroups were measured.
    undecided
        What could not be decided.
    limitations
        The same, what was assumed, and what speaks against the results.
    samples, patients
        How many were audited; None where patients are not known.
    digest
        SHA-256 of the run's checksums; None of a run without.
    methods
        How the run was made, in sentences.
    """

    model: str
    fingerprint: str
    version: str
    created: str
    headline: str
    advice: tuple[str, ...]
    concepts: tuple[ConceptLine, ...]
    figures: tuple[RunFigure, ...]
    pairs: tuple[SubgroupPair, ...]
    undecided: tuple[str, ...]
    limitations: tuple[str, ...]
    samples: int
    patients: int | None
    digest: str | None
    methods: Methods


def content_of(audit: AuditRecord) -> RunContent:
    """What a finished audit says, for all formats alike."""
    run, data = audit.run, mapping(audit.run.get("data"))
    concluded = audit.conclusion
    entries = [vars(f) for f in audit.findings]
    limitations = (
        *concluded.undecided,
        *texts(run.get("warnings")),
        *texts(run.get("assumptions")),
        concluded.assumption,
    )
    sums, patients = audit.path / SUMS, number(data.get("n_groups"))
    return RunContent(
        model=title_of(run),
        fingerprint=str(mapping(run.get("model")).get("fingerprint") or ""),
        version=str(run.get("version") or ""),
        created=str(run.get("created") or ""),
        headline=wording.headline(entries),
        advice=tuple(advice(entries, concluded.undecided)),
        concepts=tuple(_concept(finding, several=bool(audit.outputs)) for finding in audit.findings),
        figures=tuple(_figures(audit)),
        pairs=tuple(_pairs(audit)),
        undecided=tuple(concluded.undecided),
        limitations=tuple(dict.fromkeys(sentence_case(text) for text in limitations if text)),
        samples=int(data.get("n_samples") or 0),
        patients=None if patients is None else int(patients),
        digest=checksum(sums) if sums.is_file() else None,
        methods=methods_of(run, entries, title_of(run)),
    )


def _concept(finding: FindingRecord, *, several: bool) -> ConceptLine:
    name = f"{finding.output}: {finding.name}" if several and finding.output else finding.name
    entry = vars(finding)
    shortcut = finding.verdict == "shortcut"
    cause = (
        f"The model goes by {finding.name}, not by what the label is about alone, and errs where they part."
    )
    control = (
        f"Retrain without {finding.name} and audit again; until then no use where it may occur otherwise."
    )
    return ConceptLine(
        name,
        finding.verdict,
        wording.sentence(entry),
        finding.reason,
        tuple(_of_finding(finding, name)),
        cause if shortcut else "",
        control if shortcut else "",
    )


def _of_finding(finding: FindingRecord, part: str) -> Iterator[RunFigure]:
    for name in EFFECTS:
        yield from _figure(name, mapping(finding.effect).get(name), "value", part)
    yield from _figure("concept_auroc", finding.encoded, "auroc", part)
    yield from _figure("use", finding.used, "effect", part)
    yield from _figure("association_phi", finding.association, "phi", part)


def _figure(name: str, entry: object, key: str, part: str | None) -> Iterator[RunFigure]:
    value, ends = number(mapping(entry).get(key)), interval(mapping(entry).get("interval"))
    if value is not None:
        low, high = ends or (None, None)
        yield RunFigure(name, value, low, high, part)


def _figures(audit: AuditRecord) -> Iterator[RunFigure]:
    """Figures of all samples, of several labels for each output, and of the subgroups of one column."""
    parts = audit.outputs.items() if audit.outputs else ((None, audit),)
    for output, one in parts:
        of = f"{output}: " if output else ""
        for name in PERFORMANCE:
            value = number(mapping(one.run.get("performance")).get(name))
            if value is not None:
                yield RunFigure(name, value, part=output)
        yield from _subgroups(one, of)


def _subgroups(audit: AuditRecord, of: str) -> Iterator[RunFigure]:
    rows = _rows(audit)
    several = len({row["positive"] for row in rows}) > 1
    for row in rows:
        against_rest = f"{_class_name(audit, int(row['positive']))}: " if several else ""
        yield from _of_group(row, f"{of}{against_rest}{row['group']}")


def _class_name(audit: AuditRecord, positive: int) -> str:
    classes = texts(mapping(audit.run.get("data")).get("classes"))
    return classes[positive] if positive < len(classes) else f"class {positive}"


def _rows(audit: AuditRecord) -> list[JSON]:
    """The subgroups of single columns; none of an earlier version's run."""
    if not (audit.path / "subgroups.json").exists():
        return []
    rows: list[JSON] = [{str(k): v for k, v in row.items()} for row in audit.subgroups().to_dict("records")]
    return [row for row in rows if " x " not in str(row["columns"])]


def _of_group(row: JSON, part: str) -> Iterator[RunFigure]:
    for name in OF_GROUPS:
        value, low, high = (number(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
        if value is not None:
            yield RunFigure(name, value, low, high, part=part)


def _pairs(audit: AuditRecord) -> Iterator[SubgroupPair]:
    for output, one in audit.outputs.items() if audit.outputs else ((None, audit),):
        rows = _rows(one)
        for finding in one.findings:
            shares = mapping(finding.association.get("positives_by_value"))
            without, carrying = number(shares.get("0")), number(shares.get("1"))
            if without is None or carrying is None:
                continue
            positive = int(finding.association["positive"])
            groups = _sides(finding)
            own = [row for row in rows if row["group"] in groups and row["positive"] == positive]
            figures = tuple(figure for row in own for figure in _of_group(row, str(row["group"])))
            if len({figure.part for figure in figures}) == 2:
                source = str(finding.association.get("source") or "")
                yield SubgroupPair(
                    finding.name,
                    output or _class_name(one, positive),
                    groups,
                    (without, carrying),
                    source,
                    figures,
                )


def _sides(finding: FindingRecord) -> tuple[str, str]:
    """What the subgroups without and with a concept are called, where these are two."""
    reading = finding.reading
    if reading is None:
        return f"without {finding.name}", f"with {finding.name}"
    absent, present = (
        " or ".join(level_text(level, reading.kind) for level in levels)
        for levels in (reading.absent, reading.present)
    )
    return f"{reading.column}={absent}", f"{reading.column}={present}"
