"""Made-up drawings over images, whose pixels are known: strokes, dots, signs, filled and striped shapes.

What was drawn over an image is unlike anatomy in ways that do not depend on what it is: hard edges, an even
or regular inside, a line that goes on regardless of what lies under it. A network that found such drawings in
many images finds the real thing with far fewer examples, and to the pixel (synthetic anomalies; Zavrtanik et
al. 2021, Schlüter et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from shortcutscope.types import Array, Floats

#: Different drawings; each is moved, mirrored and filled anew whenever it is used.
DRAWINGS = 400
#: Shares of kinds of drawings, of striped fillings, of drawings that hide what lies under them.
STROKES, SHAPES, WRITING = 0.45, 0.3, 0.25
STRIPED, OPAQUE = 0.2, 0.7
#: Share of drawings over images of several channels that differ in these.
COLOURED = 0.5
#: Share of bright drawings, and of bright or dark ones; others have any value.
BRIGHT, EXTREME = 0.45, 0.75
#: Most drawings over one image, and by how many pixels they are moved as a share of the side.
MOST, MOVED = 2, 0.45
#: Change of a pixel that can be seen, as a share of the range.
VISIBLE = 0.03
#: Quantiles of the images' values that stand for their range.
RANGE = (0.005, 0.995)


@dataclass(frozen=True, eq=False)
class MadeUp:
    """Drawings of one size.

    Attributes
    ----------
    covers
        (M, H, W) how much of each pixel a drawing covers, 0 to 1.
    fillings
        (M, H, W) 1 where a drawing has its first value, 0 where it has its second.
    low, high
        Range of the images' values.
    """

    covers: Tensor
    fillings: Tensor
    low: float
    high: float

    @classmethod
    def of(cls, images: Tensor, generator: np.random.Generator) -> MadeUp:
        """For images (N, C, H, W)."""
        size = (int(images.shape[2]), int(images.shape[3]))
        pairs = [_drawing(size, generator) for _ in range(DRAWINGS)]
        low, high = (float(value) for value in np.quantile(images.numpy(), RANGE))
        covers, fillings = (
            torch.from_numpy(np.stack(part).astype(np.float32)) for part in zip(*pairs, strict=True)
        )
        return cls(covers, fillings, low, high)

    def over(self, images: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W) with one or two drawings each, and where (N, H, W) these changed it, 0 or 1."""
        drawn = images.clone()
        for image in drawn:
            for _ in range(int(generator.integers(1, MOST + 1))):
                self._draw(image, generator)
        changed = (drawn - images).abs().amax(1) > VISIBLE * (self.high - self.low)
        return drawn, changed.float()

    def _draw(self, image: Tensor, generator: np.random.Generator) -> None:
        which = int(generator.integers(len(self.covers)))
        reach = [round(MOVED * side) for side in image.shape[1:]]
        shifts = [int(generator.integers(-by, by + 1)) for by in reach]
        axes = [axis for axis in (0, 1) if generator.random() < 0.5]
        cover = torch.roll(self.covers[which], shifts, (0, 1)).flip(axes)
        filling = self.fillings[which].flip(axes)
        if generator.random() > OPAQUE:
            cover = cover * float(generator.uniform(0.3, 1))
        coloured = len(image) > 1 and generator.random() < COLOURED
        values = [
            (self._value(generator), self._anything(generator)) for _ in range(len(image) if coloured else 1)
        ]
        first, second = (torch.tensor(part)[:, None, None] for part in zip(*values, strict=True))
        image += cover * (filling * first + (1 - filling) * second - image)

    def _value(self, generator: np.random.Generator) -> float:
        kind = generator.random()
        if kind < BRIGHT:
            return self.high - 0.2 * (self.high - self.low) * float(generator.random())
        if kind < EXTREME:
            return self.low + 0.12 * (self.high - self.low) * float(generator.random())
        return self._anything(generator)

    def _anything(self, generator: np.random.Generator) -> float:
        return self.low + (self.high - self.low) * float(generator.random())


def _drawing(size: tuple[int, int], generator: np.random.Generator) -> tuple[Floats, Floats]:
    kinds: Sequence[Callable[[tuple[int, int], np.random.Generator], Floats]] = (_stroke, _shape, _writing)
    cover = kinds[generator.choice(len(kinds), p=(STROKES, SHAPES, WRITING))](size, generator)
    filling = np.ones(size)
    if generator.random() < STRIPED:
        angle, frequency = generator.uniform(0, np.pi), generator.uniform(0.6, 2.2)
        rows, columns = np.mgrid[: size[0], : size[1]]
        waves = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * frequency)
        filling = (waves > 0).astype(float)
    return cover, filling


def _stroke(size: tuple[int, int], generator: np.random.Generator) -> Floats:
    """A line of up to fourteen pieces: straight, bent, with corners or with gaps; without any a dot."""
    pieces = int(generator.integers(0, 15))
    width = generator.uniform(1, 2.8) if pieces else generator.uniform(2, 8)
    length, angle = generator.uniform(1.5, 6), generator.uniform(0, 2 * np.pi)
    bend = generator.normal(0, 0.35) if generator.random() < 0.6 else 0.0
    unsteady, corners, gaps = (generator.random() < share for share in (0.5, 0.3, 0.2))
    at = np.array([generator.uniform(0.3 * side, 0.7 * side) for side in size])
    pixels = np.moveaxis(np.mgrid[: size[0], : size[1]].astype(float), 0, -1)
    nearest = np.linalg.norm(pixels - at, axis=-1)
    for piece in range(pieces):
        angle += bend + 0.15 * unsteady * generator.normal()
        if corners and generator.random() < 0.4:
            angle += generator.choice([-1.5, 1.5])
        along = length * np.array([np.sin(angle), np.cos(angle)])
        if not (gaps and piece % 2):
            nearest = np.minimum(nearest, _distance(pixels, at, at + along))
        at = at + along
    return _covered(nearest - width / 2)


def _shape(size: tuple[int, int], generator: np.random.Generator) -> Floats:
    """A rectangle, an ellipse or a blob in the middle, filled or its outline alone."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(float)
    rows, columns = rows - size[0] / 2, columns - size[1] / 2
    angle = generator.uniform(0, np.pi)
    u, v = rows * np.cos(angle) - columns * np.sin(angle), rows * np.sin(angle) + columns * np.cos(angle)
    radius, flat = generator.uniform(2.5, 12), generator.uniform(0.3, 1)
    kind = int(generator.integers(3))
    if kind == 0:
        outside = np.maximum(np.abs(u) - radius * flat, np.abs(v) - radius)
    elif kind == 1:
        outside = np.hypot(u / flat, v) - radius
    else:
        bumps = gaussian_filter(generator.standard_normal(size), generator.uniform(1.5, 5))
        outside = np.hypot(u, v) + 2 * bumps / bumps.std() - radius
    cover = _covered(outside)
    if generator.random() < 0.25:
        cover = cover * (1 - _covered(outside + generator.uniform(1.2, 2.5)))
    return cover


def _writing(size: tuple[int, int], generator: np.random.Generator) -> Floats:
    """A row of one to seven signs, each of some short strokes or a dot, a little apart and at any angle."""
    high, wide = generator.uniform(2, 8), generator.uniform(1, 5)
    step, width = wide + generator.uniform(1.5, 4), generator.uniform(1, 1.8)
    signs, angle = int(generator.integers(1, 8)), generator.choice([0, generator.uniform(0, 2 * np.pi)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array(size) / 2
    pixels = np.moveaxis(np.mgrid[: size[0], : size[1]].astype(float), 0, -1)
    nearest = np.full(size, np.inf)
    for sign in range(signs):
        corner = np.array([-high / 2, (sign - signs / 2) * step])
        for _ in range(int(generator.integers(1, 5))):
            # Ends lie on corners and middles of the sign's box, as those of letters do.
            start, stop = (corner + generator.integers(0, 3, 2) / 2 * [high, wide] for _ in range(2))
            nearest = np.minimum(nearest, _distance(pixels, middle + turn @ start, middle + turn @ stop))
    return _covered(nearest - width / 2)


def _distance(pixels: Array, start: Floats, stop: Floats) -> Floats:
    """From each pixel (H, W, 2) to a line."""
    along = stop - start
    share = ((pixels - start) @ along / max(float(along @ along), 1e-9)).clip(0, 1)
    return np.asarray(np.linalg.norm(pixels - start - share[..., None] * along, axis=-1))


def _covered(outside: Array) -> Floats:
    """Share of each pixel that lies inside, by its distance from the edge."""
    return np.asarray((0.5 - outside).clip(0, 1))
