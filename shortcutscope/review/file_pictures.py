"""Hits as their files show them: small for the grid, whole to draw on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from shortcutscope.data.file_images import in_file_size
from shortcutscope.data.pictures import Picture, as_picture
from shortcutscope.errors import InputError
from shortcutscope.retrieval.checks import sizes_of
from shortcutscope.retrieval.hits import Hits, TakesMarks
from shortcutscope.retrieval.places import named_boxes
from shortcutscope.show.parts import picture_uri

if TYPE_CHECKING:
    from shortcutscope.data.table import ImageTable

#: Longest side of a picture in the grid, and of a larger one, in pixels.
SIDE, LARGEST = 160, 1024


@dataclass(frozen=True, eq=False)
class FilePictures:
    """Pictures of files, read when they are asked for.

    Attributes
    ----------
    sizes
        Sample id to the height and width of its file.
    """

    sizes: dict[str, tuple[int, int]]
    _table: ImageTable
    _rows: dict[str, int]
    _retrieval: TakesMarks

    @classmethod
    def of(cls, hits: Hits) -> FilePictures | None:
        """Those of hits; None without images, and for volumes and signals, which nobody draws boxes on."""
        retrieval = hits.retrieval
        images = None if retrieval is None else retrieval.images
        if retrieval is None or images is None:
            return None
        try:
            sizes = sizes_of(images, hits.ids)
        except InputError:
            return None
        rows = {str(name): row for row, name in enumerate(images.frame["sample_id"])}
        return cls(sizes, in_file_size(images), rows, retrieval)

    def small(self, name: str) -> Picture:
        """A picture for the grid."""
        return self._picture(name, SIDE)

    def whole(self, name: str) -> str:
        """As large as the file, as far as a screen shows it, as a data URI."""
        return picture_uri(self._picture(name, LARGEST))

    def boxes(self, name: str) -> list[list[float]]:
        """What was marked before."""
        return [list(box) for known, box in named_boxes(self._retrieval.marks.places) if known == name]

    def _picture(self, name: str, side: int) -> Picture:
        image = self._table.image(self._rows[name]).numpy()
        picture = Image.fromarray(as_picture(image, self._table.value_range))
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        return np.asarray(picture)
