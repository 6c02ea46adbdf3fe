"""The difference of the means: as defined, blind to the label, better than a probe where it is faint."""

import numpy as np
import pytest

import shortcutscope as ss
from shortcutscope.benchmarks.suites.embeddings import synthetic
from shortcutscope.embeddings.means import means_p, squared_differences
from shortcutscope.probes.crossfit import Permutations


def drawn(n, width, seed):
    """Features of which the label moves one, in units of their own, and a concept that goes with it."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    concept = np.where(generator.random(n) < 0.8, labels, 1 - labels).astype(float)
    features = generator.normal(size=(n, width)) * generator.uniform(0.1, 10, width)
    features[:, 0] += 30 * labels
    return features, labels, concept


def test_it_is_the_sum_of_squared_t_statistics_within_classes():
    features, labels, concept = drawn(60, 300, 0)
    expected = 0.0
    for column in features.T:
        rest, of = column.copy(), concept.copy()
        for label in (0, 1):
            rest[labels == label] -= rest[labels == label].mean()
            of[labels == label] -= of[labels == label].mean()
        expected += (rest @ of) ** 2 / (of @ of) / np.mean(rest**2)
    value = squared_differences(features, (concept == 1)[None], labels)
    assert value[0] == pytest.approx(expected, rel=1e-12)
    scaled = squared_differences(features * np.arange(1, 301), (concept == 1)[None], labels)
    assert scaled[0] == pytest.approx(expected, rel=1e-9), "units of the features do not count"


def test_nothing_is_found_where_there_is_nothing():
    p = []
    for seed in range(40):
        features, labels, concept = drawn(120, 80, seed)
        concept[::7] = np.nan
        permutations = Permutations(concept[:, None], labels, None, 99, seed)
        p.append(means_p(features, concept, labels, permutations, 0))
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) <= 0.05) <= 0.15


def test_a_faint_difference_of_many_features_is_encoded_and_the_finding_says_by_what():
    features, frame = synthetic("grid", 512, "correlated", 0.2, 100)
    audit = ss.audit_embeddings(
        features,
        frame,
        concepts=["group of it"],
        statistics=ss.Statistics(100, 20),
        correcting=ss.Correcting(methods=()),
    )
    (finding,) = audit.findings
    encoded = finding.encoded
    assert encoded["value"]
    assert encoded["p_means"] < 0.01 < 0.05 < encoded["p_probe"]
    assert encoded["p"] == pytest.approx(2 * encoded["p_means"])
    assert "too little for a probe" in finding.reason
