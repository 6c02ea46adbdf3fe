"""Artifacts of the whole frame: acquisition and processing differences.

Each function maps an image (H, W), float32 in 0..1, a generator and a strength to the changed image and the
mask of its visibly changed pixels. Strength 1 is the catalogue's size, all effects grow with it.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from shortcutscope.planting.artifacts.artifact import REFERENCE_SIDE, draw_result, scaled
from shortcutscope.types import Array


def noise(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Gaussian noise of standard deviation .035 to .055, as of a lower dose."""
    level = strength * generator.uniform(0.035, 0.055)
    return draw_result(image, image + level * generator.standard_normal(image.shape))


def contrast(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Contrast around the image's mean lowered to between .55 and .7."""
    factor = 1 - strength * (1 - generator.uniform(0.55, 0.7))
    return draw_result(image, image.mean() + factor * (image - image.mean()))


def blur(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Gaussian blur of sigma 1.6 to 2.2 pixels at 64 pixels, as of a larger focal spot."""
    sigma = strength * generator.uniform(1.6, 2.2) * min(image.shape) / REFERENCE_SIDE
    return draw_result(image, gaussian_filter(image, sigma))


def brightness(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Brightened by .13 to .19."""
    return draw_result(image, image + strength * generator.uniform(0.13, 0.19))


def bias_field(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Multiplied by a linear field from 1 - a to 1 + a with a between .3 and .45, as of a receive coil."""
    angle, amplitude = generator.normal(0.6, 0.3), strength * generator.uniform(0.3, 0.45)
    y, x = np.linspace(-1, 1, image.shape[0])[:, None], np.linspace(-1, 1, image.shape[1])
    field = x * np.cos(angle) + y * np.sin(angle)
    return draw_result(image, image * np.maximum(1 + amplitude * field, 0))


def grid(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Crossed sine waves of period 4 pixels at 64 pixels and amplitude .025 to .04, as of a scatter grid."""
    period = scaled(image, 4, least=4)
    phase_x, phase_y = generator.uniform(0, 2 * np.pi, 2)
    amplitude = strength * generator.uniform(0.025, 0.04)
    wave_x = np.sin(2 * np.pi * np.arange(image.shape[1]) / period + phase_x)
    wave_y = np.sin(2 * np.pi * np.arange(image.shape[0]) / period + phase_y)
    return draw_result(image, image + amplitude * (wave_x + wave_y[:, None]))


def white_tint(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A veil, x <- .8 x + .2, the same in every image (Pahde et al. 2025 on CheXpert)."""
    share = 0.2 * strength
    return draw_result(image, (1 - share) * image + share)
