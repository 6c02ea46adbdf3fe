"""A table's sample in the eyes of other tools: its file's name, and the way from its model input to it."""

from __future__ import annotations

from torch import Tensor

from shortcutscope.data.geometry import Geometry
from shortcutscope.data.rows import Rows
from shortcutscope.data.sample_names import plain_name
from shortcutscope.data.stored_frame import file_name, stored_frame
from shortcutscope.data.transform_geometry import follow
from shortcutscope.errors import InputError


def image_name(table: Rows, i: int, *, keep_paths: bool = True) -> str:
    """What other tools call the image of row `i`: its file below the table's root, else its sample id.

    Without `keep_paths` it is the sample id with the file's ending.
    """
    sample_id = str(table.frame["sample_id"].iloc[i])
    name = file_name(table.source, int(table.rows[i]))
    return plain_name(sample_id, name) if name is None or not keep_paths else name


def mask_geometry(table: Rows, i: int, image: Tensor | None = None) -> Geometry:
    """Geometry in which a mask of model input `i` lies: of a signal (leads, time), else that of the sample.

    Raises
    ------
    InputError
        As :func:`sample_geometry`, and when a transform changes the number of leads.
    """
    image = table.image(i) if image is None else image
    geometry = sample_geometry(table, i, image)
    if len(geometry.size) != 1:
        return geometry
    leads = int(image.shape[0])
    if table.transform is not None and table.transformed(image).shape[0] != leads:
        raise InputError(
            f"the transform changes the number of leads, {leads}, so that it is not known which of the "
            "signal's they are; leave leads out where the signals are read"
        )
    return geometry.with_leads(leads)


def sample_geometry(table: Rows, i: int, image: Tensor | None = None) -> Geometry:
    """Where the pixels of model input `i` lie in the image's own file.

    Parameters
    ----------
    table
        With its source, ``size=`` and transform.
    i
        Row of the table.
    image
        ``table.image(i)``, where it has been read already.

    Raises
    ------
    UnreadableImageError
        When the image cannot be read.
    InputError
        When the transform moves pixels in a way that is not known, see
        :func:`shortcutscope.data.transform_geometry.follow`.
    """
    size, orientation = stored_frame(table.source, int(table.rows[i]))
    image = table.image(i) if image is None else image
    image_size = tuple(int(side) for side in image.shape[1:])
    if len(image_size) != len(size):
        raise InputError(
            f"sample {table.frame['sample_id'].iloc[i]!r} has the size {size} in its file, "
            f"and {image_size} as it is read"
        )
    geometry = Geometry.of(size, orientation)
    return follow(table.transform, image, geometry if image_size == size else geometry.resized(image_size))
