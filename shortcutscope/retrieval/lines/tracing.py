"""Thin bright lines of an image, traced pixel by pixel.

A line is where the image bends down across and hardly along (Lindeberg 1998): the most negative eigenvalue
of the Hessian is large, the other one small. Pixels that are highest across the line are linked where they
go on in each other's direction, so that lines which cross or touch stay apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from shortcutscope.types import Floats, Ints

#: Standard deviations of the Hessian's Gaussians in pixels; how much a bend along a line counts against it.
SCALES, ALONG = (1.0, 1.5), 0.5
#: Of the surroundings whose mean and contrast are taken out, and contrast below which there is none.
MEAN, CONTRAST, FAINT = 6.0, 8.0, 0.02
#: Pixels along each edge of an image where nothing is traced.
RIM = 3
#: Farthest pixels that are linked along an axis, and angles up to which they go on in each other's direction;
#: that between neighbours is coarse.
REACH, TURN, TURN_OF_NEIGHBOURS = 2, 0.45, 0.9

Pixels = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Ridges:
    """Where an image has ridges.

    Attributes
    ----------
    even
        ``(H, W)`` image with the mean and the contrast of the surroundings taken out.
    strength
        ``(H, W)`` how sharply it bends down across, less what it bends along.
    across
        ``(H, W)`` angle across the ridge.
    crest
        ``(H, W)`` whether a pixel is highest across.
    """

    even: Floats
    strength: Floats
    across: Floats
    crest: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines of an image, pixel by pixel.

    Attributes
    ----------
    y, x
        ``(P,)``.
    across
        ``(P,)`` angle across the line.
    number
        ``(P,)`` which line.
    length
        ``(L,)`` pixels of each.
    """

    y: Pixels
    x: Pixels
    across: Floats
    number: Ints
    length: Ints

    def __len__(self) -> int:
        return len(self.length)


def ridges_of(image: Floats) -> Ridges:
    """Bright ridges of an image ``(H, W)`` from 0 to 1."""
    mean = _smooth(image, MEAN)
    contrast = np.sqrt(np.maximum(_smooth((image - mean) ** 2, CONTRAST), 0))
    even = (image - mean) / (contrast + FAINT)
    of_scales = [_ridge(even, scale) for scale in SCALES]
    best = np.argmax([strength for strength, _ in of_scales], 0)[None]
    strength, across = (
        np.take_along_axis(np.stack(maps), best, 0)[0] for maps in zip(*of_scales, strict=True)
    )
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    beside = [
        map_coordinates(
            strength, [y + side * np.sin(across), x + side * np.cos(across)], order=1, mode="nearest"
        )
        for side in (1, -1)
    ]
    crest = (strength >= beside[0]) & (strength >= beside[1])
    crest[:RIM] = crest[-RIM:] = crest[:, :RIM] = crest[:, -RIM:] = False
    return Ridges(even, strength, across, crest)


def lines_of(ridges: Ridges, least: float, shortest: int) -> Lines:
    """Lines of at least `shortest` pixels, each of which has a strength above `least`."""
    y, x = np.nonzero(ridges.crest & (ridges.strength > least))
    across = ridges.across[y, x]
    links = _links(y, x, across, ridges.crest.shape)
    graph = coo_matrix((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(len(y), len(y)))
    number = connected_components(graph, directed=False)[1]
    count = np.bincount(number, minlength=1)
    long = np.flatnonzero(count >= shortest)
    position = np.full(len(count), -1)
    position[long] = np.arange(len(long))
    number = position[number]
    used = number >= 0
    return Lines(y[used], x[used], across[used], number[used], count[long])


def between(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """Angles between undirected lines, from 0 to a right one."""
    turn = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    return np.asarray(np.abs((turn + np.pi / 2) % np.pi - np.pi / 2))


def _links(y: Pixels, x: Pixels, across: Floats, shape: tuple[int, ...]) -> Pixels:
    """``(K, 2)`` pixels that go on in each other's direction."""
    index = np.full(shape, -1)
    index[y, x] = np.arange(len(y))
    index = np.pad(index, REACH, constant_values=-1)
    steps = [
        (down, right)
        for down in range(REACH + 1)
        for right in range(-REACH, REACH + 1)
        if (down, right) > (0, 0)
    ]
    links = []
    for down, right in steps:
        other = index[y + down + REACH, x + right + REACH]
        first = np.flatnonzero(other >= 0)
        second, step = other[first], np.arctan2(down, right) + np.pi / 2
        most = TURN_OF_NEIGHBOURS if max(down, abs(right)) == 1 else TURN
        ahead = (between(across[first], step) < most) & (between(across[second], step) < most)
        ahead &= between(across[first], across[second]) < TURN
        links.append(np.stack([first[ahead], second[ahead]], 1))
    return np.concatenate(links)


def _ridge(even: Floats, scale: float) -> tuple[Floats, Floats]:
    """Strength of bright ridges, and the angle across them."""
    xx, yy, xy = (gaussian_filter(even, scale, order, mode="nearest") for order in ((0, 2), (2, 0), (1, 1)))
    middle, half = (xx + yy) / 2, np.sqrt((xx - yy) ** 2 / 4 + xy**2)
    strength = scale**2 * (half - middle - ALONG * np.abs(middle + half))
    return strength, np.arctan2(2 * xy, xx - yy) / 2 + np.pi / 2


def _smooth(image: Floats, scale: float) -> Floats:
    return np.asarray(gaussian_filter(image, scale, mode="nearest"))
