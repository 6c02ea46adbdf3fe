"""Metrics against scikit-learn and against samples written out as often as they weigh."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from shortcutscope.errors import InputError
from shortcutscope.stats import metrics


@st.composite
def binary_problems(draw):
    n = draw(st.integers(4, 60))
    labels = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))
    labels[:2] = (0, 1)
    # Few distinct values, so that ties are the rule.
    scores = draw(hnp.arrays(np.float64, n, elements=st.integers(-4, 4).map(float)))
    weights = draw(hnp.arrays(np.int64, (3, n), elements=st.integers(0, 3)))
    return labels, scores, weights


@given(binary_problems())
@settings(max_examples=200, deadline=None)
def test_auroc_with_ties_equals_scikit_learn(problem):
    labels, scores, _ = problem
    assert metrics.auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(binary_problems())
@settings(max_examples=200, deadline=None)
def test_weighted_auroc_equals_samples_written_out(problem):
    labels, scores, weights = problem
    got = metrics.auroc(labels, scores, weights)
    for row, value in zip(weights, got, strict=True):
        repeated = np.repeat(np.arange(len(labels)), row)
        if len(np.unique(labels[repeated])) < 2:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(roc_auc_score(labels[repeated], scores[repeated]), abs=1e-12)


def test_columns_with_their_own_unknown_labels():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 7))
    scores[:, 3] = np.round(scores[:, 3])
    labels = (rng.random((300, 7)) < 0.3).astype(float)
    labels[rng.random((300, 7)) < 0.2] = np.nan
    labels[:, 5] = 1.0
    got = metrics.auroc(labels, scores)
    for k in range(7):
        keep = ~np.isnan(labels[:, k])
        if k == 5:
            assert np.isnan(got[k])
        else:
            assert got[k] == pytest.approx(roc_auc_score(labels[keep, k], scores[keep, k]))
    one_label_column = metrics.auroc(labels[:, 0], scores)
    assert one_label_column[0] == pytest.approx(got[0])


def test_blocks_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, (50, 9)), rng.normal(size=(50, 9))
    weights = rng.integers(0, 3, (11, 50))
    whole = metrics.auroc(labels, scores), metrics.auroc(labels[:, 0], scores[:, 0], weights)
    monkeypatch.setattr(metrics, "_BLOCK", 60)
    parts = metrics.auroc(labels, scores), metrics.auroc(labels[:, 0], scores[:, 0], weights)
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_allclose(whole[1], parts[1])


def test_undefined_is_nan_and_wrong_is_refused():
    assert np.isnan(metrics.auroc([1, 1], [0.1, 0.2]))
    assert np.isnan(metrics.auroc([], []))
    assert np.isnan(metrics.within_class_auroc(np.empty((0, 3)), np.empty((0, 3)), [])).all()
    assert np.isnan(metrics.auroc([0, 1, 1], [0.1, np.nan, 0.2]))
    assert np.isnan(metrics.within_class_auroc([1, 1, 0], [0.1, 0.2, 0.3], [0, 0, 1]))
    assert np.isnan(metrics.robust_auroc([1, 0], [1, 0], [0.3, 0.1]))
    assert np.isnan(metrics.balanced_auroc([1, 0, 1], [1, 0, 0], [0.3, 0.1, 0.2]))
    assert np.isnan(metrics.flip_rate([], []))
    assert np.isnan(metrics.delta_tpr([0, 0], [1, 0], [1, 1]))
    with pytest.raises(InputError, match="allowed are 0, 1 and NaN"):
        metrics.auroc([0, 2], [0.1, 0.2])
    with pytest.raises(InputError, match="same N"):
        metrics.auroc([0, 1], [0.1])
    with pytest.raises(InputError, match="weights of shape"):
        metrics.auroc([0, 1], [0.1, 0.2], [1, 1, 1])


def test_a_score_that_only_reads_the_label_is_at_chance_within_class():
    rng = np.random.default_rng(2)
    label = rng.integers(0, 2, 4000)
    concept = np.where(rng.random(4000) < 0.95, label, 1 - label)
    score = label + 0.1 * rng.normal(size=4000)
    assert metrics.auroc(concept, score) > 0.9
    assert metrics.within_class_auroc(concept, score, label) == pytest.approx(0.5, abs=0.05)


def test_within_class_is_the_mean_by_size_and_takes_weights():
    rng = np.random.default_rng(3)
    classes = np.repeat([0, 1, 2], [50, 30, 10])
    concept = rng.integers(0, 2, 90).astype(float)
    concept[classes == 2] = 1  # no AUROC in this class
    concept[:5] = np.nan
    scores = rng.normal(size=90)
    areas = [roc_auc_score(concept[i], scores[i]) for i in (np.arange(5, 50), np.arange(50, 80))]
    assert metrics.within_class_auroc(concept, scores, classes) == pytest.approx(
        (45 * areas[0] + 30 * areas[1]) / 75
    )
    weights = rng.integers(0, 3, (4, 90))
    rows = metrics.within_class_auroc(concept, scores, classes, weights)
    for row, value in zip(weights, rows, strict=True):
        repeated = np.repeat(np.arange(90), row)
        expected = metrics.within_class_auroc(concept[repeated], scores[repeated], classes[repeated])
        assert value == pytest.approx(expected)
    columns = metrics.within_class_auroc(concept, np.stack([scores, -scores], 1), classes)
    assert columns.sum() == pytest.approx(1)


def four_groups(n=600, seed=4):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    a = np.where(rng.random(n) < 0.8, y, 1 - y)
    score = y + 2 * a + rng.normal(size=n)
    return y, a, score


def test_robust_and_aligned_auroc_are_scikit_learns_on_the_two_halves():
    y, a, score = four_groups()
    conflict = y != a
    assert metrics.robust_auroc(y, a, score) == pytest.approx(roc_auc_score(y[conflict], score[conflict]))
    assert metrics.aligned_auroc(y, a, score) == pytest.approx(roc_auc_score(y[~conflict], score[~conflict]))
    assert metrics.robust_auroc(y, a, a.astype(float)) == 0.0
    unknown = a.astype(float)
    unknown[:100] = np.nan
    expected = metrics.robust_auroc(y[100:], a[100:], score[100:])
    assert metrics.robust_auroc(y, unknown, score) == pytest.approx(expected)


def test_balanced_auroc_weighs_the_four_groups_alike():
    y, a, score = four_groups()
    sizes = {(i, j): ((y == i) & (a == j)).sum() for i in (0, 1) for j in (0, 1)}
    weight = np.array([1 / sizes[i, j] for i, j in zip(y, a, strict=True)])
    expected = roc_auc_score(y, score, sample_weight=weight)
    assert metrics.balanced_auroc(y, a, score) == pytest.approx(expected)
    rows = metrics.balanced_auroc(y, a, score, np.stack([np.ones(600), np.where(y != a, 1, y)]))
    assert rows[0] == pytest.approx(expected)
    assert np.isnan(rows[1])  # the group y = a = 0 has no weight


def test_group_metrics_by_hand():
    y = np.array([0, 0, 0, 1, 1, 1, 1])
    a = np.array([0, 0, 1, 0, 1, 1, np.nan])
    prediction = np.array([0, 1, 1, 1, 1, 0, 0])
    assert metrics.worst_group_accuracy(y, a, prediction) == 0.0
    assert metrics.worst_group_accuracy(y[3:], a[3:], prediction[3:]) == 0.5
    assert metrics.delta_tpr(y, a, prediction) == pytest.approx(0.5 - 1.0)
    rows = metrics.delta_tpr(y, a, prediction, [[1, 1, 1, 1, 1, 3, 1], [1, 1, 1, 0, 1, 1, 1]])
    assert rows[0] == pytest.approx(0.25 - 1.0)
    assert np.isnan(rows[1])
    assert metrics.flip_rate(prediction, y) == pytest.approx(4 / 7)
    assert metrics.flip_rate(prediction, y, [1, 0, 0, 1, 0, 1, 1]) == pytest.approx(2 / 4)


def test_calibration_error_of_a_calibrated_and_of_an_overconfident_model():
    rng = np.random.default_rng(5)
    p = rng.random(40_000)
    y = (rng.random(40_000) < p).astype(int)
    assert metrics.expected_calibration_error(y, p) < 0.015
    assert metrics.expected_calibration_error(y, np.stack([1 - p, p], 1)) == pytest.approx(
        metrics.expected_calibration_error(y, p)
    )
    sure = np.where(rng.random(40_000) < 0.5, 0.999, 0.001)
    coin = rng.integers(0, 2, 40_000)
    assert metrics.expected_calibration_error(coin, sure) == pytest.approx(0.499, abs=0.01)
    rows = metrics.expected_calibration_error(coin, sure, weights=np.ones((2, 40_000)))
    assert rows.shape == (2,)
    with pytest.raises(InputError, match="outside"):
        metrics.expected_calibration_error([0, 1], [0.2, 3.0])


@pytest.mark.parametrize("ties", ["none", "some", "most", "all"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_permutations_at_once_are_each_ranked_as_alone(dtype, ties):
    rng = np.random.default_rng(0)
    positive = rng.random((9, 300)) < 0.3
    scores = rng.normal(size=(9, 300)).astype(dtype)
    if ties != "none":
        scores = np.round(scores, {"some": 2, "most": 0, "all": -3}[ties])  # holds 0 and -0
    classes = rng.integers(0, 3, 300)
    positive[:, classes == 2] = False  # of one value only
    found = metrics.permuted_auroc(positive, scores, classes)
    expected = metrics.within_class_auroc(positive.T.astype(float), scores.T, classes)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_a_ranking_serves_any_weights():
    rng = np.random.default_rng(1)
    concept, scores = rng.choice([0.0, 1.0, np.nan], 80), np.round(rng.normal(size=80), 1)
    classes, weights = rng.integers(0, 2, 80), rng.integers(0, 3, (6, 80))
    found = metrics.resampled_auroc(concept, scores, classes)(weights)
    for row, area in zip(weights, found, strict=True):
        again = np.repeat(np.arange(80), row)
        assert area == pytest.approx(
            metrics.within_class_auroc(concept[again], scores[again], classes[again])
        )
    nothing = metrics.resampled_auroc(np.full(80, np.nan), scores, classes)(weights)
    assert np.isnan(nothing).all()
