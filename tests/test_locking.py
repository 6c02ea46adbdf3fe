"""One process at a time in a folder; what a killed one left is cleared away."""

import os
import subprocess
import sys
import time

import pytest

from shortcutscope.errors import InputError
from shortcutscope.locking import LOCK, locked, temporary_beside

HOLD = (
    "import sys, time; from pathlib import Path; from shortcutscope.locking import locked\n"
    "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_r8_two_processes_in_one_folder_are_refused_by_name(tmp_path, holder):
    with (
        pytest.raises(InputError, match=rf"being written by process {holder.pid} on"),
        locked(tmp_path / "run"),
    ):
        pytest.fail("both held it")
    holder.kill()
    holder.wait()
    with locked(tmp_path / "run"):  # the lock of a process that was killed is nobody's
        assert (tmp_path / "run" / LOCK).exists()
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_one_process_does_not_hold_a_folder_twice(tmp_path):
    with (
        locked(tmp_path / "run"),
        pytest.raises(InputError, match="this very process"),
        locked(tmp_path / "run"),
    ):
        pytest.fail("held twice")
    with locked(tmp_path / "run"):
        pass


def test_a_folder_made_for_the_lock_goes_with_it(tmp_path):
    with locked(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()
    (tmp_path / "kept").mkdir()
    with locked(tmp_path / "kept"):
        pass
    assert (tmp_path / "kept").exists()


def test_r8_temporary_files_of_dead_processes_are_cleared_away(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    deep = tmp_path / "stages" / "probe"
    deep.mkdir(parents=True)
    left = [tmp_path / f".run.json.{dead.pid}.tmp", deep / f".a.json.{dead.pid}.tmp"]
    own, living = temporary_beside(tmp_path / "run.json"), tmp_path / f".x.{os.getppid()}.tmp"
    others = [own, living, tmp_path / "notes.tmp", tmp_path / ".hidden"]
    for path in [*left, *others]:
        path.write_text("half of i")
    with locked(tmp_path):
        assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


def test_a_lock_is_as_good_after_many_others(tmp_path):
    """The file is deleted with every release, and never is a lock of a deleted file taken for one."""
    start = time.monotonic()
    for _ in range(200):
        with locked(tmp_path):
            pass
    assert time.monotonic() - start < 20
    assert not (tmp_path / LOCK).exists()
