"""Where a teacher begins: what the choice sees, how it is made, and when there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from shortcutscope.debias import teacher as teachers
from shortcutscope.debias.distillation import teacher_start as module
from shortcutscope.debias.distillation.options import Distillation
from shortcutscope.debias.distillation.recipe import distil
from shortcutscope.debias.distillation.teacher_start import choose_start, teacher_start
from shortcutscope.debias.groups import has_conflicting
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.errors import InputError


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "MIN_STEPS", 2)
    monkeypatch.setattr(module, "RESAMPLES", 50)
    monkeypatch.setattr(module, "FOLDS", 2)


@pytest.fixture
def fully_correlated(problem):
    """No biased sample goes against the shortcut, and the biased network reads the tag alone."""
    labels = problem.train.frame["label"].to_numpy()
    return replace(problem, carries=labels.astype(float))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, fully_correlated) -> Callable[..., None]:
    """Make teachers of either start predict what is told, and the biased network the carriers."""
    clean = fully_correlated.clean
    carriers = dict(zip(clean.frame["sample_id"], clean.frame["tag"], strict=True))

    def tell(**by_start: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        def predicted(given, own, held, start):
            tags = np.array([carriers[name] for name in held.frame["sample_id"]])
            z = by_start[start](held.frame["label"].to_numpy(), tags)
            return torch.as_tensor(np.stack([-z, z], 1))

        def biased(model, table):
            z = table.frame["tag"].to_numpy(float) - 0.5
            return torch.as_tensor(np.stack([-z, z], 1))

        monkeypatch.setattr(module, "_predict", predicted)
        monkeypatch.setattr(module, "predict_logits", biased)

    return tell


def test_the_biased_networks_errors_decide_and_not_what_agrees_with_the_shortcut(told, fully_correlated):
    """A teacher that keeps the shortcut is right on half of the samples, and wrong where it matters."""
    told(model=lambda y, a: 2.0 * a + 0.5 * y, fresh=lambda y, a: np.where(np.arange(len(y)) % 4, y, 0.5))
    choice = choose_start(fully_correlated)
    frame = fully_correlated.clean.frame
    assert choice.start == "fresh"
    assert choice.n_judged == (frame["tag"] != frame["label"]).sum()
    assert choice.aurocs["model"] == 0
    assert "biased network gets wrong" in choice.reason
    assert "with new weights" in choice.reason


def test_the_biased_network_is_kept_where_it_is_clearly_better(told, fully_correlated):
    told(model=lambda y, a: y + 0.0, fresh=lambda y, a: a + 0.0)
    choice = choose_start(fully_correlated)
    assert (choice.start, choice.aurocs["model"]) == ("model", 1)
    assert "from the biased network" in choice.reason


def test_a_tie_goes_to_the_weights_that_never_saw_the_shortcut(told, fully_correlated):
    told(model=lambda y, a: y + 0.0, fresh=lambda y, a: y + 0.0)
    assert choose_start(fully_correlated).start == "fresh"


def test_no_teacher_sees_biased_samples_nor_those_it_is_judged_on(monkeypatch, fully_correlated):
    seen = []
    trained = module._predict

    def watched(given, own, held, start):
        seen.append((start, set(own.frame["sample_id"]), set(held.frame["sample_id"])))
        assert not set(own.frame["group"]) & set(held.frame["group"])
        return trained(given, own, held, start)

    # Pairs of images are of one patient.
    pairs = np.array([f"patient {k // 2}" for k in range(len(fully_correlated.clean))])
    clean = fully_correlated.clean.with_columns(group=pairs)
    monkeypatch.setattr(module, "_predict", watched)
    given = replace(fully_correlated, clean=clean)
    choice = choose_start(given)
    first, everyone = list(seen), set(clean.frame["sample_id"])
    for start in ("fresh", "model"):
        own = [(rest, held) for name, rest, held in first if name == start]
        assert sum(len(held) for _, held in own) == len(everyone)
        assert all(rest | held == everyone and not rest & held for rest, held in own)
    # Other biased images and labels change nothing.
    flipped = given.train.with_columns(label=1 - given.train.frame["label"].to_numpy())
    assert choose_start(replace(given, train=flipped.take(np.arange(40)))) == choice
    sizes = [len(rest) for _, rest, _ in first]
    assert choice.steps == sum(teachers.teacher_training(n, given.training).n_steps(n) for n in sizes)


def test_there_is_a_choice_only_where_no_sample_goes_against_the_shortcut(told, problem, fully_correlated):
    told(model=lambda y, a: a + 0.0, fresh=lambda y, a: y + 0.0)
    assert has_conflicting(problem)
    assert not has_conflicting(fully_correlated)
    assert teacher_start(problem, "auto") is None
    assert teacher_start(replace(problem, carries=None), "auto") is None
    assert teacher_start(fully_correlated, "model") is None
    assert teacher_start(fully_correlated, "auto") is not None


def test_too_few_patients_are_no_ground_for_a_choice(fully_correlated):
    alone = fully_correlated.clean.with_columns(
        group=fully_correlated.clean.frame["label"].astype(str).to_numpy()
    )
    choice = choose_start(replace(fully_correlated, clean=alone))
    assert (choice.start, choice.steps) == ("model", 0)
    assert "too few patients" in choice.reason


def test_three_classes_are_judged_one_against_the_rest():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 6)
    logits = rng.normal(size=(18, 3)) + 2 * np.eye(3)[labels]
    scores = module.comparable_scores(torch.as_tensor(logits))
    assert scores.shape == (18, 3)
    each = []
    for k in range(3):
        own, rest = scores[labels == k, k], scores[labels != k, k]
        each.append((own[:, None] > rest).mean())
    assert module.mean_auroc(labels, scores) == pytest.approx(np.mean(each))
    error = module._standard_error(labels, {"model": scores, "fresh": scores}, np.arange(18), 0)
    assert error == 0


def test_the_recipe_says_where_its_teacher_began_and_what_that_cost(told, fully_correlated, problem):
    told(model=lambda y, a: a + 0.0, fresh=lambda y, a: y + 0.0)
    outcome = RECIPES["clean-distillation"](fully_correlated)
    (note,) = [note for note in outcome.notes if note.startswith("the teacher began")]
    assert "steps on clean samples beside the budget" in note
    assert outcome.details["teacher_start"]["start"] == "fresh"
    assert outcome.steps == 2
    elsewhere = RECIPES["clean-distillation"](problem)
    assert "teacher_start" not in elsewhere.details
    with pytest.raises(InputError, match="teacher_start='new'; allowed are 'model', 'fresh', 'auto'"):
        distil(problem, Distillation(form=None), teacher_start="new")
