"""From which score on an image is taken to have it: between unmarked images and held-out carriers.

The law of the highest score in images without the element says how high chance comes, and mostly says too
much: its tail is read from its lower part. So the limit begins where one image in twenty would lie above it.
Images also show what is like the element and no chance: letters of another kind, electrodes. So where more
unmarked images lie between the limit and the carriers, or what chance hardly reaches, than are allowed, or
are carriers themselves, the limit moves up to these. Unmarked images as high as carriers are taken for such.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from shortcutscope.retrieval.detecting.null import score_at
from shortcutscope.types import Floats

#: Share of images without it that lie above the lowest limit by the law of chance.
CHANCE = 0.05
#: Share of images without it that may be drawn, and of carriers that may lie below the limit.
ALARMS, MISSES = 0.02, 0.05
#: Fewest carriers whose spread is worth anything.
FEWEST = 5


def limit_of(null: Floats, carriers: Floats, kinds: int) -> float:
    """The limit, in units of the law of images without the element.

    Parameters
    ----------
    null
        ``(n,)`` highest scores of unmarked images.
    carriers
        ``(m,)`` those of marked carriers, by detectors that were taught without them.
    kinds
        Of elements; the highest of all counts.
    """
    chance = score_at(CHANCE, kinds)
    low = max(score_at(ALARMS, kinds), _lowest(np.asarray(carriers, np.float64)))
    between = np.sort(null[(null > chance) & (null < low)])
    allowed = round(ALARMS * len(null) + MISSES / (1 - MISSES) * np.count_nonzero(null >= low))
    return chance if len(between) <= allowed else float(between[len(between) - allowed - 1])


def _lowest(carriers: Floats) -> float:
    """A bound that one in twenty further carriers fall below: of normal scores (Hahn & Meeker 1991)."""
    n = len(carriers)
    if n < FEWEST:
        return float("-inf")
    reach = float(student.ppf(1 - MISSES, n - 1)) * np.sqrt(1 + 1 / n)
    return float(carriers.mean() - reach * carriers.std(ddof=1))
