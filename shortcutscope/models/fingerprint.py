"""A model's identity: the same weights in the same class have the same fingerprint on every device."""

from __future__ import annotations

import hashlib
import weakref

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


class Sighting:
    """A model as it was seen, which tells it from another one without hashing its weights.

    By its very parameters and how often they were written in place, wherever they lie, and by its buffers'
    values, which are small and made anew by a move to a device. Weights that were changed past autograd
    (through ``.data``) pass for the same.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(model)
        self._state = _state(model)

    def is_of(self, model: nn.Module) -> bool:
        """Whether this is the model that was seen, unchanged."""
        return self._model() is model and self._state == _state(model)


def _state(model: nn.Module) -> list[tuple[object, ...]]:
    parameters = [
        (name, id(p), None if p.is_inference() else p._version) for name, p in model.named_parameters()
    ]
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for _, buffer in model.named_buffers():
        by_dtype.setdefault(buffer.dtype, []).append(buffer.detach().flatten())
    # Side by side, so that an accelerator is asked once a dtype and not once a buffer.
    return [*parameters, *((dtype, tensor_digest(torch.cat(flat))) for dtype, flat in by_dtype.items())]
