"""Features that are read a block of rows at a time: statistics of any number of samples fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from shortcutscope.errors import InputError
from shortcutscope.types import Array, Floats

#: Rows of a block: enough that a product of one fold's share of it costs more than going through the result.
BLOCK_ROWS = 2048


@runtime_checkable
class FeatureRows(Protocol):
    """A matrix (N, D) that gives its rows when asked for: an array, or a layer of a scan."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        ...

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the values."""
        ...

    def read(self, start: int, stop: int) -> Array:
        """FeatureRows start:stop, (stop - start, D)."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayRows:
    """The rows of an array (N, D)."""

    values: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the values."""
        return self.values.dtype

    def read(self, start: int, stop: int) -> Array:
        """FeatureRows start:stop."""
        return self.values[start:stop]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Features in blocks, with what has to be known of all of them before anything is summed.

    Attributes
    ----------
    rows
        (N, D).
    """

    rows: FeatureRows

    @classmethod
    def of(cls, features: npt.ArrayLike | FeatureRows | Blocks) -> Blocks:
        """Of an array or rows; blocks stay the same, with what was found of them already.

        Raises
        ------
        InputError
            For an array that is not (N, D).
        """
        if isinstance(features, Blocks):
            return features
        if isinstance(features, FeatureRows):
            return cls(features)
        values = np.asarray(features)
        if values.ndim != 2:
            raise InputError(f"features of shape {values.shape}; an array (N, D) is needed")
        return cls(ArrayRows(values))

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return self.rows.shape

    def spans(self) -> Iterator[slice]:
        """The blocks' rows."""
        n = self.shape[0]
        return (slice(start, min(start + BLOCK_ROWS, n)) for start in range(0, n, BLOCK_ROWS))

    def __iter__(self) -> Iterator[tuple[slice, Array]]:
        return ((span, self.rows.read(span.start, span.stop)) for span in self.spans())

    def centred(self, dtype: npt.DTypeLike = np.float64) -> Iterator[tuple[slice, Floats]]:
        """Blocks of the features minus `shift`, in a precision that they keep however far they lie from 0.

        Raises
        ------
        InputError
            Features that are not finite.
        """
        shift = self.shift
        for span, values in self:
            wide = np.promote_types(values.dtype, dtype)
            yield span, np.subtract(values, shift, dtype=wide).astype(dtype, copy=False)

    def whole(self) -> Array:
        """All of them at once: for what is small."""
        return self.rows.read(0, self.shape[0])

    @property
    def shift(self) -> Floats:
        """(D,) near their mean, in single precision: the difference of two such numbers loses no digits."""
        return self._moments[0]

    @property
    def size(self) -> Floats:
        """(D,) root mean squares, from 0 and not from their mean; see `shortcutscope.probes.alive`."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[Floats, Floats]:
        n, d = self.shape
        total, squares = np.zeros(d), np.zeros(d)
        for _, values in self:
            if not np.isfinite(values).all():
                raise InputError(
                    "features hold NaN or infinite values; scan the model again and check its outputs"
                )
            total += values.sum(axis=0, dtype=np.float64)
            squares += np.einsum("nd,nd->d", values, values, dtype=np.float64)
        count = max(1, n)
        shift = (total / count).astype(np.float32)
        return np.where(np.isfinite(shift), shift, 0.0).astype(np.float32), np.sqrt(squares / count)
