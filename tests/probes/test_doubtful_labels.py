"""Doubtful labels: found where labels are wrong, and not where a concept merely goes with them."""

import numpy as np

from shortcutscope.probes.doubtful_labels import doubtful_conflicts, doubtful_labels

N = 600
RNG = np.random.default_rng(0)
TRUTH = np.arange(N) % 3
FEATURES = RNG.standard_normal((N, 12)) + 4.0 * np.eye(12)[TRUTH]
WRONG = RNG.random(N) < 0.1
LABELS = np.where(WRONG, (TRUTH + 1) % 3, TRUTH)


def test_wrong_labels_are_doubtful_and_right_ones_are_not():
    doubtful = doubtful_labels(FEATURES, LABELS, np.arange(N))
    assert doubtful[WRONG].mean() > 0.6
    assert doubtful[~WRONG].mean() < 0.02


def test_a_concept_is_suspect_where_what_goes_against_it_is_mislabelled():
    doubtful = doubtful_labels(FEATURES, LABELS, np.arange(N))
    truth, positive = (TRUTH == 1).astype(float), LABELS == 1
    rows = doubtful_conflicts(truth, positive, 0.9, doubtful)
    assert len(rows) >= 0.5 * (truth != positive).sum()
    assert (truth[rows] != positive[rows]).all()
    np.testing.assert_array_equal(rows, doubtful_conflicts(1 - truth, positive, -0.9, doubtful))
    tag = np.where(RNG.random(N) < 0.85, positive, ~positive).astype(float)
    assert not len(doubtful_conflicts(tag, positive, 0.7, doubtful))


def test_few_samples_or_one_class_in_a_fold_say_nothing():
    doubtful = np.ones(N, bool)
    concept = (LABELS == 1).astype(float)
    concept[0] = 1 - concept[0]
    assert not len(doubtful_conflicts(concept, LABELS == 1, 1.0, doubtful))
    one_patient = np.where(LABELS == 2, -1, np.arange(N))  # no fold can learn its class
    found = doubtful_labels(FEATURES, LABELS, one_patient)
    assert not found[~WRONG & (LABELS != 2)].mean() > 0.02
    assert not doubtful_labels(FEATURES, (LABELS == 2).astype(int), one_patient).any()
