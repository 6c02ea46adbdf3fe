"""What an image looks like around each place: oriented energy and contrast, averaged over small cells.

Histograms of oriented gradients (Dalal & Triggs 2005) with steerable filters (Freeman & Adelson 1991) in
place of binned gradients: Gaussian derivatives of the first and second order at two scales, of which any
orientation is a sum, after the contrast of the surroundings is made equal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

#: Standard deviations of the derivatives, and of the surroundings that contrast is measured in, in pixels.
SCALES, SURROUNDINGS = (1.0, 2.0), 8.0
ORIENTATIONS = 6
#: Side of a cell, and distance of neighbouring ones, in pixels.
CELL, STRIDE = 4, 2
#: Contrast below which there is none, as a share of the range of values.
FAINT = 0.02


def cells(image: Tensor) -> Tensor:
    """Cells of an image.

    Parameters
    ----------
    image
        ``(C, H, W)`` from 0 to 1: grey, and colours beside it where there are any, see `working_image`.

    Returns
    -------
    Tensor
        ``(F, H / 2, W / 2)``: cell ``(i, j)`` is centred at the pixel edge ``(2 i + 1, 2 j + 1)``.
    """
    grey = normalized(image[:1])
    parts = [oriented(grey, scale) for scale in SCALES]
    parts += [grey.relu(), (-grey).relu()]
    for colour in image[1:]:
        parts += [colour[None].relu(), (-colour[None]).relu()]
    pad = (CELL - STRIDE) // 2
    return functional.avg_pool2d(torch.cat(parts), CELL, STRIDE, pad, count_include_pad=False)


def normalized(grey: Tensor) -> Tensor:
    """An image ``(1, H, W)`` with the mean and the contrast of the surroundings taken out."""
    mean = blurred(grey, SURROUNDINGS)
    contrast = blurred((grey - mean) ** 2, SURROUNDINGS).clamp(min=0).sqrt()
    return (grey - mean) / (contrast + FAINT)


def oriented(image: Tensor, scale: float) -> Tensor:
    """Sizes of the first and second derivative along each orientation: ``(2 x ORIENTATIONS, H, W)``."""
    smooth, slope, bend = kernels(scale)
    along_x = _along(image, torch.stack([smooth, slope, bend]), axis=2)
    gx, gy = _along(along_x[1:2], smooth[None], 1), _along(along_x[0:1], slope[None], 1)
    gxx, gxy = _along(along_x[2:3], smooth[None], 1), _along(along_x[1:2], slope[None], 1)
    gyy = _along(along_x[0:1], bend[None], 1)
    turns = [math.pi * k / ORIENTATIONS for k in range(ORIENTATIONS)]
    first = [math.cos(t) * gx + math.sin(t) * gy for t in turns]
    second = [math.cos(t) ** 2 * gxx + math.sin(2 * t) * gxy + math.sin(t) ** 2 * gyy for t in turns]
    return torch.cat([*first, *second]).abs()


def kernels(scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """A Gaussian and its first two derivatives, which have an absolute sum of 1 and are blind to flats."""
    half = math.ceil(3 * scale)
    x = torch.arange(-half, half + 1.0)
    smooth = torch.exp(-(x**2) / (2 * scale**2))
    smooth = smooth / smooth.sum()
    slope, bend = x * smooth, (x**2 / scale**2 - 1) * smooth
    bend = bend - bend.mean()
    return smooth, slope / slope.abs().sum(), bend / bend.abs().sum()


def blurred(image: Tensor, scale: float) -> Tensor:
    """An image ``(1, H, W)`` blurred by a Gaussian."""
    smooth = kernels(scale)[0][None]
    return _along(_along(image, smooth, 2), smooth, 1)


def _along(image: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Filter ``(1, H, W)`` by each row of `weights` along an axis, with mirrored (else repeated) edges."""
    half = weights.shape[1] // 2
    sides = (half, half, 0, 0) if axis == 2 else (0, 0, half, half)
    mode = "reflect" if half < image.shape[axis] else "replicate"
    padded = functional.pad(image[None], sides, mode=mode)
    kernel = weights[:, None, None, :] if axis == 2 else weights[:, None, :, None]
    return functional.conv2d(padded, kernel)[0]
