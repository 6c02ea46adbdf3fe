"""Corrections do on their own samples what they promise, and leave what is unknown alone."""

from __future__ import annotations

import numpy as np
import pytest

from shortcutscope.embeddings.corrections import CORRECTIONS, leace_correction, location_and_scale, mean_shift

RNG = np.random.default_rng(0)
N = 240
LABELS = RNG.integers(0, 3, N)
CONCEPT = (RNG.random(N) < np.array([0.2, 0.5, 0.8])[LABELS]).astype(float)
X = RNG.normal(size=(N, 6)) @ RNG.normal(size=(6, 6)) + 40
X += np.outer(CONCEPT, [3, 0, 1, 0, 0, -2]) + np.outer(LABELS, [0, 1, 0, 1, 0, 1])
X[CONCEPT == 1] = X[CONCEPT == 1] * [1, 1, 2, 1, 1, 1]


def cell(values: np.ndarray, label: int, t: int) -> np.ndarray:
    return values[(label == LABELS) & (t == CONCEPT)]


def test_leace_leaves_no_covariance_in_any_class() -> None:
    after = leace_correction(X, CONCEPT, LABELS)(X, np.full(N, np.nan))
    for label in range(3):
        inside = label == LABELS
        t = CONCEPT[inside] - CONCEPT[inside].mean()
        assert np.abs(after[inside].T @ t).max() < 1e-6 * np.abs(X[inside].T @ t).max()
    assert np.linalg.matrix_rank(after - X, tol=1e-6) == 3  # one direction a class


def test_mean_shift_makes_the_means_of_the_sides_equal_over_the_classes() -> None:
    after = mean_shift(X, CONCEPT, LABELS)(X, CONCEPT)
    sides = [np.mean([cell(after, c, t).mean(axis=0) for c in range(3)], axis=0) for t in (0, 1)]
    np.testing.assert_allclose(*sides)


def test_location_and_scale_make_means_and_spreads_equal() -> None:
    after = location_and_scale(X, CONCEPT, LABELS)(X, CONCEPT)
    sides = [np.mean([cell(after, c, t).mean(axis=0) for c in range(3)], axis=0) for t in (0, 1)]
    np.testing.assert_allclose(*sides)
    spreads = []
    for t in (0, 1):
        rest = np.concatenate([cell(after, c, t) - cell(after, c, t).mean(axis=0) for c in range(3)])
        spreads.append(rest.std(axis=0))
    np.testing.assert_allclose(*spreads)


@pytest.mark.parametrize("name", ["mean shift", "location and scale"])
def test_samples_of_unknown_concept_stay_as_they_are(name: str) -> None:
    unknown = np.where(np.arange(N) < 10, np.nan, CONCEPT)
    after = CORRECTIONS[name](X, CONCEPT, LABELS)(X, unknown)
    np.testing.assert_array_equal(after[:10], X[:10])


@pytest.mark.parametrize("fit", CORRECTIONS.values())
def test_nothing_depends_on_which_value_is_called_present(fit) -> None:  # type: ignore[no-untyped-def]
    one, other = fit(X, CONCEPT, LABELS)(X, CONCEPT), fit(X, 1 - CONCEPT, LABELS)(X, 1 - CONCEPT)
    np.testing.assert_allclose(one, other)


def test_a_constant_feature_stays_constant() -> None:
    flat = np.c_[X, np.full(N, 7.0)]
    for fit in CORRECTIONS.values():
        np.testing.assert_allclose(fit(flat, CONCEPT, LABELS)(flat, CONCEPT)[:, 6], 7.0)
