"""What speaks for a drawn mask: the pixels around it, what single pixels say, and where its contrast ends.

Two ways to draw a thing may disagree though one of them is right: of a whole area that was changed a network
that looks at single places sees the edges alone. So the mask itself is asked three things, each answered from
0 to 1, and their mean is what speaks for it: one that is low for all carriers alike does not flag them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_dilation, label

from shortcutscope.masks.contrast import separation
from shortcutscope.masks.mask_files import Maps, Mask

#: Width of what is right around a mask, in pixels and as a share of the shorter side; the larger counts.
NEAR, NEAR_SHARE = 3, 3 / 64
#: What adjoins a mask goes on with it from this share of the mask's own contrast on.
GOES_ON = 0.5


def support(image: Maps, contrast: Maps, said: Sequence[Maps], mask: Mask) -> float:
    """How much speaks for a mask, from 0 to 1.

    Parameters
    ----------
    image, contrast
        (*size): the plane that is looked at, and its contrast.
    said
        Maps (*size) of what is said of each pixel, from 0 to 1: that it was drawn over, or the votes of other
        carriers. The one that agrees best counts, since either may see a part alone.
    mask
        (*size); nothing speaks for an empty one.
    """
    best = max(agreement(one, mask) for one in said)
    return (distinctness(image, mask) + best + wholeness(contrast, mask)) / 3


def distinctness(image: Maps, mask: Mask) -> float:
    """Share of the variance, in a mask (*size) and right around it, that lies between the two.

    Bright things on bright ground are low whatever their contrast was divided by.
    """
    width = max(NEAR, round(NEAR_SHARE * min(mask.shape)))
    return separation(image, np.asarray(binary_dilation(mask, iterations=width), np.bool_), mask)


def agreement(said: Maps, mask: Mask) -> float:
    """Intersection over union of a mask (*size) with probabilities, a likely pixel counting in part."""
    together = float(np.minimum(mask, said).sum())
    return together / max(float(np.maximum(mask, said).sum()), 1e-9)


def wholeness(contrast: Maps, mask: Mask) -> float:
    """Share of a mask (*size) in itself and all that goes on from it with a like contrast.

    A line of which a piece was drawn goes on where the piece ends.
    """
    if not mask.any():
        return 0.0
    alike = mask | (contrast > GOES_ON * float(np.median(contrast[mask])))
    pieces, _ = label(alike, np.ones((3,) * mask.ndim))
    return float(mask.sum() / np.isin(pieces, np.unique(pieces[mask])).sum())


def meeting(a: Mask, b: Mask) -> float:
    """Share of the smaller of two masks that lies in the larger (Szymkiewicz 1934, Simpson 1943)."""
    return float((a & b).sum() / max(1, min(int(a.sum()), int(b.sum()))))
