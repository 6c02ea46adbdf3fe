"""Masks as small pictures of their own, without the images that they are of."""

from __future__ import annotations

import numpy as np
from PIL import Image

from shortcutscope.types import Array

#: Longest side of one in pixels.
SIDE = 96


def silhouette(mask: Array) -> Array:
    """A mask, or a mean of masks between 0 and 1, as a picture of bytes; of a volume its projection."""
    flat = np.asarray(mask, dtype=float)
    flat = flat if flat.ndim == 2 else flat.max(axis=tuple(range(flat.ndim - 2)))
    picture = Image.fromarray((255 * flat).clip(0, 255).astype(np.uint8))
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return np.asarray(picture.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST))
