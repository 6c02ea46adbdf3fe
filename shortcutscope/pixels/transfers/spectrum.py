"""Transfers of the spectrum: low frequencies, all of them by radius, and single ones that stand out."""

from __future__ import annotations

import numpy as np

from shortcutscope.pixels.transfers.measures import bands, frequency
from shortcutscope.pixels.transfers.side import Side
from shortcutscope.types import Bools, Floats

#: What counts as low, in cycles a pixel.
LOW = 0.06
_TINY = 1e-9


def low_frequencies(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """The amplitudes of low frequencies are those of the other side (as Yang & Soatto 2020)."""
    gain = np.clip(other.amplitude / (own.amplitude + _TINY), 0.2, 5)
    gain[:, frequency(image.shape[1:]) > LOW] = 1
    return filtered(image, gain)


def all_frequencies(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """Amplitudes change by radius: blur and sharpness of any kind."""
    number = bands(image.shape[1:], 25)
    gain = np.ones(own.amplitude.shape)
    for k in np.unique(number):
        member = number == k
        ratio = other.amplitude[:, member].mean(1) / (own.amplitude[:, member].mean(1) + _TINY)
        gain[:, member] = np.clip(ratio, 0.1, 6)[:, None]
    return filtered(image, gain)


def periodic(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """Frequencies that stand out on one side are scaled down, or added at random phases."""
    peaks = _peaks(own, other)
    if not peaks.any():
        return image.copy()
    ratio = other.amplitude / (own.amplitude + _TINY)
    out = filtered(image, np.where(peaks & (ratio < 1), ratio, 1))
    more = peaks & (ratio > 1)
    if more.any():
        axes = tuple(range(1, image.ndim))
        waves = np.fft.fftn(rng.standard_normal(image.shape), axes=axes)
        missing = np.sqrt(np.maximum(other.amplitude**2 - own.amplitude**2, 0))
        waves *= np.where(more, missing, 0) / (np.abs(waves) + _TINY)
        out = out + np.fft.ifftn(waves, axes=axes).real.astype(np.float32)
    return out


def filtered(image: Floats, gain: Floats) -> Floats:
    """An image whose spectrum is multiplied; its mean stays."""
    axes = tuple(range(1, image.ndim))
    gain = np.array(gain, order="C")
    gain.reshape(len(gain), -1)[:, 0] = 1
    return np.fft.ifftn(np.fft.fftn(image, axes=axes) * gain, axes=axes).real.astype(np.float32)


def _peaks(own: Side, other: Side) -> Bools:
    """Frequencies (C, *spatial) whose ratio of amplitudes stands out from others of the same radius."""
    ratio = np.log((other.amplitude + _TINY) / (own.amplitude + _TINY))
    shape = ratio.shape[1:]
    number = bands(shape, 19)
    out = np.zeros(ratio.shape, bool)
    high = frequency(shape) > 0.05
    for k in np.unique(number[high]):
        member = (number == k) & high
        values = ratio[:, member]
        middle = np.median(values, axis=1, keepdims=True)
        spread = 1.48 * np.median(np.abs(values - middle), axis=1, keepdims=True) + 0.03
        out[:, member] = np.abs(values - middle) > np.maximum(6 * spread, 0.3)
    return out
