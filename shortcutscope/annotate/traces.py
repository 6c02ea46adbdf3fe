"""Pictures of signals: the leads' traces below each other, on one scale, and the masked spans as boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from shortcutscope.annotate.export.polygons import Points
from shortcutscope.annotate.hits import Picture
from shortcutscope.annotate.mask_files import Mask
from shortcutscope.annotate.signals import spans

#: Pixels of a lead's row, and the most of a picture's height.
ROW, TALLEST = 18, 432
#: Share of the values that fit in a row; the rest is cut off at its edge.
SHOWN = 0.995
#: Lines are drawn finer by this factor and averaged, which makes them smooth.
FINER = 3
_PAPER, _INK, _LINE = 255, 30, 225


def trace_picture(signal: npt.NDArray[Any], width: int) -> Picture:
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


def span_outlines(mask: Mask, size: tuple[int, int]) -> tuple[Points, ...]:
    """A box for each masked span of (leads, time), in pixels of a picture of `size` (height, width)."""
    height, width = size[0] / mask.shape[0], size[1] / mask.shape[1]
    return tuple(
        np.array([[start, lead], [stop, lead], [stop, lead + 1], [start, lead + 1]], np.float64)
        * (width, height)
        for lead, start, stop in spans(mask)
    )


def leads_named(mask: Mask) -> str:
    """For a caption: which leads are masked."""
    inside = np.flatnonzero(mask.any(axis=1)).tolist()
    if not inside:
        return ""
    if len(inside) == 1:
        return f"lead {inside[0] + 1} of {len(mask)}"
    return f"{len(inside)} of {len(mask)} leads"
