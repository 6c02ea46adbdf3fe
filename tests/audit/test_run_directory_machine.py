"""Any sequence of stages, kills between writes, resumptions and refusals, against a model in memory.

A kill strikes at one flush to the disk, and nothing is written after it: what was renamed before it is there
whole, everything else is not there, whatever was going on.
"""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shortcutscope import files
from shortcutscope.audit import run_directory
from shortcutscope.audit.run_directory import FINDINGS, RECORD, RunDirectory
from shortcutscope.errors import InputError, StaleRunError

INPUTS = {"model": "m", "data": "d"}
STAGES = st.sampled_from(["probe", "usage"])
NAMES = st.sampled_from(["site=A", "site A", "tag"])  # two of one slug
SEEDS = st.integers(0, 1)
#: Flushes that go well before the process is killed; a write has two, of the file and of its folder.
LIVES = st.none() | st.integers(0, 7)


class KilledError(BaseException):
    """The process is no more."""


@contextmanager
def mortal(lives: int | None):
    """Kill at a flush, and let nothing be written or tidied up from then on."""
    left = [10**9 if lives is None else lives]

    def flush(descriptor: int) -> None:
        if left[0] <= 0:
            raise KilledError
        left[0] -= 1

    unlink = Path.unlink

    def tidy(self: Path, missing_ok: bool = False) -> None:
        if left[0] > 0:
            unlink(self, missing_ok)

    with mock.patch.object(files.os, "fsync", flush), mock.patch.object(Path, "unlink", tidy):
        yield


class RunDirectoryMachine(RuleBasedStateMachine):
    """The disk as it should be: the record, the findings and the pieces; and the record in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "run"
        self.record: dict[str, Any] | None = None
        self.findings: list[Any] | None = None
        self.pieces: dict[str, Any] = {}
        self.algorithms = {"probe": 1, "usage": 1}
        self.numbers = iter(range(10**6))
        self.patch = mock.patch.object(run_directory, "MEASURING", self.algorithms)
        self.patch.start()

    def teardown(self) -> None:
        self.patch.stop()
        shutil.rmtree(self.folder)

    # What is written, in order: each either happens or does not.

    def write_record(self) -> list[Callable[[], None]]:
        if self.finished:
            return []
        snapshot = copy.deepcopy(self.memory)

        def write() -> None:
            self.record = snapshot

        return [write]

    def mark(self, stage: str, state: str) -> list[Callable[[], None]]:
        self.memory["stages"][stage] = state
        return self.write_record()

    def live(self, lives: int | None, writes: list[Callable[[], None]], act: Callable[[], Any]) -> Any:
        """Act, and let the same writes happen to the model; after a kill another process goes on."""
        killed = lives is not None and lives < 2 * len(writes)
        for write in [w for k, w in enumerate(writes) if lives is None or 2 * k < lives]:
            write()
        with mortal(lives):
            if not killed:
                return act()
            with pytest.raises(KilledError):
                act()
        self.open()
        return None

    @initialize()
    def open(self) -> None:
        """Begin, or go on in another process."""
        self.run = RunDirectory(self.path, INPUTS)
        self.memory = copy.deepcopy(self.record) or {"stages": {}, "warnings": []}
        self.finished = self.findings is not None

    @rule()
    def resume(self) -> None:
        self.open()

    @rule(stage=STAGES, name=NAMES, seed=SEEDS, lives=LIVES)
    def measure(self, stage: str, name: str, seed: int, lives: int | None) -> None:
        """One piece of a stage: read where it is kept, else computed."""
        key = json.dumps([stage, name, self.algorithms[stage], seed])
        fresh = next(self.numbers)
        writes = self.mark(stage, "running")
        if key not in self.pieces:
            writes += [lambda: self.pieces.update({key: fresh})]
        expected = self.pieces.get(key, fresh)
        writes += self.mark(stage, "done")

        def act() -> Any:
            with self.run.stage(stage):
                return self.run.cached(stage, name, {"seed": seed}, lambda: fresh)

        assert self.live(lives, writes, act) in (expected, None)

    @rule(stage=STAGES)
    def interrupt(self, stage: str) -> None:
        """By the user, within a computation: the stage says so."""
        fresh = str(next(self.numbers))

        def stop() -> None:
            raise KeyboardInterrupt

        for state in ("running", "interrupted"):
            for write in self.mark(stage, state):
                write()
        with mortal(None), pytest.raises(KeyboardInterrupt), self.run.stage(stage):
            self.run.cached(stage, fresh, {}, stop)

    @rule(text=st.sampled_from(["a", "b"]), lives=LIVES)
    def warn(self, text: str, lives: int | None) -> None:
        writes = []
        if text not in self.memory["warnings"]:
            self.memory["warnings"].append(text)
            writes = self.write_record()
        self.live(lives, writes, lambda: self.run.warn(text))

    @precondition(lambda self: self.record is not None)  # stages come before
    @rule(lives=LIVES)
    def finish(self, lives: int | None) -> None:
        found = [{"number": next(self.numbers)}]
        snapshot = copy.deepcopy(self.memory)
        writes = [lambda: setattr(self, "findings", found), lambda: setattr(self, "record", snapshot)]
        self.finished = True
        self.live(lives, writes, lambda: self.run.finish(found))

    @rule(stage=STAGES)
    def improve(self, stage: str) -> None:
        """Another version of the package measures a stage in another way."""
        self.algorithms[stage] += 1

    @precondition(lambda self: self.record is not None)
    @rule()
    def refuse_other_options(self) -> None:
        with pytest.raises(StaleRunError, match="model"):
            RunDirectory(self.path, {**INPUTS, "model": "other"})

    @precondition(lambda self: self.record is not None)
    @rule()
    def refuse_another_format(self) -> None:
        with mock.patch.object(run_directory, "RUN_FORMAT", 2), pytest.raises(InputError, match="format 1"):
            RunDirectory(self.path, INPUTS)

    @invariant()
    def the_disk_is_as_it_should_be(self) -> None:
        there = {path for path in self.path.rglob("*.json") if not path.name.startswith(".")}
        record, findings = self.path / RECORD, self.path / FINDINGS
        assert (record in there, findings in there) == (self.record is not None, self.findings is not None)
        if self.record is not None:
            told = json.loads(record.read_text())
            assert told["inputs"] == INPUTS
            states = {name: stage["state"] for name, stage in told["stages"].items()}
            assert {"stages": states, "warnings": told["warnings"]} == self.record
        if self.findings is not None:
            assert json.loads(findings.read_text()) == self.findings
        pieces = {}
        for path in there - {record, findings}:
            held = json.loads(path.read_text())
            key = held["key"]
            pieces[json.dumps([path.parent.name, key["name"], key["algorithm"], key["seed"]])] = held["value"]
        assert pieces == self.pieces


TestRunDirectory = RunDirectoryMachine.TestCase
TestRunDirectory.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
