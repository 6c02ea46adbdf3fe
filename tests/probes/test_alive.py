"""Features that do not vary tell nothing, and are never blown up to noise."""

import numpy as np
import pandas as pd
import pytest
import torch

from shortcutscope.debias.clarc.clarc import linear_classifier
from shortcutscope.debias.clarc.erasure import Moments, leace_map
from shortcutscope.discover.components import independent_components
from shortcutscope.probes.alive import alive, size_of
from shortcutscope.probes.cav import cross_fit_cav, logistic_cav, pattern_cav, ridge_cav
from shortcutscope.probes.crossfit import cross_fitted_scores
from shortcutscope.probes.marks import propagate_marks
from shortcutscope.probes.usage import Projections, fit_projection, within_class_spread
from shortcutscope.retrieval.classifier import whiten

N = 300
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, N)
CONCEPT = RNG.integers(0, 2, N).astype(float)
FOLDS = np.arange(N) % 4


def background(level, differing, seed, d=24):
    """Features of an even background, and what a few images of one fold have there instead."""
    rng = np.random.default_rng(seed)
    features = np.tile(level * rng.normal(size=d), (N, 1))
    features[4 * rng.permutation(N // 4)[:differing]] += rng.normal(size=(differing, d))
    return features


def rounded(level=7.3, d=24, seed=0):
    """Features that are the same for all samples, but for the last digit of single precision."""
    digits = np.random.default_rng(seed).integers(-1, 2, (N, d))
    return (level * (1 + digits * np.finfo(np.float32).eps)).astype(np.float32)


@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("differing", [1, 2, 4])
@pytest.mark.parametrize("d", [24, 400])
def test_s1_what_varies_in_one_fold_alone_is_scored_and_tells_nothing(level, differing, d):
    for seed in range(20 if d < N else 2):
        features = background(level, differing, seed, d)
        scores = cross_fitted_scores(features, CONCEPT, LABELS, FOLDS, centre=True)
        assert not scores[FOLDS == 0].any()
        pattern = cross_fit_cav("pattern", features, CONCEPT, LABELS, FOLDS)
        assert np.ptp(pattern[FOLDS == 0]) < 1e-6


def test_s1_the_floor_is_that_of_the_features_and_not_of_their_own_maximum():
    values = np.column_stack([RNG.normal(size=N), 1000 + 1e-5 * RNG.normal(size=N), np.full(N, 3.0)])
    assert alive(values.std(0), size_of(values)).tolist() == [True, False, False]
    assert not alive(values[:, 1:].std(0), size_of(values[:, 1:])).any()
    assert alive(values[:, :1].std(0), size_of(values[:, :1])).all()
    assert alive(1e-8 * values[:, :1].std(0), size_of(1e-8 * values[:, :1])).all()


@pytest.mark.parametrize("fit", [pattern_cav, ridge_cav, logistic_cav])
def test_s1_vectors_of_a_constant_layer_are_zero(fit):
    assert not fit(rounded(), CONCEPT, LABELS).direction.any()


def test_s1_a_filter_of_a_constant_layer_is_zero():
    weights, _ = linear_classifier(rounded(), CONCEPT, LABELS, "svm")
    assert not weights.any()


def test_s1_nothing_is_taken_out_of_a_constant_layer():
    projection = fit_projection(rounded(), CONCEPT, LABELS)
    values = torch.randn(4, 24, 9)
    edit = Projections([projection]).edit(torch.zeros(len(values), dtype=torch.int64))
    torch.testing.assert_close(edit(values), values)


def test_s1_the_spread_of_a_constant_output_is_no_unit():
    margins = rounded(d=1)[:, 0].astype(float)
    assert within_class_spread(margins, LABELS) > 3 * np.finfo(np.float32).eps * 7.3


def test_s1_leace_leaves_a_constant_layer_alone():
    moments = Moments.empty(24, 1)
    moments.add(rounded(level=300.0).astype(float), CONCEPT[:, None])
    left, right = leace_map(*moments.covariances(), moments.rounding)
    assert not (left @ right).any()


def test_s1_a_constant_view_has_no_part_in_the_whitening_and_no_components():
    varying = RNG.normal(size=(N, 5))
    both = np.concatenate([varying, rounded()], 1)
    whitened = whiten(both, [5, 24], LABELS).apply(both)
    alone = whiten(varying, [5], LABELS).apply(varying)
    np.testing.assert_allclose(np.abs(whitened[:, :5]), np.abs(alone), atol=1e-8)
    assert independent_components(rounded(), rounded(), 4).shape == (N, 0)


def test_s1_marks_are_learned_from_what_varies():
    samples = pd.DataFrame({"sample_id": np.arange(N).astype(str), "label": LABELS, "group": np.arange(N)})
    varying = RNG.normal(size=(N, 5)) + 5 * CONCEPT[:, None]
    marked = list(samples["sample_id"][(CONCEPT == 1) & (LABELS == 0)][:12])
    told = propagate_marks([varying, rounded()], samples, marked)
    known = np.isfinite(told.values)
    assert (told.values[known] == CONCEPT[known]).mean() > 0.95
