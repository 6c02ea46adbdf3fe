"""Edges that fade out over a pixel: an image compared with what it would be without what lies over it.

A thin line covers the pixels beside it in part. A threshold leaves them out, and a ring of whole pixels
around the mask takes in as many wrong ones. So the pixels under the mask and right beside it are filled in
from what lies around them, and those that still differ belong to it. Whether that is worth doing is asked of
the carriers: something with hard edges has nothing beside it that differs more often than further out, and
of something that fades out on all sides all of the ring belongs to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from shortcutscope.masks.mask_files import Maps, Mask
from shortcutscope.masks.thresholds import threshold_of

#: A pixel beside a mask belongs to it from this share of the mask's own difference on.
FADING = 0.15
#: Quantile of the differences in a mask that stands for its own.
OWN = 0.75
#: Edges are fine where at least so much of what would be added is more than chance would add further out.
REAL = 0.5
#: From this share of the pixels beside it on, all of the ring belongs to it.
MOST = 0.5
#: Width of the Gaussian that fills in, in pixels, and the least weight of known pixels under it.
WIDTH, LEAST = 1.5, 0.02


def filled_in(image: Maps, hidden: Mask) -> Maps:
    """An image (*size) whose hidden pixels are means of the known ones around, as near as there are any."""
    known = (~hidden).astype(np.float32)
    filled, open_, width = image.astype(np.float32), hidden.copy(), WIDTH
    while open_.any() and width < max(image.shape):
        weight = gaussian_filter(known, width)
        reached = open_ & (weight >= LEAST)
        filled[reached] = (gaussian_filter(image * known, width) / np.maximum(weight, LEAST))[reached]
        open_ &= ~reached
        width *= 2
    return filled


def differences(image: Maps, hidden: Mask, sign: int) -> Maps:
    """By how much an image (*size) is brighter (1), darker (-1) or either (0) than what is filled in."""
    values = image - filled_in(image, hidden)
    return np.asarray(np.abs(values) if sign == 0 else sign * values, np.float32)


def with_edges(image: Maps, mask: Mask, sign: int) -> Mask:
    """A mask (*size) with the pixels beside it that belong to it, and without those that do not."""
    hidden = np.asarray(binary_dilation(mask), np.bool_)
    values = differences(image, hidden, sign)
    own = float(np.quantile(values[mask], OWN)) if mask.any() else 0.0
    belongs = np.asarray(hidden & (values > FADING * own), np.bool_)
    return belongs if own > 0 and belongs.any() else mask


def are_fine(images: Sequence[Maps], masks: Sequence[Mask], sign: int, *, rim: bool) -> bool:
    """Whether masks (*size) of carriers have pixels beside them that belong to them.

    Parameters
    ----------
    images, masks
        Of the carriers.
    sign
        See `differences`.
    rim
        Whether masks are grown by whole rings otherwise.
    """
    beside, further = [], []
    for image, mask in zip(images, masks, strict=True):
        if not mask.any():
            continue
        first = binary_dilation(mask)
        second = binary_dilation(first)
        values = differences(image, np.asarray(binary_dilation(second), np.bool_), sign)
        limit = FADING * float(np.quantile(values[mask], OWN))
        beside.append(float((values[first & ~mask] > limit).mean()))
        further.append(float((values[second & ~first] > limit).mean()) if (second & ~first).any() else 1.0)
    found = float(np.mean(beside)) if beside else 0.0
    if not found or (rim and found >= MOST):
        return False
    return (found - float(np.mean(further))) / found >= REAL


def weighed_cut(contrast: Maps, where: Maps, region: Mask) -> Mask:
    """Pixels of a region (*size) with a high contrast; where there is less evidence it has to be higher."""
    near = where >= 0.5 * float(where.max())
    high = float(np.quantile(contrast[near], 0.9)) if near.any() else 0.0
    share = (contrast / max(high, 1e-9)).clip(0, 1)
    values = share * np.sqrt((where / max(float(where.max()), 1e-9)).clip(0, 1))
    return np.asarray(region & (values > threshold_of(values[region])), np.bool_)
