"""The suite of selection: what it draws, and that the better choice is counted as such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import selection


@pytest.fixture
def settings(tmp_path: Path, monkeypatch) -> Settings:
    """Margins of made-up students, the later ones of the list the better, instead of trained ones."""
    rng = np.random.default_rng(0)
    n = 800
    labels, carries = np.arange(n) % 2, (np.arange(n) // 2) % 2
    shared = rng.normal(0, 0.5, n)
    frame = pd.DataFrame({"label": labels, "carries": carries})
    for k, name in enumerate(selection.STUDENTS):
        disease, shortcut = 0.3 + 0.15 * k, 1.5 - 0.15 * k
        own = rng.normal(0, 0.5, n)
        frame[name] = disease * (2 * labels - 1) + shortcut * (2 * carries - 1) + shared + own
    monkeypatch.setattr(selection, "student_margins", lambda store: frame)
    monkeypatch.setattr(selection, "store_of", lambda case, settings: None)
    return Settings(quick=True, seed=0, data=None, cache=tmp_path, jobs=1)


def test_draws_hold_as_many_of_either_class_on_either_side():
    labels, carries = np.repeat([0, 1], 400), np.tile([0, 1], 400)
    rows = selection._validation_rows(labels, carries, 8, np.random.default_rng(0))
    conflicting = labels[rows] != carries[rows]
    assert len(set(rows)) == len(rows) == 8 + selection.ALIGNED
    assert conflicting.sum() == 8
    assert labels[rows][conflicting].sum() == 4


def test_regret_falls_with_the_samples_and_lies_below_that_of_the_rival(settings):
    done = [{**case, **selection.run_case(case, settings)} for case in selection.cases(settings)]
    assert [case["conflicting"] for case in done] == [2, 4, 8, 16]
    summary = selection.summarize(done)
    rows = summary["by_conflicting"]
    assert rows[0]["regret_worst_group"] > rows[-1]["regret_worst_group"]
    assert all(row["regret_worst_group"] <= row["regret_worst_group_rival"] for row in rows)
    assert all(0 <= row["coverage"] <= 1 for row in rows)
    assert summary["met"]["regret, 2"] is True
