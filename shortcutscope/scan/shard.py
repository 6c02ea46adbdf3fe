"""One shard: a run of rows of every array in one safetensors file, most of them in half precision."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shortcutscope.disk import checksum, inside
from shortcutscope.errors import InputError
from shortcutscope.files import write_atomically
from shortcutscope.types import Array, Floats

#: float16 reaches 2^16; one bit of head room for rounding.
_TOP_EXPONENT = 15
#: Exponents of float32 end at 127.
_TOP_SCALE = 126


def encode_half(values: Array) -> tuple[Floats, int]:
    """Numbers as float16 with a common power-of-two scale.

    Parameters
    ----------
    values
        Finite floating-point numbers.

    Returns
    -------
    halves
        float16 of the same shape. The largest magnitude lies at 2^14 to 2^15, so that everything down to
        2^-28 of it keeps the full 11 bits.
    exponent
        ``values`` are ``halves * 2**exponent``.

    Raises
    ------
    InputError
        A value is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise InputError("NaN and infinite values cannot be stored; check what the model returns")
    largest = float(np.abs(values).max(initial=0.0))
    exponent = int(np.frexp(largest)[1]) - _TOP_EXPONENT if largest else 0
    return np.ldexp(values, -exponent).astype(np.float16), exponent


def decode_half(halves: Array, exponent: int, out: Floats | None = None) -> Floats:
    """Undo `encode_half`, as float32; values below its range become zero, those above it infinite.

    Parameters
    ----------
    out
        Takes the values, float32 of the same shape; a new array by default.
    """
    values = np.empty(halves.shape, np.float32) if out is None else out
    single = torch.from_numpy(values).copy_(torch.from_numpy(halves))  # several times quicker than NumPy
    if abs(exponent) < _TOP_SCALE:  # the scale itself is a number of single precision
        single *= 2.0**exponent
    else:
        np.ldexp(values, exponent, out=values)
    return values


@dataclass(frozen=True)
class Shard:
    """A finished shard as the manifest names it.

    Attributes
    ----------
    file
        Name inside the store's folder.
    start, stop
        Its rows.
    bytes, sha256
        Size and checksum of the file.
    exponents
        Array -> power of two of its scale, for the arrays in half precision.
    """

    file: str
    start: int
    stop: int
    bytes: int
    sha256: str
    exponents: dict[str, int]

    @classmethod
    def write(cls, path: Path, start: int, batches: list[dict[str, Array]], exact: frozenset[str]) -> Self:
        """Write batches of rows, the first of which is row `start`.

        Parameters
        ----------
        path
            The file; its folder exists.
        start
            First row.
        batches
            The rows of every array, batch after batch.
        exact
            Names of the arrays that keep their type; the others become scaled float16.

        Raises
        ------
        InputError
            Non-finite values, or a full disk.
        """
        tensors: dict[str, Array] = {}
        exponents: dict[str, int] = {}
        for key in batches[0]:
            # One array at a time, so that full precision never lies in memory twice.
            values = np.concatenate([batch[key] for batch in batches])
            if key in exact:
                tensors[key] = values
            else:
                tensors[key], exponents[key] = encode_half(values)
        stop = start + sum(row_count(batch) for batch in batches)
        content = save(tensors)
        write_atomically(path, lambda file: file.write(content))
        return cls(path.name, start, stop, len(content), hashlib.sha256(content).hexdigest(), exponents)

    def read(self, folder: Path, key: str) -> Array:
        """One array: float32 where it was stored in half precision. The others are not read."""
        with self._open(folder) as file:
            values: Array = file.get_tensor(key)
        return decode_half(values, self.exponents[key]) if key in self.exponents else values

    def read_rows(self, folder: Path, key: str, rows: slice, out: Array) -> None:
        """Some rows of one array, counted from the shard's first, as `read` gives them."""
        with self._open(folder) as file:
            values: Array = file.get_slice(key)[rows]
        if key in self.exponents:
            decode_half(values, self.exponents[key], out)
        else:
            out[:] = values

    def shape(self, folder: Path, key: str) -> tuple[int, ...]:
        """Shape of one array."""
        with self._open(folder) as file:
            return tuple(file.get_slice(key).get_shape())

    def keys(self, folder: Path) -> list[str]:
        """Names of its arrays."""
        with self._open(folder) as file:
            return sorted(file.keys())

    def damage(self, folder: Path) -> str | None:
        """What is wrong with the file, None where nothing is.

        The checksum is computed once a process, and again where the file's size or time has changed.
        """
        path = inside(folder, self.file)
        if not path.exists():
            return f"shard {path} is missing"
        state = path.stat()
        if state.st_size != self.bytes:
            return f"shard {path} is damaged: {state.st_size} bytes instead of {self.bytes}"
        if _checksum(path.absolute(), state.st_size, state.st_mtime_ns) != self.sha256:
            return f"shard {path} is damaged: its checksum is not the manifest's"
        return None

    @contextmanager
    def _open(self, folder: Path) -> Iterator[Any]:
        path = inside(folder, self.file)
        try:
            with safe_open(path, framework="numpy") as file:  # maps the file: only what is asked for is read
                yield file
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"shard {path} cannot be read ({error}); run the same scan again, it makes the lost rows anew"
            ) from error


def row_count(batch: Mapping[str, Array]) -> int:
    """Rows of a batch of arrays."""
    return len(next(iter(batch.values())))


@lru_cache(maxsize=65536)
def _checksum(path: Path, size: int, time: int) -> str:
    """The checksum of a file, kept until its size or time (which only stand for it in the cache) change."""
    return checksum(path)
