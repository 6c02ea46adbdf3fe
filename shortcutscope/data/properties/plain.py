"""What a person would say of a picture: some thirty plain numbers, by which findings are named.

Those of `shortcutscope.data.properties.pictures` are screened for association with the label in every audit.
These are not: they only put into words what carriers of a finding have in common, and more columns to screen
would cost the verdicts power. Values that grow with the picture's contrast are measured in units of it, so
that a picture of less contrast is not called less noisy, too. Levels and detail are those of what is
pictured: how much of it is empty background is a property of its own, and would else say how bright it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import median_filter, uniform_filter

from shortcutscope.data.properties.background import in_size, pictured_part
from shortcutscope.data.properties.pictures import FEWEST, LUMA, in_shares, rim
from shortcutscope.types import Array, Bools, Floats, Ints

#: Detail is measured on the middle of larger pictures, and what is large on a coarser one.
MIDDLE, COARSE = 256, 128
#: Slices of a volume that are looked at.
SLICES = 4
#: Grey values that count as black and as white, in shares of the value range.
BLACK, WHITE = 0.02, 0.98
#: Least mean step from a border to what it surrounds, in shares of the value range.
STEP = 0.05
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
    pixels = in_shares(image, value_range)
    if pixels is None:
        return {}
    if pixels.ndim == 3:
        return _of_picture(pixels)
    depth = pixels.shape[1]
    planes = np.unique(((np.arange(SLICES) + 0.5) * depth / SLICES).astype(int))
    slices = [_of_picture(pixels[:, plane]) for plane in planes]
    names = set.intersection(*(set(one) for one in slices))
    return {name: float(np.mean([one[name] for one in slices])) for name in slices[0] if name in names}


def _of_picture(pixels: Floats) -> dict[str, float]:
    grey = np.tensordot(LUMA, pixels, axes=1) if len(pixels) == 3 else pixels.mean(0)
    inside = (_within_border(grey, 0), _within_border(grey, 1))
    within = grey[inside]
    values = {"border": 1 - within.size / grey.size}
    if min(within.shape) < FEWEST:
        return values
    coarse, detail = _coarser(within), _middle(within)
    filled = pictured_part(coarse)
    if filled is None and within.size < grey.size:  # the border may be what tells the background
        whole = pictured_part(_coarser(grey))
        filled = None if whole is None else in_size(in_size(whole, grey.shape)[inside], coarse.shape)
    fine = None if filled is None else _middle(in_size(filled, within.shape))
    empty = 0.0 if filled is None or filled.all() else 1 - filled.mean() * within.size / grey.size
    values |= {"border brightness": _border_brightness(grey, inside), "empty background": empty}
    spreads = [float(grey.std()) for grey in (coarse, detail)]
    values |= _levels(coarse, spreads[0], filled) | _light(coarse, spreads[0]) | _marks(coarse, spreads[0])
    values |= _detail(detail, spreads[1], fine) | _patterns(detail, spreads[1])
    if len(pixels) == 3:
        values |= _colours(pixels[(slice(None), *inside)])
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _within_border(grey: Floats, axis: int) -> slice:
    """Rows (axis 0) or columns (axis 1) within constant ones that end in a step.

    A picture that is black towards its edge, or too dark there to show anything, has no border.
    """
    lines = np.moveaxis(grey, axis, 0)
    first, last = rim(grey, axis - 2)
    stop = len(lines) - last
    if first < stop and first and np.abs(lines[first : first + 2] - lines[first - 1]).mean() < STEP:
        first = 0
    if first < stop and last and np.abs(lines[stop - 2 : stop] - lines[stop]).mean() < STEP:
        stop = len(lines)
    return slice(first, stop)


def _middle(grey: Array) -> Array:
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


def _border_brightness(grey: Floats, inside: tuple[slice, slice]) -> float:
    """Mean of the border, or without one of the outermost 4 %, less that of the rest, by the contrast."""
    edge = np.ones(grey.shape, bool)
    if grey[inside].size == grey.size:
        width = max(1, round(0.04 * min(grey.shape)))
        inside = (slice(width, -width), slice(width, -width))
    edge[inside] = False
    return float(grey[edge].mean() - grey[inside].mean()) / (float(grey[inside].std()) + _EPS)


def _levels(grey: Floats, spread: float, filled: Bools | None) -> dict[str, float]:
    """Of what is pictured; `filled` None is all of it."""
    some, pictured = grey[::2, ::2].ravel(), grey
    if filled is not None and filled.any():
        some = pictured = grey[filled]
        spread = float(pictured.std())
    dark, middle, bright = _quantiles(some, 0.05, 0.5, 0.95)
    near = uniform_filter(grey, max(3, round(0.03 * min(grey.shape))), mode="nearest")
    black = grey < BLACK
    return {
        "mean grey": float(pictured.mean(dtype=np.float64)),
        "darkest parts": float(dark),
        "brightest parts": float(bright),
        "midtones": float((middle - dark) / (bright - dark)) if bright > dark else np.nan,
        "contrast": spread,
        "local contrast": _local_spread(near, filled) / (spread + _EPS),
        "black share": float(black.mean()),
        "white share": float((grey > WHITE).mean()),
    }


def _quantiles(values: Floats, *shares: float) -> list[float]:
    places = [int(share * (len(values) - 1)) for share in shares]
    ordered = np.partition(values, places)
    return [float(ordered[place]) for place in places]


def _local_spread(grey: Floats, filled: Bools | None) -> float:
    """Median, over what is pictured and not black throughout, of the standard deviation around a place."""
    size = max(3, round(0.15 * min(grey.shape)))
    mean = uniform_filter(grey, size, mode="nearest")
    square = uniform_filter(grey * grey, size, mode="nearest")
    mean, square = mean[::2, ::2], square[::2, ::2]
    spread = np.sqrt(np.maximum(square - mean * mean, 0))
    visible = mean > 2 * BLACK
    if filled is not None:
        visible &= filled[::2, ::2]
    return _median(spread[visible]) if visible.any() else 0.0


def _median(values: Floats) -> float:
    """As `numpy.median`, for values that are finite."""
    last = len(values) // 2
    first = last if len(values) % 2 else last - 1
    ordered = np.partition(values, (first, last))
    return float((ordered[first] + ordered[last]) / 2)


@dataclass(frozen=True, eq=False)
class _Places:
    """Places of the pixels of one shape, from -1 to 1; which are in the corners, and in the middle."""

    y: Floats
    x: Floats
    corner: Bools
    middle: Bools


@lru_cache(maxsize=16)
def _places(shape: tuple[int, int]) -> _Places:
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    radius = np.hypot(y[:, None], x) / np.sqrt(2)
    return _Places(y, x, radius > 0.75, radius < 0.5)


def _light(grey: Floats, spread: float) -> dict[str, float]:
    """How the light falls: from edge to edge, and into the corners."""
    at, spread = _places(grey.shape), spread + _EPS
    return {
        "light from left to right": 2 * float(grey.mean(0) @ at.x) / float(at.x @ at.x) / spread,
        "light from top to bottom": 2 * float(grey.mean(1) @ at.y) / float(at.y @ at.y) / spread,
        "corners": float(grey[at.corner].mean() - grey[at.middle].mean()) / spread,
    }


def _detail(grey: Floats, spread: float, filled: Bools | None) -> dict[str, float]:
    """Of what is pictured, as `_levels`."""
    soft = uniform_filter(grey, 3, mode="nearest")
    visible = (soft > 2 * BLACK) & (soft < WHITE)  # nothing is to be seen where all is black or white
    if filled is not None and filled.any():
        visible &= filled
        spread = float(grey[filled].std())
    if visible.mean() < 0.05:
        visible = np.ones_like(visible)
    spread += _EPS
    diagonal = np.abs(grey[:-1, :-1] - grey[1:, :-1] - grey[:-1, 1:] + grey[1:, 1:])[1:, 1:] / 2
    smooth = uniform_filter(soft, 3, mode="nearest")
    slope = np.hypot(smooth[1:-1, 2:] - smooth[1:-1, :-2], smooth[2:, 1:-1] - smooth[:-2, 1:-1])
    inner = visible[1:-1, 1:-1]
    flat, steep = _quantiles(slope[inner][::4], 0.3, 0.9)
    busy, calm = diagonal[inner & (slope >= steep)], diagonal[inner & (slope <= flat)]
    rough = 4 * (soft - grey)[1:-1, 1:-1][inner]
    return {
        "sharpness": float(np.log10(float(rough.std()) / spread + _EPS)),
        "noise": _median(calm) / 0.6745,
        "evenness": float(np.log10((calm.mean() + 1e-3) / (busy.mean() + 1e-3))),
        "edges": float(np.log10(steep / spread + _EPS)),
    }


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
        Places of about one frequency each off the axes, from `PATTERN` on, one ring after the other.
    of_rings, in_rings
        Of these, on a grid of a row a ring: where each belongs; and where the median of each ring is once its
        row is sorted, what is empty last.
    axes
        Places along either axis, from `PATTERN` on, from low to high frequency.
    """

    window: Floats
    fine: Ints
    rings: Ints
    in_rings: tuple[Ints, Ints]
    medians: Ints
    axes: tuple[Ints, ...]


@lru_cache(maxsize=16)
def _waves(shape: tuple[int, int]) -> _Waves:
    height, width = shape
    window = (np.hanning(height)[:, None] * np.hanning(width)).astype(np.float32)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    radius = np.hypot(down, across)
    off = (np.abs(down) > 2.5 / height) & (across > 2.5 / width)
    bounds = np.arange(PATTERN, 0.72, 0.04)
    found = (np.flatnonzero(off & (radius >= low) & (radius < low + 0.04)) for low in bounds)
    rings = [ring for ring in found if len(ring)]
    sizes = np.array([len(ring) for ring in rings], int)
    row = np.repeat(np.arange(len(rings)), sizes)
    column = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    places = np.arange(radius.size).reshape(radius.shape)
    half = height // 2
    along = (places[: half + 1, 0], places[0])
    axes = (line[radius.ravel()[line] >= PATTERN] for line in along)
    return _Waves(
        window,
        np.flatnonzero(radius > FINE),
        np.concatenate([*rings, np.empty(0, int)]),
        (row, column),
        (sizes - 1) // 2,
        tuple(axes),
    )


def _above_median(logs: Floats, waves: _Waves) -> Floats:
    """What is at the places of the rings, less the median of the ring."""
    values, (row, column) = logs[waves.rings], waves.in_rings
    if not len(values):
        return values
    grid = np.full((len(waves.medians), column.max() + 1), np.inf, logs.dtype)
    grid[row, column] = values
    grid.sort(axis=1)
    medians = grid[np.arange(len(grid)), waves.medians]
    return np.asarray(values - medians[row])


def _patterns(grey: Floats, spread: float) -> dict[str, float]:
    waves = _waves(grey.shape)
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * waves.window)) ** 2
    total = float(power.sum()) + _EPS
    logs = np.log10(power + 1e-12 * total).ravel()
    above = [_above_median(logs, waves)]
    above += [logs[line] - median_filter(logs[line], 9, mode="nearest") for line in waves.axes if len(line)]
    flat = np.concatenate(above) if len(above) > 1 or len(above[0]) else np.zeros(4)
    return {
        "fine detail": float(np.log10(power.ravel()[waves.fine].sum() / total + 1e-9)),
        "repeating pattern": float(np.partition(flat, -4)[-4:].mean()),
        "vertical stripes": _stripes(grey, 0, spread),
        "horizontal stripes": _stripes(grey, 1, spread),
        "blocks": float(np.log10(_at_multiples(grey, 1) * _at_multiples(grey, 0)) / 2),
    }


def _stripes(grey: Floats, axis: int, spread: float) -> float:
    """How rough the means along an axis are, beyond what they would be were every pixel rough by itself."""
    contrast = np.float32(spread) + np.float32(_EPS)
    alone = float(np.diff(grey, 2, axis=1 - axis).var()) / grey.shape[axis]
    beyond = max(0.0, float(np.diff(grey.mean(axis), 2).var()) - alone)
    return float(np.log10(np.sqrt(beyond) / contrast + 1e-3))


def _at_multiples(grey: Floats, axis: int) -> float:
    """Steps at every eighth pixel by those elsewhere, the best of the eight places to begin."""
    steps = np.abs(np.diff(grey, 3, axis=axis)).mean(1 - axis) + _EPS
    if len(steps) < 24:
        return 1.0
    starts = steps[: len(steps) // 8 * 8].reshape(-1, 8).mean(0)
    return float(7 * starts.max() / (starts.sum() - starts.max()))


def _marks(grey: Floats, spread: float) -> dict[str, float]:
    spread += _EPS
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
