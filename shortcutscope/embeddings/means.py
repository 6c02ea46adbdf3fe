"""Do the means of carriers and others differ? A test that needs no probe to learn the direction.

A probe of hundreds of features learns a faint direction from too few samples to find it again in others.
Whether there is a difference at all is an easier question: the sum of the features' squared t statistics
(Srivastava & Du 2008), within the classes, against the same permutations as the probe. It looks at all
samples at once, and needs no covariance, which so few samples do not give.
"""

from __future__ import annotations

import numpy as np

from shortcutscope.probes.crossfit import Permutations
from shortcutscope.stats.testing import permutation_p
from shortcutscope.types import Array, Floats, Ints

#: Features that are looked at together.
FEATURES_AT_ONCE = 256


def means_p(features: Floats, values: Floats, labels: Ints, permutations: Permutations, k: int) -> float:
    """P value of the difference of the means of carriers and others within the classes.

    Parameters
    ----------
    features
        (N, d)
    values
        (N,) 1, 0, or NaN for unknown.
    labels
        (N,)
    permutations, k
        Of the concepts, and the number of this one.

    Returns
    -------
    float
        NaN where no class has both kinds.
    """
    known = np.isfinite(values)
    targets = np.vstack([values[known] == 1, permutations.of(k)[:, known]])
    statistics = squared_differences(features[known], targets, labels[known])
    return float(permutation_p(statistics[0], statistics[1:]))


def squared_differences(features: Floats, targets: Array, labels: Ints) -> Floats:
    """Sum (T,) of the squared t statistics of all features, within class, for each of several sets.

    Parameters
    ----------
    features
        (N, d)
    targets
        (T, N) whether a sample belongs to the set.
    labels
        (N,)
    """
    sets = _centred(targets.T.astype(np.float64), labels)
    total = np.zeros(len(targets))
    for start in range(0, features.shape[1], FEATURES_AT_ONCE):
        part = _centred(features[:, start : start + FEATURES_AT_ONCE].astype(np.float64), labels)
        spread = np.sqrt(np.square(part).mean(axis=0))
        varies = spread > 0
        total += np.square(sets.T @ (part[:, varies] / spread[varies])).sum(axis=1)
    size = np.square(sets).sum(axis=0)
    return np.asarray(total / np.where(size > 0, size, np.nan))


def _centred(values: Floats, labels: Ints) -> Floats:
    """Less the mean of the class, in place."""
    for label in np.unique(labels):
        rows = labels == label
        values[rows] -= values[rows].mean(axis=0)
    return values
