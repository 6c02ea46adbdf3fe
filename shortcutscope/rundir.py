"""The run directory: one folder that Jupyter, the command line and the report share.

Every file is written under a temporary name, flushed to the disk and renamed, so that a reader never
sees half of it. Results of a stage are kept per key (a concept, say): an interrupted stage goes on
where it stopped. A directory made from other inputs is refused, never mixed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from shortcutscope.disk import explained, intact, require_writable
from shortcutscope.errors import InputError, StaleRunError
from shortcutscope.locking import temporary_beside
from shortcutscope.versions import MEASURING, RUN_FORMAT

RECORD, FINDINGS = "run.json", "findings.json"


#: Characters of a name that may become a dash: that they differ makes no two names of one table.
_PLAIN = re.compile(r"[A-Za-z0-9 ._\-=/!(),:]*[A-Za-z0-9)]")
_LONGEST_NAME = 100


def slug(name: str) -> str:
    """File-system form of a finding's name.

    Where letters of other alphabets or signs are lost, or the name is long, a digest of it keeps the files of
    different names apart.

    Examples
    --------
    >>> slug("site=A / 3T")
    'site-A-3T'
    >>> slug("站点=甲")
    'unnamed-828f9a93'
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "unnamed"
    if len(plain) <= _LONGEST_NAME and _PLAIN.fullmatch(name):
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[:_LONGEST_NAME]}-{digest}"


def to_json(value: Any) -> Any:
    """Plain JSON values: NumPy scalars and arrays unwrapped, NaN and infinities as ``None``."""
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that it is there whole or not at all.

    Raises
    ------
    InputError
        When the disk is full, or does not allow it; what was there before is untouched.
    """
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder: give a file in it")
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except BaseException as error:  # an interruption, too, leaves nothing behind
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise InputError(f"{path} could not be written: {explained(error)}") from error


def _flush_folder(folder: Path) -> None:
    """Make a renaming survive a power failure."""
    if os.name == "posix":  # Windows cannot open folders, and keeps renames by itself
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, NaN as null."""
    text = json.dumps(to_json(value), indent=1, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        When the file is missing or is not JSON.
    """
    if not path.exists():
        raise InputError(f"{path} is missing: {path.parent} is no finished run directory")
    with intact(path, "JSON", "delete it and run the stage again"):
        return json.loads(path.read_text(encoding="utf-8"))


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    InputError
        As `read_json`, and for any other value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(
            f"{path} holds {type(value).__name__}, not an object: delete it and run the stage again"
        )
    return value


def read_frame(path: Path) -> pd.DataFrame:
    """Read a Parquet table that `write_frame` wrote, and compare it with its checksums.

    Raises
    ------
    InputError
        When it is missing or damaged.
    """
    with intact(path, "a table", "delete it and run the same command again, which makes it anew"):
        return pd.read_parquet(path, page_checksum_verification=True)


def read_record(folder: Path) -> dict[str, Any]:
    """What ``run.json`` of a run directory holds.

    Raises
    ------
    InputError
        When it is missing, is not JSON, or was written in a format that this version does not know.
    """
    record = read_object(folder / RECORD)
    there = record.get("format", RUN_FORMAT)
    if there != RUN_FORMAT:
        raise InputError(
            f"{folder} is a run of format {there!r}, and this version of shortcutscope reads format "
            f"{RUN_FORMAT}: use the version that made it"
            + (f" ({record['version']})" if record.get("version") else "")
            + ", or audit into another folder"
        )
    return record


class RunDirectory:
    """A run on disk.

    Of a run that is finished ``run.json`` stays as it is until the same audit is finished again, so that an
    interruption never spoils it.

    Parameters
    ----------
    path : Path
        The folder; made when it does not exist.
    inputs : mapping
        What the run's results depend on (fingerprints of model, data and transform, settings). A
        folder that already holds a run from other inputs is refused.

    Raises
    ------
    StaleRunError
        When the folder belongs to a run with other inputs.
    InputError
        When the path is a file, or a folder that holds something else than a run.
    """

    def __init__(self, path: str | Path, inputs: Mapping[str, Any]) -> None:
        self.path = Path(path)
        if self.path.is_file():
            raise InputError(f"out={self.path} is a file: give a folder for the run")
        self.record: dict[str, Any] = {}
        inputs = to_json(inputs)
        self._finished = (self.path / FINDINGS).exists()
        if (self.path / RECORD).exists():
            self.record = read_record(self.path)
            refuse_other_inputs(self.path, self.record.get("inputs", {}), inputs)
        elif self.path.is_dir() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            raise InputError(
                f"out={self.path} is not empty and holds no run.json: "
                "give a new folder, or one of a former run"
            )
        require_writable(self.path)
        self.record.update(format=RUN_FORMAT, inputs=inputs)
        self.record.setdefault("created", time.strftime("%Y-%m-%dT%H:%M:%S%z"))
        self.record.setdefault("stages", {})
        self.record.setdefault("warnings", [])

    def update(self, **entries: Any) -> None:
        """Add entries to run.json."""
        self.record.update(to_json(entries))
        if not self._finished:
            write_json(self.path / RECORD, self.record)

    def finish(self, findings: list[dict[str, Any]]) -> None:
        """Write the findings, by which the run is finished, and what ``run.json`` says of them."""
        write_json(self.path / FINDINGS, findings)
        self._finished = False
        self.update()
        self._finished = True

    def warn(self, text: str) -> None:
        """Keep a warning once, for the report."""
        if text not in self.record["warnings"]:
            self.record["warnings"].append(text)
            self.update()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Mark a stage as running, then done; an interruption leaves it as interrupted."""
        before = self.record["stages"].get(name, {}).get("seconds", 0.0)
        start = time.perf_counter()
        state = "interrupted"
        self.mark(name, "running", before)
        try:
            yield
            state = "done"
        finally:
            self.mark(name, state, before + time.perf_counter() - start)

    def mark(self, name: str, state: str, seconds: float) -> None:
        """Record the state of a stage and the time it took so far."""
        self.record["stages"][name] = {"state": state, "seconds": round(seconds, 2)}
        self.update()

    def cached(self, stage: str, name: str, depends: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """Return the kept result of one piece of a stage, or compute and keep it.

        Parameters
        ----------
        depends : mapping
            What the result depends on besides the run's inputs; with other values it is computed anew.
        compute : callable
            Gives the result, as values that JSON can hold (arrays become lists, NaN null).
        """
        key = {"name": name, "algorithm": MEASURING.get(stage, 1), **to_json(depends)}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        path = self.path / "stages" / stage / f"{slug(name)}-{digest}.json"
        if path.exists():
            return read_json(path)["value"]
        value = to_json(compute())
        write_json(path, {"key": key, "value": value})
        return value

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table as Parquet, atomically."""
        write_frame(self.path / name, frame)

    def write_arrays(self, name: str, **arrays: Any) -> None:
        """Write arrays as a compressed npz, atomically; Python objects, which need pickle, are refused."""
        objects = [key for key, value in arrays.items() if np.asarray(value).dtype.hasobject]
        if objects:
            raise TypeError(f"arrays of Python objects cannot be kept without pickle: {objects}")
        write_atomically(self.path / name, lambda file: np.savez_compressed(file, **arrays))


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as Parquet with checksums, atomically."""
    write_atomically(path, lambda file: frame.to_parquet(file, index=False, write_page_checksum=True))


def refuse_other_inputs(path: Path, kept: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise StaleRunError naming every input in which a kept run differs from the one asked for."""
    names = sorted(k for k in {*kept, *given} if kept.get(k) != given.get(k))
    if names:
        changes = "; ".join(f"{k}: {_short(kept.get(k))} there, {_short(given.get(k))} now" for k in names)
        raise StaleRunError(
            f"{path} holds a run with other inputs ({changes}). Give another folder, or delete this one"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
