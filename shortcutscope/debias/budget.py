"""The budget that every recipe shares, and one training under it."""

from __future__ import annotations

from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.objective import Objective
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.training.fit import Fitted, Training, fit
from shortcutscope.debias.training.settings import Start


def budget(problem: DebiasProblem, share: float = 1.0, start: Start | None = None) -> Training:
    """The settings that all recipes share, with a share of their steps, whatever table is trained on.

    The learning rate is that of a training which begins at `start`; None is the students' start.
    """
    training = problem.schedule(start)
    return training.but(steps=max(1, round(share * training.n_steps(len(problem.train)))))


def fit_student(
    problem: DebiasProblem,
    student: nn.Module,
    objective: Objective,
    training: Training,
    name: str,
    table: ImageTable | None = None,
) -> Fitted:
    """Train a student in place, on the biased samples if `table` is None; selected on the held-out ones."""
    return fit(
        student,
        problem.train if table is None else table,
        objective,
        training,
        validation=problem.validation,
        out=problem.out,
        name=name,
        progress=problem.progress,
    )


def train(
    problem: DebiasProblem,
    objective: Objective,
    name: str,
    *,
    table: ImageTable | None = None,
    model: nn.Module | None = None,
    training: Training | None = None,
    part: str | None = None,
    validate: bool = True,
) -> Outcome:
    """One training.

    Parameters
    ----------
    problem
        Never changed.
    objective
        Moved to the model's device.
    name
        What the bar says.
    table
        Samples; None for the biased ones.
    model
        Trained in place; None for a network as the student starts.
    training
        None for the shared budget.
    part
        Sub-folder of `DebiasProblem.out` for a training that is not the last of its recipe.
    validate
        Select by the held-out biased samples, where there are any; not for what is trained on unbiased ones,
        of which the last weights are taken.
    """
    model = problem.network() if model is None else model
    training = training or budget(problem)
    if not validate:
        training = training.but(select="last", patience=None)
    fit_result = fit(
        model,
        problem.train if table is None else table,
        objective.to(problem.device),
        training,
        validation=problem.validation if validate else None,
        out=None if problem.out is None else problem.out / (part or ""),
        name=name,
        progress=problem.progress,
    )
    return Outcome(fit_result.model, fit_result.steps, fit_result.history, fit_result.notes)
