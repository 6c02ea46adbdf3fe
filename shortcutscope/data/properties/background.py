"""Which part of a picture is empty background, and which something is pictured on."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label, uniform_filter

from shortcutscope.types import Bools, Floats

__all__ = ["in_size", "pictured_part"]

#: Background differs from the level around the edge by this at most, in shares of the value range, where at
#: least this share of the edge does, and is this share of the picture.
SAME_LEVEL, OF_EDGE, EMPTY = 0.04, 0.75, 0.1


def pictured_part(grey: Floats) -> Bools | None:
    """Where something is pictured: all but the background that begins at the edge.

    The background is even, or grows brighter from side to side.

    Parameters
    ----------
    grey
        ``(H, W)``, from 0 to 1.

    Returns
    -------
    (H, W) or None
        None where there is no background.
    """
    soft = uniform_filter(grey, 5, mode="nearest")
    edge = np.ones(grey.shape, bool)
    edge[1:-1, 1:-1] = False
    at_edge = soft[edge]
    near = np.abs(at_edge - np.median(at_edge)) <= 3 * SAME_LEVEL
    if near.mean() < OF_EDGE / 3:  # no plane through so little of the edge has most of it
        return None
    height, width = grey.shape
    down, across = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    plane = np.stack([np.ones_like(down), down, across], axis=-1)
    background = plane @ np.linalg.lstsq(plane[edge][near], at_edge[near], rcond=None)[0]
    same = np.abs(soft - background) <= SAME_LEVEL
    if same[edge].mean() < OF_EDGE:
        return None
    parts, _ = label(same)
    empty = same & np.isin(parts, np.unique(parts[edge & same]))
    return ~empty if EMPTY <= empty.mean() <= 1 - EMPTY / 2 else None


def in_size(member: Bools, shape: tuple[int, ...]) -> Bools:
    """A map of places in the size of a finer picture, by the nearest."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape, member.shape, strict=True))
    return np.asarray(member[np.ix_(rows, columns)])
