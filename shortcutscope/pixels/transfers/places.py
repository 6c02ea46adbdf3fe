"""Transfers of what lies where: a smooth field, and a frame around the picture."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from shortcutscope.pixels.transfers.measures import Rim, rim_of
from shortcutscope.pixels.transfers.side import Side
from shortcutscope.types import Floats

#: Width of the smoothing of a field, as a share of the shortest side.
_SMOOTH = 0.08
#: A picture has a frame from this share of its area on, and none that is larger than this.
FRAME, LARGEST_FRAME = 0.03, 0.7
#: Width of the line where frame and picture meet, as a share of a side.
SEAM = 0.015


def field(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """A smooth field: the ratio of the mean images, without their levels."""
    axes = tuple(range(1, image.ndim))
    sigma = _SMOOTH * min(image.shape[1:])
    ratio = (gaussian_filter(other.image, sigma, axes=axes) + 0.05) / (
        gaussian_filter(own.image, sigma, axes=axes) + 0.05
    )
    ratio /= ratio.mean(axes, keepdims=True)
    return image * np.clip(ratio, 0.3, 3).astype(np.float32)


def frame(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """The rim of an image of the other side, drawn at random, in place of its own, which is mirrored over.

    Where that image has no frame, there is none.
    """
    target, mine = other.rims[int(rng.integers(len(other.rims)))], rim_of(image)
    out = _mirrored(image, mine) if is_frame(mine) else image.copy()
    if is_frame(target):
        rows, columns = _inside(image, target)
        inner = out[:, rows, columns].copy()
        out[:] = target.grey
        out[:, rows, columns] = inner
    return out


def is_frame(rim: Rim) -> bool:
    """Whether a rim is a frame: neither a line nor most of the picture."""
    return FRAME < rim.area < LARGEST_FRAME


def _inside(image: Floats, rim: Rim) -> tuple[slice, slice]:
    height, width = image.shape[-2:]
    top, bottom = round(rim.top * height), height - round(rim.bottom * height)
    left, right = round(rim.left * width), width - round(rim.right * width)
    return slice(top, bottom), slice(left, right)


def _mirrored(image: Floats, rim: Rim) -> Floats:
    # The line where frame and picture meet is half of each, and goes with the frame.
    top, bottom, left, right = (side + SEAM * (side > 0) for side in rim[:4])
    rows, columns = _inside(image, Rim(top, bottom, left, right, rim.grey))
    inner = image[:, rows, columns]
    height, width = image.shape[-2:]
    pads = ((0, 0), (rows.start, height - rows.stop), (columns.start, width - columns.stop))
    return np.pad(inner, pads, mode="symmetric")
