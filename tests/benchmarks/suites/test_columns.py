"""The suite of measured columns: a planted one comes first, and the summary counts what it should."""

from pathlib import Path

import pytest

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import columns
from shortcutscope.data.properties.names import OF_FILES, OF_PICTURES


def settings(tmp_path: Path) -> Settings:
    return Settings(quick=True, seed=0, data=None, cache=tmp_path, jobs=1)


@pytest.mark.parametrize("kind", ["border", "sources"])
def test_a_case_finds_what_was_planted(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(columns, "SAMPLES", 80)
    result = columns.run_case({"kind": kind, "seed": 0}, settings(tmp_path))
    assert result["is_planted"]
    assert result["accused"]


def test_what_is_planted_has_columns_that_are_measured():
    named = {column for of in columns.PLANTED.values() for column in of}
    assert named <= set(OF_FILES) | set(OF_PICTURES)


def test_the_summary_counts_by_kind(tmp_path):
    listed = columns.cases(settings(tmp_path))
    done = [{**c, "is_planted": c["kind"] in columns.PLANTED, "accused": False} for c in listed]
    assert columns.summarize(done)["bars_met"]
    assert columns.summarize(done)["draws"]["null"] == 3
    assert not columns.summarize([{**c, "accused": True} for c in done])["bars_met"]
    assert not columns.summarize([{**c, "is_planted": False} for c in done])["bars_met"]
