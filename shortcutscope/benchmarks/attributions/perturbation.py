"""What happens to a score when the pixels that a map calls relevant are taken out.

Two ways of taking out: the image's mean (pixel flipping, Samek et al. 2017), and values imputed from the
neighbourhood (ROAD, Rong et al. 2022), which leaves less of a trace of what was removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import spsolve
from torch import Tensor

from shortcutscope.types import Array

#: Shares of the pixels that are removed, most relevant first.
STEPS = (0.02, 0.05, 0.1, 0.2, 0.3)
#: Weights of the eight neighbours in noisy linear imputation: direct ones, diagonal ones.
DIRECT, DIAGONAL = 1 / 6, 1 / 12
#: Standard deviation of the noise that hides the smoothness of what was imputed, as in the paper.
NOISE = 0.01

Remove = Callable[[Array, Array, np.random.Generator], Array]


def drops(
    scores: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    remove: Remove,
    *,
    steps: Sequence[float] = STEPS,
    seed: int = 0,
) -> Tensor:
    """By how much scores fall when the most relevant pixels are removed.

    Parameters
    ----------
    scores
        Images (N, C, H, W) to the explained scores (N,).
    images, maps
        The images, and their relevance (N, H, W).
    remove
        `flip` or `impute`.
    steps
        Shares of the pixels.
    seed
        Of the noise.

    Returns
    -------
    drops
        (N,) mean over the steps of score(image) - score(image without them): the area over the
        perturbation curve.
    """
    before = scores(images)
    generator = np.random.default_rng(seed)
    order = torch.argsort(maps.flatten(1), dim=1, descending=True, stable=True)
    total = torch.zeros_like(before)
    for step in steps:
        count = max(1, round(step * order.shape[1]))
        gone = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :count], True)
        masks = gone.view(maps.shape).numpy()
        altered = [remove(i, m, generator) for i, m in zip(images.numpy(), masks, strict=True)]
        total += before - scores(torch.from_numpy(np.stack(altered)))
    return total / len(steps)


def flip(image: Array, gone: Array, generator: np.random.Generator) -> Array:
    """The image (C, H, W) with its mean where pixels (H, W) are gone."""
    mean = image.mean(axis=(1, 2), keepdims=True)
    flipped: Array = np.where(gone, mean, image).astype(image.dtype)
    return flipped


def impute(image: Array, gone: Array, generator: np.random.Generator) -> Array:
    """The image with every missing pixel the weighted mean of its neighbours, plus noise.

    The means of adjacent missing pixels depend on each other: one sparse linear system (Rong et al. 2022,
    section 4).
    """
    height, width = gone.shape
    number = np.full(gone.shape, -1)
    number[gone] = np.arange(gone.sum())
    rows, columns, weights = [], [], []
    sums = np.zeros((int(gone.sum()), image.shape[0]))
    around = np.zeros(len(sums))
    y, x = np.nonzero(gone)
    for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
        weight = DIRECT if 0 in (dy, dx) else DIAGONAL
        inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        inner, neighbours = np.flatnonzero(inside), (y[inside] + dy, x[inside] + dx)
        around[inner] += weight
        missing = gone[neighbours]
        rows.append(inner[missing])
        columns.append(number[neighbours][missing])
        weights.append(np.full(int(missing.sum()), -weight))
        present = inner[~missing]
        sums[present] += weight * image[:, neighbours[0][~missing], neighbours[1][~missing]].T
    n = len(sums)
    system = sparse.csc_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(n, n)
    ) + sparse.diags_array(around, format="csc")
    filled = image.copy()
    values = spsolve(system, sums).reshape(n, -1)
    filled[:, gone] = (values + NOISE * generator.standard_normal(values.shape)).T
    return filled
