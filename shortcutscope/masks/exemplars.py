"""Masks of other carriers, laid over an image where they fit best: what a rigid artifact ought to look like.

A ruler has the same marks in each image, moved a little; where the ground is as bright as the marks, an image
alone does not show them. So each of some clear masks of carriers is moved to where the image's own contrast
and evidence agree with it best, and those that fit vote. Whether an artifact is rigid at all is asked of the
exemplars themselves: each has to look as the others say. A tube does not, and keeps its own mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import binary_dilation

from shortcutscope.masks.mask_files import Maps, Mask
from shortcutscope.types import Array, Floats

#: Exemplars, how many of them vote on an image, and the fewest that there have to be.
EXEMPLARS, VOTERS, FEWEST = 16, 6, 6
#: Farthest that an exemplar is moved, as a share of the shorter side.
FARTHEST = 1 / 8
#: Most pixels of images that exemplars are laid over.
MOST_PIXELS = 256 * 256
#: Mean intersection over union of exemplars with what the others say, from which an artifact is rigid.
RIGID = 0.5
#: Votes that weigh nothing, and what a full vote weighs beside the step from outside to inside the mask.
EVEN_VOTE, WEIGHT = 0.35, 0.75


@dataclass(frozen=True, eq=False)
class Exemplars:
    """Clear masks of carriers.

    Attributes
    ----------
    masks
        (M, h, w), cut to where they lie.
    corner
        Row and column of that part of an image.
    farthest
        By how many pixels they are moved.
    agreement
        Mean intersection over union of each with what the others say.
    """

    masks: Maps
    corner: tuple[int, int]
    farthest: int
    agreement: float

    @classmethod
    def fit(cls, signals: Maps, masks: Array, clear: Floats) -> Exemplars | None:
        """From masks (N, H, W) of carriers; None where they are too few, or not alike.

        Parameters
        ----------
        signals
            (N, H, W), see :func:`signal`.
        masks
            Of the same images.
        clear
            (N,) how clearly each mask stands out.
        """
        if masks.ndim != 3 or int(np.prod(masks.shape[1:])) > MOST_PIXELS:
            return None
        best = np.argsort(-clear, kind="stable")[:EXEMPLARS]
        best = best[masks[best].any((1, 2))]
        farthest = max(1, round(FARTHEST * min(masks.shape[1:])))
        if len(best) < FEWEST:
            return None
        rows, columns = _part(masks[best], farthest)
        cut_out = np.ascontiguousarray(masks[best][:, rows, columns], np.float32)
        exemplars = cls(cut_out, (rows.start, columns.start), farthest, 0.0)
        if not cut_out.any((1, 2)).all():
            return None
        alike = [
            overlap(exemplars.votes(signals[row], without=k)[rows, columns] >= 0.5, cut_out[k] > 0)
            for k, row in enumerate(best)
        ]
        agreement = float(np.mean(alike))
        return cls(cut_out, exemplars.corner, farthest, agreement) if agreement >= RIGID else None

    def votes(self, image_signal: Maps, without: int | None = None) -> Maps:
        """Share (H, W) of the best fitting exemplars that have each pixel.

        Parameters
        ----------
        image_signal
            (H, W), see :func:`signal`.
        without
            Number of an exemplar that takes no part.
        """
        high, wide = self.masks.shape[1:]
        window = np.s_[self.corner[0] : self.corner[0] + high, self.corner[1] : self.corner[1] + wide]
        fits = self._fits(image_signal[window])
        if without is not None:
            fits[without] = -1.0
        side = 2 * self.farthest + 1
        places = fits.reshape(len(fits), -1).argmax(1)
        heights = np.maximum(fits.reshape(len(fits), -1).max(1), 0)
        voters = np.argsort(-heights, kind="stable")[:VOTERS]
        weights = heights[voters] ** 2
        votes = np.zeros_like(image_signal)
        for voter, weight in zip(voters, weights / max(float(weights.sum()), 1e-9), strict=True):
            y, x = (int(v) - self.farthest for v in divmod(int(places[voter]), side))
            votes[window] += np.float32(weight) * _moved(self.masks[voter], y, x)
        return votes

    def _fits(self, part: Maps) -> Maps:
        """(M, n, n) how well each exemplar fits at each move: the signal under it, per root of its area."""
        spectrum = rfft2(part - part.mean(), self._padded) * self._spectra
        fits = irfft2(spectrum, self._padded)
        moves = np.r_[-self.farthest : self.farthest + 1]
        return np.asarray(fits[:, moves[:, None], moves[None, :]], np.float32)

    @cached_property
    def _padded(self) -> tuple[int, int]:
        high, wide = (next_fast_len(side + self.farthest, real=True) for side in self.masks.shape[1:])
        return high, wide

    @cached_property
    def _spectra(self) -> npt.NDArray[np.complex64]:
        areas = np.sqrt(self.masks.sum((1, 2)))[:, None, None]
        return np.asarray(np.conj(rfft2(self.masks / areas, self._padded)), np.complex64)


def signal(contrast: Maps, where: Maps, mask: Mask) -> Maps:
    """Contrast (H, W) from usual (0) to that of the image's own mask (1), weighed by the evidence."""
    usual = float(np.median(contrast))
    high = float(contrast[mask].mean()) if mask.any() else float(contrast.max())
    share = ((contrast - usual) / max(high - usual, 1e-9)).clip(0, 1)
    evidence = (where / max(float(where.max()), 1e-9)).clip(0, 1)
    return np.asarray(share * np.sqrt(evidence), np.float32)


def voted(contrast: Maps, region: Mask, mask: Mask, votes: Maps) -> tuple[Mask, Mask]:
    """Region and mask (H, W) of an image by its own contrast and by the votes."""
    rest = region & ~mask
    if not mask.any() or not rest.any():
        return region, mask
    limit = float(contrast[rest].max())
    step = max(float(contrast[mask].mean() - contrast[rest].mean()), 1e-9)
    wider = region | binary_dilation(votes >= EVEN_VOTE)
    weighed = (contrast - limit) / step + WEIGHT * ((votes / EVEN_VOTE).clip(0, 2) - 1)
    return np.asarray(wider, np.bool_), np.asarray(wider & (weighed > 0), np.bool_)


def _part(masks: Array, margin: int) -> tuple[slice, slice]:
    """Where at least two masks have something within two pixels, and what is around it."""
    near = np.stack([binary_dilation(mask, iterations=2) for mask in masks]).sum(0) >= 2
    near = near if near.any() else masks.any(0)
    sides: list[slice] = []
    for axis in (1, 0):
        inside = np.flatnonzero(near.any(axis))
        sides.append(slice(max(0, int(inside[0]) - margin), int(inside[-1]) + 1 + margin))
    return sides[0], sides[1]


def _moved(mask: Maps, y: int, x: int) -> Maps:
    """A mask (h, w) moved down and right; nothing comes in."""
    moved = np.zeros_like(mask)
    high, wide = mask.shape
    moved[max(0, y) : high + min(0, y), max(0, x) : wide + min(0, x)] = mask[
        max(0, -y) : high - max(0, y), max(0, -x) : wide - max(0, x)
    ]
    return moved


def overlap(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks."""
    return float((a & b).sum() / max(1, int((a | b).sum())))
