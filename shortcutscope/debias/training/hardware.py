"""What the device can do: reduced precision, and the memory format in which convolutions are fastest."""

from __future__ import annotations

import torch
from torch import nn

from shortcutscope.debias.training.settings import Precision

__all__ = ["autocast", "fastest_format", "has_bfloat16", "usable_precision"]


def usable_precision(device: torch.device, precision: Precision) -> tuple[Precision, str | None]:
    """The precision that the device has in hardware, and why it is not the one asked for.

    Emulated bfloat16, and float16 on a processor, are slower than float32.
    """
    if precision == "bf16" and not has_bfloat16(device):
        return "fp32", f"trained in fp32: {device.type} has no bfloat16 in hardware here"
    if precision == "fp16" and device.type != "cuda":
        return "fp32", f"trained in fp32: fp16 needs a CUDA device, and the model is on {device.type}"
    return precision, None


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which a forward pass runs in a usable precision; ``"fp32"`` leaves all dtypes alone."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is computed in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # Torch has no public question for it; a release without these answers gets float32.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)


def fastest_format(model: nn.Module, shape: tuple[int, ...]) -> torch.memory_format:
    """The memory format in which convolutions on images of this shape (C, *spatial) run fastest."""
    formats = {3: (4, torch.channels_last), 4: (5, torch.channels_last_3d)}
    dims, memory_format = formats.get(len(shape), (0, torch.contiguous_format))
    # Module.to applies one format to all 4-D and 5-D parameters; a mixed network keeps its own.
    mixed = any(p.dim() in (4, 5) and p.dim() != dims for p in model.parameters())
    return torch.contiguous_format if mixed else memory_format
