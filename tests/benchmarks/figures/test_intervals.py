"""Means over cases with their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from shortcutscope.benchmarks.figures.intervals import mean_with_interval


def test_the_interval_is_that_of_a_t_test() -> None:
    values = [0.2, 0.4, 0.9, None, float("nan")]
    found = mean_with_interval(values)
    expected = stats.ttest_1samp([0.2, 0.4, 0.9], 0).confidence_interval(0.95)
    assert found["mean"] == pytest.approx(0.5)
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected))


def test_truth_values_give_the_share_that_holds() -> None:
    assert mean_with_interval([True, True])["low"] == 1
    assert mean_with_interval([True, False, np.True_, True])["mean"] == 0.75


def test_nothing_and_one_have_no_interval() -> None:
    assert mean_with_interval([None]) == {"mean": None, "low": None, "high": None}
    assert mean_with_interval([0.5]) == {"mean": 0.5, "low": None, "high": None}
