"""Empirical risk minimisation on the biased, the clean, the pooled and the unbiased samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from shortcutscope.data.sources import ImageSource
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.budget import train
from shortcutscope.debias.materials import Materials, Outcome, Start
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.teacher import require_clean, teacher_training
from shortcutscope.debias.training.fit import Training
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
    chosen = training or teacher_training(len(clean), materials.training)
    model = materials.network(start)
    outcome = train(
        materials, CrossEntropy(), name, table=clean, model=model, training=chosen, validate=False
    )
    note = (
        f"{outcome.steps} steps of {chosen.batch_size} on the {len(clean)} clean samples, none on biased ones"
    )
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


@dataclass(frozen=True, eq=False)
class JoinedSource:
    """The images of one source, then those of another."""

    first: ImageSource
    second: ImageSource

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def read(self, i: int) -> np.ndarray | Tensor:
        """Image `i` in its stored type."""
        source, own = self._find(i)
        return source.read(own)

    def identity(self, i: int) -> str:
        """As the source that image `i` is from says."""
        source, own = self._find(i)
        return source.identity(own)

    def _find(self, i: int) -> tuple[ImageSource, int]:
        split = len(self.first)
        return (self.first, i) if i < split else (self.second, i - split)


def joined(first: ImageTable, second: ImageTable) -> ImageTable:
    """One table of the rows of two, with the roles and without metadata.

    Raises
    ------
    InputError
        When a sample is in both, or value ranges or transforms differ.
    """
    both = set(first.frame["sample_id"]) & set(second.frame["sample_id"])
    if both:
        raise InputError(
            f"{len(both)} samples are in both tables, for instance {min(both)!r}; take the clean samples "
            "out of the biased ones"
        )
    if first.value_range != second.value_range:
        raise InputError(
            f"the tables' value ranges are {first.value_range} and {second.value_range}; read both with the "
            "same"
        )
    if first.transform_fingerprint() != second.transform_fingerprint():
        raise InputError("the tables have different transforms; give both the same, with with_transform")
    roles = ["sample_id", "label", "group", "split"]
    frame = pd.concat([first.frame[roles], second.frame[roles]], ignore_index=True)
    return ImageTable(
        frame,
        JoinedSource(first.source, second.source),
        rows=np.concatenate([first.rows, second.rows + len(first.source)]),
        value_range=first.value_range,
        transform=first.transform,
        classes=first.classes,
    )
