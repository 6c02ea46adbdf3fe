"""The optimizer of a training, the learning rate of each of its steps, and its state in a checkpoint."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shortcutscope.debias.callables import made_optimizer, made_schedule
from shortcutscope.debias.training.checkpoint import with_prefix
from shortcutscope.debias.training.settings import Training
from shortcutscope.types import Record

__all__ = ["LearningRate", "load_moments", "moments_of", "optimizer_of"]

#: Of SGD.
MOMENTUM = 0.9


def optimizer_of(training: Training, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW, SGD, or the user's."""
    lr, decay = training.peak("fresh"), training.weight_decay
    if callable(training.optimizer):
        return made_optimizer(training.optimizer, parameters, lr, decay)
    if training.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=MOMENTUM, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)


class LearningRate:
    """The learning rate of every step: by the named schedule a share of each group's own, or by the user's.

    Attributes
    ----------
    value
        Of the last step, of the first group of parameters.
    """

    def __init__(self, training: Training, optimizer: torch.optim.Optimizer) -> None:
        self._training, self._optimizer = training, optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        own = training.schedule
        self._schedule = made_schedule(own, optimizer) if callable(own) else None
        self.value = float(optimizer.param_groups[0]["lr"])

    def before(self, step: int, steps: int) -> None:
        """Set the rates of a step."""
        if self._schedule is None:
            for group in self._optimizer.param_groups:
                group["lr"] = group["initial_lr"] * self._training.factor(step, steps)
        self.value = float(self._optimizer.param_groups[0]["lr"])

    def after(self) -> None:
        """A step was taken."""
        if self._schedule is not None:
            self._schedule.step()

    def catch_up(self, done: int) -> None:
        """Bring the user's schedule to where a checkpoint was written."""
        if self._schedule is None:
            return
        with warnings.catch_warnings():
            # The optimizer's steps before these were taken in another process.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for _ in range(done):
                self._schedule.step()


def moments_of(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Record] | None:
    """What the optimizer remembers, as tensors and as numbers; None where it is neither.

    The names are ``moments/<parameter>/<what>``.
    """
    tensors: dict[str, Tensor] = {}
    numbers: Record = {}
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            key = f"moments/{index}/{name}"
            if isinstance(value, Tensor):
                tensors[key] = value
            elif value is None or isinstance(value, bool | int | str) or _is_finite(value):
                numbers[key] = value
            else:
                return None
    return tensors, numbers


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def load_moments(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Record, n_parameters: int
) -> None:
    """Undo :func:`moments_of`."""
    together = {**tensors, **numbers}
    state = {i: with_prefix(f"moments/{i}", together) for i in range(n_parameters)}
    optimizer.load_state_dict(
        {
            "state": {index: moments for index, moments in state.items() if moments},
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )
