"""The result of a comparison: a tidy frame, what got worse first, kept in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from shortcutscope.compare.estimate import COLUMNS
from shortcutscope.files import json_file, stored_result, write_json
from shortcutscope.types import JSON, Record

FORMAT = 1
FILE = "comparison.json"

_SHOWN = 10


@dataclass(frozen=True, repr=False, eq=False)
class ComparisonRecord:
    """What changed from the biased network to each of the others.

    Attributes
    ----------
    concept
        Name of the concept that the networks are compared by.
    frame
        One row per network, table and metric, those that got worse first: ``value`` with its interval
        (``low``, ``high``; 95 %, by patient), ``change`` against the biased network with the interval of the
        paired difference, and ``better``: True or False where that interval leaves out zero, else None. Of a
        metric that is best at zero (``delta_tpr``, ``use``) the change is that of its distance from zero.
        ``availability`` has no better or worse: what is encoded need not be used. ``part`` and ``detail`` say
        what a row is about, ``note`` why something is not measurable.
    networks
        Per network its name, class, fingerprint, number of parameters, verdict on the concept, and layers.
    tables
        Per table its name, number of samples and patients, and samples per group of label and concept.
    settings
        What was asked for.
    notes
        Choices that a reader must know.
    replacements
        Concepts that a student uses more than the biased network did, as
        `shortcutscope.compare.replacements.Replacement` describes them, those of the largest change first.
    development
        Tables that hold samples which guided a correction, see `shortcutscope.compare.development`.
    """

    concept: str
    frame: pd.DataFrame = field(repr=False)
    networks: tuple[Record, ...]
    tables: tuple[Record, ...]
    settings: JSON = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    replacements: tuple[Record, ...] = ()
    development: tuple[Record, ...] = ()

    @property
    def worse(self) -> pd.DataFrame:
        """The rows that got worse, the largest change first."""
        return self.frame[self.frame["better"].eq(False)].reset_index(drop=True)

    @property
    def better(self) -> pd.DataFrame:
        """The rows that got better, the largest change first."""
        rows = self.frame[self.frame["better"].eq(True)]
        return rows.sort_values("change", key=_size, ascending=False, kind="stable").reset_index(drop=True)

    @property
    def compared(self) -> int:
        """Changes that were tested: those with an interval and a direction."""
        decided = self.frame["change_low"].notna() & self.frame["metric"].ne("availability")
        return int(decided.sum())

    def to_frame(self) -> pd.DataFrame:
        """A copy of `frame`, what got worse first."""
        return self.frame.copy()

    def to_dict(self) -> Record:
        """The comparison as it stands in ``comparison.json``: one entry per network, with its rows."""
        rows = {n["name"]: self.frame[self.frame["network"] == n["name"]] for n in self.networks}
        columns = [c for c in COLUMNS if c != "network"]
        return {
            "format": FORMAT,
            "concept": self.concept,
            "networks": [n | {"rows": rows[n["name"]][columns].to_dict("records")} for n in self.networks],
            "tables": list(self.tables),
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "replacements": list(self.replacements),
            "development": list(self.development),
        }

    def save(self, path: str | Path) -> Path:
        """Write ``comparison.json``, whole or not at all, to a file or into a folder."""
        goal = json_file(path, FILE)
        write_json(goal, self.to_dict())
        return goal

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read a comparison from its file or folder.

        Raises
        ------
        InputError
            When there is none, or it is not one of this version.
        """
        mend = "compare the networks again"
        with stored_result(path, FILE, format=FORMAT, what="a comparison", mend=mend) as content:
            rows = [{"network": n["name"], **row} for n in content["networks"] for row in n["rows"]]
            networks = tuple({k: v for k, v in n.items() if k != "rows"} for n in content["networks"])
            notes = tuple(content["notes"])
            return cls(
                content["concept"],
                tidy(rows),
                networks,
                tuple(content["tables"]),
                content["settings"],
                notes,
                tuple(content.get("replacements", ())),
                tuple(content.get("development", ())),
            )

    def __repr__(self) -> str:
        lines = [
            f"Comparison by {self.concept!r}: {len(self.worse)} of {self.compared} changes for the worse"
        ]
        worse = self.worse.to_dict("records")
        for row in worse[:_SHOWN]:
            what = f"{row['metric']} {row['detail']}".strip()
            how = row["note"] if row["part"] == "verdict" else f"{row['change']:+.3f}"
            lines.append(f"  worse: {row['network']}, {row['table']}: {what} {how}")
        if len(worse) > _SHOWN:
            lines.append(f"  worse: {len(worse) - _SHOWN} more, see .worse")
        lines += [f"  development data: {one['text']}" for one in self.development]
        lines += [f"  replacement: {one['text']}" for one in self.replacements]
        for network in self.networks:
            lines.append(f"  {network['name']}: {network['verdict'] or 'not audited'}")
        return "\n".join(lines)


def tidy(rows: Sequence[JSON]) -> pd.DataFrame:
    """Rows as a frame, those that got worse first and among them the largest change first."""
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    numeric = [c for c in COLUMNS if c in ("value", "low", "high") or c.startswith("change")]
    frame[numeric] = frame[numeric].astype(np.float64)
    frame["better"] = frame["better"].astype(object).where(frame["better"].notna(), None)
    worse = frame["better"].eq(False)
    first = frame[worse].sort_values("change", key=_size, ascending=False, kind="stable", na_position="first")
    return pd.concat([first, frame[~worse]], ignore_index=True)


def _size(values: pd.Series[float]) -> pd.Series[float]:
    return values.abs()
