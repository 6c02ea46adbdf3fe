"""The frame around a picture, such as collimation leaves: even, along straight lines that may be tilted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import label

from shortcutscope.pixels.transfers.measures import BLACK, FLAT
from shortcutscope.types import Bools, Floats

#: Most of a side that is frame, and the steepest line, in pixels a pixel.
DEEPEST, STEEPEST = 0.45, 0.25
#: What is not even and smaller than this share of the picture lies in the frame: a stamp, a letter.
STAMP = 0.01
#: Of a normal distribution the spread is so many median distances; noise differs by so many spreads at most.
_NORMAL, _NOISE = 1.4826, 3.0
#: Turns of a picture (quarters) by which its top, right, bottom and left lie on top.
TURNS = range(4)


class _Level(NamedTuple):
    """The grey value of an even edge, and what differs from it by noise."""

    grey: float
    within: float


class Edge(NamedTuple):
    """The frame along one side, as shares of the other side: its depth at both ends, and its grey value."""

    first: float
    last: float
    grey: float

    @property
    def area(self) -> float:
        """Share of the picture."""
        low, high = sorted((self.first, self.last))
        return (low + high) / 2 if low >= 0 else max(high, 0) ** 2 / max(2 * (high - low), 1e-9)


def frame_of(image: Floats) -> tuple[Edge, ...]:
    """The frame of a picture (C, H, W) along its top, right, bottom and left; all 0 where there is none."""
    grey = image.mean(0)
    levels = [_level(np.rot90(grey, turn)[0]) for turn in TURNS]
    even = np.zeros(grey.shape, bool)
    for level in filter(None, levels):
        even |= np.abs(grey - level.grey) <= level.within
    pictured = _large_parts(~even)
    return tuple(_edge(np.rot90(pictured, turn), level) for turn, level in zip(TURNS, levels, strict=True))


def depths(edge: Edge, shape: tuple[int, ...]) -> Floats:
    """How far inside the frame, below its line, each pixel (H, W) is; negative in the picture."""
    height, width = shape
    line = np.linspace(edge.first, edge.last, width) * height
    return np.asarray(line - 0.5 - np.arange(height)[:, None], np.float32)


def _level(line: Floats) -> _Level | None:
    """The level of an edge; None where most of it is not even."""
    grey = float(np.median(line))
    spread = _NORMAL * float(np.median(np.abs(line - grey)))
    return _Level(grey, BLACK + _NOISE * spread) if spread <= FLAT else None


def _large_parts(member: Bools) -> Bools:
    parts, _ = label(member)
    large = np.bincount(parts.ravel()) >= STAMP * member.size
    large[0] = False
    return np.asarray(large[parts])


def _edge(pictured: Bools, level: _Level | None) -> Edge:
    """The line of largest area above all that is pictured, along the top."""
    height, width = pictured.shape
    if level is None or not pictured.any():
        return Edge(0, 0, 0)
    places = np.flatnonzero(pictured.any(0))
    depths = pictured[:, places].argmax(0)
    first, last = _highest_line(places.astype(float), depths.astype(float), width)
    edge = Edge(first / height, last / height, level.grey)
    return edge if edge.area > 0 and max(first, last) <= DEEPEST * height else Edge(0, 0, 0)


def _highest_line(x: Floats, y: Floats, width: int) -> tuple[float, float]:
    """Ends of the line below all points that is highest in the middle; of those, not steeper than allowed.

    It lies on the lower convex hull of the points: on that part of it that is above the middle.
    """
    hull: list[int] = []
    for k in range(len(x)):
        while len(hull) > 1 and _turns_up(x, y, hull[-2], hull[-1], k):
            hull.pop()
        hull.append(k)
    slopes = np.diff(y[hull]) / np.diff(x[hull]) if len(hull) > 1 else np.zeros(1)
    middle = (width - 1) / 2
    part = int(np.clip(np.searchsorted(x[hull], middle) - 1, 0, len(slopes) - 1))
    slope = float(np.clip(slopes[part], -STEEPEST, STEEPEST))
    start = float((y - slope * x).min())
    return start, start + slope * (width - 1)


def _turns_up(x: Floats, y: Floats, a: int, b: int, c: int) -> bool:
    """Whether the second of three points lies on or above the line from the first to the third."""
    return bool((y[b] - y[a]) * (x[c] - x[a]) >= (y[c] - y[a]) * (x[b] - x[a]))
