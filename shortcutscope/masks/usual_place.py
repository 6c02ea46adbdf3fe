"""Where carriers usually have it: what is always in one place is told by that place.

The highest evidence anywhere says little where an image has other things that stand out as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shortcutscope.masks.mask_files import Maps
from shortcutscope.types import Array

EVIDENCE, CONTRAST = "usual evidence", "usual contrast"


@dataclass(frozen=True, eq=False)
class UsualPlace:
    """By how much more evidence carriers have at each position.

    Attributes
    ----------
    weights
        (*size), summing up to 1; all zero where they nowhere have more.
    """

    weights: Maps

    @classmethod
    def fit(cls, carriers: Maps, others: Maps) -> UsualPlace:
        """From the evidence (N, *size) of carriers and (M, *size) of others."""
        more = (carriers.mean(0) - others.mean(0)).clip(0)
        return cls(np.asarray(more / max(float(more.sum()), 1e-9), np.float32))

    def features(self, evidence: Maps, contrast: Maps) -> dict[str, Array]:
        """Means (N,) of evidence and contrast (N, *size) there, at least 0, by name."""
        maps = {EVIDENCE: evidence, CONTRAST: contrast}
        return {name: self._mean(values).clip(0) for name, values in maps.items()}

    def _mean(self, values: Maps) -> Array:
        return np.asarray((values * self.weights).reshape(len(values), -1).sum(1))
