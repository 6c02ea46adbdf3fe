"""A mask and the image that it is of, small enough to be looked at beside many others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import measure

from shortcutscope.data.axial import axial_first, knows_axial
from shortcutscope.data.pictures import Picture, as_picture, trace_picture
from shortcutscope.data.sample_geometry import mask_geometry
from shortcutscope.errors import InputError
from shortcutscope.masks.formats.polygons import Points, outlines
from shortcutscope.masks.mask_files import Mask, MaskEntry
from shortcutscope.masks.traces import leads_named, span_outlines
from shortcutscope.types import Array

if TYPE_CHECKING:
    from shortcutscope.data.table import ImageTable
    from shortcutscope.masks.maskset import MaskSet

#: Longest side of a picture, and of the mask that an outline is drawn around, in pixels.
SIDE, FINEST = 160, 480
_SIGNAL_AXES = 2  # leads and time
_blocks: Callable[..., Mask] = measure.block_reduce
_NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class MaskPicture:
    """An image made small, and its mask's outline.

    Attributes
    ----------
    entry
        What is known of the mask.
    picture
        ``(h, w)`` or ``(h, w, 3)`` uint8, with the aspect of the image's own file; of a signal its traces.
    size
        (H, W) of the image's own file, displayed, or of a volume's slice; of a signal that of the picture.
    outline
        Polygons (K, 2) of x and y in pixels of `size`, from the outer edge of the first one; a hole is a
        polygon inside another.
    plane
        Of a volume the slice that is shown, and their number; None for an image.
    axial
        Whether that slice is known to be an axial one.
    leads
        Of a signal, which leads are masked, in words.
    """

    entry: MaskEntry
    picture: Picture
    size: tuple[int, int]
    outline: tuple[Points, ...]
    plane: tuple[int, int] | None = None
    leads: str = ""
    axial: bool = False

    @property
    def path(self) -> str:
        """The outline as the data of an SVG path."""
        lines = (" ".join(f"{x:g},{y:g}" for x, y in points) for points in self.outline)
        return " ".join(f"M{line}Z" for line in lines)

    @property
    def words(self) -> list[str]:
        """For a caption: confidence, area, slice or leads, and whether a person should look at it."""
        entry = self.entry
        words = [] if entry.confidence is None else [f"confidence {entry.confidence:.2f}"]
        words.append("empty" if entry.empty else f"area {_percent(entry.share)}")
        if self.plane is not None:
            words.append(f"{'axial ' * self.axial}slice {self.plane[0] + 1} of {self.plane[1]}")
        if self.leads:
            words.append(self.leads)
        return [*words, "flagged"] if entry.flagged else words


def mask_pictures(
    masks: MaskSet, table: ImageTable, sample_ids: Sequence[str], side: int = SIDE
) -> Iterator[MaskPicture]:
    """Pictures of samples with their masks, one at a time.

    The image is the table's before its transform, brought back to the shape of its own file. Of a volume the
    slice along the first axis (of NIfTI files an axial one) is shown that has most of the mask, or the middle
    one; of a signal the traces of all leads.

    Parameters
    ----------
    masks
        With masks of these samples.
    table
        With these samples.
    sample_ids
        Which.
    side
        Longest side of a picture in pixels; an image that is smaller stays as it is, and signals are drawn
        twice as wide.

    Raises
    ------
    InputError
        For a sample that the table lacks, or a mask of another size or kind than its image.
    """
    masks, plain = masks.in_frame("displayed"), table.with_transform(None)
    rows = rows_of(table, sample_ids)
    axial = knows_axial(table)
    for name in map(str, sample_ids):
        entry, image = masks.entry(name), plain.image(rows[name])
        mask_size = mask_geometry(plain, rows[name], image).size
        if entry.kind == "signal" and image.ndim != _SIGNAL_AXES:
            raise InputError(f"the mask of {name!r} is one of a signal, the table has an image of that name")
        if entry.size != mask_size:
            raise InputError(
                f"the mask of {name!r} has the size {entry.size}, its image {mask_size} in its own file; "
                "give the table that the masks were made of"
            )
        mask, pixels, plane = masks.mask(name), image.numpy(), None
        if entry.kind == "signal":
            yield _signal(entry, pixels, mask, 2 * side)
            continue
        volume = mask.ndim == 3
        if volume:
            if axial:
                mask, pixels = axial_first(mask), axial_first(pixels)
            plane = (_plane(mask), len(mask))
            pixels = pixels[:, int((plane[0] + 0.5) * pixels.shape[1] / plane[1])]
            mask = mask[plane[0]]
        height, width = mask.shape
        picture = _small(as_picture(pixels, table.value_range), (height, width), side)
        contour = tuple(outline(mask))
        yield MaskPicture(entry, picture, (height, width), contour, plane, axial=axial and volume)


def _signal(entry: MaskEntry, signal: Array, mask: Mask, width: int) -> MaskPicture:
    picture = trace_picture(signal, width)
    size = (picture.shape[0], picture.shape[1])
    return MaskPicture(entry, picture, size, span_outlines(mask, size), leads=leads_named(mask))


def rows_of(table: ImageTable, sample_ids: Sequence[str]) -> dict[str, int]:
    """Sample id to row of the table, of these samples.

    Raises
    ------
    InputError
        When the table lacks some.
    """
    position = {str(name): k for k, name in enumerate(table.frame["sample_id"])}
    missing = [str(name) for name in sample_ids if str(name) not in position]
    if missing:
        raise InputError(
            f"the table lacks {len(missing)} of {len(sample_ids)} samples, among them {missing[:5]}; "
            "give the table that the masks were made of"
        )
    return {str(name): position[str(name)] for name in sample_ids}


def outline(mask: Mask) -> list[Points]:
    """Polygons around a mask's parts and around the holes in them, along the edges of pixels.

    They run around holes the other way round than around parts, so that both rules of filling, ``evenodd``
    and ``nonzero``, leave the holes out.

    Of a mask with a side above :data:`FINEST`, pixels are taken together in squares that are inside when any
    of them is: what is thin does not vanish, and the outline stays short.
    """
    step = -(-max(mask.shape) // FINEST)
    rest: Mask = mask if step == 1 else _blocks(mask, step, np.max)
    polygons: list[Points] = []
    turn = 1
    while rest.any():
        whole = ndimage.binary_fill_holes(rest, structure=_NEIGHBOURS)
        polygons += [points[::turn] for points in outlines(whole)]
        rest, turn = whole & ~rest, -turn
    edge = np.array(mask.shape[::-1])
    return [np.minimum(points * step, edge) for points in polygons]


def _plane(mask: Mask) -> int:
    areas = mask.sum(axis=(1, 2))
    return int(areas.argmax()) if areas.any() else len(mask) // 2


def _small(picture: Picture, size: tuple[int, int], side: int) -> Picture:
    ratio = min(1.0, side / max(size))
    height, width = (max(1, round(length * ratio)) for length in size)
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 else "< 0.1%"
