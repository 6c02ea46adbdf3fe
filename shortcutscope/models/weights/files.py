"""State dicts in files: safetensors, and whatever ``torch.save`` wrote."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shortcutscope.errors import InputError
from shortcutscope.models.weights.names import StateDict

#: Tensors under these keys are no weights.
_NO_WEIGHTS = re.compile(r"optim|sched|scaler|hyper_param|callbacks|loops|rng|config|args", re.IGNORECASE)
_DEPTH = 3
_SHOWN = 5


@dataclass(frozen=True)
class Weights:
    """Tensors by name from a file, on the CPU, and the keys under which they lay, outermost first."""

    state: StateDict
    keys: tuple[str, ...] = ()


def read_checkpoint(path: str | Path, *, trust: bool = False) -> tuple[Weights, ...]:
    """All state dicts in a file.

    Parameters
    ----------
    path
        A ``.safetensors`` file, or one written by ``torch.save``: a state dict, or a mapping that holds some,
        at most three keys deep. Those of optimizers are passed over.
    trust
        Unpickle Python objects, which may run any code that the file's author put there.

    Raises
    ------
    InputError
        No such file, an unreadable one, one that needs unpickling without `trust`, or no state dict in it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; give a .safetensors file or one written by torch.save")
    content: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, trust)
    if not isinstance(content, Mapping | nn.Module):
        raise InputError(f"{path} holds a {type(content).__name__}, not a state dict")
    contents = tuple(_state_dicts(content, ()))
    if not contents:
        keys = ", ".join(map(repr, list(content)[:_SHOWN])) if isinstance(content, Mapping) else ""
        optimizer = isinstance(content, Mapping) and (
            _is_optimizer(content) or any(_is_optimizer(value) for value in content.values())
        )
        raise InputError(
            f"{path} holds no state dict: found {keys or 'nothing'}"
            + (", the state of an optimizer without weights" if optimizer else "")
            + ". Give the file that the model's state_dict() was saved to"
        )
    return contents


def _state_dicts(content: object, keys: tuple[str, ...]) -> Iterator[Weights]:
    """Whatever maps names to tensors in a file's content, outermost first."""
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping) or _is_optimizer(content):
        return
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if state:
        yield Weights(state, keys)
    if len(keys) < _DEPTH:
        for name, value in content.items():
            if not _NO_WEIGHTS.search(str(name)):
                yield from _state_dicts(value, (*keys, str(name)))


def _is_optimizer(content: object) -> bool:
    return isinstance(content, Mapping) and {"state", "param_groups"} <= content.keys()


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error


def _read_torch(path: Path, trust: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if trust:
            raise InputError(f"{path} cannot be unpickled: {_first_line(error)}") from error
        match = re.search(r"GLOBAL (\S+)", str(error))
        holds = f"Python objects ({match.group(1)})" if match else "Python objects"
        raise InputError(
            f"{path} holds pickled {holds} beside tensors, and unpickling can run any code. If you trust its "
            "author, pass trust=True (--trust); otherwise ask for torch.save(model.state_dict(), file) or a "
            ".safetensors file"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise InputError(
            f"{path} is not a readable PyTorch checkpoint (damaged, cut off, or of another kind): "
            f"{_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
