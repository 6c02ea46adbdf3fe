"""A table's images in the size that they have in their files, in the frame in which viewers show them."""

from __future__ import annotations

from typing import TypeVar

from shortcutscope.data.samples import SampleTable
from shortcutscope.data.sources import DerivedSource, ImageSource
from shortcutscope.data.stored_frame import unresampled

Table = TypeVar("Table", bound=SampleTable)


def in_file_size(table: Table) -> Table:
    """The same samples, each image as large as in its file, and no transform.

    What was planted in the images is planted in them, too. Channels are those of the files.
    """
    return table.replaced(source=_unresampled(table.source), transform=None, masks=None)


def _unresampled(source: ImageSource) -> ImageSource:
    return source.over(_unresampled) if isinstance(source, DerivedSource) else unresampled(source)
