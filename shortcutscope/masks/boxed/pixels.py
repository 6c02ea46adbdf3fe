"""Which pixels of a place are the artifact: those unlike their surroundings as they are in the boxes.

The contrast is chosen as that of a finding's masks (`masks.contrast`), in windows around the boxes and around
the same places of other images. Where no contrast tells the two apart the whole place is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from shortcutscope.masks.area_prior import grown
from shortcutscope.masks.contrast import WINDOWS, ContrastChoice, ImageStatistics, choose_contrast
from shortcutscope.masks.mask_files import Mask
from shortcutscope.masks.outlines import outline
from shortcutscope.masks.thresholds import Threshold
from shortcutscope.retrieval.detecting.templates import Box, window

#: Margin of a window around a place, as a share of its shorter side, and the least in pixels: so wide that
#: the local medians of a contrast, which are a share of the window, are about as wide as the element.
MARGIN, LEAST_MARGIN = 1.5, 4
#: Expected intersection over union below which pixels are not told apart, and the whole place is drawn.
LEAST_EXPECTED = 0.25
#: Fewest boxes that pixels are learnt from.
FEWEST = 3

Region = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class PlacePixels:
    """What tells the pixels of one kind of element.

    Attributes
    ----------
    size
        Height and width of the windows.
    element
        Height and width of a box: places are found a little larger, and where a whole one is drawn it has
        this size.
    statistics, choice, threshold
        As of a `MaskPredictor`; without a choice whole places are drawn.
    """

    size: tuple[int, int]
    element: tuple[float, float]
    statistics: ImageStatistics | None = None
    choice: ContrastChoice | None = None
    threshold: Threshold = "otsu"

    @classmethod
    def fit(
        cls, boxed: Sequence[tuple[Tensor, Box]], others: Sequence[Tensor], threshold: Threshold = "otsu"
    ) -> PlacePixels:
        """Learn from images ``(C, H, W)`` with the box of an element each, and from others."""
        element = _median_size([box for _, box in boxed])
        size = _window_size(element)
        if len(boxed) < FEWEST or not others:
            return cls(size, element)
        inside = np.stack([_crop(image, box, size) for image, box in boxed])
        pairs = [(others[k % len(others)], image, box) for k, (image, box) in enumerate(boxed)]
        outside = np.stack([_crop(other, _moved(box, image, other), size) for other, image, box in pairs])
        where = np.stack([_indicator(box, size) for _, box in boxed]).astype(np.float32)
        statistics = ImageStatistics.fit(outside)
        choice = choose_contrast(inside, outside, where, statistics, threshold, tuple(WINDOWS))
        if choice.expected < LEAST_EXPECTED:
            return cls(size, element)
        return cls(size, element, statistics, choice, threshold)

    def mask(self, image: Tensor, box: Box) -> tuple[Mask, float]:
        """Mask ``(H, W)`` of a place of an image ``(C, H, W)``, and how clearly it stands out, 0 to 1."""
        mask = np.zeros(tuple(image.shape[1:]), np.bool_)
        if self.statistics is None or self.choice is None:
            y0, y1, x0, x1 = _whole(_resized(box, self.element), mask.shape)
            mask[y0:y1, x0:x1] = True
            return mask, 1.0
        crop = _crop(image, box, self.size)[None]
        contrast = self.choice.contrast.of(crop, self.statistics)[0]
        contour = outline(contrast, _indicator(box, self.size), self.threshold)
        strokes = grown(contour.mask, contour.region, self.choice.rim)
        _paste(mask, strokes, box, self.size)
        return mask, contour.separation


def _median_size(boxes: Sequence[Box]) -> tuple[float, float]:
    high, wide = (float(np.median([box[axis + 2] - box[axis] for box in boxes])) for axis in (1, 0))
    return high, wide


def _window_size(element: tuple[float, float]) -> tuple[int, int]:
    margin = max(LEAST_MARGIN, round(MARGIN * min(element)))
    return round(element[0]) + 2 * margin, round(element[1]) + 2 * margin


def _resized(box: Box, size: tuple[float, float]) -> Box:
    """A box of this height and width around the same middle."""
    top, left = round((box[1] + box[3] - size[0]) / 2), round((box[0] + box[2] - size[1]) / 2)
    return left, top, left + size[1], top + size[0]


def _corner(box: Box, size: tuple[int, int]) -> tuple[int, int]:
    return round((box[1] + box[3] - size[0]) / 2), round((box[0] + box[2] - size[1]) / 2)


def _crop(image: Tensor, box: Box, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Window ``(C, h, w)`` around a box, edges repeated."""
    return window(image, *_corner(box, size), size).float().numpy()


def _indicator(box: Box, size: tuple[int, int]) -> Mask:
    top, left = _corner(box, size)
    where = np.zeros(size, np.bool_)
    y0, y1, x0, x1 = _rounded(box)
    where[max(0, y0 - top) : max(0, y1 - top), max(0, x0 - left) : max(0, x1 - left)] = True
    return where


def _rounded(box: Box) -> Region:
    return round(box[1]), round(box[3]), round(box[0]), round(box[2])


def _whole(box: Box, size: tuple[int, ...]) -> Region:
    y0, y1, x0, x1 = _rounded(box)
    return max(0, y0), min(size[0], y1), max(0, x0), min(size[1], x1)


def _moved(box: Box, image: Tensor, other: Tensor) -> Box:
    """The same place of an image of another size."""
    y, x = (other.shape[axis] / image.shape[axis] for axis in (1, 2))
    middle_y, middle_x = (box[1] + box[3]) / 2 * y, (box[0] + box[2]) / 2 * x
    half_y, half_x = (box[3] - box[1]) / 2, (box[2] - box[0]) / 2
    return middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y


def _paste(mask: Mask, strokes: Mask, box: Box, size: tuple[int, int]) -> None:
    """Lay a window's mask into that of the image."""
    top, left = _corner(box, size)
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(mask.shape[0], top + size[0]), min(mask.shape[1], left + size[1])
    mask[y0:y1, x0:x1] |= strokes[y0 - top : y1 - top, x0 - left : x1 - left]
