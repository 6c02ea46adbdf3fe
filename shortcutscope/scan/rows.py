"""A layer's statistics on the disk, read a block of rows at a time: at no time all of them in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shortcutscope.scan.store import ShardReader
from shortcutscope.types import Array, Floats, Ints


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Arrays of a store side by side, a matrix (N, D) that gives its rows when asked for.

    Attributes
    ----------
    reader
        Of the store.
    keys
        Names of the arrays, (N, C) each, or (N, classes, C) where `targets` says which class is meant.
    shape
        (N, D).
    targets
        (N,) class of every row.
    """

    reader: ShardReader
    keys: tuple[str, ...]
    shape: tuple[int, int]
    targets: Ints | None = None

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Of the values."""
        return np.dtype(np.float32)

    def read(self, start: int, stop: int) -> Floats:
        """Rows start:stop, (stop - start, D)."""
        parts = [self._one(key, start, stop) for key in self.keys]
        return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def _one(self, key: str, start: int, stop: int) -> Array:
        values = self.reader.read_rows(key, start, stop)
        if self.targets is None:
            return values
        return np.asarray(values[np.arange(stop - start), self.targets[start:stop]])
