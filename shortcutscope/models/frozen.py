"""Freeze a model for measuring it, and restore it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from shortcutscope.errors import ModelError
from shortcutscope.models.failures import first_line, model_errors
from shortcutscope.models.plain import require_restorable
from shortcutscope.types import Record

HOOK_TABLES = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


@contextmanager
def frozen(model: nn.Module, device: torch.device | str | None = None) -> Iterator[nn.Module]:
    """Keep a model in evaluation mode, without parameter gradients and in-place modules.

    Inside, every submodule is in evaluation mode, no parameter requires a gradient, and ``inplace`` flags
    are off, so that a module's output is not overwritten by the module behind it. On leaving, also by an
    exception, all of it is as it was: modes, ``requires_grad``, ``.grad``, in-place flags, hooks, buffers,
    the tensors that hold the parameters (so their device and memory format, too). Can be nested. What the
    model's own code raises inside comes out as an error that says what mends it, see `model_errors`.

    Modes are set flag by flag, not with ``model.eval()``: a user's own ``train()`` may do more than switch
    a mode (LoRA layers merge their weights there), which could not be undone.

    Parameters
    ----------
    model
        Any module. Parameters that the caller overwrites in place inside are not restored.
    device
        Where it runs meanwhile; ``None`` leaves it where it is.

    Yields
    ------
    model
        The same object.

    Raises
    ------
    ModelError
        A model that could not be given back, see `require_restorable`; nothing is changed then. Or something
        of it could not be restored: everything else is, and the error names what is not.

    Examples
    --------
    >>> with ss.frozen(model) as borrowed:
    ...     scores = borrowed(images)
    >>> scores.requires_grad
    False
    """
    require_restorable(model)
    state = _ModelState.of(model)
    try:
        for module in model.modules():
            module.training = False
            if getattr(module, "inplace", None) is True:
                module.inplace = False  # type: ignore[assignment]
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None  # else a move to another device would move the user's gradient
        if device is not None:
            model.to(device)
        with model_errors(model):
            yield model
    finally:
        state.restore()


def device_of(model: nn.Module) -> torch.device:
    """Where a model is: the device of its first parameter or buffer, the CPU where it has none."""
    return next((t.device for t in chain(model.parameters(), model.buffers())), torch.device("cpu"))


@dataclass(frozen=True)
class _ModuleState:
    module: nn.Module
    training: bool
    inplace: bool | None
    hooks: dict[str, dict[Any, Any]]
    full_backward: bool | None
    parameters: dict[str, nn.Parameter | None]
    buffers: dict[str, Tensor | None]
    buffer_values: dict[str, Tensor]
    buffer_versions: dict[str, int | None]

    @classmethod
    def of(cls, module: nn.Module) -> _ModuleState:
        inplace = getattr(module, "inplace", None)
        buffers = dict(module._buffers)
        return cls(
            module=module,
            training=module.training,
            inplace=inplace if isinstance(inplace, bool) else None,
            hooks={table: dict(getattr(module, table)) for table in HOOK_TABLES if hasattr(module, table)},
            # Registering a backward hook sets it, removing the hook does not unset it.
            full_backward=module._is_full_backward_hook,
            parameters=dict(module._parameters),
            buffers=buffers,
            # Small beside the weights; a module may count or average in them even in evaluation mode.
            buffer_values={name: b.detach().clone() for name, b in buffers.items() if b is not None},
            buffer_versions={name: version(b) for name, b in buffers.items() if b is not None},
        )

    def steps(self) -> Iterator[Callable[[], None]]:
        """What restores the module, one thing each."""
        yield self._modes
        for table, hooks in self.hooks.items():
            yield partial(_refill, getattr(self.module, table), hooks)
        # Between some devices `to()` makes new parameters instead of filling the old ones.
        yield partial(_refill, self.module._parameters, self.parameters)
        yield partial(_refill, self.module._buffers, self.buffers)
        for name in self.buffer_values:
            yield partial(self._buffer, name)

    def _modes(self) -> None:
        self.module.training = self.training
        if self.inplace is not None:
            self.module.inplace = self.inplace  # type: ignore[assignment]
        self.module._is_full_backward_hook = self.full_backward

    def _buffer(self, name: str) -> None:
        buffer, before = self.buffers[name], self.buffer_versions[name]
        if buffer is not None and (before is None or version(buffer) != before):
            with torch.no_grad():
                buffer.copy_(self.buffer_values[name])


def _refill(current: Record, before: Record) -> None:
    # By identity, since `==` of tensors is a tensor. In place: handles of hooks point to these very tables.
    if [(key, id(value)) for key, value in current.items()] != [(k, id(v)) for k, v in before.items()]:
        current.clear()
        current.update(before)


@dataclass(frozen=True)
class _ParameterState:
    parameter: nn.Parameter
    data: Tensor
    grad: Tensor | None
    requires_grad: bool

    @classmethod
    def of(cls, parameter: nn.Parameter) -> _ParameterState:
        return cls(parameter, parameter.data, parameter.grad, parameter.requires_grad)

    def restore(self) -> None:
        self.parameter.grad = None
        # The tensor itself, not a copy moved back: same device, same strides, still shared with whoever
        # shared it before.
        self.parameter.data = self.data
        self.parameter.grad = self.grad
        self.parameter.requires_grad_(self.requires_grad)


@dataclass(frozen=True)
class _ModelState:
    modules: list[_ModuleState]
    parameters: list[_ParameterState]

    @classmethod
    def of(cls, model: nn.Module) -> _ModelState:
        return cls(
            modules=[_ModuleState.of(module) for module in model.modules()],
            parameters=[_ParameterState.of(parameter) for parameter in model.parameters()],
        )

    def restore(self) -> None:
        """Restore every item, whatever happens to the others."""
        steps = [p.restore for p in self.parameters] + [step for m in self.modules for step in m.steps()]
        failed: Exception | None = None
        for step in steps:
            try:
                step()
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise ModelError(
                f"the model could not be given back wholly as it was ({type(failed).__name__}: "
                f"{first_line(failed)}); all else of it was restored, but load it anew before you go on"
            ) from failed


def version(tensor: Tensor) -> int | None:
    """How often a tensor was written in place; ``None`` for inference tensors, which do not count it."""
    return None if tensor.is_inference() else tensor._version
