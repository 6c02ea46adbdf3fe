"""Properties are ranked within label and by patient, and chance is what it should be."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from shortcutscope.discover.naming.ranking import rank_properties
from shortcutscope.stats.metrics import within_class_auroc


def drawn(seed, n=120):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    values = (rng.random(n) < np.where(labels == 1, 0.7, 0.3)).astype(float)
    return rng, labels, values, np.arange(n)


@pytest.mark.parametrize("seed", range(3))
def test_the_auroc_is_that_within_label(seed):
    rng, labels, values, groups = drawn(seed)
    column = rng.standard_normal(120) + 0.8 * values + 2 * labels
    score = rank_properties({"contrast": column}, values, labels, groups, permutations=9).scores[0]
    by_hand = 0.0
    weight = 0.0
    for label in (0, 1):
        ones, zeros = (column[(labels == label) & (values == side)] for side in (1, 0))
        pairs = (ones[:, None] > zeros).mean()
        w = len(ones) * len(zeros) / (len(ones) + len(zeros))
        by_hand, weight = by_hand + w * pairs, weight + w
    assert score.auroc == pytest.approx(by_hand / weight)
    assert abs(score.auroc - within_class_auroc(values, column, labels)) < 0.05


def test_the_label_itself_is_no_property():
    _, labels, values, groups = drawn(0)
    ranking = rank_properties({"mean grey": labels + 0.0}, values, labels, groups)
    assert ranking.scores == ()
    assert ranking.p is None


def test_a_patient_counts_once():
    rng, labels, values, _ = drawn(1)
    column = rng.standard_normal(120)
    groups = np.arange(120)
    alone = rank_properties({"noise": column}, values, labels, groups, permutations=9)
    often = np.repeat(np.arange(120), np.where(groups == 3, 50, 1))
    again = rank_properties(
        {"noise": column[often]}, values[often], labels[often], groups[often], permutations=9
    )
    assert again.scores[0].auroc == pytest.approx(alone.scores[0].auroc)
    assert (again.carriers, again.others) == (alone.carriers, alone.others)


def test_chance_is_as_rare_as_its_level_says():
    low = 0
    for seed in range(60):
        rng, labels, values, groups = drawn(seed, 60)
        columns = {name: rng.standard_normal(60) for name in ("noise", "contrast", "border", "corners")}
        ranking = rank_properties(columns, values, labels, groups, permutations=99, seed=seed)
        low += ranking.p <= 0.1
    assert 1 <= low <= 14


def test_unknown_values_and_properties_do_not_count():
    rng, labels, values, groups = drawn(2)
    column = rng.standard_normal(120) + values
    holes = np.where(rng.random(120) < 0.2, np.nan, column)
    unknown = values.copy()
    unknown[:20] = np.nan
    whole = rank_properties({"noise": holes}, values, labels, groups, permutations=9).scores[0]
    known = np.isfinite(holes)
    less = rank_properties(
        {"noise": holes[known]}, values[known], labels[known], groups[known], permutations=9
    )
    assert whole.auroc == pytest.approx(less.scores[0].auroc)
    rest = rank_properties({"noise": column}, unknown, labels, groups, permutations=9)
    assert rest.carriers + rest.others == 100


def test_words_are_ranked_by_level():
    _, labels, values, groups = drawn(3)
    words = np.where(values == 1, "JPEG", "PNG").astype(object)
    ranking = rank_properties({"file_format": words}, values, labels, groups, permutations=99)
    assert ranking.scores[0].name in ("file_format=JPEG", "file_format=PNG")
    assert ranking.scores[0].strength == 1


def test_graded_values_are_ranked_by_correlation():
    rng = np.random.default_rng(4)
    column = rng.standard_normal(80)
    values = 0.5 * column + rng.standard_normal(80)
    one = np.zeros(80, int)
    score = rank_properties({"noise": column}, values, one, np.arange(80), permutations=99).scores[0]
    assert score.auroc == pytest.approx(0.5 + spearmanr(column, values).statistic / 2, abs=1e-6)
    assert score.carriers > score.others


@pytest.mark.parametrize("carriers", [0, 1, 2, 80])
def test_too_few_on_a_side_are_not_compared(carriers):
    values = (np.arange(80) < carriers).astype(float)
    ranking = rank_properties({"noise": np.arange(80.0)}, values, np.zeros(80, int), np.arange(80))
    assert ranking.p is None
