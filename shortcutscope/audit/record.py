"""The result of an audit, as its run directory keeps it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import pandas as pd

from shortcutscope.audit.conclusion import Conclusion, conclude_audit
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.run_directory import FINDINGS, read_record
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import read_frame, read_json
from shortcutscope.models.heads.head import Head
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
        with intact(file, "a list of findings", "run the same audit again, which writes it anew"):
            findings = tuple(replace(cls.of_finding.from_dict(f), run=folder) for f in read_json(file))
        return cls(folder, findings, read_frame(folder / "profile.parquet"), run)

    @property
    def shortcuts(self) -> tuple[FindingRecord, ...]:
        """The findings whose verdict is ``shortcut``."""
        return tuple(f for f in self.findings if f.verdict == "shortcut")

    @property
    def conclusion(self) -> Conclusion:
        """Whether shortcuts were found, nothing was, or it could not be decided; and on what assumption."""
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

    def __getitem__(self, name: str) -> FindingRecord:
        """The finding of a name, or that of a concept with the same values.

        Raises
        ------
        InputError
            When there is none: it names those there are.
        """
        for finding in self.findings:
            if name == finding.name or name in finding.same:
                return finding
        there = ", ".join(f.name for f in self.findings) or "none"
        raise InputError(f"no finding {name!r} in {self.path}; there are {there}")

    def to_frame(self) -> pd.DataFrame:
        """One row per finding, in the order of rank."""
        rows = [
            {
                "finding": f.name,
                "verdict": f.verdict,
                "extent": f.extent,
                "availability": f.encoded.get("auroc"),
                "use": f.used.get("effect"),
                "association": f.association.get("phi"),
                "robust_auroc": f.effect.get("robust_auroc", {}).get("value"),
                "auroc_gap": f.effect.get("auroc_gap", {}).get("value"),
                "smallest_group": f.effect.get("auroc_gap", {}).get("n"),
                "reason": f.reason,
            }
            for f in self.findings
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        concluded = self.conclusion
        lines = [f"  {f.name}: {f.verdict}, {f.extent}{_cost(f)}" for f in self.findings]
        remarks = [f"  {self.attribution.warning}"] if self.attribution.warning else []
        if self.head.changes:
            remarks.append(f"  scores: {self.head}")
        head = f"Audit({str(self.path)!r}): {concluded.outcome}"
        undecided = [f"  not decided: {text}" for text in concluded.undecided]
        return "\n".join([head, *undecided, *lines, f"  {concluded.assumption}", *remarks])


def _cost(finding: FindingRecord) -> str:
    gap = finding.effect.get("auroc_gap") or {}
    if finding.verdict != "shortcut" or gap.get("value") is None:
        return ""
    return f", costs {gap['value']:.2f} AUROC (smallest group: {gap.get('n')} samples)"
