import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcutscope.discover import candidates
from shortcutscope.discover.candidates import (
    CONFIRMED_T,
    SMALLEST_T,
    SampleInfo,
    agreement,
    bimodality,
    distinct,
    judge,
    lies_within,
    likelihood_gain,
    logit_gap,
    two_groups,
)


def samples(labels, margin, groups=None):
    ids = np.arange(len(labels)) if groups is None else groups
    return SampleInfo(labels.astype(np.int64), ids, {1: margin.astype(float)})


def test_a_used_and_associated_two_group_score_is_a_candidate_whatever_its_sign(two_group_scores):
    scores, carriers, labels = two_group_scores()
    margin = 3 * carriers + labels + np.random.default_rng(1).standard_normal(len(labels))
    for sign in (1, -1):
        (found,) = judge("filters: x", sign * scores, samples(labels, margin))
        assert (found.carriers == carriers).mean() > 0.97
        assert found.separation > 3
        assert found.gap > 1
        assert found.phi > 0.8
        assert found.shares[0] == pytest.approx(0.05, abs=0.03)
        assert found.strength > 0.1
        assert found.conflicting(labels).sum() < 80


def test_a_feature_of_the_task_is_far_weaker_though_it_is_used_and_associated(two_group_scores):
    scores, carriers, labels = two_group_scores()
    generator = np.random.default_rng(1)
    margin = 3 * carriers + labels + generator.standard_normal(len(labels))
    (shortcut,) = judge("filters: x", scores, samples(labels, margin))
    core = 3 * labels + generator.standard_normal(len(labels))
    of_task = judge("filters: y", core, samples(labels, 2 * core))
    assert sum(c.strength for c in of_task) < shortcut.strength / 10


def test_unused_scores_are_no_candidates(two_group_scores):
    scores, _, labels = two_group_scores()
    margin = labels + np.random.default_rng(1).standard_normal(len(labels))
    assert judge("filters: x", scores, samples(labels, margin)) == []
    assert judge("filters: x", np.ones(len(labels)), samples(labels, margin)) == []


def test_clear_groups_need_not_move_the_logit_as_surely_as_unclear_ones(two_group_scores, monkeypatch):
    scores, carriers, labels = two_group_scores(distance=8.0)
    margin = np.random.default_rng(3).standard_normal(len(labels))
    for group in (2 * labels + carriers == k for k in range(4)):
        # The logits differ by what is put in, and by no chance.
        margin[group] -= np.polyval(np.polyfit(scores[group], margin[group], 1), scores[group])
    of = samples(labels, margin + labels + 0.45 * carriers)
    (clear,) = judge("filters: x", scores, of)
    assert clear.clear
    assert CONFIRMED_T <= clear.t < SMALLEST_T
    monkeypatch.setattr(candidates, "CLEAR_SEPARATION", clear.separation + 0.1)
    assert not clear.clear
    assert judge("filters: x", scores, of) == []


def test_two_groups_gain_over_classes_only_where_they_are_more_than_the_classes(two_group_scores):
    scores, _, labels = two_group_scores()
    assert likelihood_gain(two_groups(scores, labels), scores, labels) > 0.05
    core = 3.0 * labels + np.random.default_rng(0).standard_normal(len(labels))
    assert abs(likelihood_gain(two_groups(core, labels), core, labels)) < 0.03


def test_a_patient_counts_once_on_each_side():
    generator = np.random.default_rng(0)
    labels = np.zeros(200, int)
    side = np.arange(200) % 4 == 0
    margin = side + generator.standard_normal(200)
    gap, t = logit_gap(margin, side, labels, np.arange(200))
    four = np.repeat(np.arange(200), 4)
    again = logit_gap(margin[four], side[four], labels[four], four)
    assert again[0] == pytest.approx(gap)
    assert again[1] == pytest.approx(t)


def test_a_logit_gap_is_the_difference_of_means_in_deviations():
    margin = np.array([0.0, 2.0, 4.0, 6.0])
    gap, t = logit_gap(margin, np.array([False, False, True, True]), np.zeros(4, int), np.arange(4))
    assert gap == pytest.approx(4 / margin.std())
    assert t == pytest.approx(gap)


def test_the_same_exceptions_agree_and_a_common_class_does_not():
    labels = np.repeat([0, 1], 100)
    one, two, other = (labels == 1 for _ in range(3))
    one[:5] = two[:5] = True
    other[20:25] = True
    assert agreement(one, two, labels) == pytest.approx(1)
    assert agreement(one, other, labels) < 0.1
    assert agreement(labels == 1, one, labels) == 0


def test_distinct_keeps_the_strongest_and_says_what_it_stands_for(two_group_scores):
    scores, carriers, labels = two_group_scores()
    generator = np.random.default_rng(2)
    margin = 3 * carriers + generator.standard_normal(len(labels))
    noisy = scores + 0.3 * generator.standard_normal(len(labels))
    found = [c for s in (noisy, scores) for c in judge("filters: x", s, samples(labels, margin))]
    kept, merged = distinct(found, labels)
    assert len(kept) == 1
    assert kept[0].strength == max(c.strength for c in found)
    assert [strong for _, strong in merged] == kept


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_bimodality_is_a_share_of_variance_that_scale_does_not_change(seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 60)
    scores, side = generator.standard_normal(60), generator.random(60) < 0.3
    value = bimodality(scores, side, labels)
    assert 0 <= value <= 1
    assert bimodality(-3 * scores + 5, side, labels) == pytest.approx(value)


def test_a_set_lies_within_another_where_it_avoids_the_rest():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    whole = rng.random(400) < np.where(labels == 1, 0.9, 0.1)
    part = whole & (rng.random(400) < 0.5)
    other = rng.random(400) < np.where(labels == 1, 0.5, 0.05)
    assert lies_within(part, whole, labels)
    assert not lies_within(other, whole, labels), "as many are outside as chance puts there"
    assert not lies_within(whole, part, labels)
    few = np.zeros(400, bool)
    few[np.flatnonzero(whole & (labels == 1))[:20]] = True
    assert not lies_within(few, whole, labels), "chance would put two outside, which says nothing"


def test_some_samples_keep_the_margins_of_their_classes():
    labels = np.array([0, 1, 2, 0, 1, 2] * 4)
    margins = {k: np.arange(24.0) + k for k in range(3)}
    samples = SampleInfo(labels, np.arange(24), margins, seed=3)
    some = samples.take(np.flatnonzero(labels < 2))
    assert set(some.margins) == {0, 1}
    np.testing.assert_array_equal(some.margins[1], margins[1][labels < 2])
    assert some.seed == 3
    assert len(some.folds) == len(some.labels) == 16
