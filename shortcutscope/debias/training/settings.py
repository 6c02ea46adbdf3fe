"""How a network is trained, and what is wrong with such a wish."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Literal, get_args

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from shortcutscope.debias.callables import (
    Callback,
    OptimizerMaker,
    SampleLosses,
    ScheduleMaker,
    Transform,
    name_of,
    source_digest,
)
from shortcutscope.errors import InputError
from shortcutscope.types import Record

__all__ = [
    "RATES",
    "RATES_OF_LAYER_NORM",
    "Augmentation",
    "Optimizer",
    "Precision",
    "Schedule",
    "Select",
    "Start",
    "Training",
    "default_rate",
]

Precision = Literal["bf16", "fp16", "fp32"]
Augmentation = Literal["none", "shifts", "strong", "symmetries"]
Select = Literal["last", "loss", "accuracy", "worst-class"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "exponential"]
#: Where a training begins: new weights, or those of the biased network.
Start = Literal["fresh", "model"]

#: Peak learning rates of AdamW by where a training begins. What a network has learnt is kept by small steps:
#: a tenth of what new weights need, as pretrained networks are commonly fine-tuned.
RATES: dict[Start, float] = {"fresh": 3e-3, "model": 3e-4}
#: The same of networks with layer norm instead of batch norm, such as transformers: new weights of a ViT
#: learn next to nothing at 3e-3 (docs/debiasing.md, pretrained networks).
RATES_OF_LAYER_NORM: dict[Start, float] = {"fresh": 3e-4, "model": 3e-4}
#: What is left of an exponential schedule's learning rate after an epoch.
FALL = 0.95

#: What may differ between a training and its resumption: none of it changes the weights.
_WITHOUT_EFFECT = ("checkpoint_every", "workers")


#: Options that may be the user's own function, what it has to be, and what is used where nothing is said.
_OWN = {
    "optimizer": "a function from parameters to a torch.optim.Optimizer (of each training its own)",
    "schedule": "a function from an optimizer to its torch.optim.lr_scheduler.LRScheduler",
    "augmentation": "a function from a batch of images to another",
    "loss": "a function from scores (N, K) and classes (N,) to the losses of the samples (N,)",
}

#: Options that are one of some words.
_WORDS = {
    "precision": Precision,
    "augmentation": Augmentation,
    "select": Select,
    "optimizer": Optimizer,
    "schedule": Schedule,
}


def default_rate(start: Start, network: nn.Module | None = None) -> float:
    """The peak learning rate of AdamW where none was given, by where a training begins and by the network.

    A network that is not known counts as one with batch norm.
    """
    modules = [] if network is None else list(network.modules())
    by_batch = any(isinstance(module, _BatchNorm) for module in modules)
    by_layer = any(isinstance(module, nn.LayerNorm) for module in modules)
    return (RATES_OF_LAYER_NORM if by_layer and not by_batch else RATES)[start]


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
    lr
        Peak learning rate; None is that of `default_rate`, which is AdamW's, for where a training begins and
        for the network. Left out where `optimizer` is a function, which knows its own.
    weight_decay
        Decoupled, of AdamW; of SGD a part of the gradient.
    optimizer
        ``"adamw"``, or ``"sgd"`` with a momentum of .9, whose learning rate has to be given. Or the user's
        own: a function from a list of parameters to a ``torch.optim.Optimizer``, whose learning rates are
        the peaks of the schedule; or a class of optimizers, which is given `lr` and, where it takes one,
        `weight_decay`.
    schedule
        ``"cosine"``: the learning rate rises, then falls to zero along half a cosine. ``"exponential"``: it
        rises, then falls to `FALL` of itself with every epoch of `epochs`. Or the user's own: a function
        from the optimizer to a ``torch.optim.lr_scheduler.LRScheduler``, which then makes a step after every
        step of the optimizer; `warmup` has no effect on it.
    warmup
        Share of the steps in which the learning rate rises.
    clip_norm
        Largest norm of the gradient; None does not clip.
    precision
        ``"bf16"`` where the device has it in hardware and ``"fp16"`` on CUDA devices, else float32.
        ``"fp32"`` leaves the model's own precision alone.
    augmentation
        ``"none"``, ``"shifts"`` (by up to two pixels), or ``"strong"`` for few samples: every sample is
        turned, scaled, shifted, brightened and made noisy in its own way. ``"symmetries"`` is for images in
        which place and direction say nothing of the label, as in microscopy: every sample is mirrored, turned
        by right angles and rolled about its edges by any amount. Or the user's own: a function from a batch
        of inputs ``(N, C, *spatial)``, on the model's device, to as many; torch's generator is seeded for
        every step.
    loss
        The user's own, of every sample: a function from scores (N, K) and classes (N,) to losses (N,), such
        as ``torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1)``. None is the cross-entropy.
        Recipes whose loss is their own refuse it.
    callbacks
        Functions that are called after every epoch, see `shortcutscope.debias.callables.Callback`: one
        that returns True ends the training.
    select
        Which weights are returned: the ``"last"``, those of least cross-entropy (``"loss"``), of best
        accuracy or of best worst-class accuracy on the validation samples. Worst-class accuracy finds nearly
        the model that worst-group accuracy would, and needs no labels of the shortcut (Yang et al. 2023,
        "Change is hard").
    patience
        Stop after this many validations without a better one; None never stops early.
    validate_every
        Steps between validations; None validates where `select` needs it, after every epoch or about twenty
        times, whichever is rarer.
    ema
        Decay of an exponential moving average of the weights, which is then what is validated and returned;
        None keeps none.
    checkpoint_every
        Steps between checkpoints; None writes one after every epoch or about twenty, whichever is rarer.
    log_every
        Steps between rows of the log; None writes about a hundred rows.
    workers
        Processes that read images where these do not fit into memory; 0 reads them in this one.
    seed
        Of the order of the samples, the augmentation, dropout, and what an objective draws.

    Raises
    ------
    InputError
        When a value is out of range.

    Examples
    --------
    >>> training = ss.Training(epochs=2, batch_size=50, lr=1e-3)
    >>> training.n_steps(100), training.rate(0, 4) > training.rate(3, 4), training.peak("fresh")
    (4, True, 0.001)
    >>> training.but(epochs=1).n_steps(100), training.beginning("model").lr
    (2, 0.001)
    >>> isinstance(training.identity(), dict)
    True
    """

    epochs: float = 5
    steps: int | None = None
    batch_size: int = 64
    lr: float | None = None
    weight_decay: float = 1e-3
    optimizer: Optimizer | OptimizerMaker = "adamw"
    schedule: Schedule | ScheduleMaker = "cosine"
    warmup: float = 0.2
    clip_norm: float | None = None
    precision: Precision = "bf16"
    augmentation: Augmentation | Transform = "shifts"
    loss: SampleLosses | None = field(default=None, repr=False)
    callbacks: tuple[Callback, ...] = field(default=(), repr=False)
    select: Select = "last"
    patience: int | None = None
    validate_every: int | None = None
    ema: float | None = None
    checkpoint_every: int | None = None
    log_every: int | None = None
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        self._check("epochs", self.epochs > 0, "above 0")
        self._check("batch_size", self.batch_size >= 2, "2 or more, for batch norm")
        self._check("lr", self.lr is None or self.lr > 0, "above 0, or None")
        self._check("weight_decay", self.weight_decay >= 0, "0 or more")
        self._check("warmup", 0 <= self.warmup <= 1, "from 0 to 1")
        self._check("clip_norm", self.clip_norm is None or self.clip_norm > 0, "above 0, or None")
        self._check("ema", self.ema is None or 0 < self.ema < 1, "above 0 and below 1, or None")
        self._check("workers", self.workers >= 0, "0 or more")
        self._check("seed", self.seed >= 0, "0 or more")
        for name in ("steps", "patience", "validate_every", "checkpoint_every", "log_every"):
            value = getattr(self, name)
            self._check(name, value is None or value >= 1, "1 or more, or None")
        self._check_choices()
        self._check("lr", self.optimizer != "sgd" or self.lr is not None, "given for optimizer='sgd'")
        self._check("lr", self.lr is None or not self.has_own_rate, "left out where optimizer is a function")
        if self.patience is not None and self.select == "last":
            raise InputError(
                f"patience={self.patience} needs a rule of what is better: select='loss' or 'worst-class'"
            )

    def n_steps(self, n_samples: int) -> int:
        """Optimiser steps on a table of this size."""
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * max(1, n_samples // self.batch_size)))

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step, counted from 0: a linear rise, then as `schedule` says."""
        return self.peak("fresh") * self.factor(step, steps)

    def factor(self, step: int, steps: int) -> float:
        """Share of the peak learning rate that a step has."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return (step + 1) / rising
        if self.schedule == "exponential":
            return FALL ** int(self.epochs * step / steps)
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    @property
    def has_own_rate(self) -> bool:
        """Whether the user's optimizer knows its learning rates by itself: a function, and no class."""
        return callable(self.optimizer) and not isinstance(self.optimizer, type)

    @property
    def own(self) -> tuple[str, ...]:
        """Names of the options that are the user's own functions."""
        functions = tuple(name for name in _OWN if callable(getattr(self, name)))
        return functions + (("callbacks",) if self.callbacks else ())

    def said(self) -> Record:
        """What is used, by name, for the record."""
        names = {name: name_of(getattr(self, name) or "cross-entropy") for name in _OWN}
        return {**names, "callbacks": [name_of(callback) for callback in self.callbacks]}

    def peak(self, start: Start, network: nn.Module | None = None) -> float:
        """The peak learning rate of a training that begins so, of this network."""
        return default_rate(start, network) if self.lr is None else self.lr

    def beginning(self, start: Start, network: nn.Module | None = None) -> Training:
        """The same, with the learning rate for where it begins, unless the optimizer knows its own."""
        return self if self.has_own_rate else replace(self, lr=self.peak(start, network))

    def but(self, **changes: object) -> Training:
        """The same, but for these."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def identity(self) -> Record:
        """What the trained weights depend on."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _WITHOUT_EFFECT}
        own = {name: source_digest(getattr(self, name)) for name in self.own if name != "callbacks"}
        return {**values, **self.said(), "own": own}

    def _check_choices(self) -> None:
        for name, allowed in _WORDS.items():
            value, choices = getattr(self, name), get_args(allowed)
            fits = value in choices if isinstance(value, str) else name in _OWN and callable(value)
            own = f", or {_OWN[name]}" if name in _OWN else ""
            self._check(name, fits, "one of " + ", ".join(map(repr, choices)) + own)
        self._check("loss", self.loss is None or callable(self.loss), f"None, or {_OWN['loss']}")
        listed = isinstance(self.callbacks, tuple) and all(map(callable, self.callbacks))
        self._check("callbacks", listed, "a tuple of functions, each called with an Epoch")

    def _check(self, name: str, holds: bool, allowed: str) -> None:
        # NaN compares false with everything, and is refused along.
        if not holds:
            raise InputError(f"{name}={getattr(self, name)!r}: it must be {allowed}")
