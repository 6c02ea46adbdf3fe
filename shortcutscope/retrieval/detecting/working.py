"""Images as a detector searches them: grey and colours from 0 to 1, no finer than the marks need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shortcutscope.retrieval.detecting.templates import Box

#: Short side that a small element has in a working image, in pixels, and most pixels that such an image has.
SHORT, MOST_PIXELS = 12.0, 512 * 512
#: Share of the boxes that may be smaller.
SMALL = 0.25
#: Reductions smaller than this cost more detail than they save time.
NEARLY_ONE = 0.7
#: Difference of an image's channels from which there are colours, as a share of the range of values.
COLOUR = 0.02
#: ITU-R 601-2, as the readers have it.
LUMA = (0.299, 0.587, 0.114)
_RGB = 3


@dataclass(frozen=True)
class Working:
    """From the pixels of the files to those of the working images.

    Attributes
    ----------
    factor
        Pixels of a working image per pixel of the file, at most 1.
    low, high
        Values that become 0 and 1.
    colours
        Whether colours are searched beside grey.
    """

    factor: float
    low: float
    high: float
    colours: bool

    def of(self, image: Tensor) -> Tensor:
        """Working image of a file's ``(C, H, W)``."""
        image = ((image - self.low) / (self.high - self.low)).clamp(-1, 2)
        if self.factor < 1:
            size = [max(8, round(side * self.factor)) for side in image.shape[1:]]
            image = functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
        grey = grey_of(image)
        if not self.colours:
            return grey
        rgb = image if image.shape[0] == _RGB else grey.expand(_RGB, -1, -1)
        return torch.cat([grey, (rgb[0] - rgb[1])[None], (rgb[2] - (rgb[0] + rgb[1]) / 2)[None]])

    def to_file(self, box: Box, size: tuple[int, int]) -> Box:
        """A box of a working image in pixels of its file, cut at the edges of the image ``(H, W)``."""
        x0, y0, x1, y1 = (edge / self.factor for edge in box)
        high, wide = size
        left, top = min(max(x0, 0.0), wide - 1.0), min(max(y0, 0.0), high - 1.0)
        return left, top, max(left + 1.0, min(x1, float(wide))), max(top + 1.0, min(y1, float(high)))

    def to_working(self, box: Sequence[float]) -> Box:
        """A box in pixels of a file, in those of its working image."""
        x0, y0, x1, y1 = (float(edge) * self.factor for edge in box)
        return x0, y0, x1, y1


def grey_of(image: Tensor) -> Tensor:
    """Grey ``(1, H, W)`` of one, three (by luma) or any number of channels (their mean)."""
    if image.shape[0] == _RGB:
        return (image * torch.tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
    return image.mean(0, keepdim=True)


def working_for(
    images: Sequence[Tensor], boxes: Sequence[Sequence[float]], most_pixels: int = MOST_PIXELS
) -> Working:
    """Choose the working images by some of the files' images, and the boxes in their pixels.

    Without boxes the images are made as large as is searched in reasonable time.
    """
    sides = [min(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
    factor = 1.0 if not sides else min(1.0, SHORT / max(1.0, float(np.quantile(sides, SMALL))))
    pixels = float(np.median([image.shape[-1] * image.shape[-2] for image in images]))
    factor = 1.0 if factor > NEARLY_ONE else factor
    factor = min(factor, math.sqrt(most_pixels / pixels))
    bounds = [np.quantile(image.numpy(), [0.001, 0.999]) for image in images]
    low, high = float(min(b[0] for b in bounds)), float(max(b[1] for b in bounds))
    high = high if high > low else low + 1.0
    rgb = [image for image in images if image.shape[0] == _RGB]
    spread = [
        float((image.amax(0) - image.amin(0)).flatten().quantile(0.99)) if image[0].numel() < 2**24 else 1.0
        for image in rgb
    ]
    return Working(factor, low, high, bool(spread) and max(spread) > COLOUR * (high - low))
