"""What an artifact is: a named way to change an image or a signal, drawn from a seed per sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shortcutscope.errors import InputError
from shortcutscope.types import Array

__all__ = ["Artifact", "Draw", "Extent", "draw_result", "generator_for", "scaled", "signal_height", "visible"]

Draw = Callable[[Array, np.random.Generator, float], tuple[Array, Array]]
Extent = Literal["localized", "diffuse", "borderline"]

SMALLEST_SIDE = 28
SHORTEST = 40
STRONGEST = 2.0
# A pixel is visibly changed where it moves by more than one grey level of an 8-bit image; the slack keeps a
# change of exactly one level, which float32 may round up, on the invisible side.
VISIBLE = 1 / 255 + 1e-6
# Full scale of the stored types that have no unit of their own, as ImageTable reads them.
FULL_SCALE = {"uint8": 255, "uint16": 65535}


# The catalogue gives lengths in pixels of an image of this side.
REFERENCE_SIDE = 64


def visible(before: Array, after: Array, height: float = 1.0) -> Array:
    """Mask of what changed visibly, beside this height; both in 0..1, any shape."""
    return np.asarray(np.abs(after - before) > VISIBLE * height)


def signal_height(signal: Array) -> float:
    """Distance from the lowest to the highest value of a signal's (C, L) median lead.

    A signal is drawn to its own height and not to the value range, which leaves room for the highest of all
    signals; the median lead is not changed by a few leads that an illness or an artifact makes higher.
    """
    return float(np.median(np.ptp(signal, axis=-1)))


def draw_result(before: Array, after: Array) -> tuple[Array, Array]:
    """What a draw returns: the changed image, clipped to 0..1 as float32, and the mask of what is visible."""
    clipped = np.clip(after, 0, 1).astype(np.float32)
    return clipped, visible(before, clipped)


def scaled(image: Array, pixels: float, least: int = 1) -> int:
    """A length given at 64 pixels, in whole pixels of this image's shorter side, at least `least`."""
    shorter: int = min(image.shape)
    return max(least, round(pixels * shorter / REFERENCE_SIDE))


@dataclass(frozen=True)
class Artifact:
    """An artifact that can be drawn into any image of at least 28 x 28 pixels, or signal of 40 samples.

    Parameters
    ----------
    name
        Part of the seed of every draw, and the column that :func:`plant` adds.
    extent
        What the artifact is by construction: confined to a part of the image, spread over it, or neither
        clearly.
    draw
        From an image (H, W), float32 in 0..1, a generator and the strength to the changed image in 0..1
        and the mask of the visibly changed pixels, boolean (H, W). What it takes from the generator must not
        depend on the image, so that all channels get the same artifact. A function of a module, if tables
        are to be sent to worker processes. An artifact of signals gets (C, L), all leads at once, and gives
        a mask of that shape.
    strength
        Scales the visibility, above 0 and at most 2; 1 is the catalogue's.
    dims
        What it is drawn into: 2 for images, 1 for signals.

    Raises
    ------
    InputError
        For another extent, strength or number of dimensions.
    """

    name: str
    extent: Extent
    draw: Draw
    strength: float = 1.0
    dims: int = 2

    def __post_init__(self) -> None:
        if self.extent not in ("localized", "diffuse", "borderline"):
            raise InputError(
                f"extent is {self.extent!r}; allowed are 'localized', 'diffuse' and 'borderline'"
            )
        if not 0 < self.strength <= STRONGEST:
            raise InputError(
                f"strength of {self.name!r} is {self.strength}; allowed are values above 0 up to "
                f"{STRONGEST:g} (1 is the catalogue's, 2 twice as visible)"
            )
        if self.dims not in (1, 2):
            raise InputError(f"dims of {self.name!r} is {self.dims}; allowed are 2 (images) and 1 (signals)")

    def apply(
        self,
        image: Array,
        *,
        sample_id: str,
        seed: int = 0,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> tuple[Array, Array]:
        """Draw the artifact of one sample.

        Parameters
        ----------
        image
            (H, W) or (C, H, W), of a signal (L,) or (C, L). Unsigned 8- and 16-bit images span their type's
            full scale, all others `value_range`.
        sample_id, seed
            Decide, with the artifact's name, what is drawn; every channel of an image gets the same.
        value_range
            Lowest and highest value of a floating-point or signed image.

        Returns
        -------
        image
            Same shape, type and range; what does not change is identical bit by bit.
        mask
            Boolean (H, W): visibly changed in any channel. Of a signal (C, L): where its trace changed.

        Raises
        ------
        InputError
            When the image is no two-dimensional one, or the signal is none, it is too small, or has values
            outside of the range.
        """
        stored = np.asarray(image)
        before = _to_unit(self._checked(stored), value_range)
        # An image's channels show the same place and get the same; leads are drawn into as one whole.
        parts = before[None] if before.ndim <= 2 else before
        results = [self._draw(part, generator_for(self.name, sample_id, seed)) for part in parts]
        after = np.stack(results).reshape(before.shape)
        changed = _from_unit(after, stored.dtype, value_range)
        result = np.where(after == before, stored, changed)
        # Seen from the stored values, since rounding to integers can hide a faint change.
        readable = _to_unit(result, value_range)
        if self.dims == 1:
            leads = np.atleast_2d(before)
            return result, visible(leads, np.atleast_2d(readable), signal_height(leads))
        mask = visible(before, readable)
        return result, np.asarray(mask.reshape(-1, *mask.shape[-2:]).any(axis=0))

    def _draw(self, part: Array, generator: np.random.Generator) -> Array:
        whole = np.atleast_2d(part) if self.dims == 1 else part
        return self.draw(whole, generator, self.strength)[0]

    def _checked(self, image: Array) -> Array:
        """The image or signal as it is; InputError where this artifact cannot be drawn into its shape."""
        if self.dims == 1:
            if image.ndim not in (1, 2) or image.shape[-1] < SHORTEST:
                raise InputError(
                    f"{self.name!r} is an artifact of signals and cannot be drawn into shape {image.shape}; "
                    f"allowed are (L,) and (C, L) with at least {SHORTEST} samples. A table of signals is "
                    "made with dims=1"
                )
        elif image.ndim not in (2, 3) or min(image.shape[-2:]) < SMALLEST_SIDE:
            raise InputError(
                f"an image of shape {image.shape} cannot carry an artifact of images such as {self.name!r}; "
                f"allowed are (H, W) and (C, H, W) with sides of at least {SMALLEST_SIDE} pixels"
            )
        return image


def generator_for(*key: str | int) -> np.random.Generator:
    """A generator that depends on these words and numbers only, the same in every process."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _to_unit(image: Array, value_range: tuple[float, float]) -> Array:
    """Float32 in 0..1."""
    low, high = (0.0, FULL_SCALE[image.dtype.name]) if image.dtype.name in FULL_SCALE else value_range
    unit = np.asarray((image.astype(np.float64) - low) / (high - low), np.float32)
    if not (unit.min() >= -1e-4 and unit.max() <= 1 + 1e-4):
        raise InputError(
            f"the image has values from {image.min()} to {image.max()}, outside of its value range "
            f"{low:g} to {high:g}; give the table the value_range that its images have"
        )
    return unit


def _from_unit(unit: Array, dtype: np.dtype, value_range: tuple[float, float]) -> Array:
    """The stored type again; integers are rounded."""
    low, high = (0.0, FULL_SCALE[dtype.name]) if dtype.name in FULL_SCALE else value_range
    values = np.clip(unit.astype(np.float64), 0, 1) * (high - low) + low
    return (np.rint(values) if np.issubdtype(dtype, np.integer) else values).astype(dtype)
