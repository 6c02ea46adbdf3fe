"""A bitmap font of 4 x 7 pixels for burnt-in text."""

from __future__ import annotations

import numpy as np

from shortcutscope.errors import InputError
from shortcutscope.types import Array

HEIGHT = 7

# Rows from the top, one bit per pixel.
GLYPHS: dict[str, tuple[str, ...]] = {
    "L": ("1000", "1000", "1000", "1000", "1000", "1000", "1111"),
    "R": ("1110", "1001", "1001", "1110", "1010", "1001", "1001"),
    "0": ("0110", "1001", "1001", "1001", "1001", "1001", "0110"),
    "1": ("0010", "0110", "0010", "0010", "0010", "0010", "0111"),
    "2": ("0110", "1001", "0001", "0010", "0100", "1000", "1111"),
    "3": ("1110", "0001", "0001", "0110", "0001", "0001", "1110"),
    "4": ("1001", "1001", "1001", "1111", "0001", "0001", "0001"),
    "5": ("1111", "1000", "1110", "0001", "0001", "1001", "0110"),
    "6": ("0110", "1000", "1000", "1110", "1001", "1001", "0110"),
    "7": ("1111", "0001", "0001", "0010", "0010", "0100", "0100"),
    "8": ("0110", "1001", "1001", "0110", "1001", "1001", "0110"),
    "9": ("0110", "1001", "1001", "0111", "0001", "0001", "0110"),
    ":": ("0", "0", "1", "0", "1", "0", "0"),
    " ": ("0",) * HEIGHT,
}


def text_bitmap(text: str, zoom: int = 1) -> Array:
    """Boolean (7 * zoom, width) bitmap of a line of text, letters one (zoomed) pixel apart.

    Raises
    ------
    InputError
        For empty text, a zoom below 1, or a letter that the font lacks.
    """
    missing = sorted(set(text) - set(GLYPHS))
    if not text or zoom < 1 or missing:
        raise InputError(
            f"cannot draw {text!r} at zoom {zoom}; the letters are {''.join(GLYPHS)!r}, zoom is 1 or more"
        )
    gap = np.zeros((HEIGHT, 1), bool)
    columns = []
    for letter in text:
        columns += [np.array([[bit == "1" for bit in row] for row in GLYPHS[letter]]), gap]
    line = np.concatenate(columns[:-1], axis=1)
    return line.repeat(zoom, axis=0).repeat(zoom, axis=1)
