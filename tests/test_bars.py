"""Bars of progress obey `progress=`, and keep out of files and pipes."""

import ast
import io
import sys
from pathlib import Path

import pytest

import shortcutscope
from shortcutscope.progress import progress_bar

SOURCES = sorted(Path(shortcutscope.__file__).parent.rglob("*.py"))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_s8_every_bar_is_made_in_one_place():
    def calls_tqdm(path):
        calls = (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call))
        return any(getattr(call.func, "id", "") == "tqdm" for call in calls)

    assert [path.name for path in SOURCES if calls_tqdm(path)] == ["progress.py"]


@pytest.mark.parametrize(
    ("stream", "progress", "notebook", "shown"),
    [
        (Terminal, True, False, True),
        (Terminal, False, False, False),
        (io.StringIO, True, False, False),
        (io.StringIO, True, True, True),
        (io.StringIO, False, True, False),
    ],
)
def test_u9_bars_are_for_terminals_and_notebooks(monkeypatch, stream, progress, notebook, shown):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", io)
    assert list(progress_bar(range(3), desc="counting", progress=progress)) == [0, 1, 2]
    assert ("counting" in sys.stderr.getvalue()) == shown
