"""Commands that are killed at any moment and given again: the same results to the bit, and nothing left over.

Each signal falls at another moment of a command's life; the command is given again until it ends, and what
it wrote is compared with what an undisturbed one wrote.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_study
from safetensors.numpy import load_file

from shortcutscope.cli import main
from shortcutscope.locking import LOCK

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")]

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDED = (0, 2, 3)
#: What may differ between two runs of the same: times, and what is said of the machine.
_CHANGING = ("created", "stages", "command", "environment")

AUDIT = ("--concepts", "tag,coin", "--permutations", "50", "--bootstrap", "20", "--batch-size", "8")
COMMANDS: dict[str, tuple[str, ...]] = {
    "audit": ("audit", small_study.FACTORY, "images.csv", "--out", "run", *AUDIT),
    "annotate": ("annotate", "run", "tag"),
    "report": ("report", "run"),
    "debias": ("debias", "run", "--finding", "tag", "--recipe", "erm", "--epochs", "6", "--batch-size", "16"),
}
KILLED = ("audit", "annotate", "debias")


@dataclass(frozen=True)
class Ended:
    """How a process ended: its code, what it said, and after how long."""

    code: int
    said: str
    seconds: float


def start(command: str, folder: Path, kill: tuple[int, float] | None = None) -> Ended:
    """Give a command in a folder, in a process of its own, and send that a signal after so many seconds.

    The process is a copy of this one, in which the modules are loaded: signals fall into the work.
    """
    told = folder / "stderr.txt"
    ready, begins = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: those of pytest hold nothing here
        child = os.fork()
    if child == 0:
        code = 70
        try:
            os.chdir(folder)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
            for number, path in ((1, os.devnull), (2, str(told))):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            os.write(begins, b".")
            main(list(COMMANDS[command]))
        except SystemExit as left:
            code = int(left.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(begins)
    os.read(ready, 1)
    os.close(ready)
    begun, status = time.monotonic(), None
    if kill is not None:
        number, after = kill
        while status is None and time.monotonic() - begun < after:
            status = _ended(child)
            time.sleep(0.01)
        if status is None:
            os.kill(child, number)
    if status is None:
        status = os.waitpid(child, 0)[1]
    said = told.read_text() if told.exists() else ""
    told.unlink(missing_ok=True)
    return Ended(os.waitstatus_to_exitcode(status), said, time.monotonic() - begun)


def _ended(child: int) -> int | None:
    done, status = os.waitpid(child, os.WNOHANG)
    return status if done else None


def results(folder: Path) -> dict[str, object]:
    """What a run says, without times: arrays of the scan and the students, masks, tables, JSON."""
    found: dict[str, object] = {}
    for path in sorted((folder / "run").rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.name in ("report.html", "origin.json") or "checkpoint" in path.name:
            continue
        if path.suffix == ".safetensors":
            found[name] = {key: value.tobytes() for key, value in load_file(path).items()}
        elif path.suffix == ".parquet":
            found[name] = pd.read_parquet(path).to_json(double_precision=15)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: arrays[key].tobytes() for key in arrays.files}
        elif path.name == "run.json":
            told = json.loads(path.read_text())
            found[name] = {key: value for key, value in told.items() if key not in _CHANGING}
        elif path.suffix == ".json":
            told = json.loads(path.read_text())
            if path.name == "metrics.json":  # a resumed training notes that it was
                told = {key: value for key, value in told.items() if key in ("recipe", "steps", "sha256")}
            found[name] = told
        elif path.suffix == ".png":
            found[name] = path.read_bytes()
    return found


def left_over(folder: Path) -> list[str]:
    """Files that no finished command leaves."""
    names = (LOCK, "pending.safetensors")
    return [str(p) for p in folder.rglob("*") if p.name.endswith(".tmp") or p.name in names]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A folder before each command and after it, and how long it took."""
    folder = tmp_path_factory.mktemp("kills")
    small_study.write_files(folder / "begin", 120, n_train=96)
    before = folder / "begin"
    known = {}
    for command in KILLED:
        after = folder / command
        shutil.copytree(before, after)
        ended = start(command, after)
        assert ended.code in ENDED, ended.said
        known[command] = (before, results(after), ended.seconds)
        before = after
    return known


def refused_or_whole(folder: Path) -> None:
    """A run that was killed is read, or refused with a text, by another command at any time."""
    ended = start("report", folder)
    assert ended.code in (0, 1)
    assert "Traceback" not in ended.said


def kills(command: str) -> int:
    """How many a test makes: SHORTCUTSCOPE_KILLS of each command, or 6."""
    return int(os.environ.get("SHORTCUTSCOPE_KILLS", "6"))


@pytest.mark.parametrize("command", KILLED)
def test_r8_killed_at_many_moments_it_ends_as_if_it_had_never_been(undisturbed, command, tmp_path):
    before, expected, seconds = undisturbed[command]
    rng = np.random.default_rng(len(command))
    done = made = 0
    while made < kills(command):
        folder = tmp_path / f"{done}"
        shutil.copytree(before, folder)
        for _ in range(rng.integers(1, 4)):  # up to three kills of one run, each at a moment of its own
            number = SIGNALS[made % len(SIGNALS)]
            ended = start(command, folder, (number, float(rng.uniform(0.1, 1.0)) * seconds))
            if ended.code in ENDED:
                break
            made += 1
            if number == signal.SIGKILL:
                assert ended.code == -signal.SIGKILL
            else:
                assert ended.code == 130
                assert ended.said.count("interrupted; run the same command again to go on") == 1
            assert "Traceback" not in ended.said
        if made % 5 == 0:
            refused_or_whole(folder)
        ended = start(command, folder)
        assert ended.code in ENDED, ended.said
        found = results(folder)
        assert found.keys() == expected.keys()
        assert [name for name in expected if found[name] != expected[name]] == []
        assert left_over(folder) == []
        shutil.rmtree(folder)
        done += 1
    print(f"{command}: {made} kills in {done} runs, all resumed to the same result")
