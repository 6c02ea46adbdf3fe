"""Boxes and clicks that were drawn in a browser, in pixels of the image's file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from shortcutscope.types import JSON

#: Sample id to its boxes: left, top, right and bottom edge; a click is a box of no size.
Boxes = dict[str, list[list[float]]]
_EDGES = 4


def valid_boxes(given: JSON, sizes: Mapping[str, Sequence[int]]) -> Boxes:
    """Those of what a browser sent that are boxes in their image; cut at its edges.

    Parameters
    ----------
    given
        Sample id to boxes, as they were sent.
    sizes
        Sample id to the height and width of its file, of those that may be drawn on.

    Examples
    --------
    >>> valid_boxes({"a": [[1, 2, 30, 4], [5, 5, 5, 5], ["x"]], "b": []}, {"a": (10, 20)})
    {'a': [[1.0, 2.0, 20.0, 4.0], [5.0, 5.0, 5.0, 5.0]]}
    """
    boxes: Boxes = {}
    for name, several in given.items():
        if name in sizes and isinstance(several, list):
            inside = [_inside(box, sizes[name]) for box in several if _is_box(box)]
            boxes[name] = [box for box in inside if box is not None]
    return boxes


def _is_box(box: object) -> bool:
    return (
        isinstance(box, list)
        and len(box) == _EDGES
        and all(isinstance(edge, int | float) and math.isfinite(edge) for edge in box)
    )


def _inside(box: Sequence[float], size: Sequence[int]) -> list[float] | None:
    high, wide = size
    x0, y0, x1, y1 = (
        min(max(float(edge), 0.0), float(most))
        for edge, most in zip(box, (wide, high, wide, high), strict=True)
    )
    click = box[0] == box[2] and box[1] == box[3]
    return [x0, y0, x1, y1] if click or (x1 > x0 and y1 > y0) else None
