"""The step from an image in its value range to the model's input, and a fingerprint of any such step."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shortcutscope.errors import InputError

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Normalize:
    """Standardize each channel, ``(x - mean) / std``, after an optional resize.

    Parameters
    ----------
    mean, std
        One number for all channels, or one per channel, in the units of the table's value range.
    size
        Side length or ``(height, width)`` of the model's input; None keeps the image's.

    Raises
    ------
    InputError
        When a deviation is not positive, or mean and std differ in length.

    Examples
    --------
    >>> ss.Normalize(0.5, 0.25)(torch.ones(1, 2, 2)).unique()
    tensor([2.])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, ...] | int | None = None

    def __init__(
        self,
        mean: float | tuple[float, ...] | list[float],
        std: float | tuple[float, ...] | list[float],
        size: int | tuple[int, ...] | list[int] | None = None,
    ) -> None:
        object.__setattr__(self, "mean", tuple(float(v) for v in np.atleast_1d(mean)))
        object.__setattr__(self, "std", tuple(float(v) for v in np.atleast_1d(std)))
        object.__setattr__(self, "size", tuple(size) if isinstance(size, list) else size)
        if len(self.mean) != len(self.std):
            raise InputError(
                f"mean has {len(self.mean)} channels and std {len(self.std)}; give as many of each"
            )
        if not all(np.isfinite(self.mean)) or not all(np.isfinite(v) and v > 0 for v in self.std):
            raise InputError(f"mean must be finite and std positive, not mean={self.mean}, std={self.std}")

    def __call__(self, image: Tensor) -> Tensor:
        """Standardized float tensor (C, *spatial) of an image (C, *spatial)."""
        if len(self.mean) not in (1, image.shape[0]):
            raise InputError(
                f"Normalize has {len(self.mean)} channels and the image {image.shape[0]}; "
                'give one value, one per channel, or read the images with mode="L" or "RGB"'
            )
        if self.size is not None:
            image = _resized(image, self.size)
        shape = (-1,) + (1,) * (image.ndim - 1)
        mean, std = (
            torch.tensor(v, dtype=image.dtype, device=image.device).view(shape) for v in (self.mean, self.std)
        )
        return (image - mean) / std


def _resized(image: Tensor, size: tuple[int, ...] | int) -> Tensor:
    spatial = image.ndim - 1
    target = [size] * spatial if isinstance(size, int) else list(size)
    if len(target) != spatial or spatial not in (1, 2, 3):
        raise InputError(f"size={size!r} does not fit an image of shape {tuple(image.shape)}")
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[spatial]
    return functional.interpolate(
        image[None], target, mode=mode, align_corners=False, antialias=spatial == 2
    )[0]


def fingerprint_of(transform: object) -> str:
    """SHA-256 of what a callable is and holds, the same in every process.

    Functions and lambdas count by their compiled code, defaults and captured values, so a lambda needs no
    name; objects by their class and, recursively, their attributes; tensors and arrays by their values.
    Random generators count by their type only. Compiled code differs between minor versions of Python, and
    code that a function calls does not count: the fingerprint guards against mixing, it proves nothing.
    """
    text = json.dumps(_describe(transform, ()), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _describe(value: object, above: tuple[int, ...]) -> object:
    """JSON-able description; `above` holds the ids of the enclosing objects, since they may be cyclic."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | complex | bytes | type(...) | range | slice):
        return [type(value).__name__, repr(value)]
    if id(value) in above:
        return "recursion"
    inside = (*above, id(value))
    if isinstance(value, Tensor):
        array = value.detach().cpu()
        raw = array.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b""
        return ["tensor", str(array.dtype), list(array.shape), hashlib.sha256(raw).hexdigest()]
    if isinstance(value, np.ndarray) and value.dtype != object:
        return ["array", value.dtype.str, list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, Mapping):
        return ["mapping", sorted([str(k), _describe(v, inside)] for k, v in value.items())]
    if isinstance(value, set | frozenset):
        return ["set", sorted(json.dumps(_describe(v, inside), sort_keys=True) for v in value)]
    if isinstance(value, list | tuple | np.ndarray):
        return [type(value).__name__, [_describe(v, inside) for v in value]]
    return _describe_callable(value, inside)


def _describe_callable(value: object, inside: tuple[int, ...]) -> object:
    if isinstance(value, Enum | PurePath | np.generic | torch.dtype | torch.device):
        return [_name(type(value)), str(value)]
    if isinstance(value, np.random.Generator | np.random.RandomState | random.Random | torch.Generator):
        return [_name(type(value))]
    if isinstance(value, functools.partial):
        return ["partial", *(_describe(v, inside) for v in (value.func, value.args, value.keywords))]
    if isinstance(value, types.MethodType):
        return ["method", value.__name__, _describe(value.__self__, inside)]
    if isinstance(value, types.FunctionType):
        captured = [_cell(cell, inside) for cell in value.__closure__ or ()]
        defaults = [_describe(v, inside) for v in (value.__defaults__, value.__kwdefaults__)]
        return ["function", _name(value), _describe(value.__code__, inside), defaults, captured]
    if isinstance(value, types.CodeType):
        constants = [_describe(v, inside) for v in value.co_consts]
        return ["code", value.co_code.hex(), list(value.co_names), list(value.co_varnames), constants]
    if isinstance(value, type | types.BuiltinFunctionType | types.ModuleType):
        return [_name(value)]
    state = dict(_attributes(value))
    if state:
        return [_name(type(value)), _describe(state, inside)]
    return [_name(type(value)), re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))]


def _cell(cell: Any, inside: tuple[int, ...]) -> object:
    try:
        return _describe(cell.cell_contents, inside)
    except ValueError:  # a name that is bound only later
        return "empty"


def _attributes(value: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                yield name, getattr(value, name)


def _name(value: object) -> str:
    return (
        f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"
    )
