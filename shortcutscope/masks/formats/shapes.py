"""Shapes that a person drew in another tool, as masks: all of a label together, or refused by name.

Numbers are checked here, before they reach code that takes memory for them or cannot stand NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from shortcutscope.masks.formats.polygons import Points, fill
from shortcutscope.masks.mask_files import Mask
from shortcutscope.types import Bools

_FEWEST_CORNERS = 3
_ELLIPSE_CORNERS = 256
#: How far from an image a corner may lie, in its longer sides: tools let people draw beyond the edge.
_FARTHEST = 10
#: Bits of a character in COCO's run lengths, the flag that another one follows, and the sign.
_BITS, _MORE, _SIGN, _FIRST = 5, 0x20, 0x10, ord("0")
_MOST_CHARACTERS = 7


def corners(values: Any, size: tuple[int, int], fewest: int = _FEWEST_CORNERS) -> Points:
    """Points (K, 2) of x and y.

    Parameters
    ----------
    values
        Pairs, or numbers in turn.
    size
        Of the image: rows, columns.
    fewest
        Points that there have to be.

    Raises
    ------
    ValueError
        When there are fewer points, half a point, or one that is no number or far from the image.
    """
    numbers = np.asarray(values, dtype=np.float64).ravel()
    if len(numbers) % 2 or len(numbers) < 2 * fewest:
        raise ValueError(
            f"a shape needs {fewest} points of x and y or more, and one has {len(numbers)} numbers"
        )
    limit = (_FARTHEST + 1) * max(size)
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > limit:
        worst = numbers[~(np.abs(numbers) <= limit)][0]
        raise ValueError(f"a point has the coordinate {worst}, in an image of {size[1]} x {size[0]} pixels")
    return numbers.reshape(-1, 2)


def polygon(values: Any, size: tuple[int, int]) -> Mask:
    """The pixels in a polygon."""
    return fill([corners(values, size)], size)


def rectangle(
    first: tuple[float, float], last: tuple[float, float], size: tuple[int, int], degrees: float = 0
) -> Mask:
    """The pixels in a box between two corners, turned clockwise about its middle."""
    (x1, y1), (x2, y2) = corners([first, last], size, 2)
    points = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    return polygon(_turned(points, degrees), size)


def ellipse(
    middle: tuple[float, float], radii: tuple[float, float], size: tuple[int, int], degrees: float = 0
) -> Mask:
    """The pixels in an ellipse with its axes along x and y, turned clockwise about its middle."""
    centre, reach = corners([middle, radii], size, 2)
    turn = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    points = centre + reach * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return polygon(_turned(points, degrees), size)


def _turned(points: Points, degrees: float) -> Points:
    if not np.isfinite(degrees):
        raise ValueError(f"a shape is turned by {degrees} degrees")
    middle = points.mean(axis=0)
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turned: Points = (points - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle
    return turned


def from_run_lengths(lengths: Sequence[int], size: tuple[int, int]) -> Mask:
    """The mask of run lengths row by row, the first of them outside.

    Raises
    ------
    ValueError
        When one is negative, or they do not cover the size.
    """
    if min(lengths, default=0) < 0:
        raise ValueError(f"a run has the length {min(lengths)}")
    if sum(lengths) != size[0] * size[1]:
        raise ValueError(f"run lengths cover {sum(lengths)} pixels, and there are {size[0] * size[1]}")
    values: Bools = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(size)


def from_coco_runs(segmentation: Any, size: tuple[int, int]) -> Mask:
    """The mask of COCO's run lengths, column by column: a list, or the text that pycocotools packs it in.

    Raises
    ------
    ValueError
        When they are of another size, or not run lengths of it.
    """
    if list(segmentation["size"]) != list(size):
        raise ValueError(f"a mask of size {segmentation['size']} on an image of size {list(size)}")
    counts = segmentation["counts"]
    lengths = unpacked(counts) if isinstance(counts, str | bytes) else [_whole(count) for count in counts]
    return from_run_lengths(lengths, size[::-1]).T


def _whole(count: object) -> int:
    if isinstance(count, bool) or not isinstance(count, int):
        raise ValueError(f"a run has the length {count!r}")
    return count


def unpacked(text: str | bytes) -> list[int]:
    """Run lengths of COCO's packed text: five bits a character, each from the third on less the last but one.

    Raises
    ------
    ValueError
        For characters that it does not have, and numbers that do not end.
    """
    raw = text.encode("ascii") if isinstance(text, str) else text
    codes = np.frombuffer(raw, np.uint8).astype(np.int64) - _FIRST
    if not len(codes):
        return []
    if codes.min() < 0 or codes.max() >= 2 * _MORE or codes[-1] & _MORE:
        raise ValueError("packed run lengths have characters that are none of COCO's, or break off")
    starts = np.concatenate([[0], np.flatnonzero(~(codes & _MORE).astype(bool))[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(starts, np.diff([*starts, len(codes)]))
    if places.max() >= _MOST_CHARACTERS:
        raise ValueError("packed run lengths have a number of more than 35 bits")
    numbers = np.add.reduceat((codes & (_MORE - 1)) << (_BITS * places), starts)
    ends = np.diff([*starts, len(codes)])
    negative = (codes[starts + ends - 1] & _SIGN).astype(bool)
    numbers -= np.where(negative, 1 << (_BITS * ends), 0)
    for first in (1, 2):  # differences to the last but one, of which the first three have none
        numbers[first::2] = np.cumsum(numbers[first::2])
    return [int(number) for number in numbers]


def united(shapes: Iterable[tuple[str, Mask]], size: tuple[int, int]) -> Mask:
    """All shapes of an image together.

    Parameters
    ----------
    shapes
        What each is, in words, and its pixels.
    size
        Of the image: rows, columns.

    Raises
    ------
    ValueError
        For one that no pixel's middle lies in: it would be lost without a word.
    """
    mask = np.zeros(size, dtype=np.bool_)
    for what, inside in shapes:
        if not inside.any():
            raise ValueError(f"{what} covers no pixel; draw it larger, or delete it")
        mask |= inside
    return mask


def check_label(label: str, labels: Iterable[str], where: str) -> None:
    """Refuse a label that no shape has, or that some shapes have in another spelling.

    Raises
    ------
    ValueError
        Naming the labels that there are.
    """
    present = sorted(set(labels))
    alike = [
        name for name in present if name != label and name.strip().casefold() == label.strip().casefold()
    ]
    if alike:
        raise ValueError(
            f"{where} has shapes of the label {alike[0]!r} beside {label!r}; give both one spelling"
        )
    if present and label not in present:
        raise ValueError(f"{where} has no shapes of the label {label!r}; it has {', '.join(present[:10])}")
