"""What it says of an image that a detector found something in it, by how often it does in marked samples.

A detector that mined its patches from ten marked samples may have found what was marked, or something else
that recurs. Its scores are in units of the law of images without it, so that a score ``s`` says how likely it
is that something is there; held-out marks say whether that something is what was meant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shortcutscope.retrieval.detecting.null import density_ratio, share_with
from shortcutscope.types import Floats

#: Log odds that each unit adds beyond those of presence: weak finds are more often something else.
SLOPE = 0.4
#: Standard errors by which the shares differ where it is clear what was found.
CLEAR = 2.0


@dataclass(frozen=True, eq=False)
class FindOdds:
    """What the finds of a detector say.

    Attributes
    ----------
    odds
        ``(N,)`` log odds for a carrier, 0 where the finds say nothing.
    carriers, others
        Share of held-out marked carriers in which something was found, and of the marked others (of the
        unmarked samples where none are marked).
    weight
        From 0, where the two do not differ beyond chance, to 1: odds are shrunk by it.
    """

    odds: Floats
    carriers: float
    others: float
    weight: float

    @property
    def clear(self) -> bool:
        """Whether the shares differ by more than two standard errors."""
        return self.weight >= 1 - 1 / CLEAR**2

    def __str__(self) -> str:
        return (
            f"something was found in {self.carriers:.0%} of the marked carriers and in {self.others:.0%} of "
            "the others, each held out"
        )


def presence(scores: Floats, marks: Floats, kinds: int) -> FindOdds:
    """Log odds of being a carrier by what a detector found.

    With ``R`` the ratio of the densities of images with and without something, and the shares ``p`` of
    carriers and ``q`` of others that have it, ``log (p R + 1 - p) / (q R + 1 - q)``, shrunk as James & Stein
    (1961) do by the error of ``p - q``.

    Parameters
    ----------
    scores
        ``(N,)`` highest of all kinds, in units of their laws; of marked samples held out.
    marks
        ``(N,)`` 1, 0 or NaN.
    kinds
        Number of kinds, the highest of which counts.
    """
    above = np.asarray(scores, np.float64) - math.log(kinds)
    ratio = density_ratio(above)
    free = marks == 0 if (marks == 0).any() else np.isnan(marks)
    counts = int((marks == 1).sum()), int(free.sum())
    p, q = share_with(above[marks == 1]), share_with(above[free])
    error = p * (1 - p) / max(1, counts[0]) + q * (1 - q) / max(1, counts[1])
    weight = max(0.0, 1 - error / (p - q) ** 2) if p > q else 0.0
    odds = np.log((p * ratio + 1 - p) / (q * ratio + 1 - q)) + SLOPE * above.clip(0)
    return FindOdds(weight * odds, p, q, weight)
