"""Borrow a model for measuring it, and give it back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from shortcutscope.models.fingerprint import tensor_digest

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
    """Lend a model out in evaluation mode, without parameter gradients and in-place modules.

    Inside, every submodule is in evaluation mode, no parameter requires a gradient, and ``inplace`` flags
    are off, so that a module's output is not overwritten by the module behind it. On leaving, also by an
    exception, all of it is as it was: modes, ``requires_grad``, ``.grad``, in-place flags, hooks, buffers,
    the tensors that hold the parameters (so their device and memory format, too). Can be nested.

    Modes are set flag by flag, not with ``model.eval()``: a user's own ``train()`` may do more than switch
    a mode (LoRA layers merge their weights there), which could not be undone.

    Parameters
    ----------
    model
        Any module. Parameters that the caller overwrites in place while it is lent are not restored.
    device
        Where it runs meanwhile; ``None`` leaves it where it is.

    Yields
    ------
    model
        The same object.
    """
    loan = _Loan.of(model)
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
        yield model
    finally:
        loan.give_back()


def device_of(model: nn.Module) -> torch.device:
    """Where a model is: the device of its first parameter or buffer, the CPU where it has none."""
    return next((t.device for t in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def model_state(model: nn.Module) -> dict[str, object]:
    """Everything about a model that measuring must not change, in a form that ``==`` compares.

    Returns
    -------
    state
        One entry per fact (``"layer1.0 training"``, ``"conv1.weight requires_grad"``, ...), so that a
        failed comparison names what differs. Tensors stand as sha256 of their bytes.
    """
    state: dict[str, object] = {}
    for name, module in model.named_modules():
        state[f"{name} training"] = module.training
        if hasattr(module, "inplace"):
            state[f"{name} inplace"] = module.inplace
        for table in HOOK_TABLES:
            state[f"{name} {table}"] = list(getattr(module, table, {}).items())
        state[f"{name} _is_full_backward_hook"] = module._is_full_backward_hook
    for name, parameter in model.named_parameters():
        state[f"{name} requires_grad"] = parameter.requires_grad
        state[f"{name} grad"] = None if parameter.grad is None else tensor_digest(parameter.grad)
        state[f"{name} parameter"] = _tensor_state(parameter)
    for name, buffer in model.named_buffers():
        state[f"{name} buffer"] = _tensor_state(buffer)
    state["state_dict"] = list(model.state_dict().keys())
    return state


@dataclass(frozen=True)
class _ModuleLoan:
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
    def of(cls, module: nn.Module) -> _ModuleLoan:
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

    def give_back(self) -> None:
        module = self.module
        module.training = self.training
        if self.inplace is not None and getattr(module, "inplace", None) is not self.inplace:
            module.inplace = self.inplace  # type: ignore[assignment]  # a constant of scripted modules
        for table, hooks in self.hooks.items():
            current = getattr(module, table)
            if list(current.items()) != list(hooks.items()):
                # In place: the handles that users keep point to these very dictionaries.
                current.clear()
                current.update(hooks)
        module._is_full_backward_hook = self.full_backward
        # Between some devices `to()` makes new parameters instead of filling the old ones.
        module._parameters.clear()
        module._parameters.update(self.parameters)
        module._buffers.clear()
        module._buffers.update(self.buffers)
        with torch.no_grad():
            for name, value in self.buffer_values.items():
                buffer = self.buffers[name]
                before = self.buffer_versions[name]
                if buffer is not None and (before is None or version(buffer) != before):
                    buffer.copy_(value)


@dataclass(frozen=True)
class _ParameterLoan:
    parameter: nn.Parameter
    data: Tensor
    grad: Tensor | None
    requires_grad: bool

    @classmethod
    def of(cls, parameter: nn.Parameter) -> _ParameterLoan:
        return cls(parameter, parameter.data, parameter.grad, parameter.requires_grad)

    def give_back(self) -> None:
        self.parameter.grad = None
        # The tensor itself, not a copy moved back: same device, same strides, still shared with whoever
        # shared it before.
        self.parameter.data = self.data
        self.parameter.grad = self.grad
        self.parameter.requires_grad_(self.requires_grad)


@dataclass(frozen=True)
class _Loan:
    modules: list[_ModuleLoan]
    parameters: list[_ParameterLoan]

    @classmethod
    def of(cls, model: nn.Module) -> _Loan:
        return cls(
            modules=[_ModuleLoan.of(module) for module in model.modules()],
            parameters=[_ParameterLoan.of(parameter) for parameter in model.parameters()],
        )

    def give_back(self) -> None:
        for parameter in self.parameters:
            parameter.give_back()
        for module in self.modules:
            module.give_back()


def version(tensor: Tensor) -> int | None:
    """How often a tensor was written in place; ``None`` for inference tensors, which do not count it."""
    return None if tensor.is_inference() else tensor._version


def _tensor_state(tensor: Tensor) -> tuple[object, ...]:
    return (tensor.data_ptr(), str(tensor.device), tensor.dtype, tensor.stride(), tensor_digest(tensor))
