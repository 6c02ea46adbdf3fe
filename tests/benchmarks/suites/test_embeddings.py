"""The suite of embeddings: its features are what they are said to be, and whole audits agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites.embeddings import (
    LAYOUTS,
    MOVED,
    SUITE,
    N,
    cases,
    run_case,
    summarize,
    synthetic,
)


def settings(tmp_path: Path, *, quick: bool = True) -> Settings:
    return Settings(quick, 0, None, tmp_path, jobs=1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_group_moves_the_features_by_the_effect(layout: str) -> None:
    features, frame = synthetic("grid", 128, layout, 2.0, 0)
    group = frame["group of it"].to_numpy()
    shift = features[group == 1].mean(axis=0) - features[group == 0].mean(axis=0)
    assert np.sqrt((shift**2).sum()) == pytest.approx(2 * 2.0 * np.sqrt(MOVED), rel=0.1)
    assert (np.abs(shift) > 1).sum() == (0 if layout == "distributed" else MOVED)
    assert (frame["label"] == group).mean() == pytest.approx(0.8, abs=0.05)
    assert len(features) == N


def test_cases_are_distinct_and_quick_ones_few(tmp_path: Path) -> None:
    for quick, most in ((True, 50), (False, 600)):
        listed = cases(settings(tmp_path, quick=quick))
        assert len({tuple(c.values()) for c in listed}) == len(listed) <= most


def test_one_case_of_each_part_says_what_was_planted(tmp_path: Path) -> None:
    planted = {"width": 128, "layout": "independent", "effect": 0.8, "seed": 0}
    finished = [{**planted, "part": part} for part in ("grid", "idle", "itself")]
    for case in finished:
        case |= run_case(case, settings(tmp_path)) | {"error": None}
    assert [c["verdict"] for c in finished] == ["shortcut", "encoded, not used", "not testable"]
    summary = summarize(finished)
    assert summary["grid"]["0.8"]["shortcut"] == 1
    assert summary["idle"]["0.8"]["shortcut"] == 0
    assert set(SUITE.columns) <= set(finished[0])


@pytest.mark.slow
def test_the_last_layer_alone_gets_the_verdicts_of_the_whole_audit(tmp_path: Path) -> None:
    listed = [c for c in cases(settings(tmp_path)) if c["part"] == "agreement"]
    finished = [{**c, **run_case(c, settings(tmp_path)), "error": None} for c in listed]
    assert summarize(finished)["agreement"]["same_verdict"] >= 0.95
