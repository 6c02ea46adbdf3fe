"""A transfer of the frame around a picture, such as collimation leaves."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from shortcutscope.pixels.transfers.edges import TURNS, Edge, depths, frame_of
from shortcutscope.pixels.transfers.side import Side
from shortcutscope.types import Floats

#: Width of the line where frame and picture meet, in shares of the shorter side.
_SEAM = 0.012


def frame(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """The frame of an image of the other side, drawn at random, in place of its own, which is mirrored over.

    Where that image has no frame, there is none.
    """
    target = other.frames[int(rng.integers(len(other.frames)))]
    return with_frame(without_frame(image, frame_of(image)), target)


def without_frame(image: Floats, edges: tuple[Edge, ...]) -> Floats:
    """The picture mirrored over its frame, at the nearest pixel of the picture."""
    shape = image.shape[1:]
    seam = _SEAM * min(shape)
    covered = np.zeros(shape, bool)
    for turn, edge in zip(TURNS, edges, strict=True):
        if edge.area > 0:
            np.rot90(covered, turn)[:] |= depths(edge, np.rot90(covered, turn).shape) > -seam
    if not covered.any() or covered.all():
        return image
    nearest = distance_transform_edt(covered, return_distances=False, return_indices=True)
    here = np.indices(shape)
    mirrored = [np.clip(2 * near - at, 0, n - 1) for near, at, n in zip(nearest, here, shape, strict=True)]
    outside = covered[tuple(mirrored)]
    rows, columns = (np.where(outside, near, at) for near, at in zip(nearest, mirrored, strict=True))
    return np.asarray(np.where(covered, image[:, rows, columns], image))


def with_frame(image: Floats, edges: tuple[Edge, ...]) -> Floats:
    """The picture with a frame laid over it; a pixel on its line is partly of each."""
    out = image.copy()
    for turn, edge in zip(TURNS, edges, strict=True):
        if edge.area > 0:
            turned = np.rot90(out, turn, axes=(1, 2))
            share = np.clip(depths(edge, turned.shape[1:]) + 0.5, 0, 1)
            turned[:] = turned + share * (edge.grey - turned)
    return out
