from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shortcutscope.debias.baselines import erm as module
from shortcutscope.debias.baselines.erm import clean_only, erm, finetune, oracle, pooled
from shortcutscope.debias.teacher import teacher_training
from shortcutscope.errors import InputError


def test_all_take_the_same_number_of_steps_on_biased_samples(problem) -> None:
    assert erm(problem).steps == 2
    mixed = pooled(problem)
    assert mixed.steps == 2
    assert "32 clean samples are 25.0%" in mixed.notes[0]
    assert oracle(problem, table=problem.clean).steps == 2


def test_the_same_seed_gives_the_same_network_and_another_seed_another(problem) -> None:
    def weights(seed: int) -> torch.Tensor:
        return erm(replace(problem, seed=seed, start="fresh")).model.fc.weight.detach()

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize("recipe", [clean_only, finetune])
def test_clean_samples_alone_are_trained_on_as_a_teacher_is(recipe, problem, monkeypatch) -> None:
    seen = {}

    def spy(problem, objective, name, **options):
        seen.update(options)
        return original(problem, objective, name, **options)

    original = module.train
    monkeypatch.setattr(module, "train", spy)
    short = problem.training.but(steps=2)
    outcome = recipe(replace(problem, seed=1, start="fresh"), training=short)
    assert seen["table"] is problem.clean
    assert outcome.steps == 0
    assert outcome.details["clean_steps"] == 2
    assert "2 steps of 16 on the 32 clean samples" in outcome.notes[0]
    # New weights are of another seed than the biased network's.
    moved = (outcome.model.stem[0].weight - problem.model.stem[0].weight).abs().max()
    assert (float(moved.detach()) < 0.05) == (recipe is finetune)


def test_a_teachers_settings_are_the_default(problem, monkeypatch) -> None:
    seen = {}

    def stop(problem, objective, name, **options):
        seen.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        clean_only(problem)
    assert seen["training"] == teacher_training(32, problem.training)


def test_refuses(problem) -> None:
    with pytest.raises(InputError, match="no clean samples"):
        pooled(replace(problem, clean=None))
    with pytest.raises(InputError, match="it needs some of every class"):
        oracle(problem, table=problem.clean.where(label=1))
