"""A layer's statistics on the disk, read a block of rows at a time: only few of them are held in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shortcutscope.scan.store import ShardReader
from shortcutscope.scan.view import OutputReader
from shortcutscope.types import Floats, Ints

#: Bytes up to which a matrix is read once and held: opening files over and over costs more than its sums.
HELD = 2**24


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Arrays of a store side by side, a matrix (N, D) that gives its rows when asked for.

    Attributes
    ----------
    reader
        Of the store.
    keys
        Names of the arrays, (N, C) each, or of one (N, classes, C) where `targets` says which class is meant.
    shape
        (N, D).
    targets
        (N,) class of every row.
    """

    reader: ShardReader | OutputReader
    keys: tuple[str, ...]
    shape: tuple[int, int]
    targets: Ints | None = None

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Of the values."""
        return np.dtype(np.float32)

    def read(self, start: int, stop: int) -> Floats:
        """Rows start:stop, (stop - start, D); not to be written to."""
        if 4 * self.shape[0] * self.shape[1] <= HELD:
            return self._held[start:stop]
        return self._read(start, stop)

    @cached_property
    def _held(self) -> Floats:
        return self._read(0, self.shape[0])

    def _read(self, start: int, stop: int) -> Floats:
        n = stop - start
        if self.targets is not None:
            every = np.empty((n, *self.reader.row_shape(self.keys[0])), np.float32)
            self.reader.read_rows(self.keys[0], start, stop, every)
            return every[np.arange(n), self.targets[start:stop]]
        values = np.empty((n, self.shape[1]), np.float32)
        width = self.shape[1] // len(self.keys)
        for k, key in enumerate(self.keys):
            self.reader.read_rows(key, start, stop, values[:, k * width : (k + 1) * width])
        return values
