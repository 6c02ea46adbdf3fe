"""Ways to fill a part of an image as if nothing had been there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from shortcutscope.errors import InputError
from shortcutscope.pixels.scaled_images import ScaledImages, onto, viewed
from shortcutscope.types import Array, Bools, Floats

#: Image (C, *spatial) and the pixels to fill, (*spatial) or of a signal (C, time), to the filled image.
Fill = Callable[[Floats, Bools], Floats]
FILLS = ("convolution", "similar", "inpaint")
#: Width of the ring around a mask at which levels are compared, and its distance from the mask, in pixels.
RING, GAP = 3, 1
#: Narrowest Gaussian of the convolution, and the share of its weight that must lie outside of the mask.
NARROWEST, LEAST_WEIGHT = 1.5, 0.05
#: Similar images are looked for by so many cells a side.
_CELLS = 32


def by_convolution(image: Floats, mask: Bools) -> Floats:
    """Normalised convolution (Knutsson & Westin 1993), from a narrow Gaussian to ever wider ones.

    Each pixel of the mask is the weighted mean of what lies around it outside of the mask, from the narrowest
    Gaussian that reaches so far.
    """
    out, to_fill = image.copy(), _by_channel(mask, image)
    known = ~to_fill
    axes = tuple(range(1, image.ndim))
    sigma = NARROWEST
    while to_fill.any() and known.any():
        near = _around(to_fill, int(np.ceil(4 * sigma)))
        is_known = known[near].astype(np.float32)
        weight = gaussian_filter(is_known, sigma, axes=axes, mode="nearest", truncate=4)
        value = gaussian_filter(image[near] * is_known, sigma, axes=axes, mode="nearest", truncate=4)
        widest = sigma > 2 * max(image.shape[1:])
        now = to_fill[near] & (weight > (0 if widest else LEAST_WEIGHT))
        out[near][now] = value[now] / weight[now]
        to_fill[near] &= ~now
        if widest:
            break
        sigma *= 2
    return out


def by_inpainting(image: Floats, mask: Bools) -> Floats:
    """Biharmonic functions (Damelin & Hoang 2018), by scikit-image."""
    from skimage.restoration import inpaint_biharmonic

    filled: Floats = inpaint_biharmonic(
        image.astype(np.float64), mask, split_into_regions=True, channel_axis=0
    ).astype(np.float32)
    return np.where(mask, np.clip(filled, 0, 1), image)


@dataclass(frozen=True, eq=False)
class SimilarFill:
    """The same place of the most similar image that does not carry it, its level fitted on a ring.

    Attributes
    ----------
    images, rows
        The images without the artifact.
    thumbnails
        Of these, (N, cells), by which they are compared.
    """

    images: ScaledImages
    rows: Sequence[int]
    thumbnails: Floats

    @classmethod
    def among(cls, images: ScaledImages, rows: Sequence[int]) -> SimilarFill:
        """Look at all images that are similar or not."""
        return cls(images, rows, np.stack([_thumbnail(image) for image in images.each(rows)]))

    def __call__(self, image: Floats, mask: Bools) -> Floats:
        """Fill the mask of an image, which itself never serves."""
        inside = _by_channel(mask, image)
        outside = _thumbnail(inside.astype(np.float32)) < 0.5
        difference = (self.thumbnails - _thumbnail(image))[:, outside]
        distance = (difference**2).mean(1) if outside.any() else np.zeros(len(self.rows))
        distance[distance < 1e-10] = np.inf
        donor = np.asarray(onto(self.images[int(self.rows[int(distance.argmin())])], image.shape[1:]))
        around = np.stack([ring(part) for part in inside]) & ~inside
        out = image.copy()
        for channel, part in enumerate(inside):
            near = around[channel]
            step = np.median(image[channel][near]) - np.median(donor[channel][near]) if near.any() else 0.0
            out[channel][part] = np.clip(donor[channel][part] + step, 0, 1)
        return out


def fill_of(name: str, images: ScaledImages, without: Sequence[int]) -> Fill:
    """A way to fill by name.

    Parameters
    ----------
    name
        ``"convolution"``, ``"similar"`` or ``"inpaint"``.
    images, without
        The images, and the rows of those that do not carry what is filled.

    Raises
    ------
    InputError
        An unknown name; ``"inpaint"`` of signals and volumes.
    """
    if name == "convolution":
        return by_convolution
    if name == "similar":
        return SimilarFill.among(images, without)
    if name != "inpaint":
        raise InputError(f"fill={name!r}; allowed are {', '.join(FILLS)}")
    if images.dims != 2:
        raise InputError("fill='inpaint' is for images; signals and volumes are filled by 'convolution'")
    return by_inpainting


def ring(mask: Bools) -> Bools:
    """What lies around a mask (*spatial), `GAP` pixels away and `RING` wide."""
    grow = partial(binary_dilation, mask)
    around: Bools = grow(iterations=GAP + RING) & ~grow(iterations=GAP)
    return around


def _by_channel(mask: Bools, image: Array) -> Bools:
    """A mask (*spatial), or of a signal (leads, time), for each channel, as a copy."""
    if mask.ndim == image.ndim:
        return np.broadcast_to(mask, image.shape).copy()
    return np.broadcast_to(mask[None], image.shape).copy()


def _around(mask: Bools, reach: int) -> tuple[slice, ...]:
    """The smallest box around a mask (C, *spatial), widened along the spatial axes."""
    box = [slice(None)]
    for axis in range(1, mask.ndim):
        line = np.flatnonzero(mask.any(tuple(k for k in range(mask.ndim) if k != axis)))
        box.append(slice(max(0, int(line[0]) - reach), int(line[-1]) + 1 + reach))
    return tuple(box)


def _thumbnail(image: Floats) -> Floats:
    size = tuple(min(_CELLS, side) for side in image.shape[1:])
    return np.asarray(onto(viewed(image), size), np.float32).ravel()
