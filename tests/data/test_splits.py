from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcutscope.data.splits import assert_groups_apart, assert_splits_apart, grouped_folds, holdout
from shortcutscope.errors import InputError


@st.composite
def grouped_samples(draw):
    groups = draw(st.lists(st.integers(0, 12), min_size=2, max_size=60))
    strata = draw(st.lists(st.integers(0, 3), min_size=len(groups), max_size=len(groups)))
    return np.array(groups), np.array(strata)


@settings(max_examples=150, deadline=None)
@given(samples=grouped_samples(), n_folds=st.integers(2, 6), seed=st.integers(0, 3))
def test_folds_are_full_whole_and_repeatable(samples, n_folds, seed):
    groups, strata = samples
    if len(np.unique(groups)) < n_folds:
        with pytest.raises(InputError, match="cannot fill"):
            grouped_folds(groups, strata, n_folds, seed)
        return
    folds = grouped_folds(groups, strata, n_folds, seed)
    assert_groups_apart(groups, folds)
    assert sorted(set(folds)) == list(range(n_folds))
    assert np.array_equal(folds, grouped_folds(groups, strata, n_folds, seed))


@settings(max_examples=80, deadline=None)
@given(samples=grouped_samples(), fraction=st.floats(0.01, 0.99))
def test_holdout_keeps_groups_whole_and_both_sides_filled(samples, fraction):
    groups, strata = samples
    if len(np.unique(groups)) < 2:
        with pytest.raises(InputError, match="one group"):
            holdout(groups, strata, fraction, 0)
        return
    held = holdout(groups, strata, fraction, 0)
    assert held.dtype == np.bool_
    assert 0 < held.sum() < len(held)
    assert_groups_apart(groups, held)


def test_folds_share_the_strata():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 3)
    strata = np.repeat(generator.choice(4, 200, p=[0.55, 0.3, 0.1, 0.05]), 3)
    folds = grouped_folds(groups, strata, 5, seed=1)
    shares = pd.crosstab(folds, strata, normalize="columns").to_numpy()
    assert np.abs(shares - 0.2).max() < 0.08


def test_single_samples_as_groups_are_quick_and_stratified():
    strata = np.arange(20_000) % 7
    folds = grouped_folds([f"patient {i}" for i in range(20_000)], strata, 5, seed=0)
    assert np.ptp(pd.crosstab(folds, strata).to_numpy()) <= 1


def test_seeds_shuffle_and_the_global_generator_stays():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    groups, strata = np.arange(60) // 2, np.arange(60) % 2
    assert not np.array_equal(grouped_folds(groups, strata, 3, 0), grouped_folds(groups, strata, 3, 1))
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.25, 0.3, 0.5, 0.85])
def test_holdout_meets_the_fraction(fraction):
    groups = np.repeat(np.arange(300), 2)
    held = holdout(groups, groups % 2, fraction, seed=3)
    assert abs(held.mean() - fraction) < 0.03
    assert abs(held[groups % 2 == 0].mean() - held[groups % 2 == 1].mean()) < 0.03


def test_bad_inputs():
    with pytest.raises(InputError, match="3 entries and strata 2"):
        grouped_folds([1, 2, 3], [0, 1], 2, 0)
    with pytest.raises(InputError, match="at least 2"):
        grouped_folds([1, 2, 3], [0, 1, 0], 1, 0)
    with pytest.raises(InputError, match="groups has 1 missing"):
        grouped_folds(np.array(["a", None, "b"], dtype=object), [0, 1, 0], 2, 0)
    with pytest.raises(InputError, match="strata has 1 missing"):
        grouped_folds([1, 2, 3], [0, np.nan, 1], 2, 0)
    with pytest.raises(InputError, match="fraction"):
        holdout([1, 2], [0, 1], 1.0, 0)


def test_torn_groups_are_named():
    with pytest.raises(InputError, match=r"1 group\(s\).*'p2' in 0, 1"):
        assert_groups_apart(["p1", "p1", "p2", "p2"], [0, 0, 0, 1])
    assert_groups_apart(["p1", "p1", "p2"], [0, 0, 1])


def test_split_column_with_a_patient_on_both_sides():
    frame = pd.DataFrame({"group": ["a", "a", "b", "b"], "split": ["train", "", "train", "test"]})
    with pytest.raises(InputError, match="'b' in test, train"):
        assert_splits_apart(frame)
    assert_splits_apart(frame.iloc[:3])


@pytest.mark.parametrize("n_folds", [2, 4])
def test_many_groups_are_dealt_and_every_stratum_is_spread(n_folds):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(6_000), rng.integers(1, 4, 6_000))
    strata = rng.choice(4, len(groups), p=[0.7, 0.2, 0.09, 0.01])
    folds = grouped_folds(groups, strata, n_folds, seed=1)
    assert_groups_apart(groups, folds)
    assert np.array_equal(folds, grouped_folds(groups, strata, n_folds, seed=1))
    assert not np.array_equal(folds, grouped_folds(groups, strata, n_folds, seed=2))
    for stratum in range(4):
        counts = np.bincount(folds[strata == stratum], minlength=n_folds)
        expected = (strata == stratum).sum() / n_folds
        assert np.abs(counts - expected).max() <= max(3, 4 * np.sqrt(expected) * (stratum != 3))
