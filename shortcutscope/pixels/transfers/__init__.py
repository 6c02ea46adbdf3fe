"""Transfers by name: each moves an image of one side to the other as far as one property goes.

A transfer takes an image (C, *spatial) from 0 to 1, what is known of its own side and of the other, and a
generator, and gives the image moved. Another package adds one by an entry point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shortcutscope.data.pictures import KINDS
from shortcutscope.errors import InputError
from shortcutscope.pixels.transfers import frame, levels, places, spectrum, texture
from shortcutscope.pixels.transfers.measures import foreground
from shortcutscope.pixels.transfers.side import Side
from shortcutscope.registry import Entry, Registry
from shortcutscope.types import Floats

__all__ = ["TRANSFERS", "Move", "Side", "Transfer", "moved", "require_possible"]

Move = Callable[[Floats, Side, Side, np.random.Generator], Floats]
#: Axes of signals, images and volumes.
_ALL, _PICTURES = (1, 2, 3), (2, 3)


@dataclass(frozen=True)
class Transfer:
    """One of them.

    Attributes
    ----------
    move
        Moves an image.
    words
        What it changes, for a sentence.
    dims
        Spatial axes of what it can be done to.
    same_size
        Needs images of one size.
    of_levels
        Changes nothing but grey levels.
    by_name
        Is done where it is asked for, and not tried by itself: it suits few kinds of images.
    """

    move: Move
    words: str
    dims: tuple[int, ...] = _ALL
    same_size: bool = False
    of_levels: bool = False
    by_name: bool = False


TRANSFERS = Registry[Transfer](
    "transfer",
    "shortcutscope.transfers",
    {
        "exposure": Entry(
            Transfer(levels.exposure, "the exposure (one gamma)", _PICTURES, of_levels=True), "one gamma"
        ),
        "offset": Entry(Transfer(levels.offset, "the grey level", of_levels=True), "a constant"),
        "contrast": Entry(Transfer(levels.contrast, "the contrast", of_levels=True), "a gain"),
        "affine": Entry(
            Transfer(levels.affine, "grey level and contrast", of_levels=True), "a gain and a constant"
        ),
        "histogram": Entry(Transfer(levels.histogram, "the histogram", of_levels=True), "all grey levels"),
        "low frequencies": Entry(
            Transfer(spectrum.low_frequencies, "low frequencies", same_size=True), "their amplitudes"
        ),
        "all frequencies": Entry(
            Transfer(spectrum.all_frequencies, "the spectrum by radius", same_size=True),
            "amplitudes by radius",
        ),
        "periodic": Entry(
            Transfer(spectrum.periodic, "a periodic pattern", same_size=True), "frequencies that stand out"
        ),
        "noise": Entry(Transfer(texture.noise_level, "the noise"), "more white noise, or less"),
        "sharpness": Entry(Transfer(texture.sharpness_level, "the sharpness"), "a blur, or its inverse"),
        "field": Entry(
            Transfer(places.field, "a smooth field", _PICTURES, same_size=True), "ratio of the mean images"
        ),
        "background": Entry(
            Transfer(levels.background, "the level of an even background", _PICTURES, by_name=True),
            "its median, what stands out of it stays",
        ),
        "frame": Entry(
            Transfer(frame.frame, "the frame around the picture (collimation)", (2,)), "even, tilted or not"
        ),
    },
)


def require_possible(name: str, dims: int) -> None:
    """Refuse a transfer that does not exist, or cannot be done to images of so many axes.

    Raises
    ------
    InputError
        Says what there is.
    """
    if dims not in TRANSFERS[name].dims:
        able = ", ".join(repr(other) for other, one in TRANSFERS.items() if dims in one.dims)
        raise InputError(f"transfer={name!r} cannot be done to {KINDS[dims]}s; allowed are {able}")


def moved(name: str, image: Floats, own: Side, other: Side, rng: np.random.Generator) -> Floats:
    """An image moved to the other side, from 0 to 1; a black background stays black."""
    out = np.clip(TRANSFERS[name].move(image, own, other, rng), 0, 1).astype(np.float32)
    return np.where(foreground(image), out, image) if own.dark else out
