"""What a transfer knows of one side: the images of a label with, or without, a concept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from shortcutscope.pixels.transfers.edges import Edge, frame_of
from shortcutscope.pixels.transfers.measures import (
    QUANTILES,
    amplitude,
    foreground,
    grey_levels,
    noise,
    sharpness,
)
from shortcutscope.types import Floats

#: Fewest images of a side whose quantiles are matched, and not their mean alone.
FEWEST_OF_QUANTILES = 10


@dataclass(frozen=True, eq=False)
class Side:
    """Measures of images (C, *spatial), each taken when it is asked for first.

    Attributes
    ----------
    images
        Gives them anew.
    dark
        The background of the images is black and stays so: means and deviations are those of the rest.
    """

    images: Callable[[], Iterable[Floats]] = field(repr=False)
    dark: bool = False

    @cached_property
    def _levels(self) -> tuple[Floats, Floats]:
        """Means and deviations (n, C) of the images."""
        values = [grey_levels(image, self.dark) for image in self.images()]
        return np.array([v.mean(1) for v in values]), np.array([v.std(1) for v in values])

    @cached_property
    def brightness(self) -> Floats:
        """Mean grey value of each image (n, 1), its background with it."""
        return np.array([[grey_levels(image).mean()] for image in self.images()])

    @property
    def means(self) -> Floats:
        """Mean grey value of each image and channel (n, C)."""
        return self._levels[0]

    @property
    def deviations(self) -> Floats:
        """Standard deviation within each image and channel (n, C)."""
        return self._levels[1]

    @cached_property
    def quantiles(self) -> Floats:
        """Grey values (C, q) at `QUANTILES`, in the mean over images."""
        every = [np.quantile(grey_levels(image), QUANTILES, axis=1).T for image in self.images()]
        return np.asarray(np.mean(every, axis=0))

    @cached_property
    def medians(self) -> Floats:
        """Median grey value of each image and channel (n, C)."""
        return np.array([np.median(image.reshape(len(image), -1), axis=1) for image in self.images()])

    @cached_property
    def amplitude(self) -> Floats:
        """Mean amplitude of the spectrum, (C, *spatial)."""
        return _mean_of(amplitude(image) for image in self.images())

    @cached_property
    def image(self) -> Floats:
        """The mean image (C, *spatial)."""
        return _mean_of(self.images())

    @cached_property
    def noises(self) -> Floats:
        """Standard deviation of the noise of each image (n,)."""
        return np.array([noise(image) for image in self.images()])

    @cached_property
    def sharpnesses(self) -> Floats:
        """Logarithm of the Laplacian's energy of each image (n,)."""
        return np.array([sharpness(image) for image in self.images()])

    @cached_property
    def frames(self) -> list[tuple[Edge, ...]]:
        """The frames around the images along top, right, bottom and left."""
        return [frame_of(image) for image in self.images()]


def matched(value: Floats, own: Floats, other: Floats) -> Floats:
    """The value that stands where this one does among those of the other side.

    Parameters
    ----------
    value : (k,)
        Of one image.
    own : (n, k)
        Of the images of its side.
    other : (m, k)
        Of those of the other.

    Returns
    -------
    (k,)
        By quantiles, and beyond the ends by the difference there; by the difference of the means where a side
        has fewer than `FEWEST_OF_QUANTILES` images.
    """
    if min(len(own), len(other)) < FEWEST_OF_QUANTILES:
        return np.asarray(value + other.mean(0) - own.mean(0))
    return np.array([_by_quantile(v, own[:, k], other[:, k]) for k, v in enumerate(np.atleast_1d(value))])


def _by_quantile(value: float, own: Floats, other: Floats) -> float:
    mine, theirs = np.sort(own), np.sort(other)
    if not mine[0] <= value <= mine[-1]:
        end = 0 if value < mine[0] else -1
        return float(value + theirs[end] - mine[end])
    share = np.interp(value, mine, np.linspace(0, 1, len(mine)))
    return float(np.interp(share, np.linspace(0, 1, len(theirs)), theirs))


def side_of(image: Floats, *, dark: bool = False) -> Side:
    """The side of one image."""
    return Side(lambda: (image,), dark)


def has_dark_background(images: Iterable[Floats], least: float = 0.15) -> bool:
    """Whether images have a black background: in the mean so much of them is (nearly) black."""
    return float(np.mean([1 - foreground(image).mean() for image in images])) >= least


def _mean_of(images: Iterable[Floats]) -> Floats:
    total: Floats | None = None
    count = 0
    for image in images:
        total = image.astype(np.float64) if total is None else total + image
        count += 1
    assert total is not None
    return total / count
