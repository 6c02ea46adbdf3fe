import numpy as np
import pytest

from shortcutscope.discover.candidates import SampleInfo, candidate_of, two_groups
from shortcutscope.discover.refine import refine
from shortcutscope.stats.metrics import within_class_auroc


def standing(n=600, shares=(0.2, 0.8), seed=0):
    """Labels, carriers, features that know the carriers among others, and what the model makes of them."""
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n // 2)
    carriers = generator.random(n) < np.array(shares)[labels]
    early = generator.standard_normal((n, 12))
    early[:, :3] += 2.2 * carriers[:, None]
    margin = labels + 1.5 * carriers + generator.standard_normal(n)
    return SampleInfo(labels, np.arange(n), {1: margin}), carriers, early, generator


def candidate(view, scores, samples):
    found = candidate_of(view, 1, scores, two_groups(scores, samples.labels), samples)
    assert found is not None
    return found


def test_what_a_mixed_score_was_about_comes_apart_and_partial_ones_end_at_the_same_groups():
    samples, carriers, early, generator = standing()
    n = len(carriers)
    mixed = candidate("filters: a", 1.3 * carriers + generator.standard_normal(n), samples)
    half = carriers & (generator.random(n) < 0.5)
    partial = candidate("relevance: b", 6.0 * half + generator.standard_normal(n), samples)
    assert min(within_class_auroc(carriers, c.scores, samples.labels) for c in (mixed, partial)) < 0.85
    first, second = refine([mixed, partial], early, samples)
    for refined in (first, second):
        assert within_class_auroc(carriers, refined.scores, samples.labels) > 0.99
        assert (refined.carriers == carriers).mean() > 0.95
    assert (first.view, first.label) == ("filters: a", 1)
    assert first.separation > max(mixed.separation, 3)
    assert (first.carriers == second.carriers).mean() > 0.98


@pytest.mark.parametrize("rounds", [1, 4])
def test_a_score_of_degrees_does_not_become_two_groups(rounds):
    samples, _, early, generator = standing(shares=(0, 0))
    degrees = early @ generator.standard_normal(12) + samples.labels
    (refined,) = refine([candidate("filters: a", degrees, samples)], early, samples, rounds)
    assert refined is None or refined.separation < 4


def test_a_samples_own_score_does_not_decide_its_group():
    samples, carriers, early, generator = standing()
    scores = 4.0 * carriers + generator.standard_normal(len(carriers))
    one = int(np.flatnonzero(carriers)[0])
    scores[one] = scores.min()
    (refined,) = refine([candidate("filters: a", scores, samples)], early, samples, 1)
    assert refined.carriers[one]


def test_features_that_say_nothing_lose_the_groups_and_nothing_is_refined_to_nothing():
    samples, carriers, early, generator = standing()
    scores = 4.0 * carriers + generator.standard_normal(len(carriers))
    (refined,) = refine([candidate("filters: a", scores, samples)], np.ones_like(early), samples)
    assert refined is None
    assert refine([], early, samples) == []


def test_this_or_that_becomes_that_beside_this():
    samples, carriers, early, generator = standing()
    n = len(carriers)
    known = generator.random(n) < np.array([0.2, 0.8])[samples.labels]
    early[:, 5:8] += 2.2 * known[:, None]
    either = candidate("filters: a", 3.0 * (carriers + known) + generator.standard_normal(n), samples)
    (alone,) = refine([either], early, samples)
    (beside,) = refine([either], early, samples, beside=[known])
    assert within_class_auroc(known, alone.scores, samples.labels) > 0.7
    assert within_class_auroc(known, beside.scores, samples.labels) == pytest.approx(0.5, abs=0.1)
    assert within_class_auroc(carriers, beside.scores, samples.labels) > 0.95


def test_groups_that_are_known_of_some_samples_are_told_in_all():
    samples, carriers, early, generator = standing()
    faint = candidate("filters: a", carriers + generator.standard_normal(len(carriers)), samples)
    members = np.where(generator.random(len(carriers)) < 0.3, carriers.astype(float), np.nan)[:, None]
    before = members.copy()
    (refined,) = refine([faint], early, samples, members=members)
    assert (refined.carriers == carriers).mean() > 0.95
    np.testing.assert_array_equal(members, before)
