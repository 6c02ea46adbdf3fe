"""Tensors inside what a module returns: itself a tensor, or a tuple, mapping or dataclass that holds some.

Among them the class scores, which nobody may guess: where several parts could be the scores, the caller says
which one it is.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from shortcutscope.errors import InputError, ModelError

Path = tuple[str | int, ...]

#: Names under which models return their class scores.
SCORE_NAMES = ("logits", "out", "output")


def find_scores(output: object, key: str | int | None = None) -> Tensor:
    """The class scores in what a model returned, as they are.

    Parameters
    ----------
    output
        A tensor; or a tuple, list, mapping, named tuple or dataclass, such as a Hugging Face
        ``ModelOutput``: its part called ``logits``, ``out`` or ``output``, else the only floating-point
        tensor, of a tuple or list the only one that can be scores, (N,) or (N, K).
    key
        Name or position of the scores, where the rule above does not find the right ones.

    Returns
    -------
    scores
        Floating-point tensor of shape (N, K); (N,) becomes (N, 1), trailing dimensions of size 1 are dropped.

    Raises
    ------
    InputError
        `key` does not lead to a floating-point tensor.
    ModelError
        No scores are found, several parts can be them, or they have more than two dimensions.
    """
    part = _by_key(output, key) if key is not None else _by_rule(output)
    if part.dim() == 1:
        return part.unsqueeze(1)
    if _can_be_scores(part):
        return part.flatten(1)
    if part.dim() == 0:
        raise ModelError(
            "the model returns a single number without a dimension of samples (a squeeze() that also drops "
            "the batch, or a loss); write squeeze(1), so that a batch of one image has one row"
        )
    raise ModelError(
        f"the model returns scores of shape {tuple(part.shape)}; a classifier returns (N,) or (N, K): "
        "wrap the model so that it reduces its output to one score per class, or name the right part of "
        "its output with output=... (--output)"
    )


def entries(output: object) -> Iterator[tuple[str | int, Any]]:
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


def first_float(output: object, batch: int | None = None) -> Path | None:
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


def replace(output: object, path: Path, tensor: Tensor) -> Any:
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


def _by_key(output: object, key: str | int) -> Tensor:
    parts = dict(entries(output))
    part = parts[key] if key in parts else getattr(output, str(key), None)
    if isinstance(part, Tensor) and part.is_floating_point():
        return part
    allowed = _listed(_float_parts(output)) or "none: the model returns a single tensor"
    raise InputError(
        f"output={key!r} is not a floating-point tensor in what the model returns; allowed: {allowed}"
    )


def _by_rule(output: object) -> Tensor:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            return output
        raise ModelError(
            f"the model returns a tensor of {output.dtype}; scores must be floating-point, one row a sample"
        )
    parts = _float_parts(output)
    for name in SCORE_NAMES:
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    candidates = parts
    if isinstance(output, tuple | list):  # of parts with names of their own, none is passed over
        candidates = {key: part for key, part in parts.items() if _can_be_scores(part)} or parts
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if not parts:
        raise ModelError(f"the model returns {type(output).__name__} with no floating-point tensor in it")
    last = list(candidates)[-1]
    raise ModelError(
        f"the model returns several tensors ({_listed(candidates)}) and none is called "
        f"{' or '.join(map(repr, SCORE_NAMES))}; say which holds the class scores with output=..., such as "
        f"output={last!r} (--output {last})"
    )


def _can_be_scores(tensor: Tensor) -> bool:
    return tensor.dim() == 1 or (tensor.dim() >= 2 and all(size == 1 for size in tensor.shape[2:]))


def _float_parts(output: object) -> dict[str | int, Tensor]:
    return {
        key: part for key, part in entries(output) if isinstance(part, Tensor) and part.is_floating_point()
    }


def _listed(parts: Mapping[str | int, Tensor]) -> str:
    return ", ".join(f"{key!r} of shape {tuple(part.shape)}" for key, part in parts.items())
