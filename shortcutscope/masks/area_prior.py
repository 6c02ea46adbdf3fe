"""How large masks are that a person accepted: which of the cuts near Otsu's threshold is taken by it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_dilation

from shortcutscope.masks.mask_files import Maps, Mask
from shortcutscope.types import Record

if TYPE_CHECKING:
    from shortcutscope.masks.maskset import MaskSet


#: Fewest masks that say how large one is, and the range of theirs that is ordinary.
LEAST_MASKS, RANGE = 5, (0.1, 0.9)
#: How far a cut may lie from Otsu's, as a share of the step from outside to inside; in how many steps.
FARTHEST, STEPS = 0.25, 6
#: Areas this far outside the range, as a logarithm, are much less likely.
UNLIKELY = 0.6


@dataclass(frozen=True)
class AreaPrior:
    """Ordinary areas.

    Attributes
    ----------
    low, high
        As a share of the image.
    masks
        How many it was learnt from.
    """

    low: float
    high: float
    masks: int

    @classmethod
    def from_masks(cls, masks: MaskSet) -> AreaPrior | None:
        """From those that were accepted or edited and not rejected; None when they are too few."""
        shares = [
            entry.share
            for entry in masks.entries
            if not entry.empty and entry.accepted is not False and (entry.accepted or entry.edited)
        ]
        if len(shares) < LEAST_MASKS:
            return None
        low, high = np.quantile(shares, RANGE)
        return cls(float(low), float(high), len(shares))

    def to_dict(self) -> Record:
        """Plain values, for the provenance."""
        return asdict(self)

    def distance(self, share: float) -> float:
        """Of an area to the range, as a logarithm; 0 inside."""
        if share <= 0:
            return float("inf")
        return float(abs(np.log(share / np.clip(share, self.low, self.high))))

    def likeness(self, share: float) -> float:
        """1 for an ordinary area, less outside the range."""
        return float(np.exp(-0.5 * (self.distance(share) / UNLIKELY) ** 2))

    def cut(self, contrast: Maps, region: Mask, mask: Mask, rim: int = 0) -> Mask:
        """Among cuts of the region (*size) near that of the mask the one of the most ordinary area.

        Parameters
        ----------
        contrast
            (*size), above whose threshold pixels are inside.
        region, mask
            (*size); the mask was cut out of the region.
        rim
            Pixels by which it will be grown.
        """
        rest = region & ~mask
        if not mask.any() or not rest.any():
            return mask
        limit = float(contrast[rest].max())
        step = FARTHEST * float(contrast[mask].mean() - contrast[rest].mean()) / STEPS
        # The nearest first: of equally ordinary ones it is taken.
        moves = sorted(range(-STEPS, STEPS + 1), key=abs)
        cuts = [mask if move == 0 else region & (contrast > limit + move * step) for move in moves]
        return min(cuts, key=lambda one: self.distance(grown(one, region, rim).mean()))


def grown(mask: Mask, region: Mask, rim: int) -> Mask:
    """A mask with so many rings of pixels more, within its region."""
    return np.asarray(binary_dilation(mask, iterations=rim) & region, np.bool_) if rim else mask
