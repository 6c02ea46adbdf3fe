"""The geometry of a table's sample: its file, the table's ``size=``, and the table's transform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shortcutscope.data.geometry import Geometry
from shortcutscope.data.own_frame import own_frame
from shortcutscope.data.transform_geometry import follow
from shortcutscope.errors import InputError

if TYPE_CHECKING:
    from shortcutscope.data.samples import SampleTable


def sample_geometry(table: SampleTable, i: int) -> Geometry:
    """Where the pixels of model input `i` lie in the image's own file.

    Parameters
    ----------
    table
        With its source, ``size=`` and transform.
    i
        Row of the table.

    Raises
    ------
    UnreadableImageError
        When the image cannot be read.
    InputError
        When the transform moves pixels in a way that is not known, see
        :func:`shortcutscope.data.transform_geometry.follow`.
    """
    size, orientation = own_frame(table.source, int(table.rows[i]))
    image = table.image(i)
    read = tuple(int(side) for side in image.shape[1:])
    if len(read) != len(size):
        raise InputError(
            f"sample {table.frame['sample_id'].iloc[i]!r} has the size {size} in its file, "
            f"and {read} as it is read"
        )
    geometry = Geometry.of(size, orientation)
    return follow(table.transform, image, geometry if read == size else geometry.resized(read))
