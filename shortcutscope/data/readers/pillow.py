"""From Pillow's images to arrays: upright, and in their own bit depth."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from shortcutscope.types import Array


def from_pillow(image: Image.Image) -> Array:
    """Array (H, W) or (3, H, W) of a Pillow image, upright, in its own bit depth."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("1", "LA", "La"):
        upright = upright.convert("L")
    elif upright.mode not in ("L", "RGB", "I", "F") and not upright.mode.startswith("I;16"):
        upright = upright.convert("RGB")
    array = np.asarray(upright)
    if upright.mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits, which Pillow widens to 32
        array = array.astype(np.uint16)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return np.moveaxis(array, -1, 0) if array.ndim == 3 else array
