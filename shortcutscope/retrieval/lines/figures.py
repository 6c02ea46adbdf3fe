"""What lines look like, and what those of an image have in common.

A wire is thin, even, and equally sharp on both sides; ribs and the borders of organs are steps, or wide. So a
line is described by its profile across, averaged along it, by how even that is, and by its course. An image
is described by the figures of its long lines: their mean, spread and extremes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree
from torch import Tensor

from shortcutscope.retrieval.lines.tracing import Lines, Ridges, between, lines_of, ridges_of
from shortcutscope.types import Floats

#: Strengths from which lines are traced, and lengths from which lines count, as shares of the image's side.
STRENGTHS, LENGTHS = (0.08, 0.2), (0.1, 0.16)
#: Fewest pixels of a line.
SHORTEST = 8
#: Half width of profiles in pixels, distances of flanks, and of pixels whose turn is measured.
HALF, FLANKS, NEAR = 6, (2, 3, 5), 2.3
#: Spread of a flank below which it is even.
EVEN = 0.1
#: Quantiles of the lines' figures, and standard deviations that a figure counts at most.
QUANTILES = (0.95, 0.05)


def line_features(grey: Tensor) -> Floats:
    """Figures of an image by its lines.

    Parameters
    ----------
    grey
        ``(1, H, W)`` from 0 to 1.
    """
    image = grey[0].numpy().astype(np.float64)
    ridges, side = ridges_of(image), min(image.shape)
    shortest = [max(SHORTEST, round(length * side)) for length in LENGTHS]
    parts = []
    for strength in STRENGTHS:
        lines = lines_of(ridges, strength, shortest[0])
        figures = figures_of(lines, ridges, image)
        parts += [
            _pooled(figures[lines.length >= least], lines.length[lines.length >= least], side)
            for least in shortest
        ]
    return np.concatenate(parts)


def figures_of(lines: Lines, ridges: Ridges, image: Floats) -> Floats:
    """Figures ``(L, D)`` of the lines of an image ``(H, W)``."""
    if not len(lines):
        return np.zeros((0, N_FIGURES))
    mean = _Means(lines)
    offsets = np.arange(-HALF, HALF + 1)
    across = _one_side(lines, mean)
    y = lines.y[:, None] + offsets * np.sin(across)[:, None]
    x = lines.x[:, None] + offsets * np.cos(across)[:, None]
    even, plain = (
        map_coordinates(values, [y, x], order=1, mode="nearest") for values in (ridges.even, image)
    )
    parts = [*_flanks(even, mean), *_profile(even, plain, mean), *_course(lines, mean)]
    strength = ridges.strength[lines.y, lines.x]
    parts += [mean(strength), mean.spread(strength) / (mean(strength) + 0.05)]
    return np.column_stack(parts)


class _Means:
    """Means over the pixels of each line."""

    def __init__(self, lines: Lines) -> None:
        self.number, self.length = lines.number, lines.length

    def __call__(self, values: Floats) -> Floats:
        return np.asarray(np.bincount(self.number, values, minlength=len(self.length)) / self.length)

    def spread(self, values: Floats) -> Floats:
        return np.sqrt(np.maximum(self(values * values) - self(values) ** 2, 0))

    def columns(self, values: Floats) -> Floats:
        return np.stack([self(column) for column in values.T], 1)


def _one_side(lines: Lines, mean: _Means) -> Floats:
    """The angle across, turned so that it points to the same side along a line."""
    xx, yy, xy = _moments(lines, mean)
    axis = np.arctan2(2 * xy, xx - yy)[lines.number] / 2 + np.pi / 2
    return np.where(np.cos(lines.across - axis) < 0, lines.across + np.pi, lines.across)


def _moments(lines: Lines, mean: _Means) -> tuple[Floats, Floats, Floats]:
    y, x = lines.y.astype(np.float64), lines.x.astype(np.float64)
    middle_y, middle_x = mean(y), mean(x)
    return mean(x * x) - middle_x**2, mean(y * y) - middle_y**2, mean(x * y) - middle_x * middle_y


def _flanks(even: Floats, mean: _Means) -> list[Floats]:
    """How far both sides fall below the line, and how evenly."""
    crest = even[:, HALF - 1 : HALF + 2].mean(1)
    figures = []
    for distance in FLANKS:
        left, right = crest - even[:, HALF - distance], crest - even[:, HALF + distance]
        lower, higher = np.minimum(left, right), np.maximum(left, right)
        figures += [
            mean(lower),
            mean(higher),
            mean(lower) / (mean.spread(lower) + EVEN),
            mean((lower > 0) * 1.0),
        ]
    return figures


def _profile(even: Floats, plain: Floats, mean: _Means) -> list[Floats]:
    """Mean and spread across the line, the darker side first."""
    profile, brightness = mean.columns(even), mean.columns(plain)
    spread = np.sqrt(np.maximum(mean.columns(even**2) - profile**2, 0))
    turned = profile[:, :HALF].mean(1) > profile[:, HALF + 1 :].mean(1)
    profile, brightness, spread = (
        np.where(turned[:, None], values[:, ::-1], values) for values in (profile, brightness, spread)
    )
    beside = [k for k in range(2 * HALF + 1) if k != HALF]
    figures = [profile[:, [HALF]] - profile[:, beside], brightness[:, [HALF]] - brightness[:, beside]]
    return [*np.hstack([*figures, spread, brightness[:, [HALF]]]).T]


def _course(lines: Lines, mean: _Means) -> list[Floats]:
    """Length, extent, bend and smoothness."""
    xx, yy, xy = _moments(lines, mean)
    middle, half = (xx + yy) / 2, np.sqrt((xx - yy) ** 2 / 4 + xy**2)
    extent = np.sqrt(12 * (middle + half))
    width = np.sqrt(np.maximum(middle - half, 0) / (middle + half + 1e-6))
    pairs = cKDTree(np.stack([lines.y, lines.x], 1)).query_pairs(NEAR, output_type="ndarray")
    pairs = pairs[lines.number[pairs[:, 0]] == lines.number[pairs[:, 1]]]
    first = lines.number[pairs[:, 0]]
    turn = between(lines.across[pairs[:, 0]], lines.across[pairs[:, 1]])
    turns = np.bincount(first, turn, minlength=len(lines)) / np.maximum(
        np.bincount(first, minlength=len(lines)), 1
    )
    return [np.log(lines.length), np.log(extent + 1), width, lines.length / (extent + 1), turns]


#: Of flanks, profiles and course, and two of strength.
N_FIGURES = 4 * len(FLANKS) + 2 * 2 * HALF + (2 * HALF + 1) + 1 + 5 + 2


def _pooled(figures: Floats, length: npt.NDArray[np.intp], side: int) -> Floats:
    """Figures of an image from those of its lines, each weighing its length."""
    many = [len(length), length.sum() / side]
    if not len(length):
        return np.concatenate([np.zeros((2 + len(QUANTILES)) * N_FIGURES), many])
    weights = length / length.sum()
    mean = weights @ figures
    spread = np.sqrt(weights @ (figures - mean) ** 2)
    return np.concatenate([mean, spread, *np.quantile(figures, QUANTILES, axis=0), many])
