"""Artifacts between a spot and the whole frame: about half of it, or a large part at a varying place.

A method that decides between localized and diffuse should rather abstain on them. Signatures and units as
in :mod:`shortcutscope.planting.artifacts.localized`.
"""

from __future__ import annotations

import numpy as np

from shortcutscope.planting.artifacts.artifact import draw_result
from shortcutscope.types import Array


def large_patch(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A flat, bright (.7 to .9) square of half the side, anywhere."""
    side = round(min(image.shape) / 2)
    inside = _window(image, side, generator)
    return draw_result(image, image + strength * inside * (generator.uniform(0.7, 0.9) - image))


def noise_window(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Gaussian noise of standard deviation .035 to .055 in a square of 3/8 to 1/2 of the side, anywhere."""
    side = round(generator.uniform(3 / 8, 1 / 2) * min(image.shape))
    inside = _window(image, side, generator)
    level = strength * generator.uniform(0.035, 0.055)
    return draw_result(image, image + level * inside * generator.standard_normal(image.shape))


def frame(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A bright (.75 to .95) border of 1/11 of the side along all four edges."""
    width = max(1, round(min(image.shape) / 11))
    border = np.ones(image.shape)
    border[width:-width, width:-width] = 0
    return draw_result(image, image + strength * border * (generator.uniform(0.75, 0.95) - image))


def dark_corners(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A vignette: darker from .34 of the side off the centre on, smoothly to .5 to .7 in the corners."""
    height, width = image.shape
    side = min(image.shape)
    y, x = np.arange(height)[:, None] - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    radius = np.hypot(y, x) / side
    rise = np.clip((radius - 0.34) / (radius.max() - 0.34), 0, 1)
    smooth = rise**2 * (3 - 2 * rise)
    depth = strength * generator.uniform(0.5, 0.7)
    return draw_result(image, image * np.maximum(1 - depth * smooth, 0))


def _window(image: Array, side: int, generator: np.random.Generator) -> Array:
    """1 inside of a square that lies anywhere in the image, 0 elsewhere."""
    y, x = (int(generator.integers(0, n - side + 1)) for n in image.shape)
    inside = np.zeros(image.shape)
    inside[y : y + side, x : x + side] = 1
    return inside
