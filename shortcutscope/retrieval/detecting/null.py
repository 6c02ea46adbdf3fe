"""The law of the highest score in images without the element, from unmarked images of which some have it.

The maximum over many places follows a Gumbel law (Fisher & Tippett 1928). Its location and scale are read
from the lower part of the maxima of unmarked images, most of which are free of the element; the share that is
not is estimated from those far above the law, and left out in turn.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

#: Quantiles of the images without the element that the law is read from.
LOW, HIGH = 0.1, 0.6
#: Units of the law above which an image is taken to have the element, and most that may have it.
FAR, MOST = 4.0, 0.5
PASSES = 4
#: Fewest images to read a law from.
FEWEST = 12
#: Width of the scores of images that have the element, in units of the law of those without.
WIDTH = 4.0
#: Pseudo-images on each side of a share, and steps to the share that explains the scores best.
PSEUDO, STEPS = 0.5, 60


def gumbel_law(maxima: npt.ArrayLike) -> tuple[float, float]:
    """Location and scale of the law.

    Parameters
    ----------
    maxima
        Highest score of each of at least 12 images.
    """
    values = np.asarray(maxima, np.float64)
    share, expected = 0.0, 1 - math.exp(-math.exp(-FAR))
    location, scale = 0.0, 1.0
    for _ in range(PASSES):
        low, high = np.quantile(values, [LOW * (1 - share), HIGH * (1 - share)])
        scale = max(float(high - low) / (_quantile(HIGH) - _quantile(LOW)), 1e-6)
        location = float(low) - scale * _quantile(LOW)
        above = float((values > location + FAR * scale).mean())
        share = min(MOST, max(0.0, (above - expected) / (1 - expected)))
    return location, scale


def false_share(score: npt.ArrayLike, kinds: int) -> npt.NDArray[np.float64]:
    """Share of the images without any of `kinds` elements whose highest calibrated score is as high."""
    below = -kinds * np.exp(-np.asarray(score, np.float64).clip(-30, 700))
    return -np.expm1(below)


def score_at(share: float, kinds: int) -> float:
    """The calibrated score that this share of the images without any of `kinds` elements exceeds."""
    return -math.log(-math.log1p(-share) / kinds)


def density_ratio(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Density of scores, in units of the law, in images with the element over that in those without."""
    return np.asarray(np.exp(np.clip(np.asarray(scores, np.float64), -20, 20)) / WIDTH)


def share_with(scores: npt.ArrayLike) -> float:
    """Share of images that have the element by their scores in units of the law.

    By expectation and maximisation (Dempster, Laird & Rubin 1977).
    """
    ratio, share = density_ratio(scores), 0.5
    for _ in range(STEPS):
        has_it = share * ratio / (share * ratio + 1 - share)
        share = float(has_it.sum() + PSEUDO) / (len(ratio) + 2 * PSEUDO)
    return share


def _quantile(share: float) -> float:
    return -math.log(-math.log(share))
