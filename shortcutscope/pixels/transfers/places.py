"""A transfer of what lies where: a smooth field."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from shortcutscope.pixels.transfers.side import Side
from shortcutscope.types import Floats

#: Width of the smoothing of a field, as a share of the shortest side.
_SMOOTH = 0.08


def field(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """A smooth field: the ratio of the mean images, without their levels."""
    axes = tuple(range(1, image.ndim))
    sigma = _SMOOTH * min(image.shape[1:])
    ratio = (gaussian_filter(other.image, sigma, axes=axes) + 0.05) / (
        gaussian_filter(own.image, sigma, axes=axes) + 0.05
    )
    ratio /= ratio.mean(axes, keepdims=True)
    return image * np.clip(ratio, 0.3, 3).astype(np.float32)
