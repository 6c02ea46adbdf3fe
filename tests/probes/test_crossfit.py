"""Out-of-fold availability: no leak, calibrated nulls, unknown values, shared permutations."""

import numpy as np
import pytest
from scipy import stats

from shortcutscope.errors import InputError
from shortcutscope.probes.crossfit import (
    Permutations,
    ProbeSettings,
    availability,
    cross_fitted_scores,
    make_folds,
)
from shortcutscope.stats.metrics import auroc, within_class_auroc


def encoded(n=400, d=20, strength=1.5, seed=0, correlation=0.8):
    """Features that encode a label and a concept that goes with it, in different channels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    concept = np.where(rng.random(n) < correlation, labels, 1 - labels).astype(float)
    features = rng.normal(size=(n, d))
    features[:, 0] += 3 * labels
    features[:, 1] += strength * concept
    return features, concept, labels


def test_scores_do_not_change_with_the_fold_s_own_targets():
    features, concept, labels = encoded()
    folds = make_folds(labels, np.arange(400), concept)
    before = cross_fitted_scores(features, concept, labels, folds)
    changed = concept.copy()
    changed[folds == 2] = 1 - changed[folds == 2]
    after = cross_fitted_scores(features, changed, labels, folds)
    np.testing.assert_allclose(before[folds == 2], after[folds == 2], atol=1e-12)
    assert (np.abs(before - after)[folds != 2] > 1e-3).any()


def test_plain_scores_do_not_look_at_the_sample_s_own_label():
    features, concept, labels = encoded()
    folds = make_folds(labels, np.arange(400))
    plain = cross_fitted_scores(features, concept, labels, folds)
    centred = cross_fitted_scores(features, concept, labels, folds, centre=True)
    # Relabel one sample: only its own fold's models never saw it, so only there must its score stay.
    other = labels.copy()
    other[0] = 1 - other[0]
    again = cross_fitted_scores(features, concept, other, folds)
    assert again[0] == pytest.approx(plain[0], abs=1e-12)
    assert cross_fitted_scores(features, concept, other, folds, centre=True)[0] != pytest.approx(centred[0])


def test_unknown_values_are_scored_and_not_trained_on():
    features, concept, labels = encoded(seed=1)
    folds = make_folds(labels, np.arange(400), concept)
    unknown = np.random.default_rng(1).random(400) < 0.3
    partly = np.where(unknown, np.nan, concept)
    scores = cross_fitted_scores(features, np.stack([partly, concept, partly], 1), labels, folds)
    np.testing.assert_array_equal(scores[:, 0], scores[:, 2])
    alone = cross_fitted_scores(features[~unknown], concept[~unknown], labels[~unknown], folds[~unknown])
    np.testing.assert_allclose(scores[~unknown, 0], alone, atol=1e-9)
    assert within_class_auroc(concept[unknown], scores[unknown, 0], labels[unknown]) > 0.7


def test_availability_finds_what_is_encoded_and_only_that():
    features, concept, labels = encoded()
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 2, 400).astype(float)
    # A concept that is nothing but a noisy copy of the label: a naive probe would "find" it.
    proxy = np.where(rng.random(400) < 0.9, labels, 1 - labels).astype(float)
    folds = make_folds(labels, np.arange(400), concept)
    result = availability(
        features,
        np.stack([concept, noise, proxy], 1),
        labels,
        None,
        folds,
        names=["tag", "noise", "proxy"],
    )
    table = result.table
    assert list(table.columns) == ["auroc", "low", "high", "auroc_overall", "null_mean", "null_high", "p"]
    assert table.loc["tag", "auroc"] > 0.8
    assert table.loc["tag", "p"] < 1e-3
    assert table.loc["tag", "low"] > table.loc["tag", "null_high"]
    assert table.loc["noise", "p"] > 0.01
    assert table.loc["proxy", "p"] > 0.01
    assert (table["low"] <= table["auroc"]).all()
    assert (table["auroc"] <= table["high"]).all()
    assert table["null_mean"].between(0.47, 0.53).all()
    assert result.null.shape == (200, 3)
    overall = auroc(concept, cross_fitted_scores(features, concept, labels, folds))
    assert table.loc["tag", "auroc_overall"] == pytest.approx(overall)
    np.testing.assert_allclose(result.scores[:, 0], cross_fitted_scores(features, concept, labels, folds))


def test_naming_the_other_value_changes_nothing_but_the_sign():
    features, concept, labels = encoded(seed=2)
    folds = make_folds(labels, np.arange(400), concept)
    one = availability(
        features,
        concept[:, None],
        labels,
        None,
        folds,
        settings=ProbeSettings(n_permutations=60, n_bootstrap=50),
    )
    other = availability(
        features,
        1 - concept[:, None],
        labels,
        None,
        folds,
        settings=ProbeSettings(n_permutations=60, n_bootstrap=50),
    )
    np.testing.assert_allclose(one.table, other.table, atol=1e-9)
    np.testing.assert_allclose(one.scores, -other.scores, atol=1e-9)


def test_every_layer_gets_the_same_permutations():
    features, concept, labels = encoded(seed=3)
    folds = make_folds(labels, np.arange(400))
    concepts = np.stack([concept, np.where(np.arange(400) % 5 == 0, np.nan, concept)], 1)
    settings = ProbeSettings(n_permutations=40, n_bootstrap=20, seed=7)
    null = availability(features, concepts, labels, None, folds, settings=settings).null
    again = availability(features, concepts, labels, None, folds, settings=settings).null
    np.testing.assert_array_equal(null, again)
    permutations = Permutations(concepts, labels, None, 40, 7)
    # The null of one layer, by hand.
    for k in range(2):
        permuted = np.where(np.isnan(concepts[:, [k]]), np.nan, permutations.of(k).T)
        scores = cross_fitted_scores(features, permuted, labels, folds, centre=True)
        np.testing.assert_allclose(null[:, k], within_class_auroc(permuted, scores, labels), rtol=1e-12)


@pytest.mark.parametrize("kind", ["samples", "patients"])
def test_p_of_concepts_that_are_not_encoded_is_uniform(kind):
    """Features with a strong patient component; the concept is drawn per sample or per patient."""
    p = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        groups = np.arange(240) if kind == "samples" else np.repeat(np.arange(80), 3)
        n_groups = groups.max() + 1
        labels = rng.integers(0, 2, n_groups)[groups]
        features = rng.normal(size=(240, 12)) + 2 * rng.normal(size=(n_groups, 12))[groups] + labels[:, None]
        concepts = (rng.random((n_groups, 8)) < 0.2 + 0.4 * labels[:n_groups, None])[groups].astype(float)
        folds = make_folds(labels, groups, seed=seed)
        result = availability(
            features,
            concepts,
            labels,
            groups,
            folds,
            settings=ProbeSettings(n_permutations=99, n_bootstrap=0, seed=seed),
        )
        p.extend(result.table["p"])
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_a_concept_of_one_value_within_each_class_is_undefined_and_no_error():
    features, _, labels = encoded(seed=4)
    folds = make_folds(labels, np.arange(400))
    concepts = np.stack([labels.astype(float), np.full(400, np.nan)], 1)
    table = availability(
        features, concepts, labels, None, folds, settings=ProbeSettings(n_permutations=10, n_bootstrap=20)
    ).table
    assert table[["auroc", "low", "high", "p"]].isna().all(axis=None)


def test_folds_keep_patients_apart_and_spread_the_rare_cells():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(150), 2)
    labels = rng.integers(0, 2, 150)[groups]
    concept = np.where(rng.random(150) < 0.9, labels[::2], 1 - labels[::2])[groups].astype(float)
    concept[:2] = np.nan
    folds = make_folds(labels, groups, concept, n_folds=4, seed=1)
    assert all(len(np.unique(folds[groups == g])) == 1 for g in range(150))
    for label in (0, 1):
        for value in (0, 1):
            assert len(np.unique(folds[(labels == label) & (concept == value)])) == 4
    np.testing.assert_array_equal(folds, make_folds(labels, groups, concept, n_folds=4, seed=1))
    with pytest.raises(InputError, match="3 group"):
        make_folds(labels[:6], groups[:6], n_folds=4)


def test_wrong_input_is_refused():
    features, concept, labels = encoded(n=40)
    folds = np.arange(40) % 4
    with pytest.raises(InputError, match="same N samples"):
        cross_fitted_scores(features[:30], concept, labels, folds)
    with pytest.raises(InputError, match="one fold"):
        cross_fitted_scores(features, concept, labels, np.zeros(40))
    with pytest.raises(InputError, match="NaN or infinite"):
        cross_fitted_scores(np.full((40, 2), np.nan), concept, labels, folds)
    with pytest.raises(InputError, match="allowed are 0, 1 and NaN"):
        availability(features, np.full((40, 1), 2.0), labels, None, folds)
    with pytest.raises(InputError, match="\\(N, K\\)"):
        availability(features, concept, labels, None, folds)
