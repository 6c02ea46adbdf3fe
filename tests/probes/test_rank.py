"""Directions to erase: the fast constrained ridge against projecting the features themselves."""

import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.probes.rank import _erased_in_turn, effective_rank
from shortcutscope.probes.ridge import cross_fitted_ridge


def concept_in(directions, n=600, d=25, seed=0):
    """Features whose channels 0 ... directions - 1 each carry the concept in samples of their own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    concept = (rng.random(n) < 0.3 + 0.3 * labels).astype(float)
    features = rng.normal(size=(n, d))
    features[:, :directions] += 2.5 * concept[:, None]
    return features, concept, labels, make_folds(labels, np.arange(n), concept)


def test_a_concept_in_one_direction_has_rank_one():
    features, concept, labels, folds = concept_in(1)
    rank, after = effective_rank(features, concept, labels, folds)
    assert rank == 1
    assert len(after) == 1
    assert after[0] < 0.6


def test_a_concept_that_is_not_there_has_rank_zero():
    features, concept, labels, folds = concept_in(0)
    rank, after = effective_rank(features, concept, labels, folds)
    assert rank == 0
    assert len(after) == 0


def test_a_redundant_concept_needs_more_directions():
    """Where channels share much of their noise, the best filter is not the concept's whole signal."""
    features, concept, labels, folds = concept_in(12, seed=1)
    shared = np.random.default_rng(1).normal(size=(600, 3))
    features += 2 * shared @ np.random.default_rng(2).normal(size=(3, 25))
    rank, after = effective_rank(features, concept, labels, folds)
    assert rank is not None
    assert rank >= 2
    assert len(after) == rank
    assert (np.diff(after) < 0.02).all()
    given_up, tried = effective_rank(features, concept, labels, folds, max_directions=1)
    assert given_up is None
    np.testing.assert_allclose(tried, after[:1])


@pytest.mark.parametrize("d", [12, 150])
def test_constrained_ridge_is_the_ridge_on_projected_features(d):
    rng = np.random.default_rng(2)
    n = 120
    labels = rng.integers(0, 2, n)
    concept = rng.integers(0, 2, n).astype(float)
    features = rng.normal(size=(n, d)) + concept[:, None] * rng.normal(size=d)
    folds = np.arange(n) % 3
    model = cross_fitted_ridge(features, labels, folds, np.ones(n, bool), 0.05).models()[0]
    probes = _erased_in_turn(model, concept, 4)
    train = folds != 0
    rows = (
        features[train] - np.stack([features[train & (labels == c)].mean(0) for c in (0, 1)])[labels[train]]
    )
    rows /= np.sqrt((rows**2).mean(0))
    target = concept[train] - np.array([concept[train & (labels == c)].mean() for c in (0, 1)])[labels[train]]
    for k in range(5):
        gram = rows.T @ rows / train.sum() + 0.05 * np.eye(d)
        weights = np.linalg.solve(gram, rows.T @ target / train.sum())
        np.testing.assert_allclose(probes[:, k], weights, atol=1e-8)
        unit = weights / np.linalg.norm(weights)
        rows = rows - np.outer(rows @ unit, unit)


def test_unknown_values_and_undefined_concepts():
    features, concept, labels, folds = concept_in(1)
    partly = np.where(np.arange(600) % 5 == 0, np.nan, concept)
    assert effective_rank(features, partly, labels, folds)[0] == 1
    assert effective_rank(features, labels.astype(float), labels, folds)[0] is None
    with pytest.raises(InputError, match="different lengths"):
        effective_rank(features[:5], concept, labels, folds)
