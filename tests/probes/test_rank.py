"""Directions to erase: the fast constrained ridge against projecting the features themselves."""

import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.probes.rank import _Erased, _erased_in_turn, effective_ranks
from shortcutscope.probes.ridge import cross_fitted_ridge
from shortcutscope.stats.bootstrap import cluster_interval
from shortcutscope.stats.metrics import resampled_auroc, within_class_auroc


def effective_rank(features, concept, labels, folds, max_directions=16, **how):
    return effective_ranks(features, concept[:, None], labels, folds, max_directions, **how)[0]


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
    ridge = cross_fitted_ridge(features, labels, folds, np.ones(n, bool), 0.05)
    probes = _erased_in_turn(ridge, 0, ridge.covariances(concept[:, None])[0], 4)
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


def one_after_the_other(features, concepts, labels, folds, groups, max_directions=6):
    """Each concept on its own known samples, with an interval after every direction."""
    results = []
    for concept in concepts.T:
        known = ~np.isnan(concept)
        t, y, units = concept[known], labels[known], groups[known]
        ridge = cross_fitted_ridge(features[known], y, folds[known], np.ones(len(t), bool), 0.05)
        targets = ridge.covariances(t[:, None])
        probes = [_erased_in_turn(ridge, f, c, max_directions) for f, c in enumerate(targets)]
        result = None
        for erased, scores in enumerate(ridge.residual_scores(probes).T):
            area = within_class_auroc(t, scores, y)

            def resampled(weights, t=t, scores=scores, y=y):
                return within_class_auroc(t, scores, y, weights)

            low, _ = cluster_interval(resampled, units, n=100, by="rows")
            if area < 0.55 or low <= 0.5:
                result = erased
                break
        results.append(result)
    return results


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_ranks_of_many_concepts_are_those_of_each_with_every_interval(seed, clustered):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(150), 4) if clustered else np.arange(600)
    labels = rng.integers(0, 2, groups.max() + 1)[groups]
    hidden = rng.normal(size=(groups.max() + 1, 6))[groups] if clustered else rng.normal(size=(600, 6))
    strengths = rng.uniform(0, 2, 6)
    concepts = (hidden * strengths + rng.normal(size=(600, 6)) > 0.3).astype(float)
    concepts[rng.random(600) < 0.1, 3:5] = np.nan
    features = hidden @ rng.normal(size=(6, 20)) + rng.normal(size=(600, 20))
    folds = make_folds(labels, groups, concepts)
    found = effective_ranks(
        features, concepts, labels, folds, 6, groups=groups if clustered else None, n_bootstrap=100
    )
    assert [rank for rank, _ in found] == one_after_the_other(features, concepts, labels, folds, groups)


def test_an_interval_is_measured_only_where_it_could_reach_chance(monkeypatch):
    calls = []

    def resampled(*args):
        calls.append(1)
        return resampled_auroc(*args)

    monkeypatch.setattr("shortcutscope.probes.rank.resampled_auroc", resampled)
    features, concept, labels, folds = concept_in(1)
    assert effective_rank(features, concept, labels, folds)[0] == 1
    assert not calls  # readable beyond doubt, then below the limit
    groups = np.repeat(np.arange(12), 50)
    assert effective_rank(features, concept, labels, folds, 0, groups=groups)[0] is None
    assert calls  # patients of fifty samples each leave doubt


def test_samples_of_a_patient_are_drawn_together():
    """As many copies of each sample as there are of a patient make the interval as wide as without them."""
    rng = np.random.default_rng(3)
    labels, concept = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    scores = concept + 4.0 * rng.normal(size=60)
    copies = np.repeat(np.arange(60), 9)
    once = _Erased(concept.astype(float), labels, np.arange(60), 300, 0)
    repeated = _Erased(concept[copies].astype(float), labels[copies], copies, 300, 0)
    area = within_class_auroc(concept, scores, labels)
    assert 0.55 < area < 0.65
    assert once.rank(scores[:, None])[0] == repeated.rank(scores[copies][:, None])[0] == 0
    alone = _Erased(concept[copies].astype(float), labels[copies], np.arange(540), 300, 0)
    assert alone.rank(scores[copies][:, None])[0] is None
