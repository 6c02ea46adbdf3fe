"""What options may be: by name, one table for Python and the command line, or by their type."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from shortcutscope.errors import InputError
from shortcutscope.stats.testing import MIN_FOR_TAIL
from shortcutscope.types import JSON


@dataclass(frozen=True)
class Number:
    """A finite number between two bounds.

    Attributes
    ----------
    low, high
        The bounds, both allowed.
    whole
        Without a fraction.
    above, below
        `low` itself, or `high`, is not allowed.
    why
        Behind the bounds, for the error.
    """

    low: float = -math.inf
    high: float = math.inf
    whole: bool = True
    above: bool = False
    below: bool = False
    why: str = ""

    def holds(self, value: Any) -> bool:
        """Whether a value is such a number; NaN is none."""
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return False
        if isinstance(value, bool | str) or not math.isfinite(number):
            return False
        fits = self.low < number if self.above else self.low <= number
        fits = fits and (number < self.high if self.below else number <= self.high)
        return fits and (not self.whole or number == int(number))

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if math.isfinite(self.high):
            low, to = ("above", "and up to") if self.above else ("from", "to")
            return f"{kind} {low} {self.low:g} {'and below' if self.below else to} {self.high:g}{self.why}"
        if not math.isfinite(self.low):
            return f"{kind}{self.why}"
        return f"{kind} {'above' if self.above else 'of at least'} {self.low:g}{self.why}"


_AT_LEAST_ONE, _NOT_NEGATIVE = Number(1), Number(0)
_POSITIVE = Number(0, whole=False, above=True)

# Types of options that say what is allowed, see `check_types`.
Positive = Annotated[float, _POSITIVE]
NotNegative = Annotated[float, Number(0, whole=False)]
Share = Annotated[float, Number(0, 1, whole=False)]
Count = Annotated[int, _AT_LEAST_ONE]

#: By the name of the parameter; values that are None mean a default and are not looked up.
NUMBERS: dict[str, Number] = {
    "batch_size": _AT_LEAST_ONE,
    "workers": _NOT_NEGATIVE,
    "cache_gb": _POSITIVE,
    "shard_rows": _AT_LEAST_ONE,
    "seed": Number(0, 2**31 - 1),
    "positive": _NOT_NEGATIVE,
    "n_permutations": Number(
        MIN_FOR_TAIL, why=": with fewer no p value survives the correction over layers and concepts"
    ),
    "n_bootstrap": Number(20, why=": an interval of 95 % needs as many resamples"),
    "n_folds": Number(2),
    "k": _AT_LEAST_ONE,
    "queries": _NOT_NEGATIVE,
    "confidence": Number(0.5, 1, whole=False),
    "epochs": _POSITIVE,
    "lr": _POSITIVE,
    "size": _AT_LEAST_ONE,
    "dims": Number(1, 3),
    "num_classes": _AT_LEAST_ONE,
    "jobs": _AT_LEAST_ONE,
}

#: Names on the command line of what Python calls otherwise.
ALIASES = {"permutations": "n_permutations", "bootstrap": "n_bootstrap"}

WORDS: dict[str, tuple[str, ...]] = {
    "start": ("model", "fresh"),
    "task": ("auto", "multiclass", "binary", "multilabel"),
    "on_unreadable": ("raise", "skip"),
    "method": ("fusion", "clarc"),
    "precision": ("fp32", "bf16", "fp16"),
}


def check_options(given: JSON, spelled: Callable[[str], str] = "{}=".format) -> None:
    """Refuse options outside of what they may be.

    Parameters
    ----------
    given
        By name; names that are not in the tables, and values of other kinds than they are about (a word where
        a number is one of several ways to say it), are passed over.
    spelled
        How an option's name is written before its value.

    Raises
    ------
    InputError
        Names the option, its value and what is allowed.

    Examples
    --------
    >>> check_options({"batch_size": 0})
    Traceback (most recent call last):
    shortcutscope.errors.InputError: batch_size=0; it must be a whole number of at least 1
    """
    for name, value in given.items():
        number, words = NUMBERS.get(ALIASES.get(name, name)), WORDS.get(name)
        if value is None:
            continue
        if number is not None and not isinstance(value, str | tuple | list) and not number.holds(value):
            raise InputError(f"{spelled(name)}{value}; it must be {number}")
        if name == "device":
            _check_device(value, spelled(name))
        if words is not None and isinstance(value, str) and value not in words:
            raise InputError(f"{spelled(name)}{value}; allowed are {', '.join(words)}")


def check_types(given: JSON, types: Mapping[str, object]) -> None:
    """Refuse options that are not of their types; those without a type are passed over.

    Parameters
    ----------
    given
        By name.
    types
        Type hints by name; a `Number` in an ``Annotated`` gives the range.

    Raises
    ------
    InputError
        Names the option, its value and what is allowed.

    Examples
    --------
    >>> check_types({"on": "pixels"}, {"on": Literal["positions", "pooled"] | None})
    Traceback (most recent call last):
    shortcutscope.errors.InputError: on='pixels'; it must be 'positions' or 'pooled' or None
    """
    for name, value in given.items():
        if name in types and not _is_of(value, types[name]):
            raise InputError(f"{name}={value!r}; it must be {' or '.join(_alternatives(types[name]))}")


def _is_of(value: object, kind: Any) -> bool:
    origin, arguments, number = get_origin(kind) or kind, get_args(kind), _number(kind)
    if origin in (Union, UnionType):
        return any(_is_of(value, one) for one in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if number is not None:
        return number.holds(value)
    if origin is Sequence:
        if not isinstance(value, Sequence) or isinstance(value, str):
            return False
        return all(_is_of(one, arguments[0]) for one in value)
    return not isinstance(origin, type) or origin is Any or isinstance(value, origin)


def _number(kind: Any) -> Number | None:
    """The numbers that a type stands for, if it does."""
    if kind in (int, float):
        return Number(whole=kind is int)
    return next((one for one in getattr(kind, "__metadata__", ()) if isinstance(one, Number)), None)


def _alternatives(kind: Any) -> list[str]:
    """What a type allows, in words."""
    if get_origin(kind) in (Union, UnionType):
        return [text for one in get_args(kind) for text in _alternatives(one)]
    if get_origin(kind) is Literal:
        return [repr(one) for one in get_args(kind)]
    if get_origin(kind) is Sequence:
        return [f"a list of which each is {text}" for text in _alternatives(get_args(kind)[0])]
    words = {str: "a name", bool: "True or False", type(None): "None", Mapping: "a mapping"}
    kind = kind if _number(kind) else get_origin(kind) or kind
    return [str(_number(kind) or words.get(kind) or f"a {getattr(kind, '__name__', kind)}")]


def _check_device(device: Any, spelled: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        there = ["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
        if torch.backends.mps.is_available():
            there.append("mps")
        raise InputError(
            f"{spelled}{device} cannot be used on this machine; there are {', '.join(there)}"
        ) from error
