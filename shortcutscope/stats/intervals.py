"""Intervals of shares that hold where groups are small or shares near 0 and 1, and of their differences."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from shortcutscope.stats.bootstrap import percentile_interval
from shortcutscope.types import Floats

#: Standard normal quantile of 95 % intervals.
Z = 1.959963984540054

Interval = tuple[float, float]


def wilson(share: float, n: float) -> Interval:
    """95 % interval of a share of `n` (Wilson 1927).

    Examples
    --------
    >>> low, high = wilson(1.0, 10)
    >>> round(low, 2), high
    (0.72, 1.0)
    """
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def logit_interval(share: float, resampled: Floats) -> Interval:
    """95 % interval of a share between 0 and 1 from its resamples, on the scale of its log odds.

    To first order, so that a resample may be 0 or 1. Percentiles of the share itself are too narrow near 0
    and 1.

    Examples
    --------
    >>> low, high = logit_interval(0.9, np.random.default_rng(0).binomial(50, 0.9, 1000) / 50)
    >>> round(low, 2), round(high, 2)
    (0.78, 0.96)
    """
    odds = logit(share) + (np.asarray(resampled) - share) / (share * (1 - share))
    low, high = expit(percentile_interval(odds))
    return float(low), float(high)


def difference(
    one: float, of_one: Interval, other: float, of_other: Interval, correlation: float = 0.0
) -> Interval:
    """95 % interval of the difference of two shares from their own intervals.

    Newcombe 1998 (method 10); with correlated estimates Zou and Donner 2008.

    Examples
    --------
    >>> low, high = difference(0.8, wilson(0.8, 50), 0.6, wilson(0.6, 50))
    >>> round(low, 2), round(high, 2)
    (0.02, 0.36)
    """
    change = one - other
    below = _hypotenuse(one - of_one[0], of_other[1] - other, correlation)
    above = _hypotenuse(of_one[1] - one, other - of_other[0], correlation)
    return change - below, change + above


def _hypotenuse(a: float, b: float, correlation: float) -> float:
    return float(np.sqrt(max(0.0, a**2 + b**2 - 2 * correlation * a * b)))
