"""From what each image was measured to be to columns of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from shortcutscope.data.properties.files import Value, file_properties
from shortcutscope.data.properties.names import OF_FILES, OF_PICTURES
from shortcutscope.data.properties.pictures import picture_properties
from shortcutscope.data.rows import Rows
from shortcutscope.data.sources import PathSource, origin_of
from shortcutscope.types import Array

#: In a column of words: the file says nothing of it, while others do.
SILENT = "none"


def properties_of(table: Rows, row: int, image: Tensor) -> dict[str, Value]:
    """What the file and the picture of a row are measured to be.

    Parameters
    ----------
    image
        Of that row, before the transform.
    """
    source, number = origin_of(table.source, int(table.rows[row]))
    of_file = file_properties(source.path(number)) if isinstance(source, PathSource) else {}
    return {**of_file, **picture_properties(image.numpy(), table.value_range)}


def columns_of(measured: Sequence[Mapping[str, Value]]) -> dict[str, Array]:
    """Columns of what was measured of each row; those that nothing was measured of are left out."""
    columns: dict[str, Array] = {}
    for name in (*OF_FILES, *OF_PICTURES):
        values = [one.get(name) for one in measured]
        if any(isinstance(value, str) for value in values):
            columns[name] = np.array([SILENT if value is None else value for value in values], object)
        elif any(value is not None for value in values):
            columns[name] = np.array([np.nan if value is None else value for value in values], np.float64)
    return columns
