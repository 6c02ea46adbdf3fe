"""The result of an audit, as its run directory keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import pandas as pd

from shortcutscope.audit.conclusion import Conclusion, conclude_audit, conclude_outputs
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.run_directory import FINDINGS, read_record
from shortcutscope.audit.subgroups import read_subgroups, subgroup_frame
from shortcutscope.data.manifests.labels import one_of
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import read_frame, read_json
from shortcutscope.models.heads.head import Head
from shortcutscope.probes.together.beside import describe
from shortcutscope.scan.choice import AttributionChoice
from shortcutscope.scan.scanner import Scan
from shortcutscope.types import Record


@dataclass(frozen=True, repr=False)
class AuditRecord:
    """A finished audit.

    Attributes
    ----------
    path : Path
        The run directory.
    findings : tuple of FindingRecord
        One per concept: shortcuts first, by what they cost.
    profile : DataFrame
        One row per (concept, layer).
    run : dict
        Provenance, settings, performance, warnings; the contents of ``run.json``.
    """

    path: Path
    findings: tuple[FindingRecord, ...]
    profile: pd.DataFrame
    run: Record

    of_finding: ClassVar[type[FindingRecord]] = FindingRecord

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the audit in a run directory.

        Raises
        ------
        InputError
            When the directory holds no finished audit.
        """
        folder = Path(path)
        run = read_record(folder)
        file = folder / FINDINGS
        homes = {x["name"]: folder / x["folder"] for x in run.get("outputs") or () if x["folder"]}
        with intact(file, "a list of findings", "run the same audit again, which writes it anew"):
            read = [cls.of_finding.from_dict(f) for f in read_json(file)]
        findings = tuple(replace(f, run=homes.get(f.output or "", folder)) for f in read)
        return cls(folder, findings, read_frame(folder / "profile.parquet"), run)

    @property
    def shortcuts(self) -> tuple[FindingRecord, ...]:
        """The findings whose verdict is ``shortcut``."""
        return tuple(f for f in self.findings if f.verdict == "shortcut")

    @property
    def conclusion(self) -> Conclusion:
        """Whether shortcuts were found, nothing was, or it could not be decided; and on what assumption."""
        if self.outputs:
            concluded = {name: audit.conclusion for name, audit in self.outputs.items()}
            return conclude_outputs(concluded, self.not_audited)
        return conclude_audit([vars(f) for f in self.findings], self.run)

    @property
    def undecided(self) -> tuple[str, ...]:
        """What could not be decided, and what would decide it."""
        return self.conclusion.undecided

    @property
    def scan(self) -> Scan:
        """The scan that the audit rests on."""
        return Scan.open(self.path / "scan")

    @property
    def attribution(self) -> AttributionChoice:
        """Which attribution the relevances are, what was asked for, and why they differ."""
        return AttributionChoice.from_json(self.run.get("attribution"))

    @property
    def head(self) -> Head:
        """Which scores of the model were audited."""
        return Head.from_json(self.run.get("head"))

    def asked_head(self, head: Head) -> Head:
        """What a later stage is to read of any network: what was audited.

        Raises
        ------
        InputError
            Something else is asked for.
        """
        audit_head = self.head
        for name in ("part", "label", "task"):
            requested, stored = getattr(head, name), getattr(audit_head, name)
            if requested not in (None, "auto", stored, audit_head.label_name, audit_head.read_task):
                raise InputError(
                    f"{self.path} audited {audit_head}, but {name}={requested!r} is asked for; leave it out, "
                    "or audit that in a run of its own"
                )
        return replace(audit_head, link=head.link, outputs=None)

    @cached_property
    def outputs(self) -> Mapping[str, Self]:
        """Of several labels, label to the audit of its output, of those that were audited; else empty."""
        entries = self.run.get("outputs") or ()
        return {x["name"]: type(self).open(self.path / x["folder"]) for x in entries if x["folder"]}

    @property
    def not_audited(self) -> Mapping[str, str]:
        """Of several labels those that could not be audited, and why."""
        entries = self.run.get("outputs") or ()
        return {x["name"]: x["not_audited"] for x in entries if x["not_audited"]}

    def __getitem__(self, name: str) -> Any:
        """The finding of a name, see `finding`; of several labels the audit of the output of one.

        Raises
        ------
        InputError
            When there is none: it names those there are.
        """
        if not self.outputs:
            return self.finding(name)
        if name in self.not_audited:
            raise InputError(f"the output of {name} was not audited: {self.not_audited[name]}")
        return self.outputs[one_of(name, list(self.outputs))]

    def finding(self, name: str) -> FindingRecord:
        """The finding of a name, or that of a concept with the same values.

        Raises
        ------
        InputError
            When there is none: it names those there are; and of several labels, which have one each.
        """
        self.require_one_output(f"the finding {name!r}")
        for finding in self.findings:
            if name == finding.name or name in finding.same:
                return finding
        there = ", ".join(f.name for f in self.findings) or "none"
        why = (self.run.get("discovery") or {}).get("same", {}).get(name)
        left = f" ({name} {why})" if why else ""
        raise InputError(f"no finding {name!r} in {self.path}{left}; there are {there}")

    def require_one_output(self, what: str) -> None:
        """Refuse an audit of several labels, for what is done with the audit of one.

        Raises
        ------
        InputError
            Says how to choose it.
        """
        if self.outputs:
            name, one = next(iter(self.outputs.items()))
            raise InputError(
                f"{self.path} audited {len(self.outputs)} outputs ({', '.join(self.outputs)}), and {what} is "
                f"of one: choose it, audit[{name!r}], on the command line {one.path}"
            )

    def to_frame(self) -> pd.DataFrame:
        """One row per finding, in the order of rank."""
        rows = [
            {
                **({"output": f.output} if self.outputs else {}),
                "finding": f.name,
                "looks": f.looks or None,
                "verdict": f.verdict,
                "extent": f.extent,
                "availability": f.encoded.get("auroc"),
                "use": f.used.get("effect"),
                "association": f.association.get("phi"),
                "robust_auroc": f.effect.get("robust_auroc", {}).get("value"),
                "auroc_gap": f.effect.get("auroc_gap", {}).get("value"),
                "smallest_group": f.effect.get("auroc_gap", {}).get("n"),
                "beside": describe(f.beside) or None,
                "pixels": f.pixels.get("word"),
                "reason": f.reason,
            }
            for f in self.findings
        ]
        return pd.DataFrame(rows)

    def subgroups(self) -> pd.DataFrame:
        """How well the network does in each part of each column, and of each two columns.

        Returns
        -------
        DataFrame
            A row a group, the surest differences first: ``columns``, ``group``, ``positive`` (the class that
            events are of), ``samples``, ``patients``, ``events``, ``event_patients``; ``auroc``,
            ``sensitivity`` and ``specificity`` at the operating point (`operating_points`), ``calibration``
            (observed less expected share of events), ``slope`` of the recalibration; ``delta_auroc``,
            ``delta_tpr`` and ``delta_fpr`` against all other groups of the columns. Each has ``_low`` and
            ``_high`` of its 95 % interval by patient and ``_n``, the patients that it rests on; differences
            ``_p`` and ``_q``. NaN where there are too few patients. Of several labels ``output`` comes first.

        Raises
        ------
        InputError
            For a run that has none.
        """
        if self.outputs:
            frames = [audit.subgroups().assign(output=name) for name, audit in self.outputs.items()]
            whole = pd.concat(frames, ignore_index=True)
            return whole[["output", *whole.columns.drop("output")]]
        return subgroup_frame(read_subgroups(self.path))

    @property
    def operating_points(self) -> list[Record]:
        """Where subgroups call a sample positive (``threshold``, a probability), and why (``source``)."""
        if self.outputs:
            each = self.outputs.items()
            return [{"output": name, **point} for name, audit in each for point in audit.operating_points]
        points: list[Record] = read_subgroups(self.path)["operating"]
        return points

    def __repr__(self) -> str:
        concluded = self.conclusion
        lines = [
            f"  {_of(f, self.outputs)}{f.title}: {f.statement}, {f.extent}{_cost(f)}" for f in self.findings
        ]
        remarks = [f"  {self.attribution.warning}"] if self.attribution.warning else []
        if self.head.changes:
            remarks.append(f"  scores: {self.head}")
        head = f"Audit({str(self.path)!r}): {concluded.outcome}"
        undecided = [f"  not decided: {text}" for text in concluded.undecided]
        return "\n".join([head, *undecided, *lines, f"  {concluded.assumption}", *remarks])


def _of(finding: FindingRecord, outputs: Mapping[str, object]) -> str:
    return f"{finding.output}, " if outputs and finding.output else ""


def _cost(finding: FindingRecord) -> str:
    gap = finding.effect.get("auroc_gap") or {}
    if finding.verdict != "shortcut" or gap.get("value") is None:
        return ""
    return f", costs {gap['value']:.2f} AUROC (smallest group: {gap.get('n')} samples)"
