"""Transfers of noise and of sharpness."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from shortcutscope.pixels.transfers.measures import frequency, noise, sharpness
from shortcutscope.pixels.transfers.side import Side, matched
from shortcutscope.pixels.transfers.spectrum import filtered
from shortcutscope.types import Floats

#: Weights of the total variation, from gentle to strong.
_WEIGHTS = (0.005, 0.015, 0.03, 0.05, 0.08, 0.13)
#: Widths of the blur in pixels.
_WIDTHS = np.arange(0.2, 4, 0.15)
_LEAST_NOISE = 1e-5
_MOST_GAIN, _REGULAR = 12.0, 1e-3


def noise_level(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """White noise is added, or taken away by total variation (Chambolle 2004) until as little is left."""
    now = noise(image)
    levels = (np.log(np.maximum(x, _LEAST_NOISE)) for x in (np.array([now]), own.noises, other.noises))
    mine, its_side, others = (x[:, None] for x in levels)
    goal = float(np.exp(matched(mine[0], its_side, others)[0]))
    if goal >= now:
        more = np.sqrt(goal**2 - now**2)
        return np.asarray(image + rng.standard_normal(image.shape) * more, np.float32)
    from skimage.restoration import denoise_tv_chambolle

    out = image
    for weight in _WEIGHTS:
        out = np.asarray(
            denoise_tv_chambolle(image, weight=weight, max_num_iter=20, channel_axis=0),  # type: ignore[no-untyped-call]
            np.float32,
        )
        if noise(out) <= goal:
            break
    return out


def sharpness_level(image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """A Gaussian blur, or its regularised inverse, whose width gives the other side's Laplacian energy."""
    now = sharpness(image)
    goal = float(matched(np.array([now]), own.sharpnesses[:, None], other.sharpnesses[:, None])[0])
    axes = tuple(range(1, image.ndim))
    out = image
    for width in _WIDTHS:
        if goal < now:
            out = gaussian_filter(image, width, axes=axes)
            reached = sharpness(out) <= goal
        else:
            response = np.exp(-2 * np.pi**2 * width**2 * frequency(image.shape[1:]) ** 2)
            gain = np.minimum(response / (response**2 + _REGULAR), _MOST_GAIN)
            out = filtered(image, np.broadcast_to(gain, image.shape))
            reached = sharpness(out) >= goal
        if reached:
            break
    return out
