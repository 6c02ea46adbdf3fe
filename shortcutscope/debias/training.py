"""One trainer for every recipe: the same steps, the same schedule, the same samples a step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.objective import Batch, Objective
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.thin import seeded

Precision = Literal["bf16", "fp16", "fp32"]
Augmentation = Literal["none", "shifts", "strong"]


@dataclass(frozen=True)
class Training:
    """How a network is trained; the same for every recipe that is compared.

    Attributes
    ----------
    epochs
        Passes over the training table; with `batch_size` it sets the number of steps.
    steps
        Number of optimiser steps, instead of `epochs`.
    batch_size
        Samples per step, over all processes.
    lr, weight_decay
        Peak learning rate and decoupled weight decay of AdamW.
    warmup
        Share of the steps in which the learning rate rises; after it, it falls along a cosine.
    clip_norm
        Largest norm of the gradient; None does not clip.
    precision
        ``"bf16"`` where the device has it in hardware, else float32.
    augmentation
        ``"none"``, ``"shifts"`` (by up to two pixels), or ``"strong"`` for few samples.
    seed
        Of the order of the samples, the augmentation, dropout, and what an objective draws.
    """

    epochs: float = 5
    steps: int | None = None
    batch_size: int = 64
    lr: float = 3e-3
    weight_decay: float = 1e-3
    warmup: float = 0.2
    clip_norm: float | None = None
    precision: Precision = "bf16"
    augmentation: Augmentation = "shifts"
    seed: int = 0

    def n_steps(self, n_samples: int) -> int:
        """Optimiser steps on a table of this size."""
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * max(1, n_samples // self.batch_size)))

    def but(self, **changes: object) -> Training:
        """The same, but for these."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Fitted:
    """A trained model and how the training went.

    Attributes
    ----------
    model
        The object that was given, trained, in evaluation mode.
    steps
        Optimiser steps taken.
    history
        One row per logged step: step, lr, and the mean of every term since the last.
    notes
        What a reader should know: a precision that was not to be had, a checkpoint that was gone on from.
    """

    model: nn.Module
    steps: int
    history: tuple[dict[str, float], ...]
    notes: tuple[str, ...] = ()


def fit(
    model: nn.Module,
    table: ImageTable,
    objective: Objective,
    training: Training | None = None,
    *,
    validation: ImageTable | None = None,
    out: Path | None = None,
    name: str = "train",
    progress: bool = True,
) -> Fitted:
    """Train a model in place.

    Parameters
    ----------
    model
        Classifier; parameters that need no gradient stay as they are.
    table
        Training samples.
    objective
        What is minimised; its parameters are trained along.
    training
        Schedule and options.
    validation
        Samples for the rule of selection.
    out
        Folder of checkpoints and logs; None keeps nothing.
    name
        What the progress bar says.
    progress
        Show a bar.

    Raises
    ------
    InputError
        An option out of range, or nothing to train.
    ModelError
        The loss became NaN or infinite.
    """
    training = training or Training()
    parameters = [p for p in [*model.parameters(), *objective.parameters()] if p.requires_grad]
    if not parameters:
        raise InputError("no parameter of the model requires a gradient; unfreeze what should be trained")
    device = parameters[0].device
    images = torch.stack([table[i][0] for i in range(len(table))])
    labels = torch.as_tensor(table.frame["label"].to_numpy(copy=True), dtype=torch.long)
    steps = training.n_steps(len(table))
    optimizer = torch.optim.AdamW(parameters, lr=training.lr, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, training.warmup))
    generator = torch.Generator().manual_seed(training.seed)
    history: list[dict[str, float]] = []
    model.train()
    objective.train()
    with seeded(training.seed), tqdm(total=steps, desc=name, unit="step", disable=not progress) as bar:
        for step, rows in zip(range(steps), _rows(objective, len(table), training, generator), strict=False):
            batch = Batch(images[rows].to(device), labels[rows].to(device), rows, step / steps, generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
                terms = objective(model, batch)
            loss = torch.stack(list(terms.values())).sum()
            if not math.isfinite(float(loss)):
                raise ModelError(f"the training loss became {float(loss)} at step {step}")
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            history.append({"step": step, **{key: float(value) for key, value in terms.items()}})
            bar.update()
    return Fitted(model.eval(), steps, tuple(history))


def _rate(step: int, steps: int, warmup: float) -> float:
    """Learning rate as a share of its peak: a linear rise, then a half cosine down to zero."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _rows(objective: Objective, n: int, training: Training, generator: torch.Generator) -> Iterator[Tensor]:
    draws = objective.draws()
    size = min(training.batch_size, n)
    while True:
        if draws is None:
            order = torch.randperm(n, generator=generator)
        else:
            order = torch.multinomial(draws.double(), n, replacement=True, generator=generator)
        yield from (part for part in torch.split(order, size) if len(part) == size)
