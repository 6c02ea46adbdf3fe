"""The result of an audit of embeddings: findings per encoder, and what corrections do; kept in one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import pandas as pd

from shortcutscope.audit.conclusion import Conclusion, Outcome, conclude_audit
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.embeddings.before_after import COLUMNS
from shortcutscope.embeddings.encoder import EncoderRecord
from shortcutscope.errors import InputError
from shortcutscope.files import stored_result, write_json
from shortcutscope.types import JSON, Record
from shortcutscope.versions import EMBEDDINGS_FORMAT

FILE = "embeddings.json"


@dataclass(frozen=True, repr=False, eq=False)
class EmbeddingsAuditRecord:
    """What was found of one encoder, or of several side by side.

    Attributes
    ----------
    encoders
        In the order in which they were given.
    corrections
        What each correction does: one row per encoder, concept, method (``"none"`` before; the others where
        the concept is encoded) and metric, with value, interval (low, high), n (of the smallest group it
        rests on) and why it was not measured.
    run
        Version, data, settings, assumptions, warnings and columns that were refused.
    """

    encoders: tuple[EncoderRecord, ...]
    corrections: pd.DataFrame = field(repr=False)
    run: JSON = field(default_factory=dict)

    file: ClassVar[str] = FILE

    @property
    def findings(self) -> tuple[FindingRecord, ...]:
        """Those of all encoders."""
        return tuple(f for encoder in self.encoders for f in encoder.findings)

    @property
    def shortcuts(self) -> tuple[tuple[str, FindingRecord], ...]:
        """Encoder and finding wherever the verdict is ``shortcut``."""
        return tuple((encoder.name, f) for encoder in self.encoders for f in encoder.shortcuts)

    @property
    def conclusion(self) -> Conclusion:
        """Whether shortcuts were found, nothing was, or it could not be decided; of all encoders together."""
        by_encoder = {e.name: conclude_audit([vars(f) for f in e.findings], self.run) for e in self.encoders}
        texts: dict[str, list[str]] = {}
        for name, one in by_encoder.items():
            for text in one.undecided:
                texts.setdefault(text, []).append(name)
        several = len(by_encoder) > 1
        undecided = [
            f"{', '.join(names)}: {text}" if several and len(names) < len(by_encoder) else text
            for text, names in texts.items()
        ]
        outcomes = {one.outcome for one in by_encoder.values()}
        order: tuple[Outcome, ...] = ("shortcuts found", "not decided", "nothing found")
        outcome = next(o for o in order if o in outcomes)
        return Conclusion(outcome, tuple(undecided), next(iter(by_encoder.values())).assumption)

    @property
    def undecided(self) -> tuple[str, ...]:
        """What could not be decided, and what would decide it."""
        return self.conclusion.undecided

    def __getitem__(self, name: str) -> EncoderRecord:
        """The encoder of a name.

        Raises
        ------
        InputError
            When there is none: it names those there are.
        """
        for encoder in self.encoders:
            if encoder.name == name:
                return encoder
        raise InputError(f"no encoder {name!r}; there are {', '.join(e.name for e in self.encoders)}")

    def __iter__(self) -> Iterator[EncoderRecord]:
        return iter(self.encoders)

    def __len__(self) -> int:
        return len(self.encoders)

    def __contains__(self, name: object) -> bool:
        return any(encoder.name == name for encoder in self.encoders)

    def to_frame(self) -> pd.DataFrame:
        """One row per encoder and concept, by rank."""
        return pd.DataFrame([_row(encoder.name, f) for encoder in self for f in encoder.findings])

    def to_dict(self) -> Record:
        """The result as it stands in ``embeddings.json``."""
        return {
            "format": EMBEDDINGS_FORMAT,
            "encoders": [
                {**vars(encoder), "findings": [f.to_dict() for f in encoder.findings]} for encoder in self
            ],
            "corrections": self.corrections.to_dict("records"),
            "run": dict(self.run),
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``embeddings.json`` into a folder, whole or not at all.

        Raises
        ------
        InputError
            When the folder cannot be written to.
        """
        goal = Path(folder) / FILE
        write_json(goal, self.to_dict())
        return goal

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            When there is none, or it is not one of this version.
        """
        what, mend = "an audit of embeddings", "run it again"
        with stored_result(folder, FILE, format=EMBEDDINGS_FORMAT, what=what, mend=mend) as content:
            encoders = tuple(_encoder(entry) for entry in content["encoders"])
            return cls(encoders, correction_frame(content["corrections"]), content["run"])

    def __repr__(self) -> str:
        concluded = self.conclusion
        lines = [f"EmbeddingsAudit: {concluded.outcome}"]
        lines += [f"  not decided: {text}" for text in concluded.undecided]
        for encoder in self:
            area = encoder.performance.get("auroc")
            figure = "" if area is None else f", AUROC {area:.2f}"
            lines.append(f"  {encoder.name} ({encoder.n_features} features{figure}; head: {encoder.head})")
            lines += [f"    {f.name}: {f.verdict}" for f in encoder.findings]
        return "\n".join([*lines, f"  {concluded.assumption}"])


def correction_frame(rows: Sequence[JSON]) -> pd.DataFrame:
    """Rows of corrections as a frame."""
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(("value", "low", "high", "n"), float))


def _encoder(entry: Mapping[str, object]) -> EncoderRecord:
    values: Record = dict(entry)
    findings = tuple(FindingRecord.from_dict(f) for f in values.pop("findings"))
    return EncoderRecord(**{**values, "findings": findings, "notes": tuple(values["notes"])})


def _row(encoder: str, finding: FindingRecord) -> Record:
    encoded, used, association, effect = (
        finding.encoded,
        finding.used,
        finding.association,
        finding.effect,
    )
    return {
        "encoder": encoder,
        "finding": finding.name,
        "verdict": finding.verdict,
        "encoded": encoded.get("auroc"),
        "q": encoded.get("q"),
        "use": used.get("effect"),
        "association": association.get("phi"),
        "aligned_auroc": effect.get("aligned_auroc", {}).get("value"),
        "robust_auroc": effect.get("robust_auroc", {}).get("value"),
        "auroc_gap": effect.get("auroc_gap", {}).get("value"),
        "smallest_group": effect.get("auroc_gap", {}).get("n"),
        "reason": finding.reason,
    }
