"""Other ways to read the same images: values, channels, contrast, crop, size and interpolation.

A table's transform is taken apart without being known: where it maps values linearly, which is tried, its
images before that map can be had from its output, and be mapped in another way. Sizes and crops are made from
the images as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional

from shortcutscope.data.decoding.decoded import KeptSource
from shortcutscope.data.readers.image import to_float
from shortcutscope.data.sources import (
    ArraySource,
    DatasetSource,
    ImageSource,
    NpzSource,
    PathSource,
    as_array,
)
from shortcutscope.data.table import ImageTable

Values = Callable[[Tensor], Tensor]
Aspect = Literal["values", "channels", "contrast", "geometry", "interpolation"]

AS_GIVEN = "as given"
#: ImageNet's, and of grey images their mean over the channels.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Side lengths that networks are trained at.
SIZES = (28, 32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 299, 320, 384, 448, 512)
#: Sizes are tried up to this factor, and the middle of an image enlarged by the other one.
FARTHEST, ENLARGED = 2.1, 256 / 224
#: Relative error of a linear map.
LINEAR = 1e-3


@dataclass(frozen=True)
class Linear:
    """``x -> scale * x + offset`` by channel, (C, 1, 1) of values between 0 and 1."""

    scale: Tensor
    offset: Tensor

    def __call__(self, unit: Tensor) -> Tensor:
        """Network input."""
        return unit * self.scale + self.offset

    def undone(self, made: Tensor) -> Tensor:
        """Values between 0 and 1."""
        return (made - self.offset) / self.scale


@dataclass(frozen=True)
class ImagesReading:
    """One way to read images.

    Attributes
    ----------
    name
        In words.
    aspects
        In which it differs from the given one.
    values
        From values between 0 and 1 to the network's input; None for what the table gives.
    invert, flip
        Grey values upside down; channels in the opposite order.
    geometry
        From an image as it is stored to the input's place of pixels; None for the table's.
    cost
        Pixels of its input, in those of the given one.
    """

    name: str = AS_GIVEN
    aspects: tuple[Aspect, ...] = ()
    values: Values | None = None
    invert: bool = False
    flip: bool = False
    geometry: Values | None = None
    cost: float = 1.0

    def differing(self, name: str, aspect: Aspect) -> ImagesReading:
        """The same, its difference in one more aspect named; one of the same aspect gives its place."""
        parts = [] if self.name == AS_GIVEN else self.name.split("; ")
        others = [part for part, old in zip(parts, self.aspects, strict=True) if old != aspect]
        aspects = (*(old for old in self.aspects if old != aspect), aspect)
        return replace(self, name="; ".join([*others, name]), aspects=aspects)


class ReadImages:
    """Images of some rows of a table, in any reading.

    Attributes
    ----------
    linear
        What the table's transform does to values; None where it is not linear, so that only what is done to
        images before it can be changed.
    """

    def __init__(self, table: ImageTable) -> None:
        self.table = table
        low, high = table.value_range
        first = table.image(0)
        self.linear = _linear_part(table, first)
        self.spatial = tuple(table[0][0].shape[1:])
        self.channels = int(table[0][0].shape[0])
        self._low, self._span = low, high - low
        self._stored = stored_source(table.source)
        self._order = None if self.linear is None else _channel_order(table, first, self.linear)

    @property
    def inverted(self) -> bool:
        """Whether the transform turns values upside down."""
        return self.linear is not None and bool((self.linear.scale < 0).all())

    @property
    def can_reshape(self) -> bool:
        """Whether the place of pixels can be made anew."""
        return self._order is not None and self._stored is not None and len(self.spatial) == 2

    def unit(self, i: int) -> Tensor:
        """Image `i` as the network gets it, in values between 0 and 1."""
        assert self.linear is not None
        return self.linear.undone(self.table[i][0])

    def stored(self, i: int) -> Tensor:
        """Image `i` as it is stored, at its own size, in values between 0 and 1."""
        assert self._stored is not None
        array = as_array(self._stored.read(int(self.table.rows[i])))
        unit = (to_float(array, self.table.value_range) - self._low) / self._span
        return unit.flip(0) if self._order == "flipped" else unit

    def inputs(self, i: int, readings: list[ImagesReading]) -> list[Tensor]:
        """Network inputs of image `i`, one for each reading."""
        if self.linear is None:
            return [self._before(i, reading) for reading in readings]
        own = self.unit(i)
        stored = self.stored(i) if any(reading.geometry for reading in readings) else own
        return [self._made(own, stored, reading) for reading in readings]

    def _made(self, own: Tensor, stored: Tensor, reading: ImagesReading) -> Tensor:
        assert self.linear is not None
        unit = own if reading.geometry is None else reading.geometry(stored)
        unit = unit.expand(self.channels, *unit.shape[1:]) if unit.shape[0] == 1 else unit
        unit = 1 - unit if reading.invert else unit
        unit = unit.flip(0) if reading.flip else unit
        return (reading.values or self.linear)(unit)

    def _before(self, i: int, reading: ImagesReading) -> Tensor:
        """Where the transform cannot be undone: what is done to an image before it."""
        image = self.table.image(i)
        image = 2 * self._low + self._span - image if reading.invert else image
        return self.table.transformed(image.flip(0) if reading.flip else image)


def _linear_part(table: ImageTable, image: Tensor) -> Linear | None:
    """What a transform does to values, where that is linear."""
    low, high = table.value_range
    dark, bright = torch.full_like(image, low), torch.full_like(image, high)
    try:
        zero, one, made = (table.transformed(x) for x in (dark, bright, image))
        half = table.transformed(low + (image - low) / 2)
    except Exception:  # the user's own transform, on images that it was not made for
        return None
    if not all(torch.isfinite(x).all() for x in (zero, one, made, half)) or made.ndim < 2:
        return None
    axes = tuple(range(1, made.ndim))
    scale = (one - zero).abs().amax(axes, keepdim=True) * (one - zero).sum(axes, keepdim=True).sign()
    offset = zero.flatten(1).median(1).values.reshape(scale.shape)
    smallest = float(scale.abs().min())
    wrong = (half - (made + zero) / 2).abs().max()
    if smallest <= 0 or float(wrong) > LINEAR * float(scale.abs().max()) or made.shape != zero.shape:
        return None
    return Linear(scale, offset)


def _channel_order(table: ImageTable, image: Tensor, linear: Linear) -> Literal["same", "flipped"] | None:
    """Whether a transform leaves the channels as they are, or turns their order round; None for all else."""
    low, high = table.value_range
    shape = (-1,) + (1,) * (image.ndim - 1)
    levels = torch.linspace(0.2, 0.8, image.shape[0]).view(shape)
    made = linear.undone(table.transformed((low + (high - low) * levels).expand_as(image).clone()))
    seen = made.flatten(1).median(1).values
    if len(levels) not in (1, len(seen)):
        return None  # mixed: grey of colour
    if torch.allclose(seen, levels.flatten().expand_as(seen), atol=1e-3):
        return "same"
    return "flipped" if torch.allclose(seen, levels.flatten().flip(0).expand_as(seen), atol=1e-3) else None


def stored_source(source: ImageSource) -> ImageSource | None:
    """The same images at the size that they are stored in; None where nobody knows it."""
    base = source.base if isinstance(source, KeptSource) else source
    if not isinstance(base, PathSource | ArraySource | NpzSource | DatasetSource):
        return None
    reading = replace(base.reading, size=None)
    if isinstance(base, NpzSource):
        return base.reread(reading)
    if isinstance(base, DatasetSource):
        return DatasetSource(base.dataset, reading)
    return cast(ImageSource, replace(base, reading=reading))


def in_values(images: ReadImages, seen: Tensor, given: ImagesReading) -> Iterator[ImagesReading]:
    """Readings with other values.

    Parameters
    ----------
    images
        In which they are tried.
    seen : (n, C, *spatial)
        Some of them, in values between 0 and 1, for their mean and standard deviation.
    given
        What they differ from.
    """
    if images.linear is None:
        return
    shape = (-1,) + (1,) * len(images.spatial)
    colour = images.channels == len(MEAN)
    mean, std = (
        torch.tensor(values if colour else (sum(values) / len(values),)).view(shape) for values in (MEAN, STD)
    )
    one, axes = torch.ones(shape[1:])[None], (0, *range(2, seen.ndim))
    own_mean = seen.mean(axes).view(shape)
    own_std = seen.std(axes).clamp(min=1e-6).view(shape)
    linear = {
        "values 0 to 1": (one, 0 * one),
        "values -1 to 1": (2 * one, -one),
        "values -2 to 2 (mean .5, std .25)": (4 * one, -2 * one),
        "mean and std of ImageNet": (1 / std, -mean / std),
        "mean and std of these images": (1 / own_std, -own_mean / own_std),
        "values 0 to 255": (255 * one, 0 * one),
        "values 0 to 255 less the mean of ImageNet": (255 * one, -255 * mean),
        "values -1024 to 1024": (2048 * one, -1024 * one),
    }
    upright = ", not inverted" if images.inverted else ""
    for name, (scale, offset) in linear.items():
        yield replace(given, values=Linear(scale, offset)).differing(name + upright, "values")
    yield replace(given, values=_standardized).differing("each image with mean 0 and std 1", "values")
    yield replace(given, values=_stretched).differing("each image stretched to 0 to 1", "values")


def in_contrast_and_channels(images: ReadImages, given: ImagesReading) -> Iterator[ImagesReading]:
    """Readings that are inverted, or have their channels in the opposite order."""
    yield replace(given, invert=not given.invert).differing("inverted", "contrast")
    if images.channels == len(MEAN):
        yield replace(given, flip=not given.flip).differing("blue channel first", "channels")


def in_geometry(images: ReadImages, given: ImagesReading) -> Iterator[ImagesReading]:
    """Readings with another crop, interpolation or size; the likeliest first."""
    if not images.can_reshape:
        return
    height, width = images.spatial
    here = (height, width)
    placed: dict[str, Values] = {
        "the whole image, its aspect not kept": lambda x: _resampled(x, here),
        "the middle, its aspect kept": lambda x: _resampled(_middle(x, here), here),
        f"the middle, enlarged by {ENLARGED:.2f}": lambda x: _resampled(_middle(x, here, ENLARGED), here),
        "the whole image, its aspect kept by borders": lambda x: _boxed(x, here),
    }
    resampled: dict[str, Values] = {
        "bicubic": lambda x: _resampled(x, here, "bicubic").clamp(0, 1),
        "without antialiasing": lambda x: _resampled(x, here, antialias=False),
        "nearest pixel": lambda x: _resampled(x, here, "nearest", antialias=False),
    }
    for name, way in placed.items():
        yield replace(given, geometry=way, cost=1.0).differing(name, "geometry")
    near = [s for s in SIZES if s not in here and height / FARTHEST <= s <= height * FARTHEST]
    for side in sorted(near, key=lambda s: abs(s / height - 1)):
        target = (side, round(side * width / height))
        other = replace(
            given,
            geometry=partial(_resampled, size=target),
            cost=side * target[1] / (height * width),
        )
        yield other.differing(f"size {side}", "geometry")
    for name, way in resampled.items():
        yield replace(given, geometry=way, cost=1.0).differing(name, "interpolation")


def _standardized(unit: Tensor) -> Tensor:
    return (unit - unit.mean()) / unit.std().clamp(min=1e-6)


def _stretched(unit: Tensor) -> Tensor:
    low, high = unit.min(), unit.max()
    return (unit - low) / (high - low).clamp(min=1e-6)


def _resampled(
    image: Tensor, size: tuple[int, int], mode: str = "bilinear", *, antialias: bool = True
) -> Tensor:
    options = {} if mode == "nearest" else {"align_corners": False, "antialias": antialias}
    return functional.interpolate(image[None], size, mode=mode, **options)[0]


def _middle(image: Tensor, size: tuple[int, int], enlarged: float = 1.0) -> Tensor:
    """The largest middle part with the aspect of a size, or one smaller by a factor."""
    have = image.shape[1:]
    unit = min(have[0] / size[0], have[1] / size[1]) / enlarged
    part = [max(1, round(side * unit)) for side in size]
    y, x = ((h - p) // 2 for h, p in zip(have, part, strict=True))
    return image[:, y : y + part[0], x : x + part[1]]


def _boxed(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The whole image within a size, between borders of 0."""
    have = image.shape[1:]
    unit = max(have[0] / size[0], have[1] / size[1])
    inner = (max(1, round(have[0] / unit)), max(1, round(have[1] / unit)))
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    made = image.new_zeros(image.shape[0], *size)
    made[:, top : top + inner[0], left : left + inner[1]] = _resampled(image, inner)
    return made


def differs(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether two readings of the same images are not the same."""
    for a, b in zip(one, other, strict=True):
        if a.shape != b.shape or float((a - b).abs().max()) > LINEAR * (float(b.std()) or 1.0):
            return True
    return False
