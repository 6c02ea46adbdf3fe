"""The run directory: one folder that Jupyter, the command line and the report share.

Every file is written under a temporary name, flushed to the disk and renamed, so that a reader never
sees half of it. Results of a stage are kept per key (a concept, say): an interrupted stage goes on
where it stopped. A directory made from other inputs is refused, never mixed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from shortcutscope import progress
from shortcutscope._version import __version__
from shortcutscope.audit.pixel_results import with_pixels
from shortcutscope.disk import intact, require_writable
from shortcutscope.errors import InputError
from shortcutscope.files import (
    read_json,
    read_object,
    refuse_other_inputs,
    slug,
    to_json,
    write_atomically,
    write_frame,
    write_json,
)
from shortcutscope.processes import is_main
from shortcutscope.types import JSON, Array, Record
from shortcutscope.versions import MEASURING, RUN_FORMAT

RECORD, FINDINGS = "run.json", "findings.json"
#: What was done when, for people.
LOG = "log.txt"


def read_record(folder: Path) -> Record:
    """What ``run.json`` of a run directory holds.

    Raises
    ------
    InputError
        When it is missing, is not JSON, or was written in a format that this version does not know.
    """
    record = read_object(folder / RECORD)
    stored = record.get("format", RUN_FORMAT)
    if stored != RUN_FORMAT:
        raise InputError(
            f"{folder} is a run of format {stored!r}, and this version of shortcutscope reads format "
            f"{RUN_FORMAT}: use the version that made it"
            + (f" ({record['version']})" if record.get("version") else "")
            + ", or audit into another folder"
        )
    return record


class RunDirectory:
    """A run on disk.

    Of a run that is finished ``run.json`` stays as it is until the same audit is finished again, so that an
    interruption never spoils it. Of processes that share an audit each keeps the pieces that it computes; all
    else is written by the first one.

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

    def __init__(self, path: str | Path, inputs: JSON) -> None:
        self.path = Path(path)
        if self.path.is_file():
            raise InputError(f"out={self.path} is a file: give a folder for the run")
        self.record: Record = {}
        inputs = to_json(inputs)
        self._finished = (self.path / FINDINGS).exists()
        self._unwritten: list[str] = []
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

    def update(self, entries: JSON | None = None) -> None:
        """Add entries to run.json."""
        self.record.update(to_json(entries or {}))
        if is_main() and not self._finished:
            write_json(self.path / RECORD, self.record)

    def finish(self, findings: list[Record]) -> None:
        """Write the findings, by which the run is finished, and what ``run.json`` says of them."""
        if is_main():
            kept = with_pixels(self.path, findings, self.record.get("outputs") or ())
            write_json(self.path / FINDINGS, kept)
        self._finished = False
        self.update()
        self.log(f"finished, findings: {len(findings)}")
        self._finished = True

    def warn(self, text: str) -> None:
        """Keep a warning once, for the report."""
        if text not in self.record["warnings"]:
            self.record["warnings"].append(text)
            self.log(f"warning: {text}")
            self.update()

    @contextlib.contextmanager
    def logged(self) -> Iterator[None]:
        """Log the beginning and the end of what is done in the run, whatever the end is."""
        self.log(f"begins, shortcutscope {__version__}")
        try:
            yield
        except KeyboardInterrupt:
            self.log("interrupted")
            raise
        except Exception as error:
            self.log(f"ended by {type(error).__name__}")  # its text may name files
            raise

    def log(self, text: str) -> None:
        """Add a line to the run's log, which begins with ``run.json``; a run that is finished gets none."""
        if self._finished or not is_main():
            return
        self._unwritten.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(text.split())}\n")
        if (self.path / RECORD).exists():
            with (self.path / LOG).open("a", encoding="utf-8") as file:
                file.writelines(self._unwritten)
            self._unwritten.clear()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Mark a stage as running, then done; an interruption leaves it as interrupted."""
        before = self.record["stages"].get(name, {}).get("seconds", 0.0)
        start = time.perf_counter()
        state = "interrupted"
        self.mark(name, "running", before)
        try:
            with progress.stage(name):
                yield
            state = "done"
        finally:
            self.mark(name, state, before + time.perf_counter() - start)

    def mark(self, name: str, state: str, seconds: float) -> None:
        """Record the state of a stage and the time it took so far."""
        self.record["stages"][name] = {"state": state, "seconds": round(seconds, 2)}
        self.log(f"{name}: {state}" + ("" if state == "running" else f", {seconds:.1f} s"))
        self.update()

    def cached(self, stage: str, name: str, depends: JSON, compute: Callable[[], Any]) -> Any:
        """Return the kept result of one piece of a stage, or compute and keep it.

        Parameters
        ----------
        depends : mapping
            What the result depends on besides the run's inputs; with other values it is computed anew.
        compute : callable
            Gives the result, as values that JSON can hold (arrays become lists, NaN null).
        """
        kept = self.find(stage, name, depends)
        return self.keep(stage, name, depends, compute()) if kept is None else kept

    def find(self, stage: str, name: str, depends: JSON) -> Any:
        """The kept result of one piece of a stage; None where there is none."""
        path, _ = self._piece(stage, name, depends)
        return read_json(path)["value"] if path.exists() else None

    def keep(self, stage: str, name: str, depends: JSON, result: Any) -> Any:
        """Keep the result of one piece of a stage, and return it as it will be read."""
        path, key = self._piece(stage, name, depends)
        value = to_json(result)
        write_json(path, {"key": key, "value": value})
        return value

    def cached_with_arrays(
        self, stage: str, name: str, depends: JSON, compute: Callable[[], tuple[Any, Mapping[str, Array]]]
    ) -> tuple[Any, dict[str, Array]]:
        """As :meth:`cached`, of a result with arrays that are too long for JSON; they lie beside it.

        Parameters
        ----------
        compute : callable
            Gives the result, and arrays by name.
        """
        beside = self._piece(stage, name, depends)[0].with_suffix(".npz")
        kept = self.find(stage, name, depends) if beside.exists() else None
        if kept is not None:
            damaged = intact(beside, "the arrays of a stage", "delete it, and the same audit makes it anew")
            with damaged, np.load(beside, allow_pickle=False) as stored:
                return kept, dict(stored)
        result, computed = compute()
        arrays = {name: np.asarray(one) for name, one in computed.items()}
        # First the arrays, for it is the other file that the piece is known by.
        write_atomically(beside, lambda file: np.savez(file, allow_pickle=False, **arrays))
        return self.keep(stage, name, depends, result), arrays

    def _piece(self, stage: str, name: str, depends: JSON) -> tuple[Path, Record]:
        """Where a piece of a stage is kept, and what it depends on."""
        key = {"name": name, "algorithm": MEASURING.get(stage, 1), **to_json(depends)}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        return self.path / "stages" / stage / f"{slug(name)}-{digest}.json", key

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table as Parquet, atomically."""
        if is_main():
            write_frame(self.path / name, frame)

    def write_arrays(self, name: str, **arrays: npt.ArrayLike) -> None:
        """Write arrays as a compressed npz, atomically; Python objects, which need pickle, are refused."""
        contents: Record = {key: np.asarray(value) for key, value in arrays.items()}
        objects = [key for key, array in contents.items() if array.dtype.hasobject]
        if objects:
            raise TypeError(f"arrays of Python objects cannot be kept without pickle: {objects}")
        if is_main():
            write_atomically(self.path / name, lambda file: np.savez_compressed(file, **contents))
