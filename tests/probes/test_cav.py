"""Concept vectors: the label must not steer them, the intercept must stay, scores are out of fold."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from shortcutscope.errors import InputError
from shortcutscope.probes.cav import CAV, cross_fit_cav, logistic_cav, pattern_cav, ridge_cav
from shortcutscope.stats.metrics import auroc, within_class_auroc

FITS = {"pattern": pattern_cav, "ridge": ridge_cav, "logistic": logistic_cav}


def confounded(n=800, d=12, seed=0, correlation=0.95):
    """The label is strong in channel 0, the concept weaker in channel 1; 95 % of them agree."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    concept = np.where(rng.random(n) < correlation, labels, 1 - labels).astype(float)
    features = rng.normal(size=(n, d))
    features[:, 0] += 4 * labels
    features[:, 1] += 2 * concept
    features[:, 2] = 5.0  # dead
    return features, concept, labels


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("balance", ["class", "group"])
def test_balanced_vectors_read_the_concept_where_it_leaves_the_label(kind, balance):
    features, concept, labels = confounded()
    held_out, truth, _ = confounded(seed=1, correlation=0.5)
    cav = FITS[kind](features, concept, labels, balance)
    assert cav.kind == kind
    assert auroc(truth, cav.score(held_out)) > 0.85
    assert abs(cav.direction[0]) < 0.35 * abs(cav.direction[1])
    assert cav.direction[2] == 0


def test_the_naive_pattern_points_along_the_label():
    features, concept, labels = confounded()
    held_out, truth, other = confounded(seed=1, correlation=0.5)
    naive = pattern_cav(features, concept, labels, None)
    assert auroc(other, naive.score(held_out)) > auroc(truth, naive.score(held_out))


def test_pattern_is_covariance_over_variance():
    features, concept, labels = confounded()
    naive = pattern_cav(features, concept, labels, None)
    centred = concept - concept.mean()
    signal = (features - features.mean(0)).T @ centred / (centred @ centred)
    np.testing.assert_allclose(naive.signal, np.where(np.arange(12) == 2, 0, signal), atol=1e-10)
    by_class = [
        features[(labels == c) & (concept == 1)].mean(0) - features[(labels == c) & (concept == 0)].mean(0)
        for c in (0, 1)
    ]
    np.testing.assert_allclose(
        pattern_cav(features, concept, labels, "group").signal, np.mean(by_class, 0), atol=1e-10
    )
    sizes = np.bincount(labels) / len(labels)
    np.testing.assert_allclose(
        pattern_cav(features, concept, labels, "class").signal, sizes @ by_class, atol=1e-10
    )
    with pytest.raises(InputError, match="filter"):
        _ = ridge_cav(features, concept, labels).signal


def test_group_balanced_filters_are_scikit_learns_with_group_weights():
    features, concept, labels = confounded()
    size = {(c, t): ((labels == c) & (concept == t)).sum() for c in (0, 1) for t in (0, 1)}
    weights = np.array([1 / size[c, t] for c, t in zip(labels, concept, strict=True)])
    weights /= weights.mean()
    alive = np.arange(12) != 2
    z = ((features - features.mean(0)) / np.where(alive, features.std(0), 1))[:, alive]
    ridge = Ridge(alpha=0.05 * 800).fit(z, 2 * concept - 1, weights)
    np.testing.assert_allclose(
        ridge_cav(features, concept, labels).score(features), ridge.predict(z), atol=1e-9
    )
    logistic = LogisticRegression(C=0.01).fit(z, concept, weights)
    got = logistic_cav(features, concept, labels).score(features)
    np.testing.assert_allclose(got, logistic.decision_function(z), atol=1e-4)


@pytest.mark.parametrize("kind", FITS)
def test_the_intercept_is_part_of_the_score(kind):
    features, concept, labels = confounded(correlation=0.7)
    cav = FITS[kind](features + 50, concept, labels, "group")
    called = cav.score(features + 50) > 0
    assert (called == concept).mean() > 0.75
    without = CAV(cav.direction, 0.0, np.zeros(12), cav.scale, cav.kind).score(features + 50) > 0
    assert (without == concept).mean() < 0.7


@pytest.mark.parametrize("kind", FITS)
def test_unknown_samples_are_left_out(kind):
    features, concept, labels = confounded()
    partly = np.where(np.arange(800) % 4 == 0, np.nan, concept)
    keep = ~np.isnan(partly)
    got, alone = FITS[kind](features, partly, labels), FITS[kind](features[keep], concept[keep], labels[keep])
    np.testing.assert_allclose(got.score(features), alone.score(features), atol=1e-6)


@pytest.mark.parametrize("kind", FITS)
def test_naming_the_other_value_flips_the_score(kind):
    features, concept, labels = confounded()
    one, other = FITS[kind](features, concept, labels), FITS[kind](features, 1 - concept, labels)
    np.testing.assert_allclose(one.score(features), -other.score(features), atol=1e-3)


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("balance", ["group", None])
def test_cross_fitting_is_fitting_without_the_fold(kind, balance):
    features, concept, labels = confounded(n=300)
    partly = np.where(np.arange(300) % 7 == 0, np.nan, concept)
    folds = np.arange(300) % 3
    scores = cross_fit_cav(kind, features, partly, labels, folds, balance)
    for fold in range(3):
        train = folds != fold
        cav = FITS[kind](features[train], partly[train], labels[train], balance)
        np.testing.assert_allclose(scores[~train], cav.score(features[~train]), atol=1e-8)


def test_scores_of_noise_are_at_chance_out_of_fold_and_not_in_sample():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(200, 150)), rng.integers(0, 2, 200)
    concept = rng.integers(0, 2, 200).astype(float)
    in_sample = ridge_cav(features, concept, labels).score(features)
    out_of_fold = cross_fit_cav("ridge", features, concept, labels, np.arange(200) % 4)
    assert within_class_auroc(concept, in_sample, labels) > 0.95
    assert within_class_auroc(concept, out_of_fold, labels) == pytest.approx(0.5, abs=0.1)


def test_a_fold_without_conflicting_training_samples_is_nan():
    features, concept, labels = confounded(n=100, correlation=1.0)
    concept[:2] = 1 - concept[:2]
    folds = np.r_[0, 0, np.arange(98) % 2]
    scores = cross_fit_cav("pattern", features, concept, labels, folds, "class")
    assert np.isnan(scores[folds == 0]).all()
    assert np.isfinite(scores[folds == 1]).all()


def test_saved_and_opened_it_scores_alike(tmp_path):
    features, concept, labels = confounded()
    cav = logistic_cav(features, concept, labels, quantity="layer4 activation mean,max,std")
    again = CAV.open(cav.save(tmp_path / "tag.safetensors"))
    np.testing.assert_array_equal(again.score(features), cav.score(features))
    assert (again.kind, again.quantity, again.intercept) == (cav.kind, cav.quantity, cav.intercept)
    (tmp_path / "no.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="not a concept activation vector"):
        CAV.open(tmp_path / "no.safetensors")


def test_a_vector_scores_only_the_quantity_that_it_was_fitted_on():
    features, concept, labels = confounded()
    cav = pattern_cav(features, concept, labels, quantity="layer4 relevance sum")
    cav.score(features, quantity="layer4 relevance sum")
    with pytest.raises(InputError, match="fitted on 'layer4 relevance sum'"):
        cav.score(features, quantity="layer4 activation mean")
    with pytest.raises(InputError, match="vector of 12"):
        cav.score(features[:, :5])


def test_wrong_input_is_refused():
    features, concept, labels = confounded(n=40)
    with pytest.raises(InputError, match="no class has both values"):
        pattern_cav(features, labels.astype(float), labels)
    with pytest.raises(InputError, match="have one value"):
        ridge_cav(features, np.ones(40), labels, None)
    with pytest.raises(InputError, match="balance='all'"):
        pattern_cav(features, concept, labels, "all")
    with pytest.raises(InputError, match="kind='svm'"):
        cross_fit_cav("svm", features, concept, labels, np.arange(40) % 4)
    with pytest.raises(InputError, match="other values"):
        pattern_cav(features, concept + 1, labels)
    with pytest.raises(InputError, match="NaN or infinite"):
        pattern_cav(features * np.nan, concept, labels)
    with pytest.raises(InputError, match="at least 2 folds"):
        cross_fit_cav("pattern", features, concept, labels, np.zeros(40))
