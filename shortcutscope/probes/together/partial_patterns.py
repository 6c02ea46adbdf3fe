"""Whether two concepts are one thing to a network: the cosine of their partial patterns over its layers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from shortcutscope.probes.alive import alive
from shortcutscope.probes.blocks import Blocks
from shortcutscope.probes.together.held_fixed import centre_within
from shortcutscope.types import Array, Floats, Ints


def pattern_cosine(layers: Iterable[Blocks], pair: Floats, labels: Array, halves: Ints) -> float:
    """Cosine of what two concepts change in all layers, each with the other held fixed.

    Patterns are fitted on two halves. Products across halves hold no common noise, and are divided by those
    of each pattern with itself across halves, so that noise does not make two alike concepts look unlike.

    Parameters
    ----------
    layers
        Features (N, D) of every layer.
    pair
        (N, 2) values 0, 1 or NaN.
    labels, halves
        (N,) class, and 0 or 1, which keeps patients together.

    Returns
    -------
    float
        Between -1 and 1; 0 where the pattern of one of them is not found again in the other half.
    """
    weights = np.zeros((4, len(pair)))
    for half in (0, 1):
        rows = np.flatnonzero((halves == half) & np.isfinite(pair).all(axis=1))
        if not len(rows):
            return 0.0
        weights[2 * half : 2 * half + 2, rows] = np.linalg.pinv(centre_within(pair[rows], labels[rows]))
    products = sum((_products(features, weights) for features in layers), np.zeros((4, 4)))
    own = products[0, 2], products[1, 3]
    if min(own) <= 0:
        return 0.0
    across = (products[0, 3] + products[1, 2]) / 2
    return float(np.clip(across / np.sqrt(own[0] * own[1]), -1, 1))


def _products(features: Blocks, weights: Floats) -> Floats:
    """Inner products (4, 4) of patterns in units of the features' deviations."""
    n, d = features.shape
    patterns, total, squares = np.zeros((len(weights), d)), np.zeros(d), np.zeros(d)
    for span, values in features.centred():
        patterns += weights[:, span] @ values
        total += values.sum(axis=0)
        squares += np.einsum("nd,nd->d", values, values)
    spread = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0.0))
    keep = alive(spread, features.size)
    scaled = patterns[:, keep] / spread[keep]
    return np.asarray(scaled @ scaled.T, np.float64)
