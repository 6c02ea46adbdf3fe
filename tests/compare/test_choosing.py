"""Which of several students is the better one, or how many samples would tell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from shortcutscope.compare.choosing import (
    PRIOR_DIFFERENCE,
    PRIOR_SAMPLES,
    GroupSides,
    choice_among,
    smoothed_accuracies,
)


def drawn(n_conflicting: int, n_aligned: int = 200, seed: int = 0):
    """Labels and concept of so many samples against the shortcut and with it, and noise that all share."""
    rng = np.random.default_rng(seed)
    truth = np.tile([1, 0], (n_conflicting + n_aligned) // 2)
    aligned = np.where(np.arange(len(truth)) < n_conflicting, 1 - truth, truth)
    return truth, aligned, rng.normal(0, 0.7, len(truth)), rng


def network(truth, aligned, shared, rng, disease: float, shortcut: float):
    own = rng.normal(0, 0.7, len(truth))
    return disease * (2 * truth - 1) + shortcut * (2 * aligned - 1) + shared + own


def test_smoothed_accuracy_is_the_mean_over_groups_of_margins_in_units_of_their_spread():
    truth, aligned, shared, rng = drawn(40)
    margin = network(truth, aligned, shared, rng, 1.0, 0.5)
    groups = [(truth == y) & (aligned == a) for y in (0, 1) for a in (0, 1)]
    spread = np.sqrt(sum(((margin[g] - margin[g].mean()) ** 2).sum() for g in groups) / (len(truth) - 4))
    expected = np.mean([stats.norm.cdf((2 * truth[g] - 1) * margin[g] / spread).mean() for g in groups])
    sides = GroupSides.of(truth, aligned, np.arange(len(truth)))
    assert smoothed_accuracies({"a": margin}, sides)["a"] == pytest.approx(expected)
    assert smoothed_accuracies({"a": 100 * margin}, sides)["a"] == pytest.approx(expected)


def test_a_patient_counts_once_in_a_group_and_the_unknown_not_at_all():
    truth = np.array([1, 1, 1, 0, 0, 0, 1, 1, 0])
    aligned = np.array([1, 1, 0, 0, 0, 1, 0, np.nan, 0])
    sides = GroupSides.of(truth, aligned, list("aabccbdee"))
    assert sides.unit[7] == -1
    assert sides.unit[0] == sides.unit[1]
    assert np.bincount(sides.side, minlength=4).tolist() == [1, 2, 2, 1]
    assert sides.n_conflicting == 3
    assert sides.means(np.arange(9.0))[sides.unit[0]] == 0.5


def test_a_clear_difference_is_decided_and_the_interval_is_that_of_the_formula():
    truth, aligned, shared, rng = drawn(80)
    margins = {
        "b": network(truth, aligned, shared, rng, 2.0, 0.0),
        "a": network(truth, aligned, shared, rng, 1.0, 1.5),
        "c": network(truth, aligned, shared, rng, 0.5, 2.5),
    }
    sides = GroupSides.of(truth, aligned, np.arange(len(truth)))
    choice = choice_among(margins, sides)
    assert (choice.best, choice.next_best, choice.decided, choice.more) == ("b", "a", True, 0)
    assert choice.text(80).startswith("'b' is better than 'a' (smoothed group accuracy higher by 0.")
    worth = smoothed_accuracies(margins, sides)
    assert choice.difference == pytest.approx(worth["b"] - worth["a"])
    assert np.mean(choice.interval) == pytest.approx(choice.difference)
    variance = 0.0
    for y in (0, 1):
        for a in (0, 1):
            group = (truth == y) & (aligned == a)
            right = {}
            for name in "ba":
                m = margins[name]
                spread = np.sqrt(
                    sum(
                        ((m[g] - m[g].mean()) ** 2).sum()
                        for g in [(truth == p) & (aligned == q) for p in (0, 1) for q in (0, 1)]
                    )
                    / (len(truth) - 4)
                )
                right[name] = stats.norm.cdf((2 * y - 1) * m[group] / spread)
            d = right["b"] - right["a"]
            n = len(d) + (PRIOR_SAMPLES if a != y else 0)
            squares = (d**2).sum() + (PRIOR_SAMPLES * PRIOR_DIFFERENCE**2 if a != y else 0)
            variance += (squares / n - (d.sum() / n) ** 2) / n / 16
    assert choice.interval[1] - choice.difference == pytest.approx(1.96 * np.sqrt(variance))


def test_what_cannot_be_told_says_how_many_more_would():
    truth, aligned, shared, rng = drawn(8, seed=3)
    margins = {
        "a": network(truth, aligned, shared, rng, 1.0, 0.6),
        "b": network(truth, aligned, shared, rng, 1.2, 0.6),
    }
    choice = choice_among(margins, GroupSides.of(truth, aligned, np.arange(len(truth))))
    assert not choice.decided
    text = choice.text(8)
    assert "cannot be told apart with 8 samples" in text
    assert choice.more > 8
    assert f"about {choice.more} more" in text


def test_networks_that_do_alike_are_called_so():
    truth, aligned, shared, rng = drawn(8)
    one = network(truth, aligned, shared, rng, 1.0, 0.6)
    choice = choice_among({"a": one, "b": one + 1e-4}, GroupSides.of(truth, aligned, np.arange(len(truth))))
    assert choice.more is None
    assert "take the simpler one" in choice.text(8)


def test_one_network_and_a_group_without_samples_give_nothing():
    truth, aligned, shared, rng = drawn(8)
    one = network(truth, aligned, shared, rng, 1.0, 0.6)
    sides = GroupSides.of(truth, aligned, np.arange(len(truth)))
    assert choice_among({"a": one}, sides) is None
    without = GroupSides.of(truth, truth, np.arange(len(truth)))
    assert choice_among({"a": one, "b": 2 * one}, without) is None


@pytest.mark.parametrize("n", [4, 8, 16])
def test_the_interval_holds_the_difference_of_two_networks_that_differ_everywhere_a_little_too_rarely(n):
    big = drawn(40_000, 40_000, seed=99)
    worth = smoothed_accuracies(
        {"a": network(*big, 1.0, 0.8), "b": network(*big, 0.8, 0.5)},
        GroupSides.of(big[0], big[1], np.arange(80_000)),
    )
    held = 0
    for seed in range(200):
        sample = drawn(n, 100, seed=seed)
        margins = {"a": network(*sample, 1.0, 0.8), "b": network(*sample, 0.8, 0.5)}
        choice = choice_among(margins, GroupSides.of(sample[0], sample[1], np.arange(len(sample[0]))))
        low, high = choice.interval
        held += low <= worth[choice.best] - worth[choice.next_best] <= high
    assert 0.84 <= held / 200 <= 0.97
