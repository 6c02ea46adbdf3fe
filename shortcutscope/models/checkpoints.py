"""State dicts from files: safetensors and PyTorch checkpoints, unwrapped and matched to a model."""

from __future__ import annotations

import itertools
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shortcutscope.errors import InputError

StateDict = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # Lightning, PyTorch tutorials, timm and others
PREFIXES = ("module.", "model.", "net.", "_orig_mod.")  # DataParallel, Lightning, plain habit, torch.compile
_INFIXES = (".module.", "._orig_mod.")  # the same where only a part of the model was wrapped
_SHOWN = 5


@dataclass(frozen=True)
class LoadReport:
    """What had to be done to a checkpoint so that it fits.

    Attributes
    ----------
    unwrapped
        Keys under which the state dict lay, outermost first.
    stripped
        Prefixes taken off its names, in this order; one that starts with a dot was taken out of the middle.
    """

    unwrapped: tuple[str, ...] = ()
    stripped: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = []
        if self.unwrapped:
            parts.append("took the state dict from " + " > ".join(map(repr, self.unwrapped)))
        if self.stripped:
            parts.append("stripped " + ", then ".join(map(repr, self.stripped)) + " from its names")
        return "; ".join(parts) or "the checkpoint fitted as it was"


def read_state_dict(path: str | Path, *, trust: bool = False) -> tuple[StateDict, tuple[str, ...]]:
    """Read a checkpoint's state dict.

    Parameters
    ----------
    path
        A ``.safetensors`` file, or one written by ``torch.save``: a state dict, or a mapping that holds one
        as ``"state_dict"``, ``"model_state_dict"``, ``"model"`` or ``"net"``.
    trust
        Unpickle Python objects, which may run any code that the file's author put there.

    Returns
    -------
    state
        Tensors by name, on the CPU.
    unwrapped
        The keys under which it lay.

    Raises
    ------
    InputError
        No such file, an unreadable one, one that needs unpickling without `trust`, or no state dict in it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; give a .safetensors file or one written by torch.save")
    content: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, trust)
    return _unwrap(content, path)


def load_checkpoint(model: nn.Module, state: StateDict) -> LoadReport:
    """Copy a state dict into a model, whatever wrapper's prefix its names carry.

    Raises
    ------
    InputError
        Names are missing or unexpected, or shapes differ: some of each are listed.
    """
    state, stripped = match_names(state, set(model.state_dict()))
    own = model.state_dict()
    mismatched = [
        f"{name}: {tuple(value.shape)} in the file, {tuple(own[name].shape)} in the model"
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    if mismatched:
        result = _Keys([n for n in own if n not in state], [n for n in state if n not in own])
    else:
        keys = model.load_state_dict(state, strict=False)
        result = _Keys(_untied(model, keys.missing_keys, state), keys.unexpected_keys)
    if mismatched or result.missing or result.unexpected:
        raise InputError(_misfit(model, result, mismatched))
    return LoadReport(stripped=stripped)


def match_names(state: StateDict, expected: set[str]) -> tuple[StateDict, tuple[str, ...]]:
    """Strip wrappers' prefixes from the names, as far as that makes more of them match.

    Returns
    -------
    state
        With the names that match best.
    stripped
        What was taken off; empty when the names match as they are, or when stripping does not help.
    """
    best, best_count = state, len(expected & state.keys())
    best_stripped: tuple[str, ...] = ()
    for length in range(1, 4):
        for sequence in itertools.product(PREFIXES + _INFIXES, repeat=length):
            if best_count == len(expected):
                return best, best_stripped
            names = {name: _strip(name, sequence) for name in state}
            if len(set(names.values())) < len(names):
                continue
            count = len(expected.intersection(names.values()))
            if count > best_count:
                best = {names[name]: value for name, value in state.items()}
                best_count, best_stripped = count, sequence
    return best, best_stripped


def class_count_in(state: StateDict, model: nn.Module) -> int | None:
    """How many classes a checkpoint's head has, if that is all in which it differs from a model.

    Parameters
    ----------
    state
        From a file.
    model
        The same architecture, with any number of classes.

    Returns
    -------
    n_classes
        ``None`` when every shape agrees, or when they differ in more than one size of the first axis.
    """
    own = model.state_dict()
    state, _ = match_names(state, set(own))
    pairs = [
        (own[name].shape, v.shape) for name, v in state.items() if name in own and own[name].shape != v.shape
    ]
    sizes = {(a[:1], b[:1]) for a, b in pairs}
    if len(sizes) != 1 or any(a[1:] != b[1:] for a, b in pairs):
        return None
    return int(pairs[0][1][0])


@dataclass(frozen=True)
class _Keys:
    missing: list[str]
    unexpected: list[str]


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
        found = re.search(r"GLOBAL (\S+)", str(error))
        holds = f"Python objects ({found.group(1)})" if found else "Python objects"
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


def _unwrap(content: Any, path: Path) -> tuple[StateDict, tuple[str, ...]]:
    unwrapped: list[str] = []
    while True:
        if isinstance(content, nn.Module):
            content = content.state_dict()
        if not isinstance(content, Mapping):
            raise InputError(f"{path} holds a {type(content).__name__}, not a state dict")
        inside = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping | nn.Module)), None)
        if inside is None:
            break
        unwrapped.append(inside)
        content = content[inside]
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(map(repr, list(content)[:_SHOWN])) or "nothing"
        raise InputError(f"{path} holds no state dict: found {keys}; looked under {', '.join(WRAPPERS)}")
    return state, tuple(unwrapped)


def _strip(name: str, sequence: tuple[str, ...]) -> str:
    for part in sequence:
        name = name.replace(part, ".") if part.startswith(".") else name.removeprefix(part)
    return name


def _untied(model: nn.Module, missing: list[str], state: StateDict) -> list[str]:
    """The missing names whose memory no other name has filled; safetensors stores tied weights once."""
    own = model.state_dict()
    filled = {own[name].data_ptr() for name in state if name in own}
    return [name for name in missing if own[name].data_ptr() not in filled]


def _misfit(model: nn.Module, keys: _Keys, mismatched: list[str]) -> str:
    parts = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for what, names in (
            ("missing", keys.missing),
            ("unexpected", keys.unexpected),
            ("of another shape", mismatched),
        )
        if names
    ]
    return (
        f"the checkpoint does not fit {type(model).__name__}. "
        + "; ".join(parts)
        + ". Choose the architecture, "
        "number of classes and input channels that it was trained with"
    )
