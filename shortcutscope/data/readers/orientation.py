"""How the axes of a stored array lie in the array that is shown: exchanged, mirrored, or as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shortcutscope.errors import InputError
from shortcutscope.types import Array

#: EXIF orientation to (axes exchanged, mirrored rows, mirrored columns), CIPA DC-008, tag 0x0112.
_EXIF = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class Orientation:
    """Exchange of axes, then mirroring, that lead from the stored array to the one that is shown.

    Attributes
    ----------
    axes
        Axis ``k`` of the shown array is axis ``axes[k]`` of the stored one.
    flips
        Whether axis ``k`` of the shown array runs backwards.

    Raises
    ------
    InputError
        When `axes` is no permutation, or `flips` has another length.
    """

    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    def __post_init__(self) -> None:
        if sorted(self.axes) != list(range(len(self.axes))) or len(self.flips) != len(self.axes):
            raise InputError(
                f"an orientation is a permutation of axes and one flip each, not {self.axes}, {self.flips}"
            )

    @classmethod
    def identity(cls, dims: int = 2) -> Orientation:
        """Stored as it is shown."""
        return cls(tuple(range(dims)), (False,) * dims)

    @classmethod
    def from_exif(cls, number: int) -> Orientation:
        """Orientation of the EXIF tag 0x0112; numbers other than 1 to 8 count as 1, as viewers take them."""
        exchanged, rows, columns = _EXIF.get(number, _EXIF[1])
        return cls((1, 0) if exchanged else (0, 1), (rows, columns))

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return self == Orientation.identity(len(self.axes))

    def apply(self, stored: Array) -> Array:
        """Array as it is shown (a view)."""
        backwards = tuple(k for k, flip in enumerate(self.flips) if flip)
        return np.flip(np.transpose(stored, self.axes), backwards)

    def undo(self, displayed: Array) -> Array:
        """Array as it is stored (a view)."""
        backwards = tuple(k for k, flip in enumerate(self.flips) if flip)
        return np.transpose(np.flip(displayed, backwards), np.argsort(self.axes))

    def stored_size(self, displayed: Sequence[int]) -> tuple[int, ...]:
        """Size of the stored array from that of the shown one."""
        return tuple(int(displayed[k]) for k in np.argsort(self.axes))

    def shown_size(self, stored: Sequence[int]) -> tuple[int, ...]:
        """Size of the shown array from that of the stored one."""
        return tuple(int(stored[k]) for k in self.axes)

    def to_dict(self) -> dict[str, list[int]]:
        """Plain values for JSON."""
        return {"axes": list(self.axes), "flips": [int(flip) for flip in self.flips]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[int]]) -> Orientation:
        """From what :meth:`to_dict` gave."""
        return cls(tuple(int(k) for k in values["axes"]), tuple(bool(flip) for flip in values["flips"]))
