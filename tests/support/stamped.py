"""Smooth pictures of which some have a small stamp somewhere, which the network hardly sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from shortcutscope.data.table import ImageTable
from shortcutscope.types import Bools, Floats

SIDE, HIGH, WIDE = 96, 9, 13
_GLYPH = np.random.default_rng(3).random((HIGH, WIDE)) > 0.5


@dataclass(frozen=True, eq=False)
class Stamped:
    """A table, which samples have the stamp, and where: ``(N, 4)``, NaN without."""

    table: ImageTable
    carries: Bools
    boxes: Floats

    def inside(self, row: int, place: Floats) -> bool:
        """Whether the middle of a place lies in the stamp's box."""
        x, y = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
        x0, y0, x1, y1 = self.boxes[row]
        return bool(x0 <= x <= x1 and y0 <= y <= y1)


def stamped(n: int = 48, share: float = 0.4, seed: int = 0, side: int = SIDE) -> Stamped:
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(n, side, side))
    images = 0.5 + 1.2 * gaussian_filter(noise, (0, 4, 4)) + 0.02 * gaussian_filter(noise[::-1], (0, 1, 1))
    carries = np.arange(n) < round(share * n)
    boxes = np.full((n, 4), np.nan)
    for row in np.flatnonzero(carries):
        y, x = generator.integers(4, side - HIGH - 4), generator.integers(4, side - WIDE - 4)
        images[row, y : y + HIGH, x : x + WIDE] += np.where(_GLYPH, 0.35, -0.05)
        boxes[row] = x, y, x + WIDE, y + HIGH
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(n)], "label": np.arange(n) % 2})
    table = ImageTable.from_arrays((255 * images.clip(0, 1)).astype(np.uint8), frame, size=side // 4)
    return Stamped(table, carries, boxes)
