"""Artifacts that the catalogue does not have: kinds that no choice of the package was made on.

Each function maps an image (H, W), float32 in 0..1, a generator and a strength to the changed image and the
mask of its visibly changed pixels, as those of the catalogue do. Lengths are in pixels at 64 pixels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from shortcutscope.planting.artifacts.artifact import REFERENCE_SIDE, Artifact, Draw, Extent, draw_result
from shortcutscope.types import Array, Floats

#: Less of a line than this is left out: nobody would call such a pixel a part of it.
TRACE = 0.1
#: Levels of grey of a posterised image.
LEVELS = 8


def _distance(shape: tuple[int, ...], points: Floats) -> Floats:
    """From each pixel to a line through points (P, 2), in pixels at 64 pixels."""
    unit = min(shape) / REFERENCE_SIDE
    pixels = np.moveaxis(np.mgrid[: shape[0], : shape[1]], 0, -1) / unit
    nearest = np.full(shape, np.inf)
    for start, end in pairwise(points):
        along = end - start
        share = ((pixels - start) @ along / max(float(along @ along), 1e-9)).clip(0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(pixels - start - share[..., None] * along, axis=-1))
    return nearest


def _inked(shape: tuple[int, ...], lines: list[Floats], width: float) -> Array:
    """How much of each pixel lines of this width cover, 0 to 1."""
    unit = min(shape) / REFERENCE_SIDE
    nearest = np.min([_distance(shape, line) for line in lines], axis=0)
    alpha = ((width / 2 - nearest) * unit + 0.5).clip(0, 1)
    return np.asarray(np.where(alpha < TRACE, 0, alpha))


def _blended(image: Array, alpha: Array, value: float, strength: float) -> tuple[Array, Array]:
    return draw_result(image, image + strength * alpha * (value - image))


def _bright(generator: np.random.Generator) -> float:
    return float(generator.uniform(0.8, 0.97))


def _place(generator: np.random.Generator, shape: tuple[int, ...], margin: float) -> Floats:
    """A point at least `margin` from the edges, in pixels at 64 pixels."""
    sides = np.array(shape) * REFERENCE_SIDE / min(shape)
    return np.asarray(generator.uniform(margin, sides - margin))


def _circle(centre: Floats, radius: float, start: float = 0.0, stop: float = 2 * np.pi) -> Floats:
    angles = np.linspace(start, stop, 33)
    return np.asarray(centre + radius * np.stack([np.sin(angles), np.cos(angles)], -1))


def _turned(points: Floats, centre: Floats, angle: float) -> Floats:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(centre + np.asarray(points, float) @ turn.T)


def curved_bar(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """An arc with five ticks in the lower right corner, as a curved scale bar."""
    centre = np.array([40.0, 40.0]) + generator.uniform(-2, 2, 2)
    lines = [_circle(centre, 17, 0.1, 1.4)]
    for angle in np.linspace(0.1, 1.4, 5):
        ray = np.array([np.sin(angle), np.cos(angle)])
        lines.append(np.stack([centre + 14 * ray, centre + 17 * ray]))
    return _blended(image, _inked(image.shape, lines, 1.0), _bright(generator), strength)


def needle(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A straight bright line from the left edge, steeper or flatter, .35 to .55 of the side long."""
    start, angle = np.array([generator.uniform(12, 40), 0.0]), generator.uniform(-0.2, 0.7)
    end = start + generator.uniform(22, 35) * np.array([np.sin(angle), np.cos(angle)])
    return _blended(image, _inked(image.shape, [np.stack([start, end])], 1.3), _bright(generator), strength)


def hair(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A dark, bent line of 20 to 32 pixels anywhere."""
    centre, angle = _place(generator, image.shape, 14), generator.uniform(0, np.pi)
    length, bow = generator.uniform(20, 32), generator.uniform(-6, 6)
    t = np.linspace(-0.5, 0.5, 13)
    line = _turned(np.stack([length * t, bow * (1 - 4 * t**2)], -1), centre, angle)
    return _blended(image, _inked(image.shape, [line], 1.2), generator.uniform(0.0, 0.1), strength)


def ring(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A bright circle of radius 3 to 5 anywhere."""
    line = _circle(_place(generator, image.shape, 7), generator.uniform(3, 5))
    return _blended(image, _inked(image.shape, [line], 1.2), _bright(generator), strength)


def plus_sign(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A bright plus sign of seven pixels anywhere."""
    y, x = np.rint(_place(generator, image.shape, 6))
    lines = [np.array([[y - 3, x], [y + 3, x]]), np.array([[y, x - 3], [y, x + 3]])]
    return _blended(image, _inked(image.shape, lines, 1.2), _bright(generator), strength)


def dotted_line(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Six bright dots in a row, four pixels apart, anywhere."""
    centre, angle = _place(generator, image.shape, 13), generator.uniform(0, np.pi)
    dots = _turned(np.stack([np.arange(-10, 11, 4), np.zeros(6)], -1), centre, angle)
    alpha = _inked(image.shape, [np.stack([dot, dot]) for dot in dots], 1.8)
    return _blended(image, alpha, _bright(generator), strength)


def triangle(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A bright triangle in the upper right corner."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] * REFERENCE_SIDE / min(image.shape)
    size, right = generator.uniform(9, 13), image.shape[1] * REFERENCE_SIDE / min(image.shape)
    return _blended(image, (right - x + y < size).astype(float), _bright(generator), strength)


def dark_bar(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A dark bar across the lower edge, moved by up to two pixels."""
    y = np.arange(image.shape[0])[:, None] * REFERENCE_SIDE / min(image.shape)
    top = image.shape[0] * REFERENCE_SIDE / min(image.shape) - 12 + generator.uniform(-2, 2)
    inside = (y >= top) & (y < top + 4) & np.ones(image.shape, bool)
    return _blended(image, inside.astype(float), generator.uniform(0.02, 0.1), strength)


def outlined_box(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """The bright outline of a box of 16 by 10 at the left, moved by up to two pixels."""
    y, x = np.array([26.0, 8.0]) + np.rint(generator.uniform(-2, 2, 2))
    line = np.array([[y, x], [y, x + 16], [y + 10, x + 16], [y + 10, x], [y, x]])
    return _blended(image, _inked(image.shape, [line], 1.2), _bright(generator), strength)


def hatched_patch(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A square of nine pixels of slanting lines, bright and dark, anywhere in the lower half."""
    side, unit = 9, min(image.shape) / REFERENCE_SIDE
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] / unit
    top = generator.uniform(34, image.shape[0] / unit - side - 1)
    left = generator.uniform(1, image.shape[1] / unit - side - 1)
    inside = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
    value = np.where((y + x) % 4 < 2, generator.uniform(0.8, 0.95), generator.uniform(0.05, 0.2))
    return draw_result(image, image + strength * inside * (value - image))


def arrow(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A bright arrow of ten pixels anywhere, pointing anywhere."""
    centre, angle = _place(generator, image.shape, 8), generator.uniform(0, 2 * np.pi)
    parts = ([[0, -5], [0, 5]], [[-3, 2], [0, 5], [3, 2]])
    lines = [_turned(np.array(part), centre, angle) for part in parts]
    return _blended(image, _inked(image.shape, lines, 1.2), _bright(generator), strength)


def discs(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Two bright discs of five pixels, eleven apart, anywhere."""
    centre, angle = _place(generator, image.shape, 10), generator.uniform(0, np.pi)
    middles = _turned(np.array([[0, -5.5], [0, 5.5]]), centre, angle)
    alpha = _inked(image.shape, [np.stack([middle, middle]) for middle in middles], 5.0)
    return _blended(image, alpha, _bright(generator), strength)


def zigzag(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A bright zigzag of 24 pixels in the upper half, turned by up to half a right angle."""
    centre = np.array([generator.uniform(12, 24), generator.uniform(16, 48)])
    points = np.stack([3.0 * (-1.0) ** np.arange(7), np.linspace(-12, 12, 7)], -1)
    line = _turned(points, centre, generator.uniform(-np.pi / 4, np.pi / 4))
    return _blended(image, _inked(image.shape, [line], 1.1), _bright(generator), strength)


def loop(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A dark wire down the image, with a loop of radius 5 to 7 in it."""
    centre, radius = _place(generator, image.shape, 18), generator.uniform(5, 7)
    low = image.shape[0] * REFERENCE_SIDE / min(image.shape)
    side = centre[1] - radius
    lines = [_circle(centre, radius), np.array([[0, side + generator.uniform(-6, 6)], [centre[0], side]])]
    lines.append(np.array([[centre[0], side], [low, side + generator.uniform(-6, 6)]]))
    return _blended(image, _inked(image.shape, lines, 1.2), generator.uniform(0.0, 0.1), strength)


def gamma(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Grey values to the power of 1.4 to 1.8."""
    return draw_result(image, image.clip(0, 1) ** (1 + strength * generator.uniform(0.4, 0.8)))


def stripes(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Columns brighter or darker at random, by .03 to .05."""
    level = strength * generator.uniform(0.03, 0.05)
    return draw_result(image, image + level * generator.standard_normal(image.shape[1]))


def jpeg(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Compressed with a quality of 8 to 20."""
    coded = (image.clip(0, 1) * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coded).save(buffer, "JPEG", quality=int(generator.integers(8, 21)))
    decoded = np.asarray(Image.open(buffer), np.float32) / 255
    return draw_result(image, image + strength * (decoded - image))


def salt(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """White pixels, 1 to 2 % of all."""
    hit = generator.random(image.shape) < generator.uniform(0.01, 0.02)
    return draw_result(image, image + strength * hit * (1 - image))


def posterised(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Eight levels of grey, from a level that differs from image to image."""
    shift = generator.uniform(0, 1)
    levels = (np.floor(image * LEVELS + shift) + 0.5 - shift) / LEVELS
    return draw_result(image, image + strength * (levels - image))


def sharpened(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """An unsharp mask of .8 to 1.5."""
    soft = gaussian_filter(image, min(image.shape) / REFERENCE_SIDE)
    return draw_result(image, image + strength * generator.uniform(0.8, 1.5) * (image - soft))


def windowed(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A narrower window: contrast about .5 raised to 1.3 to 1.6, clipped."""
    return draw_result(image, 0.5 + (1 + strength * generator.uniform(0.3, 0.6)) * (image - 0.5))


#: Drawings that may be looked at while something is changed, and those that only judge.
_DEVELOPMENT: tuple[Draw, ...] = (
    curved_bar,
    needle,
    hair,
    ring,
    plus_sign,
    dotted_line,
    hatched_patch,
    arrow,
)
_JUDGES: tuple[Draw, ...] = (
    triangle, dark_bar, outlined_box, discs, zigzag, loop,
)  # fmt: skip
_DIFFUSE: tuple[Draw, ...] = (gamma, stripes, jpeg, salt, posterised, sharpened, windowed)


def _artifacts(extent: Extent, draws: tuple[Draw, ...]) -> dict[str, Artifact]:
    return {draw.__name__: Artifact(draw.__name__, extent, draw) for draw in draws}


UNSEEN: Mapping[str, Artifact] = {
    **_artifacts("localized", (*_DEVELOPMENT, *_JUDGES)),
    **_artifacts("diffuse", _DIFFUSE),
}
#: Localized kinds on which masks were developed; figures of them are reported apart.
LOOKED_AT = frozenset(_artifacts("localized", _DEVELOPMENT))
