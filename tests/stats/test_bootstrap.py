"""Resampling whole patients: multiplicities, coverage, and when no interval is given."""

import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.stats.bootstrap import cluster_interval, cluster_weights, percentile_interval
from shortcutscope.stats.metrics import auroc


def test_weights_move_whole_groups_and_draw_as_many_as_there_are():
    groups = np.array(list("aabbbcdde"))
    weights = cluster_weights(groups, 200, seed=0)
    assert weights.shape == (200, 9)
    firsts = [np.flatnonzero(groups == g)[0] for g in "abcde"]
    assert (weights[:, firsts].sum(axis=1) == 5).all()
    for g, first in zip("abcde", firsts, strict=True):
        assert (weights[:, groups == g] == weights[:, [first]]).all()
    np.testing.assert_array_equal(weights, cluster_weights(groups, 200, seed=0))
    assert (weights != cluster_weights(groups, 200, seed=1)).any()


def test_the_three_ways_to_call_a_statistic_agree():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 200)
    y, score = rng.integers(0, 2, 200), rng.normal(size=200)
    by_rows = cluster_interval(lambda w: auroc(y, score, w), groups, n=50, by="rows")
    by_weights = cluster_interval(lambda w: auroc(y, score, w), groups, n=50)
    by_indices = cluster_interval(lambda i: auroc(y[i], score[i]), groups, n=50, by="indices")
    np.testing.assert_allclose(by_rows, by_weights)
    np.testing.assert_allclose(by_rows, by_indices)


def test_coverage_of_a_mean_with_clusters():
    covered_by_patient = covered_by_image = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(60), 5)
        x = rng.normal(size=60)[groups] + 0.3 * rng.normal(size=300)

        def mean(w, x=x):
            return w @ x / w.sum(axis=1)

        low, high = cluster_interval(mean, groups, n=300, seed=seed, by="rows")
        covered_by_patient += low <= 0 <= high
        low, high = cluster_interval(mean, np.arange(300), n=300, seed=seed, by="rows")
        covered_by_image += low <= 0 <= high
    assert 0.88 <= covered_by_patient / 150 <= 0.99
    assert covered_by_image / 150 < 0.75  # what resampling images would have claimed


def test_no_interval_from_too_little():
    assert np.isnan(cluster_interval(lambda w: 1.0, np.arange(9))).all()
    assert cluster_interval(lambda w: 1.0, np.arange(10)) == (1.0, 1.0)
    assert np.isnan(cluster_interval(lambda w: float("nan"), np.arange(50))).all()
    assert np.isnan(percentile_interval([np.nan, np.nan, 1.0])).all()
    assert percentile_interval([np.nan, 1.0, 1.0]) == (1.0, 1.0)


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="level"):
        cluster_interval(lambda w: 1.0, np.arange(20), level=95)
    with pytest.raises(InputError, match="by="):
        cluster_interval(lambda w: 1.0, np.arange(20), by="mean")
    with pytest.raises(InputError, match="groups of shape"):
        cluster_weights([], 10, 0)
    with pytest.raises(InputError, match="at least 1"):
        cluster_weights([1, 2], 0, 0)


def test_resamples_are_the_same_however_many_are_held_at_a_time(monkeypatch):
    groups = np.random.default_rng(0).integers(0, 40, 100)
    weights = cluster_weights(groups, 50, 3)
    seen = []

    def statistic(rows):
        seen.append(rows)
        return rows[:, 0]

    monkeypatch.setattr("shortcutscope.stats.bootstrap._BLOCK", 700)
    cluster_interval(statistic, groups, n=50, seed=3, by="rows")
    assert [len(rows) for rows in seen] == [7] * 7 + [1]
    np.testing.assert_array_equal(np.concatenate(seen), weights)
