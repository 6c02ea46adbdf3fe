"""Bars of progress obey `progress=`, and keep out of files and pipes."""

import ast
import io
import sys
from contextlib import nullcontext
from contextvars import ContextVar
from pathlib import Path

import pytest
from ipykernel.kernelapp import IPKernelApp

import shortcutscope
from shortcutscope import progress
from shortcutscope.progress import Total, plain_lines, progress_bar, stage, total_progress

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
    ("stream", "wanted", "notebook", "shown"),
    [
        (Terminal, True, False, True),
        (Terminal, False, False, False),
        (io.StringIO, True, False, False),
        (io.StringIO, True, True, True),
        (io.StringIO, False, True, False),
    ],
)
def test_u9_bars_are_for_terminals_and_notebooks(monkeypatch, stream, wanted, notebook, shown):
    monkeypatch.setattr(sys, "stderr", stream())
    if notebook:
        monkeypatch.setattr(IPKernelApp, "_instance", object())
    assert list(progress_bar(range(3), desc="counting", progress=wanted)) == [0, 1, 2]
    assert ("counting" in sys.stderr.getvalue()) == shown


def test_one_total_moves_by_the_bars_of_its_stages_and_never_back():
    total = Total({"read": 1.0, "use, extent": 3.0}, None, lines=False)
    total.enter("read")
    part = total.part()
    part.at(0.5)
    assert 0 < total.share < 0.25
    part.at(0.1)
    before = total.share
    total.leave("read")
    total.enter("use")
    assert total.share == pytest.approx(0.25)
    total.part().at(1.0)
    total.leave("use")
    total.enter("extent")  # takes turns with use
    half = total.share
    assert before < 0.25 < half < 1
    total.part().at(1.0)
    assert half < total.share < 1
    total.leave("extent")
    total.enter("unknown")
    total.part().at(1.0)
    assert total.share < 1


def test_a_bar_moves_a_stage_by_what_it_is_taken_for(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    total = Total({"discover": 1.0}, None, lines=False)
    monkeypatch.setattr(progress, "_TOTAL", ContextVar("total", default=total))
    with stage("discover"):
        list(progress_bar(range(4), desc="filters", progress=True, taken_for=0.5))
        assert total.share == pytest.approx(0.5)
        list(progress_bar(range(4), desc="searching", progress=True))
        assert total.share == pytest.approx(0.95)
    assert 0.95 < total.share < 1


def test_the_time_left_is_that_of_the_weight_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    total = Total({"read": 1.0, "scan": 3.0}, None, lines=False)
    total.enter("read")
    assert total.seconds_left is None
    now[0] = 20.0
    total.leave("read")
    total.enter("scan")
    assert total.seconds_left == pytest.approx(60)


def test_what_an_earlier_run_did_says_nothing_of_the_pace(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    total = Total({"scan": 1.0}, None, lines=False)
    total.enter("scan")
    part = total.begin(0.5)  # 45 % of all, as a bar is nine tenths of its stage
    now[0] = 20.0
    part.at(0.6)
    assert total.seconds_left == pytest.approx(20 * 0.46 / 0.09)


@pytest.mark.parametrize(("lines", "stream"), [(True, io.StringIO), (False, io.StringIO), (True, Terminal)])
def test_bars_of_stages_are_one_on_terminals_and_lines_in_pipes_where_wanted(monkeypatch, lines, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    with (
        plain_lines() if lines else nullcontext(),
        total_progress({"read": 1.0, "scan": 3.0}, progress=True),
        total_progress({"within": 1.0}, progress=True),
    ):
        for name in ("read", "scan"):
            with stage(name):
                assert list(progress_bar(range(3), desc="bar of it", progress=True)) == [0, 1, 2]
    text = sys.stderr.getvalue()
    assert "bar of it" not in text
    if stream is Terminal:
        assert "scan" in text
    else:
        assert text == ("read: 0 % of all done\nscan: 25 % of all done\n" if lines else "")


@pytest.mark.parametrize(
    ("lines", "wanted", "shown"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_bar_by_itself_is_lines_in_a_pipe_as_soon_as_it_takes_long(monkeypatch, lines, wanted, shown):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with plain_lines() if lines else nullcontext():
        for _ in progress_bar(range(10), desc="learning", progress=wanted):
            now[0] += 10.0
    text = sys.stderr.getvalue().splitlines()
    assert len(text) == (3 if shown else 0)
    assert all(line.startswith("learning: ") and "left" in line for line in text)


def test_a_bar_of_unknown_length_says_nothing_of_shares_in_a_pipe(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with plain_lines():
        for _ in progress_bar(iter(range(10)), desc="reading", progress=True):
            now[0] += 10.0
    assert sys.stderr.getvalue() == ""
