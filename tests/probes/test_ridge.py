"""The closed form against scikit-learn's ridge, fitted fold by fold."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from shortcutscope.errors import InputError
from shortcutscope.probes import blocks, ridge
from shortcutscope.probes.crossfit import availability
from shortcutscope.probes.ridge import cross_fitted_ridge
from shortcutscope.stats.metrics import permuted_auroc


def problem(n, d, seed, n_classes=2, offset=0.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    features = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d) + labels[:, None] + offset
    if d > 3:
        features[:, 1] = 7.0  # a dead channel
        features[:, 2] *= 1e-7  # one that only looks alive
    targets = (features[:, [0]] + rng.normal(size=(n, 3)) > features[:, 0].mean()).astype(float)
    return features, targets, labels, rng.integers(0, 4, n)


def fold_by_fold(features, targets, labels, folds, known, penalty):
    residual, plain = np.empty_like(targets), np.empty_like(targets)
    for fold in np.unique(folds):
        train, test = known & (folds != fold), folds == fold
        means = np.stack([features[train & (labels == c)].mean(0) for c in range(labels.max() + 1)])
        target_means = np.stack([targets[train & (labels == c)].mean(0) for c in range(labels.max() + 1)])
        x = features[train] - means[labels[train]]
        sd = np.sqrt((x**2).mean(axis=0))
        keep = sd > 1e-4 * sd.max()
        ridge = Ridge(alpha=penalty * train.sum(), fit_intercept=False, solver="svd")
        ridge.fit(x[:, keep] / sd[keep], targets[train] - target_means[labels[train]])
        residual[test] = ridge.predict((features[test] - means[labels[test]])[:, keep] / sd[keep])
        plain[test] = ridge.predict((features[test] - means.mean(0))[:, keep] / sd[keep])
    return residual, plain


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "d"), [(200, 30), (60, 90), (120, 4)])
def test_both_forms_equal_scikit_learn(n, d, seed):
    features, targets, labels, folds = problem(n, d, seed, n_classes=2 + seed % 2, offset=100.0 * (seed == 4))
    known = np.random.default_rng(seed).random(n) < 0.9
    scores = cross_fitted_ridge(features, labels, folds, known, 0.05).scores(targets)
    residual, plain = fold_by_fold(features, targets, labels, folds, known, 0.05)
    np.testing.assert_allclose(scores.residual, residual, atol=1e-6)
    np.testing.assert_allclose(scores.plain, plain, atol=1e-6)


def test_single_precision_features_keep_their_digits():
    features, targets, labels, folds = problem(60, 90, 3)
    features[:, 2] = 7.0  # no channel on the edge of being dead
    known = np.ones(60, bool)
    double = cross_fitted_ridge(features, labels, folds, known).scores(targets)
    single = cross_fitted_ridge(features.astype(np.float32), labels, folds, known).scores(targets)
    np.testing.assert_allclose(single.residual, double.residual, atol=1e-4)


@pytest.mark.parametrize(("n", "d"), [(150, 20), (60, 90)])
def test_solving_and_scoring_by_the_fold_is_what_the_ridge_does(n, d):
    features, targets, labels, folds = problem(n, d, 0)
    fitted = cross_fitted_ridge(features, labels, folds, np.ones(n, bool))
    expected = fitted.scores(targets).residual
    weights = [fitted.solve(fold, c) for fold, c in enumerate(fitted.covariances(targets))]
    np.testing.assert_allclose(fitted.residual_scores(weights), expected, atol=1e-8)
    np.testing.assert_allclose(fitted.null_scores(targets.T > 0), expected.T, atol=1e-8)


@pytest.mark.parametrize("d", [5, 90])
def test_a_class_that_is_missing_from_training_is_scored_all_the_same(d):
    features, targets, labels, folds = problem(80, d, 1, n_classes=3)
    folds[labels == 2] = 3
    scores = cross_fitted_ridge(features, labels, folds, np.ones(80, bool)).scores(targets)
    assert np.isfinite(scores.residual).all()
    assert np.isfinite(scores.plain).all()
    nothing = cross_fitted_ridge(features, labels, folds, np.zeros(80, bool)).scores(targets)
    assert (nothing.residual == 0).all()


@pytest.mark.parametrize("rows", [1, 37, 200])
def test_blocks_of_any_size_give_the_same_sums(rows, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", rows)
    features, targets, labels, folds = problem(200, 30, 6, n_classes=3, offset=50.0)
    known = np.random.default_rng(6).random(200) < 0.9
    scores = cross_fitted_ridge(features, labels, folds, known).scores(targets)
    residual, plain = fold_by_fold(features, targets, labels, folds, known, ridge.PENALTY)
    np.testing.assert_allclose(scores.residual, residual, atol=1e-6)
    np.testing.assert_allclose(scores.plain, plain, atol=1e-6)


def test_targets_in_batches_have_the_null_of_all_at_once(monkeypatch):
    features, targets, labels, folds = problem(300, 20, 7)
    one = availability(features, targets, labels, None, folds)
    monkeypatch.setattr(ridge, "TARGETS", 1)
    monkeypatch.setattr(ridge, "MOST_TARGETS", 7 * 300)  # seven of 200 permutations
    np.testing.assert_array_equal(one.null, availability(features, targets, labels, None, folds).null)


def test_the_null_in_single_precision_is_off_by_far_less_than_it_varies(monkeypatch):
    features, _, labels, folds = problem(3000, 60, 8, offset=30.0)
    features[:, 2] = features[:, 1]  # no channel on the edge of being dead
    permuted = np.random.default_rng(8).random((100, 3000)) < 0.3
    fitted = cross_fitted_ridge(features.astype(np.float32), labels, folds, np.ones(3000, bool))
    double = permuted_auroc(permuted, fitted.null_scores(permuted), labels)
    monkeypatch.setattr(ridge, "SINGLE_ABOVE", 0)
    scores = fitted.null_scores(permuted)
    assert scores.dtype == np.float32
    difference = np.abs(permuted_auroc(permuted, scores, labels) - double)
    assert difference.max() < 1e-5
    assert difference.max() < 1e-3 * double.std()


def test_features_that_are_not_finite_are_refused():
    features, targets, labels, folds = problem(60, 5, 0)
    features[50, 3] = np.inf
    with pytest.raises(InputError, match="NaN or infinite"):
        cross_fitted_ridge(features, labels, folds, np.ones(60, bool)).scores(targets)
