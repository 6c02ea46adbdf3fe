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
    """A flat frame is filled by the mirrored picture, or one of the other side's frames is laid over it."""
    theirs = [rim for rim in other.rims if FRAME < rim.area < LARGEST_FRAME]
    framed = [FRAME < rim.area < LARGEST_FRAME for rim in own.rims]
    if len(theirs) / max(len(other.rims), 1) < np.mean(framed):
        rim = rim_of(image)
        return _mirrored(image, rim) if FRAME < rim.area < LARGEST_FRAME else image.copy()
    if not theirs:
        return image.copy()
    rim = theirs[int(rng.integers(len(theirs)))]
    rows, columns = _inside(image, rim)
    out = np.full_like(image, rim.grey)
    out[:, rows, columns] = image[:, rows, columns]
    return out


def _inside(image: Floats, rim: Rim) -> tuple[slice, slice]:
    height, width = image.shape[-2:]
    top, bottom = round(rim.top * height), height - round(rim.bottom * height)
    left, right = round(rim.left * width), width - round(rim.right * width)
    return slice(top, bottom), slice(left, right)


def _mirrored(image: Floats, rim: Rim) -> Floats:
    rows, columns = _inside(image, rim)
    inner = image[:, rows, columns]
    height, width = image.shape[-2:]
    pads = ((0, 0), (rows.start, height - rows.stop), (columns.start, width - columns.stop))
    return np.pad(inner, pads, mode="symmetric")
