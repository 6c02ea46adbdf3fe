"""What the device can do: reduced precision."""

from __future__ import annotations

import torch
from torch import nn

from shortcutscope.debias.training.settings import Precision

__all__ = ["autocast", "has_bfloat16", "usable_precision"]


def usable_precision(
    device: torch.device, precision: Precision, model: nn.Module
) -> tuple[Precision, str | None]:
    """The precision in which the device can train the model, and why it is not the one asked for.

    Emulated bfloat16, and float16 on a processor, are slower than float32. On a processor the gradients of
    bfloat16 convolutions over small volumes now and then hold what lay in memory before, NaN among it (oneDNN
    as torch 2 brings it).
    """
    if precision == "bf16" and not has_bfloat16(device):
        return "fp32", f"trained in fp32: {device.type} has no bfloat16 in hardware here"
    if precision == "fp16" and device.type != "cuda":
        return "fp32", f"trained in fp32: fp16 needs a CUDA device, and the model is on {device.type}"
    if precision == "bf16" and device.type == "cpu" and _reads_volumes(model):
        return "fp32", "trained in fp32: bfloat16 gradients of 3-D convolutions are unreliable on a processor"
    return precision, None


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which a forward pass runs in a usable precision; ``"fp32"`` leaves all dtypes alone."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def _reads_volumes(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv3d | nn.ConvTranspose3d) for module in model.modules())


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is computed in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # Torch has no public question for it; a release without these answers gets float32.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)
