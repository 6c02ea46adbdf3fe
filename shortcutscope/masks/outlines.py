"""Where one image's mask lies: its region, what is cut out of it, how far that stands out, its usual area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shortcutscope.masks.contrast import cut, separation
from shortcutscope.masks.exemplars import Exemplars, signal, voted
from shortcutscope.masks.mask_files import Maps, Mask
from shortcutscope.masks.thresholds import Threshold
from shortcutscope.retrieval.signals import whole_spans
from shortcutscope.types import Ints

#: Areas within this factor (as a logarithm) are never far apart.
LEAST_SPREAD = 0.2


@dataclass(frozen=True)
class Areas:
    """Areas of masks, as median and spread of their logarithms."""

    middle: float
    spread: float

    @classmethod
    def fit(cls, sizes: Sequence[int]) -> Areas:
        """From pixel counts; empty masks do not count."""
        logs = np.log([size for size in sizes if size > 0] or [1])
        middle = float(np.median(logs))
        return cls(middle, max(LEAST_SPREAD, 1.4826 * float(np.median(np.abs(logs - middle)))))

    def likeness(self, size: int) -> float:
        """1 for an ordinary area, less for one that is unlike the others; 0 for an empty mask."""
        if size == 0:
            return 0.0
        return float(np.exp(-0.5 * ((np.log(size) - self.middle) / (3 * self.spread)) ** 2))


@dataclass(frozen=True, eq=False)
class Outline:
    """A region, the mask in it, and how far that stands out.

    Attributes
    ----------
    region, mask
        (*size).
    height
        Mean contrast of the mask above that of the rest of the region.
    separation
        See :func:`shortcutscope.masks.contrast.separation`.
    """

    region: Mask
    mask: Mask
    height: float
    separation: float


def outline(contrast: Maps, region: Mask, threshold: Threshold = "otsu", *, leads: bool = False) -> Outline:
    """Cut the mask of one image, or of a signal (leads, time), out of its region."""
    mask = cut(contrast, region, threshold)
    return measured(contrast, region, whole_spans(mask) if leads else mask)


def measured(contrast: Maps, region: Mask, mask: Mask) -> Outline:
    """A mask of one image in its region, and how far it stands out there."""
    rest = region & ~mask
    height = float(contrast[mask].mean() - contrast[rest].mean()) if mask.any() and rest.any() else 0.0
    return Outline(region, mask, max(height, 0.0), separation(contrast, region, mask))


def exemplars_of(
    contrast: Maps, fusion: Maps, outlines: Sequence[Outline], carriers: Ints
) -> Exemplars | None:
    """Of the masks (N, *size) of carriers, by row."""
    signals = np.stack([signal(contrast[k], fusion[k], outlines[k].mask) for k in carriers])
    masks = np.stack([outlines[k].mask for k in carriers])
    return Exemplars.fit(signals, masks, np.array([outlines[k].separation for k in carriers]))


def votes_on(contrast: Maps, where: Maps, contour: Outline, exemplars: Exemplars | None) -> Maps | None:
    """What the masks of other carriers say of each pixel of an image (*size), 0 to 1; None without any."""
    return None if exemplars is None else exemplars.votes(signal(contrast, where, contour.mask))


def as_voted(contrast: Maps, contour: Outline, votes: Maps | None) -> Outline:
    """What is drawn of one image once the masks of other carriers have voted."""
    if votes is None:
        return contour
    region, mask = voted(contrast, contour.region, contour.mask, votes)
    return measured(contrast, region, mask)


def heat_map(where: Maps, contrast: Maps, region: Mask) -> Maps:
    """Fused evidence and contrast (*size) in one map, from 0 to 1."""
    low, high = (float(v) for v in np.quantile(contrast[region], (0, 0.99))) if region.any() else (0, 1)
    share = ((contrast - max(low, 0)) / max(high - max(low, 0), 1e-9)).clip(0, 1)
    heat = np.sqrt((where / max(float(where.max()), 1e-9)) * (0.1 + 0.9 * share))
    return np.asarray(heat, np.float32)
