"""Whether marks with places can be searched for in these images, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shortcutscope.data.stored_frame import stored_frame
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.places import refuse_outside

IMAGE_AXES = 2
#: Files whose sizes are looked at to know whether they show more than the model's input.
LOOKED_AT = 5
#: Fewest boxed samples, share of an image that boxes may cover, and ratio of their sides that is wildly
#: different.
FEWEST_BOXED, WHOLE, WILD = 3, 0.5, 64.0


def require_images(marks: Marks, images: ImageTable | None) -> None:
    """Refuse boxes that cannot be searched for.

    Raises
    ------
    InputError
        Without images, with volumes or signals, and for boxes outside their images.
    """
    if not len(marks.places):
        return
    if images is None:
        raise InputError(
            'marks with boxes need the images: give them, or view="layers" to rank without the boxes'
        )
    refuse_outside(marks.places, sizes_of(images, marks.places["sample_id"].unique().tolist()))


def sizes_of(images: ImageTable, sample_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Height and width in pixels of the files of some samples.

    Raises
    ------
    InputError
        When they are volumes or signals.
    """
    position = {str(name): row for row, name in enumerate(images.frame["sample_id"])}
    sizes = {}
    for name in sample_ids:
        size, _ = stored_frame(images.source, int(images.rows[position[name]]))
        if len(size) != IMAGE_AXES:
            raise InputError(
                'places are searched for in images, not in volumes or signals: give view="layers", which '
                "ranks these by the network's layers"
            )
        sizes[str(name)] = (size[0], size[1])
    return sizes


def shows_more_than_input(images: ImageTable) -> bool:
    """Whether the files have more pixels than the model's input, in which small things may be lost."""
    if len(images.shape) != 1 + IMAGE_AXES:
        return False
    rows = images.rows[:LOOKED_AT]
    sizes = [stored_frame(images.source, int(row))[0] for row in rows]
    if any(len(size) != IMAGE_AXES for size in sizes):
        return False
    return bool(np.median([np.prod(size) for size in sizes]) > np.prod(images.shape[1:]))


def why_not_searched(
    boxes: Mapping[str, Sequence[Sequence[float]]], sizes: Mapping[str, tuple[int, int]]
) -> str:
    """Why boxes do not say where to look, in a sentence; empty where they do."""
    areas = [(x1 - x0) * (y1 - y0) for several in boxes.values() for x0, y0, x1, y1 in several]
    if len(boxes) < FEWEST_BOXED:
        return (
            f"boxes on {len(boxes)} samples are too few to teach a detector (at least {FEWEST_BOXED} are "
            "needed, ten are advised)"
        )
    covered = [
        sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in several) / (sizes[name][0] * sizes[name][1])
        for name, several in boxes.items()
    ]
    if np.median(covered) > WHOLE:
        return f"the boxes cover {np.median(covered):.0%} of their images, and so do not say where it is"
    if len(areas) > 1 and np.quantile(areas, 0.9) > WILD * np.quantile(areas, 0.1):
        return (
            "the boxes are of wildly different sizes, and so of different things: mark one of them at a time"
        )
    return ""
