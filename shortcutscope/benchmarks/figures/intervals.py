"""A mean over cases with its interval."""

from __future__ import annotations

from collections.abc import Sequence

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
