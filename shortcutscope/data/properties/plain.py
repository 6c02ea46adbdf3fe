"""What a person would say of a picture: some thirty plain numbers, by which findings are named.

Those of `shortcutscope.data.properties.pictures` are screened for association with the label in every audit.
These are not: they only put into words what carriers of a finding have in common, and more columns to screen
would cost the verdicts power. Values that grow with the picture's contrast are measured in units of it, so
that a picture of less contrast is not called less noisy, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter, uniform_filter1d

from shortcutscope.data.properties.pictures import FEWEST, LUMA, rim
from shortcutscope.types import Array, Floats, Ints

#: Detail is measured on the middle of larger pictures, and what is large on a coarser one.
MIDDLE, COARSE = 512, 256
#: Slices of a volume that are looked at.
SLICES = 4
#: Grey values that count as black and as white, in shares of the value range.
BLACK, WHITE = 0.02, 0.98
#: Frequencies, in cycles a pixel, from which on detail is fine, and from which on a pattern is looked for.
FINE, PATTERN = 0.3, 0.08
_EPS = 1e-6


def plain_properties(image: Array, value_range: tuple[float, float]) -> dict[str, float]:
    """Property, see `shortcutscope.discover.naming.words`, to its value.

    Parameters
    ----------
    image
        ``(C, H, W)`` or ``(C, D, H, W)``, before the transform.
    value_range
        Lowest and highest value that it can have.

    Returns
    -------
    dict
        Without what cannot be measured. Empty for signals, and where a value is not finite.

    Examples
    --------
    >>> picture = np.random.default_rng(0).random((1, 40, 40))
    >>> round(plain_properties(picture, (0.0, 1.0))["mean grey"], 1)
    0.5
    """
    if image.ndim not in (3, 4) or not np.isfinite(image).all():
        return {}
    low, high = value_range
    pixels = (np.asarray(image, np.float32) - np.float32(low)) / np.float32(high - low)
    if pixels.ndim == 3:
        return _of_picture(pixels)
    depth = pixels.shape[1]
    planes = np.unique(((np.arange(SLICES) + 0.5) * depth / SLICES).astype(int))
    slices = [_of_picture(pixels[:, plane]) for plane in planes]
    names = set.intersection(*(set(one) for one in slices))
    return {name: float(np.mean([one[name] for one in slices])) for name in slices[0] if name in names}


def _of_picture(pixels: Floats) -> dict[str, float]:
    grey = np.tensordot(LUMA, pixels, axes=1) if len(pixels) == 3 else pixels.mean(0)
    top, bottom = rim(grey, -2)
    left, right = rim(grey, -1)
    height, width = grey.shape
    inside = (slice(top, height - bottom), slice(left, width - right))
    within = grey[inside]
    share = 1 - within.size / grey.size
    values = {"border": share}
    if min(within.shape) < FEWEST:
        return values
    coarse, detail = _coarser(within), _middle(within)
    values |= {"border brightness": _rim_brightness(grey, inside)}
    values |= _levels(within) | _light(coarse) | _detail(detail) | _patterns(detail) | _marks(coarse)
    if len(pixels) == 3:
        values |= _colours(pixels[(slice(None), *inside)])
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}


def _middle(grey: Floats) -> Floats:
    height, width = (min(side, MIDDLE) for side in grey.shape)
    top, left = (grey.shape[0] - height) // 2, (grey.shape[1] - width) // 2
    return grey[top : top + height, left : left + width]


def _coarser(grey: Floats) -> Floats:
    """Means over blocks, at most `COARSE` pixels a side."""
    block = -(-max(grey.shape) // COARSE)
    if block == 1 or min(grey.shape) < block * FEWEST:
        return grey
    height, width = grey.shape[0] // block, grey.shape[1] // block
    blocks = grey[: height * block, : width * block].reshape(height, block, width, block)
    means: Floats = blocks.mean((1, 3))
    return means


def _rim_brightness(grey: Floats, inside: tuple[slice, slice]) -> float:
    """Mean of the constant rim, or without one of the outermost 4 %, less that of the rest."""
    edge = np.ones(grey.shape, bool)
    if grey[inside].size == grey.size:
        width = max(1, round(0.04 * min(grey.shape)))
        inside = (slice(width, -width), slice(width, -width))
    edge[inside] = False
    return float(grey[edge].mean() - grey[inside].mean())


def _levels(grey: Floats) -> dict[str, float]:
    dark, middle, bright = np.quantile(grey, [0.05, 0.5, 0.95])
    spread = float(grey.std())
    fine = grey - uniform_filter(grey, max(3, round(0.08 * min(grey.shape))), mode="nearest")
    return {
        "mean grey": float(grey.mean(dtype=np.float64)),
        "darkest parts": float(dark),
        "brightest parts": float(bright),
        "midtones": float((middle - dark) / (bright - dark)) if bright > dark else np.nan,
        "contrast": spread,
        "local contrast": float(fine.std()) / (spread + _EPS),
        "black share": float((grey < BLACK).mean()),
        "white share": float((grey > WHITE).mean()),
    }


def _light(grey: Floats) -> dict[str, float]:
    """How the light falls: slopes from edge to edge, and the corners, in shares of the mean grey."""
    height, width = grey.shape
    level = float(grey.mean()) + 0.02
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    across = 2 * float(grey.mean(0) @ x) / float(x @ x)
    down = 2 * float(grey.mean(1) @ y) / float(y @ y)
    radius = np.hypot(y[:, None], x) / np.sqrt(2)
    corner, ring = radius > 0.85, (radius > 0.35) & (radius < 0.6)
    return {
        "light from left to right": across / level,
        "light from top to bottom": down / level,
        "corners": float(grey[corner].mean() - grey[ring].mean()) / level,
    }


def _detail(grey: Floats) -> dict[str, float]:
    spread = float(grey.std()) + _EPS
    centre = grey[1:-1, 1:-1]
    rows, columns = grey[:-2, 1:-1] + grey[2:, 1:-1], grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = rows + columns - 4 * centre
    diagonal = (grey[:-1, :-1] - grey[1:, :-1] - grey[:-1, 1:] + grey[1:, 1:]) / 2
    across, down = np.abs(np.diff(grey, axis=1)), np.abs(np.diff(grey, axis=0))
    edges = _upper(across[::2, ::2]) + _upper(down[::2, ::2])
    return {
        "sharpness": float(np.log10(laplacian.var() / spread**2 + _EPS)),
        "noise": float(np.median(np.abs(diagonal))) / 0.6745 / spread,
        "blur": max(_blur(grey, across, 1), _blur(grey, down, 0)),
        "edges": edges / spread,
    }


def _upper(steps: Floats) -> float:
    """The 98 % quantile."""
    flat = steps.ravel()
    place = int(0.98 * (len(flat) - 1))
    return float(np.partition(flat, place)[place])


def _blur(grey: Floats, steps: Floats, axis: int) -> float:
    """How little is lost when a picture is blurred along an axis (Crete et al. 2007): 1 where nothing is."""
    again = np.abs(np.diff(uniform_filter1d(grey, 9, axis=axis, mode="nearest"), axis=axis))
    total = float(steps.sum())
    return 1 - float(np.maximum(0, steps - again).sum()) / total if total > 0 else np.nan


@dataclass(frozen=True, eq=False)
class _Waves:
    """What the spectra of pictures of one shape share; places in the flat spectrum.

    Attributes
    ----------
    window
        That the picture is multiplied with.
    fine
        Places of fine detail.
    rings
        Places of about one frequency each, from `PATTERN` on.
    """

    window: Floats
    fine: Ints
    rings: tuple[Ints, ...]


@lru_cache(maxsize=16)
def _waves(shape: tuple[int, int]) -> _Waves:
    height, width = shape
    window = (np.hanning(height)[:, None] * np.hanning(width)).astype(np.float32)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)).ravel()
    bounds = np.arange(PATTERN, 0.72, 0.04)
    rings = (np.flatnonzero((radius >= low) & (radius < low + 0.04)) for low in bounds)
    return _Waves(window, np.flatnonzero(radius > FINE), tuple(ring for ring in rings if len(ring)))


def _patterns(grey: Floats) -> dict[str, float]:
    spread = float(grey.std()) + _EPS
    waves = _waves(grey.shape)
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * waves.window)) ** 2
    total = float(power.sum()) + _EPS
    logs = np.log10(power + 1e-12 * total).ravel()
    levels = np.array([np.median(logs[ring]) for ring in waves.rings])
    above = np.concatenate([logs[ring] - level for ring, level in zip(waves.rings, levels, strict=True)])
    strongest = np.partition(above, -4)[-4:]
    columns, rows = grey.mean(0), grey.mean(1)
    wide = max(1.5, 0.02 * min(grey.shape))
    return {
        "fine detail": float(np.log10(power.ravel()[waves.fine].sum() / total + 1e-9)),
        "repeating pattern": float(strongest.mean()),
        "vertical stripes": float((columns - gaussian_filter(columns, wide)).std()) / spread,
        "horizontal stripes": float((rows - gaussian_filter(rows, wide)).std()) / spread,
        "blocks": float(np.log10(_at_multiples(grey, 1) * _at_multiples(grey, 0)) / 2),
    }


def _at_multiples(grey: Floats, axis: int) -> float:
    """Steps at every eighth pixel by those elsewhere, the best of the eight places to begin."""
    steps = np.abs(np.diff(grey, axis=axis)).mean(1 - axis) + _EPS
    if len(steps) < 24:
        return 1.0
    starts = steps[: len(steps) // 8 * 8].reshape(-1, 8).mean(0)
    return float(7 * starts.max() / (starts.sum() - starts.max()))


def _marks(grey: Floats) -> dict[str, float]:
    spread = float(grey.std()) + _EPS
    above = (grey - uniform_filter(grey, max(3, round(0.12 * min(grey.shape))), mode="nearest")).ravel()
    few = max(4, grey.size // 200)
    ordered = np.partition(above, (few, len(above) - few))
    return {
        "small bright marks": float(ordered[-few:].mean()) / spread,
        "small dark marks": -float(ordered[:few].mean()) / spread,
    }


def _colours(colours: Floats) -> dict[str, float]:
    brightest = colours.max(0)
    chroma = brightest - colours.min(0)
    saturation = np.divide(chroma, brightest, out=np.zeros_like(chroma), where=brightest > 0)
    red, green, blue = (float(channel.mean(dtype=np.float64)) for channel in colours)
    return {
        "saturation": float(saturation.mean(dtype=np.float64)),
        "warmth": red - blue,
        "green": green - (red + blue) / 2,
    }
