"""Derivatives along all concepts and permutations at once, against one pattern after the other."""

import numpy as np
import pytest

from shortcutscope.probes.crossfit import Permutations
from shortcutscope.probes.derivative import derivative_tests
from shortcutscope.stats.testing import permutation_p

N, C = 500, 7


def along_patterns(gradients, pooled, concepts, labels, towards):
    """The mean gradient times each pattern, which is made of the activations themselves."""
    centred, targets = pooled.copy(), concepts.astype(float)
    for value in np.unique(labels):
        member = labels == value
        centred[member] -= centred[member].mean(0)
        targets[member] -= targets[member].mean(0)
    patterns = centred.T @ targets / (targets**2).sum(0)
    sides = [(gradients[towards == side] * side).mean(0) for side in (1, -1) if (towards == side).any()]
    return np.sum(sides, axis=0) / 2 @ patterns


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("grouped", [False, True])
def test_derivatives_are_the_slow_ones(grouped, offset):
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(N // 2), 2) if grouped else np.arange(N)
    labels = rng.integers(0, 3, N)
    values = rng.integers(0, 2, (groups.max() + 1, 4))[groups].astype(float)
    values[rng.random(N) < 0.2, 2:] = np.nan
    pooled = rng.normal(size=(N, C)) + np.nan_to_num(values[:, :1]) + offset
    gradients = rng.normal(size=(N, C)) + 0.2
    targets = rng.integers(0, 3, N)
    towards = np.where(targets[:, None] == np.array([0, 1, 2, 7]), 1.0, -1.0)  # nobody is explained by 7
    permutations = Permutations(values, labels, groups, 99, 5)
    found = derivative_tests(gradients, pooled, permutations, towards, [1.0, 2.0, 3.0, 0.5])
    for k, spread in enumerate([1.0, 2.0, 3.0, 0.5]):
        known = ~np.isnan(values[:, k])
        together = np.column_stack([values[known, k], permutations.of(k)[:, known].T])
        slow = along_patterns(gradients[known], pooled[known], together, labels[known], towards[known, k])
        slow /= spread
        assert found[k][0] == pytest.approx(slow[0], rel=1e-8)
        assert found[k][1] == pytest.approx(permutation_p(slow[0], slow[1:], tail="two-sided"))
