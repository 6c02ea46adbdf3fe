"""The finished run directory, read and checked before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from shortcutscope.audit.appearance.contrast import FOLDER as CONTRASTS
from shortcutscope.audit.pixel_results import pixel_file
from shortcutscope.audit.run_directory import read_record
from shortcutscope.errors import InputError
from shortcutscope.files import read_frame, read_json, slug
from shortcutscope.types import JSON, Record

#: Stages that every report rests on, in the order in which an audit runs them. Pictures are welcome,
#: but a report without them is still true.
STAGES = ("verify", "scan", "probe", "usage", "extent")
COMPLETE = frozenset({"done", "skipped"})


@dataclass(frozen=True)
class RunFiles:
    """What an audit has written.

    Attributes
    ----------
    path : Path
        The run directory.
    run : dict
        ``run.json``.
    findings : list of dict
        ``findings.json``, shortcuts first.
    profile : DataFrame
        ``profile.parquet``, one row per (concept, layer).
    """

    path: Path
    run: Record
    findings: list[Record]
    profile: pd.DataFrame

    def gallery(self, name: str) -> Path | None:
        """Pictures of a finding, or None where the audit drew none."""
        path = self.path / "gallery" / f"{slug(name)}.npz"
        return path if path.is_file() else None

    def contrast(self, name: str) -> Path | None:
        """Contrast sheet of a finding, or None where the audit wrote none."""
        path = self.path / CONTRASTS / f"{slug(name)}.npz"
        return path if path.is_file() else None

    def pixel_pictures(self, name: str) -> Path | None:
        """Pictures of an intervention on a finding, or None where there was none."""
        path = pixel_file(self.path, name).with_suffix(".npz")
        return path if path.is_file() else None


def read_run(run_dir: str | Path) -> RunFiles:
    """Read a run directory.

    Parameters
    ----------
    run_dir : path
        The ``out`` of an audit.

    Raises
    ------
    InputError
        When it is no run directory, a stage has not finished, or a file is missing or unreadable; the
        text names the stage to run.
    """
    path = Path(run_dir)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: give the run directory that an audit wrote (its out=)")
    if not (path / "run.json").is_file():
        raise InputError(f"{path} holds no run.json: run `shortcutscope audit MODEL DATA --out {path}` first")
    run = read_record(path)
    _refuse_unfinished(path, run)
    for name in ("findings.json", "profile.parquet"):
        if not (path / name).is_file():
            raise InputError(
                f"{path / name} is missing although every stage is done: run the same audit again with "
                f"--out {path}; finished stages are kept, and the file is written at the end"
            )
    findings = read_json(path / "findings.json")
    if not isinstance(findings, list):
        raise InputError(
            f"{path / 'findings.json'} holds {type(findings).__name__}, not a list: run the audit again"
        )
    return RunFiles(path, run, findings, _read_profile(path / "profile.parquet"))


def _refuse_unfinished(path: Path, run: JSON) -> None:
    stages = run.get("stages") or {}
    for stage in STAGES:
        state = (stages.get(stage) or {}).get("state", "not started")
        if state not in COMPLETE:
            raise InputError(
                f"the run in {path} is unfinished: its stage '{stage}' is {state}. Run the same audit again "
                f"with --out {path}; it goes on at '{stage}'"
            )


def _read_profile(path: Path) -> pd.DataFrame:
    frame = read_frame(path)
    missing = {"concept", "layer"} - set(frame.columns)
    if missing:
        raise InputError(
            f"{path} lacks the columns {sorted(missing)}: it was not written by an audit; run it again"
        )
    return frame


def number(value: object) -> float | None:
    """A finite float, or None for null, NaN and anything that is no number.

    Examples
    --------
    >>> number(1), number(None), number(float("nan")), number("high")
    (1.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def interval(value: object) -> tuple[float, float] | None:
    """Both ends of an interval, or None where one of them is unknown."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def mapping(value: object) -> Record:
    """A JSON object, or an empty one for null."""
    return dict(value) if isinstance(value, Mapping) else {}


def texts(value: object) -> list[str]:
    """The texts of a JSON list, without nulls."""
    return [str(item) for item in value if item is not None] if isinstance(value, list | tuple) else []
