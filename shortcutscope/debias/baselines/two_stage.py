"""Just train twice: what a short first training gets wrong is drawn more often in the second."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from shortcutscope.allowed import Number
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.budget import budget, train
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.targets import find_logits, predicted_class
from shortcutscope.scan.batches import batches


def jtt(
    problem: DebiasProblem,
    *,
    upweight: Annotated[float, Number(1, whole=False)] = 20.0,
    first_share: Annotated[float, Number(0, 1, whole=False, above=True, below=True)] = 0.2,
) -> Outcome:
    """Just train twice (Liu et al. 2021, algorithm 1): the errors of a first network are drawn more often.

    Sees labels only; it finds conflicting samples by itself, as far as a short training gets them wrong.
    Both networks begin with the same weights, and their steps together are the shared budget.

    Parameters
    ----------
    problem
        Biased samples and labels are enough.
    upweight
        lambda_up: how many times as often an error is drawn as another sample; 10 to 100 in the paper.
    first_share
        Share of the steps that the first network gets.

    Raises
    ------
    InputError
        For a training of a single step.
    """
    total = budget(problem).n_steps(len(problem.train))
    first = min(max(1, round(first_share * total)), total - 1)
    if first < 1:
        raise InputError(f"a training of {total} step cannot be divided in two; give it more epochs or steps")
    training = problem.schedule()
    early = train(problem, CrossEntropy(), "jtt, first", training=training.but(steps=first), part="first")
    wrong = misclassified(early.model, problem.train, training.batch_size)
    objective = CrossEntropy(draws=torch.where(wrong, upweight, 1.0))
    outcome = train(problem, objective, "jtt", training=training.but(steps=total - first))
    errors = int(wrong.sum())
    notes = [f"{first} of {total} steps went into the first network, which got {errors} samples wrong"]
    if not errors:
        notes.append("without an error nothing is drawn more often, so this is ERM; shorten first_share")
    return Outcome(
        outcome.model,
        early.steps + outcome.steps,
        outcome.history,
        (*notes, *outcome.notes),
        {"errors": errors, "first_steps": early.steps},
    )


def misclassified(model: nn.Module, table: ImageTable, batch_size: int) -> Tensor:
    """(N,) bool, on the CPU: the samples that a network gets wrong, in evaluation mode."""
    device = next(model.parameters()).device
    with frozen(model), torch.no_grad():
        wrong = [
            predicted_class(find_logits(model(images.to(device)))).cpu() != labels
            for images, labels, _ in batches(table, batch_size)
        ]
    return torch.cat(wrong)
