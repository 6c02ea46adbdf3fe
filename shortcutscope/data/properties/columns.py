"""From what each image was measured to be to columns of its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from shortcutscope.data.properties.files import file_properties
from shortcutscope.data.properties.names import OF_FILES, OF_PICTURES, WORDS
from shortcutscope.data.properties.pictures import picture_properties
from shortcutscope.data.rows import Rows
from shortcutscope.data.sources import PathSource, origin_of
from shortcutscope.types import Array, Floats

#: In a column of words: the file says nothing of it, while others do.
SILENT = "none"
NUMBERS = tuple(name for name in (*OF_FILES, *OF_PICTURES) if name not in WORDS)


@dataclass(frozen=True, slots=True, eq=False)
class Properties:
    """What one image was measured to be, in little memory: there is one of each image.

    Attributes
    ----------
    numbers
        Of the columns `NUMBERS`; NaN where nothing is known.
    words
        Of the columns `WORDS`.
    """

    numbers: Floats
    words: tuple[str | None, ...]


def properties_of(table: Rows, row: int, image: Tensor) -> Properties:
    """What the file and the picture of a row are measured to be.

    Parameters
    ----------
    image
        Of that row, before the transform.
    """
    source, number = origin_of(table.source, int(table.rows[row]))
    of_file = file_properties(source.path(number)) if isinstance(source, PathSource) else {}
    values = {**of_file, **picture_properties(image.numpy(), table.value_range)}
    words = tuple(str(values[name]) if name in values else None for name in WORDS)
    return Properties(np.array([values.get(name, np.nan) for name in NUMBERS], np.float64), words)


def columns_of(measured: Sequence[Properties]) -> dict[str, Array]:
    """Columns of what was measured of each row; those that nothing was measured of are left out."""
    columns: dict[str, Array] = {}
    numbers = np.stack([one.numbers for one in measured]) if measured else np.empty((0, len(NUMBERS)))
    for name in (*OF_FILES, *OF_PICTURES):
        if name in WORDS:
            words = [one.words[WORDS.index(name)] for one in measured]
            if any(words):
                columns[name] = np.array([word or SILENT for word in words], object)
        else:
            values = numbers[:, NUMBERS.index(name)]
            if not np.isnan(values).all():
                columns[name] = values
    return columns
