"""Things made up and drawn over images, of which every pixel is known: strokes, dots, blots and patches.

What an artifact looks like is not known beforehand. That something lies over an image is, at its edges, much
the same for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from shortcutscope.masks.mask_files import Maps

#: How many are made, and how many are drawn over an image at most.
SHAPES, MOST = 400, 2
#: A change by less of the images' range is none.
LEAST_CHANGE = 0.015
#: Ends of the images' range, as shares of their pixels.
ENDS = (0.005, 0.995)


@dataclass(frozen=True, eq=False)
class MadeUp:
    """Shapes and their texture.

    Attributes
    ----------
    cover, texture
        (S, H, W) from 0 to 1: how much of a pixel a shape covers, and which of two values it has there.
    low, high
        The images' range.
    """

    cover: Maps
    texture: Maps
    low: float
    high: float

    @classmethod
    def like(cls, images: Tensor, generator: np.random.Generator) -> MadeUp:
        """For images (N, C, H, W)."""
        size = (int(images.shape[2]), int(images.shape[3]))
        shapes = [_blot(size, generator) if k % 4 == 0 else _stroke(size, generator) for k in range(SHAPES)]
        low, high = (float(end) for end in np.quantile(images.numpy(), ENDS))
        cover, texture = (np.stack(part).astype(np.float32) for part in zip(*shapes, strict=True))
        return cls(cover, texture, low, high)

    def over(self, images: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W) with things over them, and which pixels (N, H, W) these changed, 0 or 1."""
        changed = images.clone()
        for image in changed:
            for _ in range(int(generator.integers(1, MOST + 1))):
                k, flip = int(generator.integers(len(self.cover))), int(generator.choice([-1, 1]))
                cover, texture = (torch.from_numpy(part[k][:, ::flip].copy()) for part in (self.cover, self.texture))
                opaque = 1.0 if generator.random() < 0.7 else generator.uniform(0.3, 1)
                value, other = self._value(generator), self.low + (self.high - self.low) * generator.random()
                image += opaque * cover * (texture * value + (1 - texture) * other - image)
        visible = (changed - images).abs().amax(1) > LEAST_CHANGE * (self.high - self.low)
        return changed, visible.float()

    def _value(self, generator: np.random.Generator) -> float:
        """Mostly near one of the ends, as what is drawn or laid over an image is."""
        depth = float(generator.random())
        kind = generator.choice(3, p=(0.5, 0.3, 0.2))
        share = (1 - 0.2 * depth, 0.12 * depth, depth)[kind]
        return float(self.low + (self.high - self.low) * share)


def _stroke(size: tuple[int, int], generator: np.random.Generator) -> tuple[Maps, Maps]:
    """A line that wanders, bends or breaks off; of no length a dot."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    steps, length = int(generator.integers(0, 14)), generator.uniform(1.5, 5)
    width = generator.uniform(0.9, 2.6) if steps else generator.uniform(1.5, 7)
    at, angle = generator.uniform(0, size), generator.uniform(0, 2 * np.pi)
    bend, broken, down = generator.normal(0, 0.35), generator.random() < 0.2, True
    nearest = np.hypot(y - at[0], x - at[1])
    for _ in range(steps):
        corner = generator.choice([-1.5, 1.5]) if generator.random() < 0.15 else 0.0
        angle += bend + generator.normal(0, 0.15) + corner
        step = length * np.array([np.sin(angle), np.cos(angle)])
        down = not down if broken else True
        if down:
            along = (((y - at[0]) * step[0] + (x - at[1]) * step[1]) / (step @ step)).clip(0, 1)
            nearest = np.minimum(nearest, np.hypot(y - at[0] - along * step[0], x - at[1] - along * step[1]))
        at = at + step
    return (width / 2 - nearest + 0.5).clip(0, 1), np.ones(size, np.float32)


def _blot(size: tuple[int, int], generator: np.random.Generator) -> tuple[Maps, Maps]:
    """A box or a blot, in one value or striped."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    at, reach = generator.uniform(0, size), generator.uniform(3, 14)
    if generator.random() < 0.5:
        high, wide = reach * generator.uniform(0.3, 1, 2)
        inside = (np.abs(y - at[0]) < high) & (np.abs(x - at[1]) < wide)
    else:
        rough = gaussian_filter(generator.standard_normal(size), generator.uniform(1.5, 5))
        inside = np.hypot(y - at[0], x - at[1]) + 2 * rough / rough.std() < reach
    texture = np.ones(size, np.float32)
    if generator.random() < 0.4:
        angle, period = generator.uniform(0, np.pi), generator.uniform(3, 10)
        texture = (np.sin(2 * np.pi * (y * np.cos(angle) + x * np.sin(angle)) / period) > 0).astype(np.float32)
    return inside.astype(np.float32), texture
