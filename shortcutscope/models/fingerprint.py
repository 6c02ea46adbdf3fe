"""A model's identity: the same weights in the same class have the same fingerprint on every device."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def model_fingerprint(model: nn.Module) -> str:
    """Identify a model by its class and its state.

    Parameters
    ----------
    model
        Any module.

    Returns
    -------
    sha256
        Hexadecimal digest over the class name and, for each entry of the state dict, its name, shape,
        dtype and bytes. Independent of device, memory format and mode.
    """
    digest = hashlib.sha256(type(model).__qualname__.encode())
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"\n{name} {tuple(value.shape)} {value.dtype} {tensor_digest(value)}".encode())
        else:  # a module's get_extra_state(), such as the settings of a quantised layer
            digest.update(f"\n{name} {value!r}".encode())
    return digest.hexdigest()


def tensor_digest(tensor: Tensor) -> str:
    """sha256 of a tensor's values in row-major order, whatever its device, strides and dtype."""
    values = tensor.detach().resolve_conj().cpu().contiguous()
    if not values.numel():
        return hashlib.sha256(b"").hexdigest()
    # Viewed as bytes, since NumPy has neither bfloat16 nor float8.
    return hashlib.sha256(values.reshape(-1).view(torch.uint8).numpy().data).hexdigest()
