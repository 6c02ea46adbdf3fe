"""Empirical risk minimisation on the biased, the clean, the pooled and the unbiased samples."""

from __future__ import annotations

from shortcutscope.data.joining import joined
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.budget import train
from shortcutscope.debias.materials import Materials, Outcome
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.teacher import require_clean, teacher_training
from shortcutscope.debias.training.fit import Training
from shortcutscope.debias.training.settings import Start
from shortcutscope.errors import InputError


def erm(materials: Materials) -> Outcome:
    """Cross-entropy on the biased samples: what the biased network itself is trained by.

    Sees labels only.
    """
    return train(materials, CrossEntropy(), "erm")


def clean_only(
    materials: Materials, *, start: Start | None = None, training: Training | None = None
) -> Outcome:
    """Cross-entropy on the clean subset alone: the specialist teacher, as a network of its own.

    Sees the labels of the clean samples. No step is taken on the biased samples; on the clean ones it takes
    as many as a teacher does, in the same batches, at the same rate.

    Parameters
    ----------
    materials
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
    return _on_clean(materials, start or materials.start, training, "clean-only")


def finetune(materials: Materials, *, training: Training | None = None) -> Outcome:
    """The biased network, fine-tuned on the clean subset (all its weights).

    Sees the labels of the clean samples. The biased network stands for the training on the biased samples,
    so that all further steps are on clean ones, as many as a teacher takes.

    Parameters
    ----------
    materials
        With `clean`.
    training
        None for `shortcutscope.debias.teacher.teacher_training`.

    Raises
    ------
    InputError
        Without clean samples of every class.
    """
    return _on_clean(materials, "model", training, "finetune")


def _on_clean(materials: Materials, start: Start, training: Training | None, name: str) -> Outcome:
    clean = require_clean(materials)
    schedule = training or teacher_training(len(clean), materials.training, start)
    model = materials.network(start)
    outcome = train(
        materials, CrossEntropy(), name, table=clean, model=model, training=schedule, validate=False
    )
    steps, size = outcome.steps, schedule.batch_size
    note = f"{steps} steps of {size} on the {len(clean)} clean samples, none on biased ones"
    return Outcome(outcome.model, 0, outcome.history, (note, *outcome.notes), {"clean_steps": outcome.steps})


def pooled(materials: Materials) -> Outcome:
    """Cross-entropy on the biased and the clean samples together.

    Sees the labels of both. Takes as many steps as other recipes, on batches of both.

    Raises
    ------
    InputError
        Without clean samples of every class, or when they are read otherwise than the biased ones.
    """
    clean = require_clean(materials)
    table = joined(materials.train, clean)
    note = f"{len(clean)} clean samples are {len(clean) / len(table):.1%} of what is drawn"
    return train(materials, CrossEntropy(), "pooled", table=table, notes=(note,))


def oracle(materials: Materials, *, table: ImageTable) -> Outcome:
    """Cross-entropy on samples in which the shortcut tells nothing of the label: what could be reached.

    Takes as many steps as other recipes. A yardstick, not a remedy.

    Parameters
    ----------
    materials
        For the network and the budget.
    table
        The unbiased samples, best of the size of the biased table.

    Raises
    ------
    InputError
        Without samples, or when a class of the biased table has none.
    """
    if len(table) == 0 or not set(materials.train.frame["label"]) <= set(table.frame["label"]):
        raise InputError(
            f"the unbiased table has {len(table)} samples of the labels "
            f"{sorted(set(table.frame['label'].tolist()))}; it needs some of every class of the biased one, "
            f"{sorted(set(materials.train.frame['label'].tolist()))}"
        )
    return train(materials, CrossEntropy(), "oracle", table=table, validate=False)
