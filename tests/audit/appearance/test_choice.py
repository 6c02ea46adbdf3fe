"""Which samples are looked at: few, of many patients and both sides; and which are shown together."""

import numpy as np
import pytest

from shortcutscope.audit.appearance import choice
from shortcutscope.audit.appearance.choice import (
    Neighbours,
    looked_at,
    patients_in_turn,
    shown_carriers,
    side_weights,
)


@pytest.mark.parametrize("seed", range(3))
def test_every_patient_comes_before_any_comes_again(seed):
    groups = np.random.default_rng(seed).integers(0, 30, 200)
    order = patients_in_turn(groups, seed)
    turns: dict[int, int] = {}
    counted = [turns.update({g: turns.get(g, 0) + 1}) or turns[g] for g in groups[order].tolist()]
    assert sorted(order.tolist()) == list(range(200))
    assert counted == sorted(counted)


def test_few_are_read_and_rare_carriers_are_among_them():
    n = 20_000
    labels = np.arange(n) % 2
    rare = np.zeros(n)
    rare[17:2017:20] = 1
    rows = looked_at({"rare": rare, "half": labels + 0.0}, labels, np.arange(n), seed=0)
    assert len(rows) <= choice.SHARED + 4 * choice.A_SIDE
    assert rare[rows].sum() >= choice.A_SIDE
    many = {str(k): (np.arange(n) % 500 == k).astype(float) for k in range(300)}
    assert len(looked_at(many, labels, np.arange(n), seed=0)) <= choice.MOST + choice.A_SIDE


def test_all_of_a_small_table_are_read():
    labels = np.arange(50) % 2
    assert looked_at({"a": labels + 0.0}, labels, np.arange(50), seed=0).tolist() == list(range(50))


def test_carriers_of_all_labels_are_shown_the_surest_first():
    labels = np.repeat([0, 1], 50)
    value = np.ones(100)
    scores = np.tile(np.arange(50.0), 2)
    rows = shown_carriers(value, scores, labels, patients_in_turn(np.arange(100), 0))
    assert len(rows) == choice.SHOWN
    assert labels[rows].tolist() == [0, 0, 0, 1, 1, 1]
    assert scores[rows].min() >= 25
    assert len(shown_carriers((np.arange(100) == 3) + 0.0, scores * np.nan, labels, np.arange(100))) == 1


def test_the_nearest_is_of_the_same_label_and_the_concept_does_not_count():
    rng = np.random.default_rng(0)
    kind = np.repeat(np.arange(10), 4)
    labels, value = np.tile([0, 0, 1, 1], 10), np.tile([1.0, 0, 1, 0], 10)
    features = rng.standard_normal((10, 5))[kind] + 9 * value[:, None] * np.array([1, 0, 0, 0, 0])
    near = Neighbours(np.arange(40), features, labels)
    pairs = near.pairs(value, np.flatnonzero(value == 1))
    assert all(pair.other == pair.carrier + 1 for pair in pairs)


def test_where_all_of_a_label_carry_it_there_is_no_neighbour():
    labels, value = np.array([0, 0, 1, 1]), np.array([1.0, 1, 1, 0])
    near = Neighbours(np.arange(4), np.eye(4), labels)
    assert [pair.other for pair in near.pairs(value, np.array([0, 2]))] == [None, 3]


def test_labels_count_alike_on_both_sides():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 300)
    value = (rng.random(300) < np.where(labels == 1, 0.9, 0.2)).astype(float)
    ones, zeros = side_weights(value, labels, np.arange(300))
    assert ones.sum() == pytest.approx(1)
    assert (ones * labels).sum() == pytest.approx((zeros * labels).sum())
    alone = side_weights(np.ones(4), np.zeros(4, int), np.arange(4))
    assert alone[0].tolist() == [0.25] * 4
    assert not alone[1].any()
