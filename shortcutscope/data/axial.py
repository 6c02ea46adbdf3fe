"""Which way volumes are cut for pictures: axially, where the files say which axis is which."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shortcutscope.data.readers.nifti import is_nifti
from shortcutscope.data.stored_frame import file_source
from shortcutscope.types import Array

if TYPE_CHECKING:
    from shortcutscope.data.samples import SampleTable


def knows_axial(table: SampleTable) -> bool:
    """Whether all samples of a table come from NIfTI files, so that the axes of volumes are R, A and S."""
    source = file_source(table.source)
    return source is not None and all(is_nifti(Path(source.names[int(row)])) for row in table.rows)


def axial_first(volume: Array) -> Array:
    """Axial slices (..., S, A, R) of a volume (..., R, A, S), the front on top, the left side on the left.

    A view; what is seen on the left of the picture is the left of the body.
    """
    return np.flip(np.swapaxes(volume, -3, -1), -2)
