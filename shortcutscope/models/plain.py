"""Models that cannot be lent out or observed from outside, refused before anything is changed."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn

from shortcutscope.errors import ModelError

_SHARDED = ("FSDPModule", "FullyShardedDataParallel")


def require_plain(model: nn.Module) -> None:
    """Refuse models whose modules cannot be observed from outside.

    Raises
    ------
    ModelError
        Names the wrapper and what to pass instead.
    """
    for name, module in model.named_modules():
        where, this = _names(name)
        kind = type(module).__name__
        if hasattr(module, "_orig_mod"):
            raise ModelError(
                f"the model cannot be scanned: {where} is compiled by torch.compile; use the original "
                f"module, {this}._orig_mod" + _instead(name, "_orig_mod")
            )
        if getattr(module, "_compiled_call_impl", None) is not None:
            raise ModelError(
                f"the model cannot be scanned: {where} was compiled in place with .compile(); build it anew, "
                "load the same state dict and do not compile it"
            )
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise ModelError(
                f"the model cannot be scanned: {where} is wrapped in {kind}; use the wrapped module, "
                f"{this}.module" + _instead(name, "module")
            )
    require_restorable(model)


def require_restorable(model: nn.Module) -> None:
    """Refuse models that could not be given back as they were, or not be differentiated.

    Raises
    ------
    ModelError
        TorchScript, tensors made in inference mode, or sharded over processes; says what to pass instead.
    """
    for name, module in model.named_modules():
        where, _ = _names(name)
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"the model cannot be scanned: {where} is a TorchScript module, whose layers run no hooks; "
                "build the model from its Python class and load the same state dict (.state_dict())"
            )
        if any(base.__name__ in _SHARDED for base in type(module).__mro__):
            raise ModelError(_sharded(f"{where} is sharded by FSDP"))
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if type(tensor).__name__ == "DTensor":
            raise ModelError(_sharded(f"its {name!r} is a DTensor"))
        if tensor.is_inference():
            raise ModelError(
                f"the model cannot be examined: its {name!r} was made under torch.inference_mode(), so that "
                "nothing can be differentiated through it; build or load the model outside of inference "
                "mode, or pass copy.deepcopy(model)"
            )


def _sharded(what: str) -> str:
    return (
        f"the model cannot be examined: {what}, so that no process holds its weights; build the model in "
        "one process and load the full state dict (torch.distributed.checkpoint.state_dict."
        "get_model_state_dict with full_state_dict=True)"
    )


def _names(name: str) -> tuple[str, str]:
    return (f"its part {name!r}", f"model.{name}") if name else ("it", "model")


def _instead(name: str, attribute: str) -> str:
    return f" (model.{name} = model.{name}.{attribute})" if name else ""
