import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.retrieval.classifier import fit_marks, whiten


def features(n=200, d=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)), rng.integers(0, 2, n)


def test_whitening_turns_the_within_class_covariance_into_the_shrunk_one():
    x, y = features()
    x[y == 1] += 5  # the label is no direction of the covariance
    fitted = whiten(x, [6], y, shrinkage=1e-9)
    z = fitted.apply(x)
    centred = np.concatenate([z[y == c] - z[y == c].mean(0) for c in (0, 1)])
    assert np.allclose(centred.T @ centred / len(z), np.eye(6), atol=1e-6)


def test_more_features_than_samples_give_the_same_distances_as_the_full_inverse():
    x, _ = features(n=12, d=30)
    y = np.zeros(12, int)
    fitted = whiten(x, [30], y, shrinkage=0.1)
    z = fitted.apply(x)
    standard = (x - x.mean(0)) / x.std(0) / np.sqrt(30)
    full = np.linalg.inv(standard.T @ standard / 12 + 0.1 * np.eye(30))
    expected = standard @ full @ standard.T
    assert np.allclose(z @ z.T, expected, atol=1e-8)


def test_every_view_counts_the_same_whatever_its_width():
    x, y = features(d=6)
    fitted = whiten(x, [1, 5], y)
    centred = x - np.stack([x[y == c].mean(0) for c in y])
    variance = (centred / fitted.scale).var(0)
    assert variance[0] == pytest.approx(1)
    assert variance[1:].sum() == pytest.approx(1)


def test_dead_features_score_nothing_and_the_vector_equals_the_pipeline():
    x, y = features()
    x[:, 2] = 4.0
    fitted = whiten(x, [6], y)
    weights = np.random.default_rng(1).standard_normal(fitted.projection.shape[1])
    vector = fitted.vector(weights, -0.3, "q")
    assert vector.direction[2] == 0
    assert np.allclose(vector.score(x), fitted.apply(x) @ weights - 0.3)
    with pytest.raises(InputError, match="no feature varies"):
        whiten(np.ones((20, 3)), [3], np.zeros(20, int))


def test_both_sides_weigh_the_same_in_every_class():
    """Duplicating the unmarked samples of one class changes nothing."""
    x, y = features(n=80)
    marks = np.full(80, np.nan)
    marks[:6], marks[6:12] = 1, 0
    once = fit_marks(x, marks, y, np.ones(80, bool))
    rest = np.flatnonzero(np.isnan(marks) & (y == 0))
    doubled = np.concatenate([np.arange(80), rest])
    twice = fit_marks(x[doubled], marks[doubled], y[doubled], np.ones(len(doubled), bool), C=1e-3)
    # The weights have mean 1, so that the penalty grows with the number of rows; directions agree.
    a, b = once.coef_[0], twice.coef_[0]
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999


def test_a_class_without_anything_to_tell_carriers_from_is_refused():
    x, _ = features(n=10)
    with pytest.raises(InputError, match="no class has both"):
        fit_marks(x, np.ones(10), np.zeros(10, int), np.ones(10, bool))
