import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shortcutscope.errors import InputError
from shortcutscope.probes.association import associate, phi_coefficient, recorded


@given(st.integers(0, 10_000))
def test_phi_is_the_pearson_correlation_and_weights_repeat_samples(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2, 30).astype(float), rng.integers(0, 2, 30).astype(float)
    a[:2], b[:2] = (0, 1), (1, 0)
    weights = rng.integers(0, 3, (4, 30))
    weights[:, :2] = 1
    assert phi_coefficient(a, b)[0] == pytest.approx(stats.pearsonr(a, b)[0], abs=1e-9)
    for row, value in zip(weights, phi_coefficient(a, b, weights), strict=True):
        repeated = stats.pearsonr(np.repeat(a, row), np.repeat(b, row))[0]
        assert value == pytest.approx(repeated, abs=1e-9)


def test_swapping_the_values_of_the_concept_turns_the_sign_only():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    t = (rng.random(200) < np.where(y == 1, 0.8, 0.2)).astype(float)
    one, other = (associate(v, y, np.arange(200)) for v in (t, 1 - t))
    assert one.phi == pytest.approx(-other.phi)
    assert one.p == pytest.approx(other.p)
    assert one.conflicting == other.conflicting
    assert one.interval[0] == pytest.approx(-other.interval[1])
    assert one.carriers_by_class["1"] == pytest.approx(t[y == 1].mean())


def test_p_counts_patients_not_images():
    y = np.repeat([0, 1], 500)
    t = y.astype(float)
    few_patients = np.repeat(np.arange(10), 100)
    assert associate(t, y, np.arange(1000)).p < 1e-100
    assert associate(t, y, few_patients).p == pytest.approx(stats.fisher_exact([[5, 0], [0, 5]])[1])


def test_of_several_classes_the_most_associated_one_is_taken():
    y = np.repeat([0, 1, 2], 50)
    t = (y == 2).astype(float)
    assert associate(t, y, np.arange(150)).positive == 2


def test_one_class_is_refused():
    with pytest.raises(InputError, match="two classes"):
        associate(np.array([0.0, 1.0]), np.array([1, 1]), np.arange(2))


def test_s8_an_association_is_read_from_a_finding_as_it_was_measured():
    labels = np.arange(200) % 2
    concept = np.where(np.arange(200) % 20 < 18, labels, 1 - labels).astype(float)
    measured = associate(concept, labels, np.arange(200), n_bootstrap=20)
    kept = recorded(json.loads(json.dumps(asdict(measured))))
    assert kept == replace(measured, conflicting=None)
    assert recorded({}) is None
    assert recorded({"phi": None, "p": 0.2}) is None
