from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from shortcutscope.debias import budget
from shortcutscope.debias.baselines.reweighing import group_balanced, group_balanced_ce, reweighing
from shortcutscope.debias.groups import (
    balanced_weights,
    group_by,
    require_filled,
    reweighing_weights,
    training_groups,
)
from shortcutscope.errors import InputError

NAN = float("nan")


@pytest.fixture
def labels(problem) -> np.ndarray:
    return problem.train.frame["label"].to_numpy()


def test_a_group_is_a_label_and_the_concept_and_unknown_is_none() -> None:
    groups = group_by([0, 3, 3, 0, 3], [0, 1, NAN, 1, 0])
    assert groups.classes == (0, 3)
    assert groups.index.tolist() == [0, 3, -1, 1, 2]
    assert groups.counts.tolist() == [1, 1, 1, 1]
    assert groups.names[3] == "label 3 with the concept"
    assert "1 of 5" in groups.notes[0]
    assert group_by([0, 1], [0, 1]).notes == ()


def test_several_concepts_are_crossed() -> None:
    groups = group_by([0, 0, 3, 3, 3], [0, 1, 1, 1, 0], {"frame": np.array([0.0, 0, 1, NAN, 1])})
    assert groups.index.tolist() == [0, 1, 7, -1, 6]
    assert groups.counts.tolist() == [1, 1, 0, 0, 0, 0, 1, 1]
    assert groups.names[6] == "label 3 without the concept, with frame"


def test_reweighing_makes_the_label_independent_of_the_crossing() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    first, second = ((rng.random(400) < 0.3 + 0.4 * labels).astype(float) for _ in range(2))
    groups = group_by(labels, first, {"second": second})
    weights = reweighing_weights(groups).numpy()
    for state in range(4):
        inside = first + 2 * second == state
        assert np.average(labels[inside], weights=weights[inside]) == pytest.approx(labels.mean(), rel=1e-5)
    by_group = np.bincount(groups.index, balanced_weights(groups).numpy())
    assert by_group == pytest.approx([50] * 8)


def test_a_crossing_with_an_empty_group_is_named(problem, labels) -> None:
    carries = np.arange(len(labels)) % 2 * 1.0
    crossed = replace(problem, carries=carries, concept="tag", beside={"frame": labels.astype(float)})
    with pytest.raises(InputError, match="'label 0 without tag, with frame' or 'label 0 with tag, with fr"):
        training_groups(crossed, "reweighing")
    spread = np.arange(len(labels)) // np.array([[4], [8]]) % 2 * 1.0
    student = group_balanced(replace(crossed, carries=spread[0], beside={"frame": spread[1]}))
    assert next(iter(student.details["groups"])) == "label 0 without tag, without frame"


def test_reweighing_is_what_one_computes_by_hand() -> None:
    # 6 of label 0 (5 without), 4 of label 1 (3 with): P(y=0)P(a=0)/P(0,0) = .6 * .6 / .5.
    labels = [0] * 6 + [1] * 4
    carries = [0] * 5 + [1] + [1] * 3 + [0]
    weights = reweighing_weights(group_by(labels, carries))
    assert weights.tolist() == pytest.approx([0.72] * 5 + [2.4] + [0.16 / 0.3] * 3 + [2.4])


def test_reweighing_makes_label_and_concept_independent_and_keeps_how_frequent_they_are() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    carries = (rng.random(200) < 0.2 + 0.3 * labels).astype(float)
    weights = reweighing_weights(group_by(labels, carries)).numpy()
    assert weights.mean() == pytest.approx(1, abs=1e-6)
    for label in range(3):
        own = labels == label
        assert weights[own].sum() == pytest.approx(own.sum(), rel=1e-5)
        assert np.average(carries[own], weights=weights[own]) == pytest.approx(carries.mean(), rel=1e-5)


def test_balanced_groups_weigh_alike_and_unknown_ones_the_mean() -> None:
    labels = np.repeat([0, 1, 2], 10)
    carries = np.tile([1, 0, 0, 0, 0, 0, 0, 0, 0, NAN], 3)
    groups = group_by(labels, carries)
    weights = balanced_weights(groups).numpy()
    assert weights[groups.known].mean() == pytest.approx(1)
    totals = [weights[groups.index == group].sum() for group in range(6)]
    assert totals == pytest.approx([27 / 6] * 6)
    assert (weights[~groups.known] == 1).all()


@pytest.mark.parametrize("wrong", [[0.5, 1], [2, 0], [float("inf"), 0]])
def test_a_concept_is_one_zero_or_unknown(wrong) -> None:
    with pytest.raises(InputError, match="carries holds"):
        group_by([0, 1], wrong)


def test_lengths_must_match() -> None:
    with pytest.raises(InputError, match="one value per sample"):
        group_by([0, 1, 1], [0, 1])


def test_an_empty_group_is_named_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"lisa .*'label 0 with the concept' or 'label 1 without") as error:
        require_filled(group_by([0, 0, 1, 1], [0, 0, 1, 1]), "lisa")
    assert "distillation" in str(error.value)


@pytest.mark.parametrize("recipe", [reweighing, group_balanced, group_balanced_ce])
def test_recipes_refuse_before_training(recipe, problem, labels, monkeypatch) -> None:
    monkeypatch.setattr(budget, "fit", pytest.fail)
    with pytest.raises(InputError, match="carries is None"):
        recipe(replace(problem, carries=None))
    with pytest.raises(InputError, match="no training sample is of the group"):
        recipe(replace(problem, carries=labels.astype(float)))


@pytest.mark.parametrize("recipe", [reweighing, group_balanced, group_balanced_ce])
def test_recipes_train_within_the_budget_and_leave_the_biased_network_alone(recipe, problem) -> None:
    carries = problem.carries.copy()
    carries[:3] = NAN
    before = {name: value.clone() for name, value in problem.model.state_dict().items()}
    outcome = recipe(replace(problem, carries=carries))
    assert outcome.steps == 2
    assert "3 of 96" in outcome.notes[0]
    assert sum(outcome.details["groups"].values()) == 93
    assert not outcome.model.training
    assert all(torch.equal(before[name], value) for name, value in problem.model.state_dict().items())


def test_group_balanced_draws_groups_alike(problem) -> None:
    groups = training_groups(problem, "test")
    rows = torch.multinomial(
        balanced_weights(groups), 8000, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    assert np.bincount(groups.index[rows.numpy()]) / 8000 == pytest.approx([0.25] * 4, abs=0.02)
