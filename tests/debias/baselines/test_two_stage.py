from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shortcutscope.debias.baselines import two_stage as module
from shortcutscope.debias.baselines.two_stage import jtt, misclassified
from shortcutscope.errors import InputError


def test_errors_are_those_of_a_plain_loop(problem) -> None:
    wrong = misclassified(problem.model, problem.train, 10)
    with torch.no_grad():
        loop = [int(problem.model(image[None]).argmax()) != label for image, label, _ in problem.train]
    assert wrong.tolist() == loop


def test_both_trainings_together_are_the_budget(problem, monkeypatch) -> None:
    seen = []

    def spy(problem, objective, name, **options):
        seen.append((options["training"].steps, objective.draws()))
        return original(problem, objective, name, **options)

    original = module.train
    monkeypatch.setattr(module, "train", spy)
    outcome = jtt(replace(problem, training=problem.training.but(steps=5)), upweight=30)
    assert [steps for steps, _ in seen] == [1, 4]
    assert outcome.steps == 5
    assert seen[0][1] is None
    assert int((seen[1][1] == 30).sum()) == outcome.details["errors"]
    assert int((seen[1][1] == 1).sum()) == 96 - outcome.details["errors"]
    assert "1 of 5 steps" in outcome.notes[0]


def test_refuses(problem) -> None:
    with pytest.raises(InputError, match="cannot be divided"):
        jtt(replace(problem, training=problem.training.but(steps=1)))
