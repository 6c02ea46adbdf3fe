"""Arrays that one process hands to the others through a file, of which each reads what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from shortcutscope.types import Array

Key = TypeVar("Key")


@dataclass(frozen=True)
class FileRange:
    """Where an array lies in a file.

    Attributes
    ----------
    offset
        In bytes.
    shape, dtype
        Of the array.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: str


def laid_down(file: Path, arrays: Mapping[Key, Array]) -> dict[Key, FileRange]:
    """Write arrays one after the other, as they lie in memory."""
    places = {}
    with file.open("wb") as stream:
        for key, array in arrays.items():
            places[key] = FileRange(stream.tell(), array.shape, array.dtype.str)
            stream.write(np.ascontiguousarray(array).data)
    return places


def picked_up(file: Path, places: Mapping[Key, FileRange]) -> dict[Key, Array]:
    """The arrays of a file; what is not looked at is not read."""
    return {
        key: np.memmap(file, place.dtype, "r", place.offset, place.shape)
        if np.prod(place.shape)
        else np.empty(place.shape, place.dtype)
        for key, place in places.items()
    }
