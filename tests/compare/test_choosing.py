"""Which of several students is the better one, or how many samples would tell."""

from __future__ import annotations

import numpy as np
import pytest

from shortcutscope.compare.choosing import choice_among
from shortcutscope.compare.estimate import Estimate

KEY = ("concept", "robust_auroc", "")


def _students(differ, spread, **values):
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.1, 400)
    made = {}
    for name, value in values.items():
        resampled = value + shared + rng.normal(0, spread, 400)
        made[name] = {KEY: Estimate(KEY[0], KEY[1], "high", value, resampled)}
    return made


def test_a_clear_difference_is_decided_by_paired_resamples():
    choice = choice_among(_students(0.1, 0.02, a=0.7, b=0.8, c=0.6), 40)
    assert (choice.best, choice.next_best, choice.decided, choice.more) == ("b", "a", True, 0)
    assert choice.text(40).startswith("'b' is better than 'a' (robust AUROC higher by 0.100")


def test_what_cannot_be_told_says_how_many_more_would():
    choice = choice_among(_students(0.05, 0.05, a=0.70, b=0.75), 10)
    assert not choice.decided
    # A difference of .05 with a standard error of .05 * sqrt(2): (1.96 * 1.414)^2 = 7.7 times as many.
    assert choice.more == pytest.approx(67, abs=9)
    assert "cannot be told apart with 10 samples" in choice.text(10)
    assert f"about {choice.more} more" in choice.text(10)


def test_networks_that_do_alike_are_called_so():
    choice = choice_among(_students(0.001, 0.05, a=0.700, b=0.701), 10)
    assert choice.more is None
    assert "take the simpler one" in choice.text(10)


def test_one_network_and_nothing_measurable_give_nothing():
    assert choice_among(_students(0, 0.1, a=0.7), 10) is None
    assert choice_among({"a": {}, "b": {}}, 10) is None


def test_coverage_of_the_paired_interval_is_as_said():
    """Of two networks that differ by .05 the interval holds that in about 95 of 100 draws of the samples."""
    from shortcutscope.compare.estimate import resample
    from shortcutscope.stats.bootstrap import cluster_weights

    rng = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        right = rng.random((2, 80)) < np.array([[0.75], [0.70]])
        weights = cluster_weights(np.arange(80), 200, seed)
        made = {}
        for name, row in zip("ab", right, strict=True):
            value, resampled = resample(lambda w, row=row: w @ row / w.sum(1), weights, 80)
            made[name] = {KEY: Estimate(KEY[0], KEY[1], "high", value, resampled)}
        choice = choice_among(made, 80)
        sign = 1 if choice.best == "a" else -1
        low, high = choice.interval
        held += low <= sign * 0.05 <= high
    assert held >= 88
