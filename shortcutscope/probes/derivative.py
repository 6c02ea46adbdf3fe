"""The logit's derivative along concepts at a layer, of all of them at once and of all their permutations.

The pattern of a concept is linear in the centred activations, and its derivative is a product with one
vector, the mean gradient. So the activations are projected on that vector first, and a permutation costs one
product with a number per sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shortcutscope.probes.blocks import BLOCK_ROWS, Blocks, FeatureRows
from shortcutscope.probes.crossfit import Permutations
from shortcutscope.stats.testing import permutation_p
from shortcutscope.types import Bools, Floats, Ints


def derivative_tests(
    gradients: npt.ArrayLike | FeatureRows,
    pooled: npt.ArrayLike | FeatureRows,
    permutations: Permutations,
    towards: Floats,
    spreads: Sequence[float],
) -> list[tuple[float, float]]:
    """Directional derivative of each concept in deviations of its logit, and its two-tailed permutation p.

    ``mean_x sign(x) (d logit / d a)(x) . v`` along the class-stratified pattern ``v``: how much a shift of
    the layer by the concept's own signal changes the logit towards the positive class, to first order (TCAV's
    directional derivative, Kim et al. 2018, signed and in units of the logit instead of a fraction of
    positive signs).

    Parameters
    ----------
    gradients
        ``(N, C)`` spatial sums of the gradient of each sample's target logit.
    pooled
        ``(N, C)`` spatial means of the activations.
    permutations
        Of K concepts, with their values and labels.
    towards
        ``(N, K)`` 1 where the target is the concept's positive class, -1 elsewhere.
    spreads
        ``(K,)`` deviations of the logits.

    Returns
    -------
    list of (derivative, p)
    """
    known = ~np.isnan(permutations.values)
    # Per concept the mean over both sides of the mean gradient, as weights of the samples.
    weights = np.zeros(towards.shape)
    for side in (1, -1):
        inside = known & (towards == side)
        weights += np.where(inside, 0.5 * side / np.maximum(1, inside.sum(axis=0)), 0.0)
    gradient_rows, activations = Blocks.of(gradients), Blocks.of(pooled)
    sensitivity = np.zeros((towards.shape[1], gradient_rows.shape[1]))
    for span, rows in gradient_rows:
        sensitivity += weights[span].T @ rows
    along = np.empty(towards.shape)
    for span, rows in activations.centred():
        along[span] = rows @ sensitivity.T
    codes = np.asarray(np.unique(permutations.labels, return_inverse=True)[1], np.intp)
    results = []
    for k, spread in enumerate(spreads):
        rows = np.flatnonzero(known[:, k])
        carriers = np.vstack([permutations.values[None, rows, k] == 1, permutations.of(k)[:, rows]])
        values = _along_patterns(along[rows, k], carriers, codes[rows]) / spread
        results.append((float(values[0]), float(permutation_p(values[0], values[1:], tail="two-sided"))))
    return results


def _along_patterns(along: Floats, carriers: Bools, labels: Ints) -> Floats:
    """``(T,)`` slopes within class of projected activations ``(n,)`` on concepts ``(T, n)``."""
    member = (labels[:, None] == np.arange(labels.max(initial=0) + 1)).astype(np.float64)
    sizes = np.maximum(1, member.sum(axis=0))
    centred = along - ((along @ member) / sizes)[labels]
    products, counts = np.zeros(len(carriers)), np.zeros((len(carriers), len(sizes)))
    for start in range(0, len(along), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        block = carriers[:, part].astype(np.float64)
        products += block @ centred[part]
        counts += block @ member[part]
    return np.asarray(products / ((counts * (1 - counts / sizes)).sum(axis=1) + 1e-12))
