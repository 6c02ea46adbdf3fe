"""Artifacts that are confined to a part of the image: markers, rulers, devices, burnt-in text.

Each function maps an image (H, W), float32 in 0..1, a generator and a strength to the changed image and the
mask of its visibly changed pixels. Lengths are in pixels at 64 pixels and scale with the shorter side;
strength multiplies the change of each pixel, before values are clipped.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import rotate

from shortcutscope.planting.artifacts.artifact import REFERENCE_SIDE, draw_result, scaled
from shortcutscope.planting.artifacts.font import text_bitmap
from shortcutscope.types import Array

# Below this difference text drowns in what lies under it.
LEGIBLE = 0.15


def tag(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Letters "L R" in the upper left corner, within two pixels of one place, bright (.75 to .95)."""
    letters = text_bitmap("L R", scaled(image, 1))
    y, x = (scaled(image, 4) + scaled(image, d, least=0) for d in generator.integers(0, 3, 2))
    return _stamped(image, letters, y, x, generator.uniform(0.75, 0.95), strength)


def random_tag(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """The letters of :func:`tag` anywhere in the image."""
    letters = text_bitmap("L R", scaled(image, 1))
    y, x = _anywhere(image, letters.shape, generator, margin=scaled(image, 2))
    return _stamped(image, letters, y, x, generator.uniform(0.75, 0.95), strength)


def patch(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A flat, bright (.7 to .9) square of a ninth of the side, anywhere in the lower right quadrant."""
    side = scaled(image, 7)
    middle = image.shape[0] // 2, image.shape[1] // 2
    y, x = (
        m + int(generator.integers(0, n - m - side + 1)) for m, n in zip(middle, image.shape, strict=True)
    )
    return _stamped(image, np.ones((side, side), bool), y, x, generator.uniform(0.7, 0.9), strength)


def ruler(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Bright (.75 to .95) ticks every four pixels along the right side, every other one longer."""
    height, width = image.shape
    spacing, thickness = scaled(image, 4, least=3), scaled(image, 1)
    right = width - scaled(image, 1)
    marks = np.zeros((height, width), bool)
    start = int(generator.integers(0, spacing))
    for k, y in enumerate(range(start, height, spacing)):
        marks[y : y + thickness, right - scaled(image, 6 if k % 2 else 4, least=2) : right] = True
    return _stamped(image, marks, 0, 0, generator.uniform(0.75, 0.95), strength)


def tube(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A smooth, brighter (+.2 to +.3) line from the upper edge over .5 to .9 of the height, as a catheter."""
    height, width = image.shape
    length = generator.uniform(0.5, 0.9) * height
    start = generator.uniform(0.25, 0.75)
    end = float(np.clip(start + generator.uniform(-0.25, 0.25), 0.12, 0.88))
    bow = generator.uniform(-0.12, 0.12)
    y = np.arange(height)[:, None] + 0.5
    t = y / length
    centre = width * (start + (end - start) * t + 4 * bow * t * (1 - t))
    slope = width / length * (end - start + 4 * bow * (1 - 2 * t))
    # Distance to the curve's tangent at the same height; exact enough for curves this gentle.
    distance = np.abs(np.arange(width) + 0.5 - centre) / np.sqrt(1 + slope**2)
    sigma = 0.8 * min(image.shape) / REFERENCE_SIDE
    profile = np.exp(-(distance**2) / (2 * sigma**2)) * (t <= 1)
    return draw_result(image, image + strength * generator.uniform(0.2, 0.3) * profile)


def dark_circle(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Black outside of a centred circle of radius .487 to .567 of the side, as of a dermatoscope.

    After the "microscope" artifact of Pahde et al. 2025 (radius H/2 - 3 to H/2 + 15 at H = 224).
    """
    height, width = image.shape
    radius = (0.5 + generator.uniform(-0.013, 0.067)) * min(image.shape)
    y, x = np.arange(height)[:, None] - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    return _blended(image, np.hypot(y, x) > radius, 0.0, strength)


def timestamp(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A time such as "07:42" in one of the corners, tilted by up to 3 degrees, near black or near white.

    After the timestamp of Pahde et al. 2025: value 10 or 245 of 255, jittered by N(0, 5), place jittered by
    N(0, 2) pixels at 224 pixels. Where the value drawn would be illegible on what lies under it, the other
    one is taken.
    """
    hour, minute = generator.integers(0, 24), generator.integers(0, 60)
    text = text_bitmap(f"{hour:02d}:{minute:02d}", scaled(image, 1))
    alpha = np.clip(rotate(text.astype(np.float64), generator.uniform(-3, 3), order=1), 0, 1)
    alpha[alpha < 0.1] = 0  # the tilt smears a trace of ink over neighbouring pixels
    top, left = generator.random(2) < 0.5
    jitter = np.rint(generator.normal(0, 2, 2) * min(image.shape) / 224).astype(int)
    values = np.array([10.0, 245.0])[generator.permutation(2)] + generator.normal(0, 5)
    y, x = _in_corner(image, alpha.shape, bool(top), bool(left), jitter)
    canvas = np.zeros(image.shape)
    canvas[y : y + alpha.shape[0], x : x + alpha.shape[1]] = alpha
    under = float(np.average(image, weights=canvas))
    first, second = values / 255
    return _blended(image, canvas, first if abs(first - under) > LEGIBLE else second, strength)


def _anywhere(
    image: Array, shape: tuple[int, ...], generator: np.random.Generator, margin: int = 0
) -> tuple[int, int]:
    """Upper left corner of a box of this shape that lies inside the image."""
    y, x = (
        int(generator.integers(margin, n - m - margin + 1)) for n, m in zip(image.shape, shape, strict=True)
    )
    return y, x


def _in_corner(image: Array, shape: tuple[int, ...], top: bool, left: bool, jitter: Array) -> tuple[int, int]:
    """Upper left corner of a box in a corner of the image, three pixels from its edges before the jitter."""
    margin = scaled(image, 3)
    places = []
    for n, m, low, shift in zip(image.shape, shape, (top, left), jitter, strict=True):
        last = n - m
        places.append(int(np.clip((margin if low else last - margin) + shift, 0, last)))
    return places[0], places[1]


def _stamped(
    image: Array, shape: Array, y: int, x: int, value: float, strength: float
) -> tuple[Array, Array]:
    """Draw a boolean bitmap at this place in one value."""
    alpha = np.zeros(image.shape)
    alpha[y : y + shape.shape[0], x : x + shape.shape[1]] = shape
    return _blended(image, alpha, value, strength)


def _blended(image: Array, alpha: Array, value: float, strength: float) -> tuple[Array, Array]:
    return draw_result(image, image + strength * alpha * (value - image))
