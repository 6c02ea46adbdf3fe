"""Transfers of grey levels: exposure, offset, contrast, both, the histogram, and the background alone."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.optimize import brentq
from scipy.special import expit

from shortcutscope.pixels.transfers.measures import QUANTILES, grey_levels
from shortcutscope.pixels.transfers.side import Side, matched
from shortcutscope.types import Floats

#: Logarithms of the smallest and largest gamma.
_GAMMAS = (-2.5, 2.5)
_DARKEST = 1e-4
#: What is farther from the median than so many spreads is no background; of a normal distribution the spread
#: is so many median distances; and no spread is smaller than this.
_FAR, _NORMAL, _LEAST_SPREAD = 4.0, 1.4826, 1e-3
#: Deviation of a channel without contrast.
_FLAT = 1e-6


def with_mean(image: Floats, target: float) -> Floats:
    """One gamma that gives an image this mean grey value, or comes as near as it can."""
    values = np.clip(grey_levels(image), _DARKEST, 1).astype(np.float64)

    def beyond(log_gamma: float) -> float:
        return float((values ** np.exp(log_gamma)).mean()) - target

    low, high = _GAMMAS
    if beyond(low) < 0:
        best = low
    elif beyond(high) > 0:
        best = high
    else:
        best = float(brentq(beyond, low, high, xtol=1e-3))
    raised: Floats = np.clip(image, _DARKEST, 1) ** np.float32(np.exp(best))
    return raised


def exposure(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """One gamma gives the mean grey value that an image of the other side has in its place."""
    mean = grey_levels(image).mean()
    target = matched(np.array([mean]), own.brightness, other.brightness)
    return with_mean(image, float(np.clip(target[0], 0.02, 0.98)))


def offset(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """A constant is added to each channel."""
    mean = grey_levels(image, own.dark).mean(1)
    return image + _per_channel(matched(mean, own.means, other.means) - mean, image)


def contrast(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """Each channel is stretched about its own mean."""
    values = grey_levels(image, own.dark)
    mean, deviation = _per_channel(values.mean(1), image), values.std(1)
    target = np.maximum(matched(deviation, own.deviations, other.deviations), 0)
    gain = np.divide(target, deviation, out=np.ones_like(target), where=deviation > _FLAT)
    return mean + (image - mean) * _per_channel(gain, image)


def affine(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """Both of them."""
    mean = grey_levels(image, own.dark).mean(1)
    stretched = contrast(image, own, other, rng)
    return stretched + _per_channel(matched(mean, own.means, other.means) - mean, image)


def histogram(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """Each quantile of each channel moves by as much as those of the sides differ."""
    out = np.empty_like(image)
    for channel, (mine, theirs) in enumerate(zip(own.quantiles, other.quantiles, strict=True)):
        rising = np.maximum.accumulate(mine + np.arange(len(QUANTILES)) * 1e-6)
        out[channel] = image[channel] + np.interp(image[channel], rising, theirs - mine)
    return out


def _per_channel(values: Floats, image: Floats) -> Floats:
    return values.reshape(-1, *(1,) * (image.ndim - 1)).astype(np.float32)


def background(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """The level of the background is that of an image of the other side, drawn at random; the rest stays.

    Background is what lies near an image's own median, after smoothing, in robust spreads; its edge is soft.
    """
    axes = tuple(range(1, image.ndim))
    columns = (-1, *(1,) * len(axes))
    level = np.median(image, axis=axes).reshape(columns)
    target = other.medians[int(rng.integers(len(other.medians)))].reshape(columns)
    far = np.abs(uniform_filter(image, 3, axes=axes, mode="nearest") - level)
    spread = _NORMAL * np.median(far, axis=axes).reshape(columns) + _LEAST_SPREAD
    inside = expit(2 * (_FAR - (far / spread).max(0)))
    return np.asarray(image + inside * (target - level), np.float32)
