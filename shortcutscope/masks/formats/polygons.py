"""Outlines of masks, and masks of outlines.

Corners are counted from the outer edge of the first pixel: the pixel in row 0 and column 0 has the corners
(0, 0) and (1, 1), as COCO and CVAT have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import ndimage
from skimage import draw, measure

from shortcutscope.masks.mask_files import Mask
from shortcutscope.types import Floats, Ints

Points = Floats
_approximate: Callable[[Points, float], Points] = measure.approximate_polygon
_inside: Callable[..., tuple[Ints, Ints]] = draw.polygon
_SIDES = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
_NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)
_SMALLEST = 3


def outlines(mask: Mask, tolerance: float = 0.0) -> list[Points]:
    """Polygons (K, 2) of x and y around the parts of a mask, which they fill to the pixel.

    They run along the edges of pixels. A polygon has no hole, so a part that has one is cut in rows into
    parts that have none.

    Parameters
    ----------
    mask : (H, W)
        The mask.
    tolerance
        Above 0, corners are left out where the outline moves by at most that many pixels (Douglas and
        Peucker): easier to edit, no longer the same pixels.
    """
    polygons = [_outline(part, corner) for part, corner in _parts(mask, (0, 0))]
    if tolerance <= 0:
        return polygons
    closed = [_approximate(np.vstack([points, points[:1]]), tolerance)[:-1] for points in polygons]
    return [points for points in closed if len(points) >= _SMALLEST]


def _parts(mask: Mask, corner: tuple[int, int]) -> Iterator[tuple[Mask, tuple[int, int]]]:
    """Connected parts without holes, cut out, with their first row and column."""
    labels, _ = ndimage.label(mask, structure=_SIDES)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        assert box is not None  # every number has pixels
        part = labels[box] == number
        top, left = corner[0] + box[0].start, corner[1] + box[1].start
        holes = ndimage.binary_fill_holes(part, structure=_NEIGHBOURS) & ~part
        if not holes.any():
            yield part, (top, left)
            continue
        row = int(np.flatnonzero(holes.any(axis=1))[0]) + 1  # the cut runs through a hole
        yield from _parts(part[:row], (top, left))
        yield from _parts(part[row:], (top + row, left))


def _outline(part: Mask, corner: tuple[int, int]) -> Points:
    """Corners of a part without holes, clockwise as displayed."""
    padded = np.pad(part, 1)
    inside = padded[1:-1, 1:-1]
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    borders = (
        (inside & ~padded[:-2, 1:-1], (0, 0), (1, 0)),
        (inside & ~padded[1:-1, 2:], (1, 0), (1, 1)),
        (inside & ~padded[2:, 1:-1], (1, 1), (0, 1)),
        (inside & ~padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    for border, (from_x, from_y), (to_x, to_y) in borders:
        for y, x in np.argwhere(border).tolist():
            steps.setdefault((x + from_x, y + from_y), []).append((x + to_x, y + to_y))
    start = min(steps)
    points, point, heading = [start], steps[start].pop(), (0, 0)
    heading = (point[0] - start[0], point[1] - start[1])
    while point != start or steps.get(point):
        ends = steps[point]
        # Where two corners touch, turn right: stay at the same pixel.
        right = (point[0] - heading[1], point[1] + heading[0])
        end = right if right in ends else ends[0]
        ends.remove(end)
        turned = (end[0] - point[0], end[1] - point[1])
        if turned != heading:
            points.append(point)
        point, heading = end, turned
    corners: Points = np.array(points, dtype=np.float64) + np.array([corner[1], corner[0]])
    return corners


def fill(polygons: Iterable[Sequence[Any] | Points], size: tuple[int, int]) -> Mask:
    """Mask of the pixels whose centre lies in one of the polygons of x and y."""
    mask = np.zeros(size, dtype=np.bool_)
    for points in polygons:
        corners = np.asarray(points, dtype=np.float64).reshape(-1, 2) - 0.5
        mask[_inside(corners[:, 1], corners[:, 0], size)] = True
    return mask
