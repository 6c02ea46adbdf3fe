"""A table's images as an intervention edits them, and the way back to what the model is given.

Interventions work on the image before the transform, in shares of its value range: whatever a user's
transform does (resize, crop, standardize, three channels of one) is done to the edited image as it would be
to any other, and a mask of the file needs no way through the transform.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shortcutscope.data.geometry import Geometry
from shortcutscope.data.table import ImageTable
from shortcutscope.types import Array, Floats

#: Longest side, by the number of spatial axes, of the copies in which a transfer is chosen.
VIEWED = {1: 4096, 2: 256, 3: 48}
#: Images of which it is looked whether their channels are one.
_LOOKED_AT = 32


def rows_over(table: ImageTable) -> list[int]:
    """Some rows, spread over a table, whose images say what all are like."""
    rows: list[int] = np.unique(np.linspace(0, len(table) - 1, _LOOKED_AT).astype(int)).tolist()
    return rows


@dataclass(frozen=True, eq=False)
class ScaledImages:
    """Images (C, *spatial) by row, from 0 to 1 of the table's value range.

    Attributes
    ----------
    table
        Where they are read from.
    channels
        Of an image as the table has it.
    grey
        All channels are the same, so that one is edited and stands for all.
    """

    table: ImageTable
    channels: int
    grey: bool

    @classmethod
    def of(cls, table: ImageTable) -> ScaledImages:
        """Look at some images, spread over the table, for whether they have colours."""
        first = table.image(0)
        grey = first.ndim > 2 and all(bool((x == x[:1]).all()) for x in map(table.image, rows_over(table)))
        return cls(table, int(first.shape[0]), grey)

    @property
    def dims(self) -> int:
        """Spatial axes: 1 of signals, 2 of images, 3 of volumes."""
        return self.table.image(0).ndim - 1

    def __getitem__(self, row: int) -> Floats:
        """Image of a row, float32."""
        low, high = self.table.value_range
        pixels = self.table.image(row).numpy()
        scaled: Floats = ((pixels[:1] if self.grey else pixels) - np.float32(low)) / np.float32(high - low)
        return scaled

    def each(self, rows: Sequence[int]) -> Iterator[Floats]:
        """Images of some rows, one at a time."""
        return (self[int(row)] for row in rows)

    def original(self, image: Array) -> Tensor:
        """An edited image as the table would have it, in its value range; values beyond it are cut off."""
        low, high = self.table.value_range
        pixels = torch.from_numpy(np.ascontiguousarray(np.clip(image, 0, 1), np.float32))
        pixels = pixels.expand(self.channels, *pixels.shape[1:]) if self.grey else pixels
        return (pixels * (high - low) + low).contiguous()

    def model_input(self, image: Array) -> Tensor:
        """What the model is given of an edited image."""
        return self.table.transformed(self.original(image))

    def viewed(self, rows: Sequence[int]) -> list[Floats]:
        """Copies of some images that are no larger than `VIEWED`."""
        return [viewed(image) for image in self.each(rows)]


def viewed(image: Floats) -> Floats:
    """The image, in blocks averaged until no side is longer than `VIEWED`."""
    spatial = image.shape[1:]
    factor = -(-max(spatial) // VIEWED[len(spatial)])
    if factor == 1:
        return image
    # Axes that are short already, such as the slices of a thick volume, stay as they are.
    factors = [factor if side >= 2 * factor else 1 for side in spatial]
    cut = image[(slice(None), *(slice(side // f * f) for side, f in zip(spatial, factors, strict=True)))]
    blocks = [cut.shape[0]]
    for side, f in zip(cut.shape[1:], factors, strict=True):
        blocks += [side // f, f]
    averaged: Floats = cut.reshape(blocks).mean(tuple(range(2, len(blocks), 2)), dtype=np.float32)
    return averaged


def onto(values: Array, size: tuple[int, ...]) -> Array:
    """A mask, or an image (C, *spatial) for more axes than `size` has, resampled to another size."""
    if values.ndim > len(size):
        return np.stack([onto(channel, size) for channel in values])
    return values if values.shape == size else Geometry.of(values.shape).resized(size).from_source(values)
