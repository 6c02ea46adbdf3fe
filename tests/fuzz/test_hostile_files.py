"""Hostile files are refused or read right: no code runs, nothing is written elsewhere, nothing ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HOSTILE = Path(__file__).with_name("hostile.py")
#: Formats with checksums: what is read of a broken file is what the whole one holds.
CHECKED = (".png", ".npz", ".gz")
MOST_KILOBYTES = 1_000_000


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "out" not in path.relative_to(folder).parts
    }


def test_held_hostile_files_of_all_formats(tmp_path):
    for package in ("pydicom", "nibabel", "wfdb", "highdicom", "pycocotools"):
        pytest.importorskip(package)
    work = tmp_path / "a" / "b" / "c"
    work.mkdir(parents=True)
    (tmp_path / "secret.dat").write_bytes(bytes(99))
    subprocess.run([sys.executable, HOSTILE, work], check=True, timeout=300)
    told = json.loads((work / "readers.json").read_text())
    assert len(told) >= 235
    before = everything(tmp_path)
    lines, start, crashes = {}, 0, []
    while start < len(told):
        done = subprocess.run(
            [sys.executable, HOSTILE, work, str(start)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
        )
        begun = start
        for line in map(json.loads, done.stdout.splitlines()):
            begun = line.get("begins", begun)
            if "ended" in line:
                lines[line["ended"]] = line
        if begun in lines:
            assert done.returncode == 0, done.stderr[-2000:]
            break
        crashes.append((told[begun], done.returncode, done.stderr[-300:]))
        start = begun + 1
    raised = [(told[n], line["raised"]) for n, line in lines.items() if "raised" in line]
    print(len(told), Counter("refused" if "refused" in line else "read" for line in lines.values()))
    assert crashes == []
    assert raised == []
    assert everything(tmp_path) == before
    assert not list(tmp_path.rglob("executed"))
    assert max(line["kilobytes"] for line in lines.values()) < MOST_KILOBYTES
    whole: dict[str, str] = {}
    for number, name in enumerate(told):
        line = lines[number]
        if "= " in name and not name.startswith("seg="):  # which is a CT that says that it is one
            whole[name.replace("= ", " ")] = line["read"]
        elif "read" in line and name.endswith(CHECKED):
            assert line["read"] == whole[name], name
    for line in lines.values():
        assert line.get("refused", "a text") not in ("", "None")
