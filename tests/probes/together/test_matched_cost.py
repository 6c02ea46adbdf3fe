"""What a concept costs with another held fixed: weights by hand, and truths that are known."""

import numpy as np
import pytest

from shortcutscope.probes.association import associate
from shortcutscope.probes.together.matched_cost import matched_cost, matching_weights

N = 2000
LABELS = np.arange(N) % 2
RNG = np.random.default_rng(0)
CAUSE = (RNG.random(N) < np.where(LABELS == 1, 0.7, 0.3)).astype(float)
BYSTANDER = np.where(RNG.random(N) < 0.8, CAUSE, 1 - CAUSE)
MARGINS = 2.0 * CAUSE + 1.0 * LABELS + RNG.standard_normal(N)
SCORED = (LABELS, np.arange(N), MARGINS)


def cost(concept, other, scored=SCORED, **options):
    association = associate(concept, LABELS, scored[1])
    return matched_cost(concept, other[:, None], scored, association, n_bootstrap=40, seed=0, **options)


def test_weights_make_the_other_as_frequent_with_the_concept_as_without():
    weights = matching_weights(BYSTANDER.astype(int), np.column_stack([LABELS, CAUSE]), LABELS)
    for label in (0, 1):
        shares = []
        for value in (0, 1):
            rows = (label == LABELS) & (value == BYSTANDER)
            assert weights[rows].sum() == pytest.approx(rows.sum())
            shares.append(np.average(CAUSE[rows], weights=weights[rows]))
        assert shares[0] == pytest.approx(shares[1])
        assert shares[0] == pytest.approx(CAUSE[label == LABELS].mean())


def test_a_bystander_costs_nothing_once_the_cause_is_held_fixed():
    alone = matched_cost(
        BYSTANDER, np.empty((N, 0)), SCORED, associate(BYSTANDER, LABELS, SCORED[1]), n_bootstrap=40, seed=0
    )
    held = cost(BYSTANDER, CAUSE)
    assert alone["value"] > 0.15
    assert held["interval"][0] < 0 < held["interval"][1]
    assert cost(CAUSE, BYSTANDER)["interval"][0] > 0.3


def test_the_value_called_present_changes_nothing():
    assert cost(1 - CAUSE, BYSTANDER)["value"] == pytest.approx(cost(CAUSE, BYSTANDER)["value"])
    assert cost(CAUSE, 1 - BYSTANDER)["value"] == pytest.approx(cost(CAUSE, BYSTANDER)["value"])


def test_without_counterparts_nothing_is_measured():
    said = cost(CAUSE, CAUSE)
    assert (said["value"], said["n"]) == (None, 0)
    assert "10 are needed" in said["why"]
    unknown = np.full(N, np.nan)
    unknown[:20] = BYSTANDER[:20]
    assert cost(CAUSE, unknown)["value"] is None
