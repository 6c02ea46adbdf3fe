"""Tensors inside what a module returns: itself a tensor, or a tuple, mapping or dataclass that holds some."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

Path = tuple[str | int, ...]


def entries(output: Any) -> Iterator[tuple[str | int, Any]]:
    """The parts of one level of a module's output, each with the key that leads to it.

    Parameters
    ----------
    output
        A mapping (also a Hugging Face ``ModelOutput``), tuple, list, named tuple or dataclass instance;
        anything else has no parts.

    Yields
    ------
    (key, part)
        Integer keys for sequences, names for mappings and dataclasses.
    """
    if isinstance(output, Mapping):
        yield from ((key, part) for key, part in output.items() if isinstance(key, str | int))
    elif isinstance(output, tuple | list):
        yield from enumerate(output)
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        yield from ((field.name, getattr(output, field.name)) for field in dataclasses.fields(output))


def first_float(output: Any, batch: int | None = None) -> Path | None:
    """Where the first floating-point tensor lies, searched depth first.

    Parameters
    ----------
    output
        What a module returned.
    batch
        When given, the tensor's first dimension must have this size.

    Returns
    -------
    path
        ``()`` when the output is itself the tensor; ``None`` when there is none.
    """
    if isinstance(output, Tensor):
        fits = output.is_floating_point() and output.dim() > 0
        return () if fits and (batch is None or output.shape[0] == batch) else None
    for key, part in entries(output):
        below = first_float(part, batch)
        if below is not None:
            return (key, *below)
    return None


def pick(output: Any, path: Path) -> Any:
    """The part of `output` that `path` leads to."""
    for key in path:
        by_index = isinstance(key, int) or isinstance(output, Mapping)
        output = output[key] if by_index else getattr(output, str(key))
    return output


def replace(output: Any, path: Path, tensor: Tensor) -> Any:
    """A shallow copy of `output` with `tensor` at `path`; the original is left as it is."""
    if not path:
        return tensor
    key, rest = path[0], path[1:]
    part = replace(pick(output, (key,)), rest, tensor)
    if isinstance(output, tuple):
        parts = [part if i == key else old for i, old in enumerate(output)]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    new = copy.copy(output)
    if isinstance(new, Mapping | list):
        new[key] = part  # type: ignore[index]
    else:
        object.__setattr__(new, str(key), part)  # also for frozen dataclasses
    return new
