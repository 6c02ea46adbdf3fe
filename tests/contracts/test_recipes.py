"""What every recipe holds to: a student, the biased model left as it was, the same again for a seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_states import model_state
from tagged_images import OPTIONS, TRAINING, small_problem

from shortcutscope.data.table import ImageTable
from shortcutscope.debias import teacher
from shortcutscope.debias.needs import NEEDS, lacking
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.errors import InputError
from shortcutscope.models.fingerprint import model_fingerprint

#: Recipes that take steps of an optimizer only where they begin with new weights.
LAST_LAYER = ("afr", "self", "evals")


def _schedule(calls: list) -> object:
    def schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        calls.append(1)
        return torch.optim.lr_scheduler.ConstantLR(optimizer)

    return schedule


def _optimizer(calls: list) -> object:
    def optimizer(parameters: list) -> torch.optim.Optimizer:
        calls.append(1)
        return torch.optim.SGD(parameters, lr=0.01)

    return optimizer


def _loss(calls: list) -> object:
    def loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return torch.nn.functional.cross_entropy(scores, labels, reduction="none")

    return loss


def _transform(calls: list) -> object:
    def transform(images: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return images

    return transform


#: What a user may bring to a training, each of which notes that it was used.
COUNTED = {
    "optimizer": _optimizer,
    "schedule": _schedule,
    "loss": _loss,
    "augmentation": _transform,
    "callbacks": lambda calls: (calls.append,),
}


@pytest.fixture(autouse=True)
def short_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "MIN_STEPS", 2)


@pytest.fixture(scope="module")
def problem() -> DebiasProblem:
    return small_problem(48, 24, 32)


def answers(model: torch.nn.Module, table: ImageTable) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.stack([table[i][0] for i in range(4)]))


@pytest.mark.parametrize("name", RECIPES)
class TestRecipe:
    def test_it_makes_the_same_student_again_and_leaves_the_model_as_it_was(self, name, problem):
        recipe = RECIPES[name]
        assert not lacking(recipe, problem)
        before, state = model_fingerprint(problem.model), model_state(problem.model)
        draws = torch.get_rng_state()
        students = [recipe(problem, **OPTIONS.get(name, {})).model for _ in range(2)]
        assert torch.equal(torch.get_rng_state(), draws)
        assert model_fingerprint(problem.model) == before
        assert model_state(problem.model) == state
        first, second = (answers(student, problem.train) for student in students)
        assert not students[0].training
        assert first.isfinite().all()
        assert first.shape == answers(problem.model, problem.train).shape
        torch.testing.assert_close(first, second, rtol=0, atol=0)
        trained = {id(p) for p in problem.model.parameters()} & {id(p) for p in students[0].parameters()}
        assert not trained or not recipe.trains

    def test_it_says_what_it_is_and_takes_no_option_that_it_does_not_know(self, name, problem):
        recipe = RECIPES[name]
        assert recipe.name == name
        assert recipe.summary
        assert recipe.needs <= set(NEEDS)
        with pytest.raises(InputError, match=f"recipe '{name}' takes no option 'colour'"):
            recipe(problem, colour="red")

    @pytest.mark.parametrize("part", ["optimizer", "schedule", "augmentation", "loss", "callbacks"])
    def test_it_uses_what_the_user_brings_or_says_that_it_cannot(self, name, part, problem):
        recipe, calls = RECIPES[name], []
        own = replace(problem, training=TRAINING.but(**{part: COUNTED[part](calls)}))
        options = OPTIONS.get(name, {})
        if part in recipe.refuses:
            with pytest.raises(InputError, match=f"recipe '{name}' cannot use {part}="):
                recipe(own, **options)
            assert not calls
            return
        if name in LAST_LAYER:
            with pytest.raises(InputError, match=r"start='fresh'"):
                recipe(own, **options)
            own = replace(own, start="fresh")
        recipe(own, **options)
        assert calls

    def test_it_says_what_it_lacks(self, name, problem):
        bare = replace(
            problem, clean=None, carries=None, masks=None, train=problem.train.replaced(masks=None)
        )
        assert set(lacking(RECIPES[name], bare)) == RECIPES[name].needs - {"conflicting"}
