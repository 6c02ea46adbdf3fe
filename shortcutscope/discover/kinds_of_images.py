"""Is a concept another kind of image, rather than something that was added to images or done to them?

What is added to an image sits in a part of it. How an image was taken or stored changes its levels or its
texture, and leaves the shape of what is pictured. Images of another kind differ in both, everywhere. So a
concept is read from either alone, in each quarter of the middle of the image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter

from shortcutscope.data.properties.pictures import in_shares
from shortcutscope.probes.crossfit import cross_fitted_scores, make_folds
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Array, Floats, Ints, Record

#: Share of each side that is left out at either edge: frames and corners are no kind of image.
RIM = 1 / 8
#: Quarters a side, points of a quarter's shape a side, and cells of its texture a side.
QUARTERS, POINTS, CELLS = 2, 6, 3
#: Standard deviations of the Gaussians whose differences are the texture's bands, by the shorter side.
BANDS = (0.7 / 64, 1.4 / 64, 2.8 / 64)
#: Fewest pixels a side, within which quarters and bands make sense; of more than the second on the shorter
#: side means over blocks are taken.
SMALLEST_SIDE, COARSE = 32, 128
#: The concept is read in so many quarters of four by shape and by texture alike: with an AUROC of `EITHER` by
#: each, and of `BOTH` in their mean. Set where classes of whole images came to .80 and .89 at least, and
#: planted artifacts that reach `EITHER` to a mean of .83 at most.
QUARTERS_READ, EITHER, BOTH = 3, 0.70, 0.85
_SMALLEST = 1e-4
#: Shape and texture of an image, quarter by quarter.
Quarters = tuple[Floats, Floats]


@dataclass(frozen=True)
class KindOfImage:
    """How well a concept is read from what is pictured, and from how it is textured.

    Attributes
    ----------
    shape, texture
        Within labels, the AUROC that three of the four quarters reach.
    """

    shape: float
    texture: float

    @property
    def is_another(self) -> bool:
        """Whether its carriers are another kind of image."""
        return min(self.shape, self.texture) >= EITHER and (self.shape + self.texture) / 2 >= BOTH

    def to_dict(self) -> Record:
        """As JSON values."""
        return {**asdict(self), "is_another": self.is_another}


@dataclass(frozen=True, eq=False)
class QuartersOfImages:
    """What is read of images, quarter by quarter.

    Attributes
    ----------
    shape
        (N, 4, 36) grey values of a quarter, blurred until the sharpness of the image no longer counts, by
        their own mean and standard deviation.
    texture
        (N, 4, 18) size of each band over the next finer one, as a logarithm.
    """

    shape: Floats
    texture: Floats

    @classmethod
    def of(cls, quarters: Iterable[Quarters | None]) -> QuartersOfImages | None:
        """Of what `quarters_of` gave; None where one of the images cannot be read in this way."""
        pairs = list(quarters)
        known = [pair for pair in pairs if pair is not None]
        if not known or len(known) < len(pairs):
            return None
        return cls(np.stack([shape for shape, _ in known]), np.stack([texture for _, texture in known]))

    def kind(self, concept: Floats, labels: Ints, groups: Array, *, seed: int = 0) -> KindOfImage:
        """How well a concept (N,) of 0 and 1 is read; out of fold, within labels."""
        folds = make_folds(labels, groups, concept, seed=seed)

        def reached(values: Floats) -> float:
            each = [
                within_class_auroc(concept, cross_fitted_scores(quarter, concept, labels, folds), labels)
                for quarter in values.swapaxes(0, 1)
            ]
            return float(np.sort(np.nan_to_num(each, nan=0.5))[-QUARTERS_READ])

        return KindOfImage(reached(self.shape), reached(self.texture))


def quarters_of(image: Array, value_range: tuple[float, float]) -> Quarters | None:
    """Shape and texture of a picture (C, H, W) before the transform; None of what is none, or too small."""
    if image.ndim != 3 or min(image.shape[1:]) < SMALLEST_SIDE:
        return None
    pixels = in_shares(image, value_range)
    if pixels is None:
        return None
    grey = _coarser(np.asarray(pixels.mean(0), np.float64))
    side = min(grey.shape)
    blurred = [grey, *(gaussian_filter(grey, band * side, mode="nearest") for band in BANDS)]
    middle = tuple(slice(int(n * RIM), n - int(n * RIM)) for n in grey.shape)
    levels = [values[middle] for values in blurred]
    # Cut out first, so that a frame does not run into the middle.
    smooth = gaussian_filter(grey[middle], BANDS[-1] * side, mode="nearest")
    points = _by_quarter(_means(smooth, QUARTERS * POINTS), POINTS)
    shape = (points - points.mean(1, keepdims=True)) / (points.std(1, keepdims=True) + 10 * _SMALLEST)
    bands = [
        np.log(np.sqrt(_means((fine - coarse) ** 2, QUARTERS * CELLS)) + _SMALLEST)
        for fine, coarse in pairwise(levels)
    ]
    steps = [_by_quarter(coarse - fine, CELLS) for fine, coarse in pairwise(bands)]
    return shape, np.concatenate(steps, axis=1)


def _coarser(grey: Floats) -> Floats:
    block = -(-min(grey.shape) // COARSE)
    height, width = (n // block for n in grey.shape)
    blocks = grey[: height * block, : width * block].reshape(height, block, width, block)
    return np.asarray(blocks.mean((1, 3)))


def _means(values: Floats, count: int) -> Floats:
    """Means (count, count) of the cells that a picture is divided into."""
    rows, columns = (np.linspace(0, n, count + 1).astype(int) for n in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows[:-1], 0), columns[:-1], 1)
    return np.asarray(sums / np.outer(np.diff(rows), np.diff(columns)))


def _by_quarter(cells: Floats, side: int) -> Floats:
    """Cells (4 quarters, side x side)."""
    parted = cells.reshape(QUARTERS, side, QUARTERS, side).swapaxes(1, 2)
    return np.asarray(parted.reshape(QUARTERS**2, side**2))
