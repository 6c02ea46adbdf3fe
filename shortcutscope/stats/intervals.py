"""Intervals of shares in closed form, for groups too small to be resampled."""

from __future__ import annotations

import numpy as np

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


def difference(one: float, of_one: Interval, other: float, of_other: Interval) -> Interval:
    """95 % interval of the difference of two shares from their own intervals (Newcombe 1998, method 10).

    Examples
    --------
    >>> low, high = difference(0.8, wilson(0.8, 50), 0.6, wilson(0.6, 50))
    >>> round(low, 2), round(high, 2)
    (0.02, 0.36)
    """
    change = one - other
    below = np.hypot(one - of_one[0], of_other[1] - other)
    above = np.hypot(of_one[1] - one, other - of_other[0])
    return float(change - below), float(change + above)
