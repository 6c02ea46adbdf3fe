"""The closed form against scikit-learn's ridge, fitted fold by fold."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from shortcutscope.probes.ridge import cross_fitted_ridge


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
    ridge = cross_fitted_ridge(features, labels, folds, np.ones(n, bool))
    expected = ridge.scores(targets).residual
    weights = [ridge.solve(fold, c) for fold, c in enumerate(ridge.covariances(targets))]
    np.testing.assert_allclose(ridge.residual_scores(weights), expected, atol=1e-8)
    np.testing.assert_allclose(ridge.null_scores(targets.T > 0), expected.T, atol=1e-8)


@pytest.mark.parametrize("d", [5, 90])
def test_a_class_that_is_missing_from_training_is_scored_all_the_same(d):
    features, targets, labels, folds = problem(80, d, 1, n_classes=3)
    folds[labels == 2] = 3
    scores = cross_fitted_ridge(features, labels, folds, np.ones(80, bool)).scores(targets)
    assert np.isfinite(scores.residual).all()
    assert np.isfinite(scores.plain).all()
    nothing = cross_fitted_ridge(features, labels, folds, np.zeros(80, bool)).scores(targets)
    assert (nothing.residual == 0).all()
