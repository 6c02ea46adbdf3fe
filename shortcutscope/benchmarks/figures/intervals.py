"""Means over cases, and their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats


def mean_with_interval(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean, and its 95 % interval by a t distribution; what was not measured is left out.

    Of truth values it is the share of those that hold.
    """
    finite = np.array([value for value in values if value is not None and np.isfinite(value)], np.float64)
    if not len(finite):
        return {"mean": None, "low": None, "high": None}
    mean = float(finite.mean())
    if len(finite) == 1:
        return {"mean": mean, "low": None, "high": None}
    low, high = (
        stats.t.interval(0.95, len(finite) - 1, mean, stats.sem(finite)) if np.ptp(finite) else (mean, mean)
    )
    return {"mean": mean, "low": float(low), "high": float(high)}


def mean_over(cases: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Mean of a figure over the cases that have it; None where none does.

    Examples
    --------
    >>> mean_over([{"iou": 0.5}, {"iou": None}, {}, {"iou": 0.7}], "iou")
    0.6
    """
    return mean_with_interval([case.get(key) for case in cases])["mean"]
