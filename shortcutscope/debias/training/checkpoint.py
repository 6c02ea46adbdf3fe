"""Checkpoints: one file of safetensors with the rest as JSON in its header, replaced as a whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from shortcutscope.errors import StaleRunError
from shortcutscope.files import refuse_other_inputs, to_json, write_atomically
from shortcutscope.models.fingerprint import model_fingerprint, tensor_digest
from shortcutscope.types import JSON, Record

__all__ = [
    "non_finite", "prefixed", "read_checkpoint", "restore", "settings_digest", "snapshot", "tensors_digest",
    "tensors_of", "with_prefix", "write_checkpoint",
]  # fmt: skip

Tensors = dict[str, Tensor]


def tensors_of(module: nn.Module) -> Tensors:
    """Parameters and all buffers, also those left out of a state dict; what is shared stands once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def snapshot(module: nn.Module) -> Tensors:
    """A copy of :func:`tensors_of`, where the module is."""
    return {name: value.detach().clone() for name, value in tensors_of(module).items()}


@torch.no_grad()
def restore(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Write a snapshot into the very tensors of a module."""
    for name, tensor in tensors_of(module).items():
        tensor.copy_(values[name])


def non_finite(values: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor with a NaN or an infinite value."""
    floating = {name: value for name, value in values.items() if value.is_floating_point()}
    if not floating:
        return None
    finite = torch.stack([torch.isfinite(value.detach()).all() for value in floating.values()]).tolist()
    return next((name for name, good in zip(floating, finite, strict=True) if not good), None)


def prefixed(prefix: str, values: Mapping[str, Tensor]) -> Tensors:
    """The same tensors under ``prefix/name``."""
    return {f"{prefix}/{name}": value for name, value in values.items()}


def with_prefix(prefix: str, values: Mapping[str, Tensor]) -> Tensors:
    """Undo :func:`prefixed`."""
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: JSON) -> None:
    """Replace a checkpoint atomically.

    Parameters
    ----------
    tensors
        Copied to the CPU; none may be lost by sharing memory with another.
    state
        Plain JSON values, all of them finite.
    """
    copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    text = json.dumps(state, allow_nan=False)
    content = safetensors.torch.save(copies, metadata={"state": text})
    write_atomically(path, lambda file: file.write(content))


def read_checkpoint(path: Path, identity: JSON) -> tuple[Tensors, Record] | None:
    """A checkpoint's tensors, on the CPU, and its state; None where there is none.

    Raises
    ------
    StaleRunError
        When it belongs to a training whose ``state["identity"]`` is another, or cannot be read.
    """
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            refuse_other_inputs(path.parent, state["identity"], to_json(identity))
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118
    except (safetensors.SafetensorError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise StaleRunError(
            f"{path} is no checkpoint of a training ({error}); delete it, or give another folder"
        ) from error


def tensors_digest(module: nn.Module) -> str:
    """sha256 of all parameters and buffers, and of which are trained."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors_of(module).items()):
        facts = f"\n{name} {tuple(value.shape)} {value.dtype} {value.requires_grad} {tensor_digest(value)}"
        digest.update(facts.encode())
    return digest.hexdigest()


def settings_digest(module: nn.Module) -> str:
    """sha256 of what a module keeps in plain attributes: numbers, texts, arrays, tables, other models."""
    module_attributes = set(vars(nn.Module()))
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        settings = {key: value for key, value in vars(part).items() if key not in module_attributes}
        digest.update(f"\n{name} {type(part).__qualname__} {json.dumps(_plain(settings))}".encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A value as JSON that is the same in another process; of other objects their class only."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return [str(value.dtype), list(value.shape), tensor_digest(value)]
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, nn.Module):
        return model_fingerprint(value)
    if callable(getattr(value, "fingerprint", None)) and not isinstance(value, type):
        return str(value.fingerprint())  # a table of samples
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return getattr(value, "__qualname__", type(value).__qualname__)
