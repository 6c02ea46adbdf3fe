"""One trainer for every recipe: the same steps, the same schedule, the same samples a step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.objective import Objective
from shortcutscope.debias.training.loop import TrainingLoop
from shortcutscope.debias.training.settings import Augmentation, Precision, Select, Training

__all__ = ["Augmentation", "Fitted", "Precision", "Select", "Training", "fit"]


@dataclass(frozen=True)
class Fitted:
    """A trained model and how the training went.

    Attributes
    ----------
    model
        The object that was given, trained, in evaluation mode.
    steps
        Optimiser steps taken, those before an interruption included.
    history
        One row per logged step: how many steps were taken, the learning rate, the mean of every term since
        the last row, and what validation gave.
    notes
        What a reader should know: a precision that was not to be had, a checkpoint that was gone on from,
        which weights were chosen.
    selected_step
        After how many steps the model had the weights that it has now.
    """

    model: nn.Module
    steps: int
    history: tuple[dict[str, float], ...]
    notes: tuple[str, ...] = ()
    selected_step: int = 0


def fit(
    model: nn.Module,
    table: ImageTable,
    objective: Objective,
    training: Training | None = None,
    *,
    validation: ImageTable | None = None,
    out: str | Path | None = None,
    name: str = "train",
    progress: bool = True,
) -> Fitted:
    """Train a model in place, as `training` says: by default AdamW with a linear warm-up and a cosine.

    Started by ``torchrun`` or ``accelerate launch``, every process takes its share of each batch, and they
    end with the same model. (Each has batch norm of its own share, and an objective sees its own share.)
    A single process trains on the device where the model is.

    Parameters
    ----------
    model
        Classifier; parameters that need no gradient stay as they are, and parts that have no others stay in
        evaluation mode.
    table
        Training samples.
    objective
        What is minimised; its parameters are trained along.
    training
        Schedule and options; without a learning rate, that of new weights.
    validation
        Samples for the rule of selection.
    out
        Folder of checkpoints and logs; None keeps nothing. A training that was interrupted goes on from its
        last checkpoint, and ends as if it had not been. ``log.jsonl`` has the rows of the history; where
        the package ``tensorboard`` is installed, ``events/`` has them for TensorBoard.
    name
        What the progress bar says.
    progress
        Show a bar.

    Raises
    ------
    InputError
        An option out of range, nothing to train, too few samples, a label without a logit, or a rule of
        selection without validation samples.
    StaleRunError
        `out` holds another training.
    ModelError
        The loss or a weight became NaN or infinite. The model then has the weights of its last checkpoint,
        or those from before the training.
    """
    loop = TrainingLoop(
        model,
        table,
        objective,
        (training or Training()).beginning("fresh"),
        validation,
        None if out is None else Path(out),
    )
    loop.run(name, progress)
    return Fitted(model, loop.done, tuple(loop.log.rows), tuple(loop.notes), loop.selected)
