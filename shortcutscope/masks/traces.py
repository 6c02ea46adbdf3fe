"""Masked spans of signals, as boxes over the leads' traces and in words."""

from __future__ import annotations

import numpy as np

from shortcutscope.masks.formats.polygons import Points
from shortcutscope.masks.mask_files import Mask
from shortcutscope.retrieval.signals import spans


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
