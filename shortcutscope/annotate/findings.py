"""Retrieval for a finding of an audit, from its run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from shortcutscope.annotate.marks import Marks, marks_path
from shortcutscope.annotate.ranking import MIN_MARKS
from shortcutscope.annotate.retrieve import Retrieval
from shortcutscope.errors import InputError
from shortcutscope.finding import Finding
from shortcutscope.rundir import read_json
from shortcutscope.scan.reading import Scan

#: Origins whose values were known, not inferred.
KNOWN = ("metadata", "planted")


def retrieval_of(run: str | Path, finding: str, *, marks: Marks | None = None, **options: Any) -> Retrieval:
    """Begin with a finding of an audit: its values, and the marks that were kept in the run.

    Values of a discovered or marked concept were inferred. As soon as five carriers are marked, the marks
    alone are learnt from.

    Parameters
    ----------
    run
        Run directory.
    finding
        Its name.
    marks
        Further marks; they are kept in the run.
    **options
        Of `shortcutscope.annotate.retrieve.Retrieval`, such as ``images`` and ``layers``.

    Raises
    ------
    InputError
        For a run without that finding, or one that is not finished.
    """
    run = Path(run)
    found = _finding(run, finding)
    scanned = Scan.open(run / "scan")
    path = marks_path(run, finding)
    kept = Marks.open(path)
    if marks is not None:
        marks.aligned_to(scanned.samples["sample_id"].to_numpy())
        kept = Marks(pd.concat([m.answers for m in (kept, marks) if len(m.answers)] or [kept.answers]))
    known, notes = _values(run, found.name, scanned), []
    if found.origin not in KNOWN:
        if (kept.current["value"] == 1).sum() >= MIN_MARKS:
            known[:] = np.nan
        else:
            notes.append(
                f"ranked by values that were inferred (origin {found.origin!r}), not by marks: "
                "confirm some first"
            )
    settings = {"name": found.name, "path": path, "cache": run / "annotate", "notes": notes, **options}
    made = Retrieval(scanned, kept, known=known, **settings)
    if marks is not None:
        kept.save(path)
    return made


def _finding(run: Path, name: str) -> Finding:
    findings = [Finding.from_dict(entry) for entry in read_json(run / "findings.json")]
    for found in findings:
        if found.name == name:
            return found
    names = ", ".join(f.name for f in findings) or "none"
    raise InputError(f"no finding {name!r} in {run}; there are {names}")


def _values(run: Path, name: str, scanned: Scan) -> npt.NDArray[np.float64]:
    table = pd.read_parquet(run / "concepts.parquet")
    if name not in table:
        raise InputError(f"{run / 'concepts.parquet'} lacks {name!r}: run the same audit again")
    values = pd.Series(table[name].to_numpy(float), index=table["sample_id"].astype(str))
    return np.array(values.reindex(scanned.samples["sample_id"].astype(str)), np.float64)
