"""What a user brings to a training (optimizer, loss, callbacks, ...), and whether it can be used."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from shortcutscope.errors import InputError

#: From the trained parameters to their optimizer; a class is given ``lr`` and ``weight_decay``, too.
OptimizerMaker = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
#: From the optimizer to its schedule, of which a step is taken after every step of the optimizer.
ScheduleMaker = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]
#: From scores (N, K) and classes (N,) to the loss of every sample (N,).
SampleLosses = Callable[[Tensor, Tensor], Tensor]
#: From a batch of images (N, C, *spatial) to another of the same size.
Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Epoch:
    """What a callback is told after every pass over the training samples, and after the last step.

    Attributes
    ----------
    number
        Passes begun so far, from 1.
    step, steps
        Optimiser steps taken, and those of the whole training.
    lr
        Learning rate of the last step, of the first group of parameters.
    model
        The network, as it is now, in training mode. A callback leaves its weights alone.
    scores
        Of the last validation so far; empty before there is one.
    """

    number: int
    step: int
    steps: int
    lr: float
    model: nn.Module
    scores: Mapping[str, float] = field(default_factory=dict)


class Callback(Protocol):
    """Called after every epoch; returns True to end the training, None or False to go on.

    Among several processes each calls its own, and one that ends it ends it for all. What a callback
    remembers is no part of a checkpoint.
    """

    def __call__(self, epoch: Epoch, /) -> bool | None:
        """Whether to end the training."""


def name_of(thing: object) -> str:
    """What the record calls a user's function, class or object.

    Examples
    --------
    >>> name_of(functools.partial(torch.optim.SGD, lr=0.1))
    'torch.optim.sgd.SGD(lr=0.1)'
    """
    if isinstance(thing, str):
        return thing
    if isinstance(thing, functools.partial):
        given = [*map(repr, thing.args), *(f"{key}={value!r}" for key, value in thing.keywords.items())]
        return f"{name_of(thing.func)}({', '.join(given)})"
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


def source_digest(thing: object) -> str:
    """sha256 of a function's text where there is one, so that a changed one is another; else of its name."""
    try:
        text = inspect.getsource(thing)  # type: ignore[arg-type]
    except (TypeError, OSError):
        text = name_of(thing)
    return hashlib.sha256(text.encode()).hexdigest()


def made_optimizer(
    maker: OptimizerMaker, parameters: list[nn.Parameter], lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The user's optimizer of some parameters.

    Raises
    ------
    InputError
        When it is none, holds other parameters, or takes steps only with a closure.
    """
    options: dict[str, float] = {}
    if isinstance(maker, type):
        takes = inspect.signature(maker).parameters
        options = {k: v for k, v in {"lr": lr, "weight_decay": weight_decay}.items() if k in takes}
    optimizer = maker(parameters, **options)
    name = name_of(maker)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"optimizer={name} returned {type(optimizer).__name__}; it must return a torch.optim.Optimizer "
            "of the parameters that it is given, such as lambda parameters: torch.optim.SGD(parameters, "
            "lr=0.01)"
        )
    own = {id(p) for p in parameters}
    if any(id(p) not in own for group in optimizer.param_groups for p in group["params"]):
        raise InputError(
            f"optimizer={name} holds parameters that it was not given; make it of those it is given, since "
            "every training has a network of its own"
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise InputError(
            f"optimizer={name} takes steps with a closure only, and a step here is one pass forward and "
            "back; give another, such as torch.optim.AdamW"
        )
    return optimizer


def made_schedule(
    maker: ScheduleMaker, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LRScheduler:
    """The user's schedule of an optimizer.

    Raises
    ------
    InputError
        When it is none, or one that needs a measurement.
    """
    schedule = maker(optimizer)
    if isinstance(schedule, ReduceLROnPlateau) or not isinstance(
        schedule, torch.optim.lr_scheduler.LRScheduler
    ):
        raise InputError(
            f"schedule={name_of(maker)} returned {type(schedule).__name__}; it must return a "
            "torch.optim.lr_scheduler.LRScheduler of the optimizer that steps without a measurement, such as "
            "lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=1000)"
        )
    return schedule


def try_transform(transform: Transform, images: Tensor) -> None:
    """Refuse a transform that does not give as many finite images as it is given, of their number of axes.

    Raises
    ------
    InputError
        Says what it gives.
    """
    changed = transformed(transform, images)
    name = name_of(transform)
    if not isinstance(changed, Tensor) or changed.dim() != images.dim() or len(changed) != len(images):
        what = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
        raise InputError(
            f"augmentation={name} makes {what} of a batch of the shape {tuple(images.shape)}; it must return "
            "as many images (N, C, *spatial)"
        )
    if not changed.is_floating_point() or not bool(changed.isfinite().all()):
        raise InputError(f"augmentation={name} gives values that are not finite floating-point numbers")


@torch.no_grad()
def transformed(transform: Transform, images: Tensor) -> Tensor:
    """Images by the user's transform, which may write into what it is given."""
    return transform(images.clone())


def try_losses(losses: SampleLosses, logits: Tensor, labels: Tensor) -> None:
    """Refuse a loss that does not give one number for each sample, with a gradient.

    Raises
    ------
    InputError
        Says what it gives.
    """
    name, scores = name_of(losses), logits.detach().float().requires_grad_(True)
    with torch.enable_grad():
        values = losses(scores, labels)
    if not isinstance(values, Tensor) or values.shape != labels.shape:
        what = f"the shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise InputError(
            f"loss={name} returned {what} for scores {tuple(logits.shape)} and classes "
            f"{tuple(labels.shape)}; it must return the loss of every sample (N,), as torch's losses do with "
            "reduction='none': recipes weigh samples"
        )
    if not values.requires_grad:
        raise InputError(f"loss={name} gives values without a gradient; nothing can be learnt from them")


def ends(callbacks: tuple[Callback, ...], epoch: Epoch) -> str | None:
    """Name of the first callback that ends the training; None where it goes on. All are called.

    Raises
    ------
    InputError
        When one returns neither True, False nor None.
    """
    first = None
    for callback in callbacks:
        answer = callback(epoch)
        if answer is not None and not isinstance(answer, bool):
            raise InputError(
                f"callback {name_of(callback)} returned {answer!r}; return True to end the training, None "
                "or False to go on"
            )
        if answer and first is None:
            first = name_of(callback)
    return first
