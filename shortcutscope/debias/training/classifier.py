"""Train a classifier the same way for the demo, the benchmarks and the tests: quickly and reproducibly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone reads)
from torch import Tensor, nn

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.training.augmentation import shifted
from shortcutscope.debias.training.hardware import autocast, usable_precision
from shortcutscope.debias.training.images import Images, full_batches, labels_of, require_logits_for
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.memory_format import choose_memory_format
from shortcutscope.models.seeding import seeded
from shortcutscope.progress import progress_bar

__all__ = ["Optimizing", "Precision", "train_classifier"]

Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class Optimizing:
    """How steps are taken.

    Attributes
    ----------
    lr, weight_decay
        Peak learning rate and decoupled weight decay of AdamW.
    batch_size
        Samples per step.
    precision
        ``"bf16"`` runs the forward pass under autocast where the device has bfloat16 in hardware, and
        in float32 elsewhere (emulation would be slower, and on a processor 3-D convolutions are unreliable).

    Raises
    ------
    InputError
        A value out of range.
    """

    lr: float = 3e-3
    batch_size: int = 64
    weight_decay: float = 1e-3
    precision: Precision = "bf16"

    def __post_init__(self) -> None:
        if self.batch_size < 2 or self.lr <= 0 or self.weight_decay < 0:
            raise InputError(f"{self}: allowed are batch_size >= 2, lr > 0 and weight_decay >= 0")
        if self.precision not in ("bf16", "fp32"):
            raise InputError(f"precision is {self.precision!r}; allowed are 'bf16' and 'fp32'")


def train_classifier(
    model: nn.Module,
    table: ImageTable,
    *,
    epochs: int = 5,
    seed: int = 0,
    shifts: int = 2,
    optimizing: Optimizing | None = None,
    progress: bool = True,
) -> nn.Module:
    """Train a model in place by cross-entropy, with AdamW, a one-cycle schedule and small random shifts.

    The schedule is that of Smith & Topin 2019 (super-convergence). Each batch is shifted as a whole by up to
    `shifts` positions along every spatial axis, its border pixels repeated. An incomplete last batch is left
    out of an epoch: batch norm is noisy on few samples.

    Parameters
    ----------
    model
        Classifier with (N, K) logits, or (N, 1) for a binary task; it is trained on the device where it is.
    table
        Training samples, with labels in 0..K-1.
    epochs
        Length of the training.
    seed
        Decides the order of the samples, the shifts and dropout; the initial weights are the caller's.
    shifts
        Largest shift in pixels; 0 turns shifts off.
    optimizing
        Learning rate, batch size, weight decay and precision.
    progress
        Show a bar.

    Returns
    -------
    model
        The same object, in evaluation mode.

    Raises
    ------
    InputError
        An option out of range, fewer than two samples, nothing to train, or a label without a logit.
    ModelError
        The loss became NaN or infinite.

    Examples
    --------
    >>> trained = ss.train_classifier(ss.phantoms.thin_resnet18(), data, epochs=1, progress=False)
    """
    table.require_one_label("the training table")
    if len(table) < 2:
        raise InputError(f"the training table has {len(table)} samples; batch norm needs at least 2")
    if epochs < 1 or shifts < 0:
        raise InputError(f"epochs={epochs}, shifts={shifts}: allowed are epochs >= 1 and shifts >= 0")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("no parameter of the model requires a gradient; unfreeze what should be trained")
    _train(model, table, epochs, seed, shifts, optimizing or Optimizing(), progress)
    # Channels-last strides would follow the weights into checkpoints, which safetensors refuses.
    return model.to(memory_format=torch.contiguous_format).eval()


def _train(
    model: nn.Module,
    table: ImageTable,
    epochs: int,
    seed: int,
    shifts: int,
    optimizing: Optimizing,
    progress: bool,
) -> None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    device, lr, batch_size = parameters[0].device, optimizing.lr, optimizing.batch_size
    images, labels = Images(table), labels_of(table)
    require_logits_for(model, images.example.to(device), labels)
    steps = epochs * max(1, len(table) // batch_size)
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=optimizing.weight_decay)
    # Of five steps a fifth is one, and torch divides by that rise less one.
    rise = 0.2 if steps != 4 else 0.25
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=rise)
    generator = torch.Generator().manual_seed(seed)
    usable, _ = usable_precision(device, optimizing.precision, model)
    example = torch.cat([images.example] * 2).to(device)
    memory_format = choose_memory_format(model, example, training=True)
    memory_format.apply(model)
    model.train()
    with seeded(seed), progress_bar(total=steps, desc="train", unit="step", progress=progress) as bar:
        for step, rows in enumerate(_epochs(len(table), batch_size, epochs, generator)):
            batch = shifted(images.batch(rows), shifts, generator)
            batch = memory_format(batch.to(device))
            with autocast(device, usable):
                logits = find_logits(model(batch))
            loss = _cross_entropy(logits.float(), labels[rows].to(device))
            value = _finite(loss, step, lr)  # a hidden bar does not count
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{value:.3f}", refresh=False)
            bar.update()


def _epochs(n: int, batch_size: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows of each step, newly shuffled in every epoch, only full batches (or the one there is)."""
    for _ in range(epochs):
        yield from full_batches(torch.randperm(n, generator=generator), batch_size)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)


def _finite(loss: Tensor, step: int, lr: float) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ModelError(
            f"the training loss became {value} at step {step}; lower the learning rate (now {lr:g}), or "
            "check the images and the initial weights for NaN"
        )
    return value
