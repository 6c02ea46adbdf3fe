"""The images of Squares: the class is how bright a small square is, the shortcut how bright all the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torchvision.transforms import Normalize

from shortcutscope.data.table import ImageTable
from shortcutscope.types import Ints

__all__ = ["BACKGROUND", "SHARES", "Cohort", "Poisoning", "cohort"]

Poisoning = str
#: Shares of the groups (class 0, bright), (0, dark), (1, bright), (1, dark) in training and validation.
SHARES: dict[Poisoning, tuple[float, ...]] = {
    "symmetric": (0.49, 0.01, 0.01, 0.49),
    "asymmetric": (0.25, 0.25, 0.49, 0.01),
}
#: Images by part, and the column that says whose background is dark.
SIZES = {"train": 800, "validation": 200, "test": 1600}
BACKGROUND = "dark_background"
#: Sides of an image, of the grey frame and of the square in it, and the standard deviation of the noise.
SIDE, FRAME, SQUARE, NOISE = 64, 12, 8, 20.0
FRAME_GREY = 127
#: Of the inputs, as grey values have a mean and spread of about these.
MEAN, SPREAD = 0.5, 0.25


@dataclass(frozen=True)
class Cohort:
    """Tables of one poisoning; the test images have all groups alike."""

    train: ImageTable
    validation: ImageTable
    test: ImageTable


def cohort(poisoning: Poisoning, seed: int) -> Cohort:
    """Draw the images of a poisoning."""
    tables = {}
    for part, (name, n) in enumerate(SIZES.items()):
        shares = (0.25,) * 4 if name == "test" else SHARES[poisoning]
        counts = np.round(np.array(shares) * n).astype(int)
        groups = np.random.default_rng([seed, part, 7]).permutation(np.repeat(np.arange(4), counts))
        tables[name] = _table(groups, [seed, part], name)
    return Cohort(**tables)


def _table(groups: Ints, seed: list[int], name: str) -> ImageTable:
    labels, dark = groups // 2, groups % 2
    ids = [f"{name}-{i:04d}" for i in range(len(groups))]
    frame = pd.DataFrame({"sample_id": ids, "label": labels, BACKGROUND: dark})
    normalize = Normalize((MEAN,) * 3, (SPREAD,) * 3)
    return ImageTable.from_arrays(
        drawn(labels, dark, seed), frame, sample_id="sample_id", transform=normalize
    )


def drawn(labels: Ints, dark: Ints, seed: list[int]) -> np.ndarray:
    """Images (N, 3, 64, 64), uint8.

    A level from 128 to 255 is bright, from 0 to 127 dark: of the background, and of the red channel of the
    square, whose other channels are 0. The square stands in a grey frame at any place.
    """
    rng = np.random.default_rng(seed)
    n = len(labels)
    square = rng.integers(0, 128, n) + 128 * labels
    background = rng.integers(0, 128, n) + 128 * (1 - dark)
    images = np.empty((n, 3, SIDE, SIDE), np.float32)
    images[:] = background[:, None, None, None]
    margin = (FRAME - SQUARE) // 2
    for image, level, (row, column) in zip(
        images, square, rng.integers(0, SIDE - FRAME, (n, 2)), strict=True
    ):
        image[:, row : row + FRAME, column : column + FRAME] = FRAME_GREY
        inner = image[:, row + margin : row + margin + SQUARE, column + margin : column + margin + SQUARE]
        inner[0], inner[1:] = level, 0
    noisy: np.ndarray = images + rng.normal(0, NOISE, images.shape).astype(np.float32)
    return noisy.clip(0, 255).astype(np.uint8)
