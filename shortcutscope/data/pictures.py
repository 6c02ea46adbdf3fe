"""Samples as pictures of eight bits: an image as it is, a slice of a volume, the traces of a signal."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from shortcutscope.types import Array

__all__ = [
    "KINDS",
    "Kind",
    "Picture",
    "as_picture",
    "kind_of",
    "sample_picture",
    "slices_picture",
    "trace_picture",
]

Picture = npt.NDArray[np.uint8]
Kind = Literal["signal", "image", "volume"]

#: What samples with so many axes beside that of channels are.
KINDS: dict[int, Kind] = {1: "signal", 2: "image", 3: "volume"}

#: Pixels of a lead's row, and the most of a picture's height.
ROW, TALLEST = 18, 432
#: Share of the values that fit in a row; the rest is cut off at its edge.
SHOWN = 0.995
#: Lines are drawn finer by this factor and averaged, which makes them smooth.
FINER = 3
#: Pixels that a signal's traces are wide, unless it is said.
WIDE = 480
#: Rows of slices of a volume, and slices in a row.
SLICES = 3
_PAPER, _INK, _LINE = 255, 30, 225


def kind_of(sample: Any) -> Kind:
    """What a sample (C, *spatial) with one to three spatial axes is."""
    return KINDS[len(sample.shape) - 1]


def sample_picture(
    sample: Array, value_range: tuple[float, float], *, plane: int | None = None, width: int = WIDE
) -> Picture:
    """A sample (C, *spatial) as ``(H, W)`` or ``(H, W, 3)``.

    Parameters
    ----------
    sample
        In its table's value range.
    value_range
        That becomes black and white; of a signal the scale is its own.
    plane
        Of a volume, which slice along its first axis; by default the middle one.
    width
        Of a signal's traces, in pixels.
    """
    kind = kind_of(sample)
    if kind == "signal":
        return trace_picture(sample, width)
    if kind == "volume":
        sample = sample[:, sample.shape[1] // 2 if plane is None else plane]
    return as_picture(sample, value_range)


def slices_picture(volume: Array, value_range: tuple[float, float], side: int) -> Picture:
    """A volume (C, D, H, W) as nine slices along its first axis, in three rows from the first to the last.

    Each slice stands in the middle of a ninth of the volume: what a single slice misses is seen in another.

    Parameters
    ----------
    volume
        In its table's value range.
    value_range
        That becomes black and white.
    side
        Longest side of a slice in the picture, in pixels; smaller ones are enlarged by a whole number.
    """
    planes = ((np.arange(SLICES**2) + 0.5) * volume.shape[1] / SLICES**2).astype(int)
    small = [_fitted(as_picture(volume[:, plane], value_range), side) for plane in planes]
    rows = [np.concatenate(small[k : k + SLICES], axis=1) for k in range(0, len(small), SLICES)]
    return np.concatenate(rows, axis=0)


def _fitted(picture: Picture, side: int) -> Picture:
    larger = side // max(picture.shape[:2])
    if larger > 1:
        return picture.repeat(larger, axis=0).repeat(larger, axis=1)
    picture_image = Image.fromarray(picture)
    picture_image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(picture_image)


def as_picture(image: Array, value_range: tuple[float, float]) -> Picture:
    """An image (C, H, W) in its table's value range as ``(H, W, 3)``, or ``(H, W)`` of its first channel."""
    low, high = value_range
    pixels = image.transpose(1, 2, 0) if image.shape[0] == 3 else image[0]
    coded: Picture = np.clip((pixels - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    return coded


def trace_picture(signal: Array, width: int) -> Picture:
    """Traces of a signal (leads, time), uint8 (height, width), first lead on top.

    All leads have one scale, each about its own median, so that one that is flat looks flat. Of the samples
    that fall on one column, the whole range is drawn.
    """
    leads, length = signal.shape
    row = FINER * max(4, min(ROW, TALLEST // leads))
    about = signal - np.median(signal, axis=1, keepdims=True)
    reach = float(np.quantile(np.abs(about), SHOWN)) or 1.0
    heights = (np.arange(leads)[:, None] + 0.5 - about.clip(-reach, reach) / reach * 0.48) * row
    wide = FINER * width
    picture = Image.new("L", (wide, leads * row), _PAPER)
    draw = ImageDraw.Draw(picture)
    columns = (np.arange(length) + 0.5) * wide / length
    for lead, line in enumerate(heights):
        draw.line([(0, lead * row), (wide, lead * row)], fill=_LINE, width=FINER)
        draw.line(list(zip(columns.tolist(), line.tolist(), strict=True)), fill=_INK, width=FINER)
    return np.asarray(picture.reduce(FINER))
