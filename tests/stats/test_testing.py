"""Permutations keep what they must keep; p-values are uniform under the null."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from shortcutscope.errors import InputError
from shortcutscope.stats.testing import benjamini_hochberg, permutation_p, permute_within


@given(hnp.arrays(np.float64, st.integers(0, 30), elements=st.floats(0, 1) | st.just(float("nan"))))
@settings(max_examples=200, deadline=None)
def test_benjamini_hochberg_by_its_definition(p):
    q = benjamini_hochberg(p)
    tested = np.flatnonzero(~np.isnan(p))
    assert np.isnan(np.delete(q, tested)).all()
    for i in tested:
        larger = [j for j in tested if p[j] >= p[i]]
        candidates = [min(1.0, p[j] * len(tested) / (p[tested] <= p[j]).sum()) for j in larger]
        assert q[i] == pytest.approx(min(candidates))


def test_benjamini_hochberg_keeps_the_shape_and_refuses_what_is_no_p():
    assert benjamini_hochberg([[0.01, np.nan], [0.5, 0.02]]).shape == (2, 2)
    with pytest.raises(InputError, match="outside"):
        benjamini_hochberg([1.5])


@given(st.integers(0, 2**31), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_permutations_keep_each_stratum_and_the_unknown(seed, n):
    rng = np.random.default_rng(seed)
    values = rng.choice([0.0, 1.0, np.nan], n)
    strata = rng.integers(0, 3, n)
    permuted = permute_within(values, strata, None, 7, seed)
    assert permuted.shape == (7, n)
    assert not permuted[:, np.isnan(values)].any()
    for stratum in range(3):
        inside = strata == stratum
        assert (permuted[:, inside].sum(axis=1) == np.nansum(values[inside])).all()
    np.testing.assert_array_equal(permuted, permuted_by_the_numbers(values, strata, 7, seed))


def permuted_by_the_numbers(values, strata, n, seed):
    """The draws of a seed, on the values themselves: a stratum after the other, a permutation a column."""
    rng = np.random.default_rng(seed)
    result = np.repeat(values[:, None], n, axis=1)
    for stratum in np.unique(strata[~np.isnan(values)]):
        inside = np.flatnonzero((strata == stratum) & ~np.isnan(values))
        result[inside] = rng.permuted(result[inside], axis=0)
    return result.T == 1


def test_whole_groups_move_together_where_the_concept_belongs_to_the_group():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), rng.integers(1, 5, 80))
    labels = rng.integers(0, 2, 80)[groups]
    labels[groups < 10] = np.arange((groups < 10).sum()) % 2  # patients with both labels
    of_group = rng.integers(0, 2, 80).astype(float)
    permuted = permute_within(of_group[groups], labels, groups, 50, seed=1)
    for g in range(80):
        assert (permuted[:, groups == g] == permuted[:, groups == g][:, :1]).all()
    firsts = np.array([np.flatnonzero(groups == g)[0] for g in range(80)])
    kind = np.array([frozenset(labels[groups == g]) for g in range(80)])
    for one in set(kind):
        assert (permuted[:, firsts[kind == one]].sum(axis=1) == of_group[kind == one].sum()).all()
    assert (permuted != of_group[groups]).any(axis=1).all()


def test_samples_move_alone_where_the_concept_differs_within_groups():
    groups = np.repeat(np.arange(30), 2)
    values = np.tile([0.0, 1.0], 30)
    permuted = permute_within(values, np.zeros(60), groups, 20, seed=0)
    assert (permuted.sum(axis=1) == 30).all()
    assert any((row.reshape(30, 2).sum(axis=1) == 2).any() for row in permuted)


def test_values_that_are_no_concept_are_refused():
    with pytest.raises(InputError, match="others than 0, 1 and NaN"):
        permute_within([0.0, 0.5], [0, 0], None, 5, seed=0)


def test_permutations_depend_on_the_seed_only():
    values, strata = np.tile([0.0, 1.0], 50), np.repeat([0, 1], 50)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = permute_within(values, strata, None, 5, seed=3)
    np.testing.assert_array_equal(first, permute_within(values, strata, None, 5, seed=3))
    assert (first != permute_within(values, strata, None, 5, seed=4)).any()
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_p_is_exact_where_permutations_reach_the_observed_value():
    null = np.arange(99.0)
    assert permutation_p(89.0, null) == pytest.approx(11 / 100)
    assert permutation_p(97.5, null) == pytest.approx(2 / 100)
    assert permutation_p(0.5, null, "less") == pytest.approx(2 / 100)
    assert permutation_p(97.5, null, "two-sided") == pytest.approx(4 / 100)
    assert permutation_p(49.0, null, "two-sided") == 1.0


def test_tail_is_bounded_by_what_the_count_says():
    rng = np.random.default_rng(0)
    null = rng.normal(size=200)
    assert permutation_p(null.max() + 1e-6, null) <= 1 / 201
    assert permutation_p(100.0, null) == pytest.approx(1e-6)
    assert permutation_p(100.0, null[:20]) == pytest.approx(1 / 21)  # too few to extrapolate
    assert permutation_p(1.0, np.full(200, 0.5)) == pytest.approx(1 / 201)  # degenerate null
    skewed = rng.exponential(size=200)
    z = (12 - skewed.mean()) / skewed.std(ddof=1)
    assert permutation_p(12.0, skewed) > 10 * stats.norm.sf(z)  # a normal tail would be far too short


def test_undefined_is_nan_and_wrong_is_refused():
    p = permutation_p(np.array([1.0, np.nan, 0.0]), np.full((5, 3), np.nan))
    assert np.isnan(p).all()
    with pytest.raises(InputError, match="tail"):
        permutation_p(1.0, np.zeros(5), "upper")
    with pytest.raises(InputError, match="needs a null"):
        permutation_p(np.zeros(3), np.zeros((5, 2)))


@pytest.mark.parametrize("tail", ["greater", "two-sided"])
@pytest.mark.parametrize("shape", ["normal", "skewed", "maximum"])
def test_p_is_uniform_under_the_null_also_beyond_what_the_count_resolves(shape, tail):
    rng = np.random.default_rng(11)
    draws = {
        "normal": lambda *size: rng.normal(size=size),
        "skewed": lambda *size: rng.gamma(2.0, size=size),
        "maximum": lambda *size: rng.normal(size=(8, *size)).max(axis=0),
    }[shape]
    n, trials = 100, 6000
    p = np.asarray(permutation_p(draws(trials), draws(n, trials), tail))
    # Counts make p discrete: the deviation from uniform may reach one step besides chance.
    step = (2 if tail == "two-sided" else 1) / n
    assert stats.kstest(p, "uniform").statistic < step + 1.63 / np.sqrt(trials)
    for level in (0.05, 0.02, 0.005, 0.002, 0.001):
        # Only beyond the count's resolution, and only for the heavier tail, p may be too small (by half).
        expected = level * trials * (2 if shape == "skewed" and level < step else 1)
        assert (p <= level).sum() <= expected + 3 * np.sqrt(expected), level
