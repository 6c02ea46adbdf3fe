"""Empirical risk minimisation on the biased, the clean, the pooled and the unbiased samples."""

from __future__ import annotations

from shortcutscope.data.joining import joined
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.budget import train
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.teacher import require_clean, teacher_training
from shortcutscope.debias.training.fit import Training
from shortcutscope.debias.training.settings import Start
from shortcutscope.errors import InputError


def erm(problem: DebiasProblem) -> Outcome:
    """Cross-entropy on the biased samples: what the biased network itself is trained by.

    Sees labels only.
    """
    return train(problem, CrossEntropy(), "erm")


def clean_only(
    problem: DebiasProblem, *, start: Start | None = None, training: Training | None = None
) -> Outcome:
    """Cross-entropy on the clean subset alone: the specialist teacher, as a network of its own.

    Sees the labels of the clean samples. No step is taken on the biased samples; on the clean ones it takes
    as many as a teacher does, in the same batches, at the same rate.

    Parameters
    ----------
    problem
        With `clean`.
    start
        Where it begins; None as a student does.
    training
        None for `shortcutscope.debias.teacher.teacher_training`.

    Raises
    ------
    InputError
        Without clean samples of every class.
    """
    return _on_clean(problem, start or problem.start, training, "clean-only")


def finetune(problem: DebiasProblem, *, training: Training | None = None) -> Outcome:
    """The biased network, fine-tuned on the clean subset (all its weights).

    Sees the labels of the clean samples. The biased network stands for the training on the biased samples,
    so that all further steps are on clean ones, as many as a teacher takes.

    Parameters
    ----------
    problem
        With `clean`.
    training
        None for `shortcutscope.debias.teacher.teacher_training`.

    Raises
    ------
    InputError
        Without clean samples of every class.
    """
    return _on_clean(problem, "model", training, "finetune")


def _on_clean(problem: DebiasProblem, start: Start, training: Training | None, name: str) -> Outcome:
    clean = require_clean(problem)
    schedule = training or teacher_training(len(clean), problem.schedule(start), start)
    model = problem.network(start)
    outcome = train(
        problem, CrossEntropy(), name, table=clean, model=model, training=schedule, validate=False
    )
    steps, size = outcome.steps, schedule.batch_size
    note = f"{steps} steps of {size} on the {len(clean)} clean samples, none on biased ones"
    return Outcome(outcome.model, 0, outcome.history, (note, *outcome.notes), {"clean_steps": outcome.steps})


def pooled(problem: DebiasProblem) -> Outcome:
    """Cross-entropy on the biased and the clean samples together.

    Sees the labels of both. Takes as many steps as other recipes, on batches of both.

    Raises
    ------
    InputError
        Without clean samples of every class, or when they are read otherwise than the biased ones.
    """
    clean = require_clean(problem)
    table = joined(problem.train, clean)
    note = f"{len(clean)} clean samples are {len(clean) / len(table):.1%} of what is drawn"
    return train(problem, CrossEntropy(), "pooled", table=table).with_notes([note])


def oracle(problem: DebiasProblem, *, table: ImageTable) -> Outcome:
    """Cross-entropy on samples in which the shortcut tells nothing of the label: what could be reached.

    Takes as many steps as other recipes. A yardstick, not a remedy.

    Parameters
    ----------
    problem
        For the network and the budget.
    table
        The unbiased samples, best of the size of the biased table.

    Raises
    ------
    InputError
        Without samples, or when a class of the biased table has none.
    """
    if len(table) == 0 or not set(problem.train.frame["label"]) <= set(table.frame["label"]):
        raise InputError(
            f"the unbiased table has {len(table)} samples of the labels "
            f"{sorted(set(table.frame['label'].tolist()))}; it needs some of every class of the biased one, "
            f"{sorted(set(problem.train.frame['label'].tolist()))}"
        )
    return train(problem, CrossEntropy(), "oracle", table=table, validate=False)
