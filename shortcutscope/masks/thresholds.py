"""From a map to a mask: Otsu's threshold, a quantile, or a fixed share of the map's range."""

from __future__ import annotations

from typing import Literal

import numpy as np
from skimage.filters import threshold_otsu

from shortcutscope.errors import InputError
from shortcutscope.types import Floats

Threshold = Literal["otsu", "quantile"] | float

#: Share of the pixels below the threshold ``"quantile"``.
QUANTILE = 0.95


def check_threshold(threshold: Threshold) -> None:
    """Refuse what is no threshold.

    Raises
    ------
    InputError
        For another word, or a number outside 0 to 1.
    """
    valid = threshold in ("otsu", "quantile") if isinstance(threshold, str) else 0 < threshold < 1
    if not valid:
        raise InputError(
            f"threshold={threshold!r}; allowed are 'otsu', 'quantile' (the upper {1 - QUANTILE:.0%} of the "
            "pixels), or a share of the map's range between 0 and 1, such as 0.4"
        )


def threshold_of(values: Floats, threshold: Threshold = "otsu") -> float:
    """Value above which a pixel is inside; infinite where the values do not differ.

    Parameters
    ----------
    values
        Of any shape: of a whole map, or of the pixels among which the mask lies.
    threshold
        ``"otsu"`` (Otsu 1979), ``"quantile"``, or a share of the range of the values.
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not high > low:
        return float("inf")
    if threshold == "otsu":
        return float(threshold_otsu(values))  # type: ignore[no-untyped-call]
    if threshold == "quantile":
        return float(np.quantile(values, QUANTILE))
    return low + float(threshold) * (high - low)
