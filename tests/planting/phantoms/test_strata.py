import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from shortcutscope.errors import InputError
from shortcutscope.planting.phantoms.strata import BINS, allotted, checked_shares, stratified_uniform


def bins_of(uniform):
    corner = np.minimum((uniform * BINS).astype(int), BINS - 1)
    return corner[:, 0] * BINS + corner[:, 1]


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 1500), seed=st.integers(0, 10**6))
def test_every_bin_holds_the_same_number_but_for_one(n, seed):
    uniform = stratified_uniform(n, np.random.default_rng(seed))
    assert uniform.shape == (n, 2)
    assert np.ptp(np.bincount(bins_of(uniform), minlength=BINS**2)) <= 1


def test_each_coordinate_is_uniform():
    uniform = stratified_uniform(1234, np.random.default_rng(0))
    assert min(kstest(uniform[:, k], "uniform").pvalue for k in range(2)) > 0.05


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(10, 1200),
    weights=st.lists(st.floats(0.05, 1), min_size=1, max_size=6),
    seed=st.integers(0, 10**6),
)
def test_all_and_every_bin_are_divided_in_the_shares(n, weights, seed):
    generator = np.random.default_rng(seed)
    shares = dict(enumerate(np.array(weights) / np.sum(weights)))
    uniform = stratified_uniform(n, generator)
    taken = np.array(allotted(uniform, shares, generator))
    bins = bins_of(uniform)
    for cell, share in shares.items():
        assert abs((taken == cell).sum() - share * n) < 1
        per_bin = np.bincount(bins, weights=taken == cell, minlength=BINS**2)
        sizes = np.bincount(bins, minlength=BINS**2)
        assert np.abs(per_bin - share * sizes).max() < 2


def test_a_share_of_nothing_gets_nothing():
    generator = np.random.default_rng(0)
    assert set(allotted(generator.random((50, 2)), {"a": 1.0, "b": 0.0}, generator)) == {"a"}


def test_shares_must_add_up():
    assert checked_shares({"train": 0.8, "test": 0.2}) == {"train": 0.8, "test": 0.2}
    for wrong in ({}, {"train": 0.8}, {"train": 1.2, "test": -0.2}):
        with pytest.raises(InputError, match="add up to 1"):
            checked_shares(wrong)
