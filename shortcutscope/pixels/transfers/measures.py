"""Measures of one image (C, *spatial) from 0 to 1: grey levels, noise, sharpness, spectrum, rim."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from shortcutscope.types import Bools, Floats, Ints

#: At which grey levels are compared.
QUANTILES = np.linspace(0, 1, 33)
#: What is as dark as this is background where images have a black one: three grey levels of 8 bits.
BLACK = 0.012
#: A row or column is flat up to this standard deviation.
FLAT = 0.02
#: Grey values that quantiles are read from at most.
_MOST_VALUES = 1 << 16
#: Frequency, in cycles a pixel, of the corner of a picture.
_CORNER = 0.72


class Rim(NamedTuple):
    """Flat rows and columns at the edges of a picture, as shares of its sides."""

    top: float
    bottom: float
    left: float
    right: float


def foreground(image: Floats) -> Bools:
    """Pixels (*spatial) that are not black."""
    lit: Bools = image.max(0) > BLACK
    return lit


def grey_levels(image: Floats, dark: bool = False) -> Floats:
    """Grey values (C, n), at most `_MOST_VALUES` of them; without a dark background where there is one."""
    values = image[:, foreground(image)] if dark else image.reshape(len(image), -1)
    values = values if values.shape[1] else image.reshape(len(image), -1)
    return values[:, :: -(-values.shape[1] // _MOST_VALUES)]


def noise(image: Floats) -> float:
    """Robust deviation of what no smooth image has: of second differences along one axis, or across two."""
    if image.ndim == 2:
        residual = (image[:, :-2] - 2 * image[:, 1:-1] + image[:, 2:]) / np.sqrt(6)
    else:
        residual = np.diff(np.diff(image, axis=-1), axis=-2) / 2
    return float(np.median(np.abs(residual)) / 0.6745)


def sharpness(image: Floats) -> float:
    """Logarithm of the mean squared Laplacian."""
    inner = (slice(None), *(slice(1, -1),) * (image.ndim - 1))
    laplacian = np.zeros_like(image[inner])
    for axis in range(1, image.ndim):
        along = list(inner)
        along[axis] = slice(None)
        laplacian += np.diff(image[tuple(along)], n=2, axis=axis)
    return float(np.log((laplacian**2).mean(dtype=np.float64) + 1e-10))


def amplitude(image: Floats) -> Floats:
    """Amplitude of the spectrum of each channel."""
    return np.abs(np.fft.fftn(image, axes=tuple(range(1, image.ndim))))


@lru_cache(maxsize=8)
def frequency(shape: tuple[int, ...]) -> Floats:
    """Frequency of each entry of a spectrum (*spatial), in cycles a pixel."""
    axes = np.meshgrid(*(np.fft.fftfreq(side) for side in shape), indexing="ij")
    return np.sqrt(sum(axis**2 for axis in axes))


@lru_cache(maxsize=8)
def bands(shape: tuple[int, ...], count: int) -> Ints:
    """Number of the band of frequencies that each entry of a spectrum (*spatial) lies in."""
    numbers: Ints = np.digitize(frequency(shape), np.linspace(0, _CORNER, count))
    return numbers


def rim_of(image: Floats) -> Rim:
    """The flat rim of a picture (C, H, W); that of anything else is empty."""
    if image.ndim != 3:
        return Rim(0, 0, 0, 0)
    grey = image.mean(0)
    rows, columns = grey.std(1) < FLAT, grey.std(0) < FLAT
    if rows.all() or columns.all():
        return Rim(0, 0, 0, 0)
    top, bottom = int(np.argmin(rows)), int(np.argmin(rows[::-1]))
    left, right = int(np.argmin(columns)), int(np.argmin(columns[::-1]))
    height, width = grey.shape
    return Rim(top / height, bottom / height, left / width, right / width)
