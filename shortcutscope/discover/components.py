"""Independent components: the causes of which an image's statistics are mixed, one of them an artifact.

An artifact is one cause among the many that shape an image, and it is either there or not. Independent
component analysis (Hyvarinen and Oja 2000) turns whitened features until they are as little Gaussian as can
be, which for a cause of two values is where it stands alone. How it differs from a Gaussian depends on how
many carry it. A shortcut in 5 % of one class and 95 % of another has, once the class means are taken off,
heavy tails on both sides, and all classes show them together; at 20 % and 80 % the tails are those of a
Gaussian, and what is left is the skewness within each class. Both are looked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from shortcutscope.probes.alive import alive, size_of
from shortcutscope.types import Array, Floats, Ints

Contrast = str | Callable[[Floats], tuple[Floats, Floats]]

#: Samples that components are estimated from; all are scored.
MOST_FITTED = 10_000
#: Components of the skewness within a class: few, since its samples are few.
SKEWED = 16
MAX_ITERATIONS = 100
TOLERANCE = 1e-3
#: Fewest samples of a class that components are looked for in.
FEWEST = 32


def class_components(
    features: Array, labels: Array, count: int, *, skewed: bool = True, seed: int = 0
) -> Iterator[tuple[str, Floats]]:
    """Independent components of all classes around their means, and the skewed ones of each class.

    Parameters
    ----------
    features
        (N, F)
    labels
        (N,)
    count
        Number of components of all classes together.
    skewed
        Whether to look within each class, too.
    seed
        Of the components' start, and of the draw of samples they are estimated from.

    Yields
    ------
    name : str
        Where they were found.
    scores : ndarray
        (N, K) of all samples.
    """
    centred = features.astype(np.float64)
    classes = np.unique(labels)
    for label in classes:
        inside = labels == label
        centred[inside] -= centred[inside].mean(0)
    rows = _subset(np.arange(len(features)), seed)
    yield "all classes", independent_components(features, centred[rows], count, seed=seed)
    for label in classes if skewed else ():
        inside = np.flatnonzero(labels == label)
        if len(inside) >= FEWEST:
            members = centred[_subset(inside, seed)]
            scores = independent_components(
                features, members, min(count, SKEWED), contrast=skewness, seed=seed
            )
            yield f"class {label}", scores


def independent_components(
    features: Array,
    train: Array,
    count: int,
    *,
    contrast: Contrast = "logcosh",
    seed: int = 0,
) -> Floats:
    """Components estimated from some samples, scored on others.

    Parameters
    ----------
    features
        (N, F) samples to score.
    train
        (M, F) samples to estimate from; each feature is brought to variance 1 in them.
    count
        Number of components; fewer where the samples do not have that many dimensions.
    contrast
        What to maximise: ``"logcosh"`` (heavy tails) or a function for scikit-learn's FastICA.
    seed
        Of the start.

    Returns
    -------
    ndarray
        (N, K), up to a constant.
    """
    spread = train.std(0, dtype=np.float64)
    varies = alive(spread, size_of(features))
    if not varies.any():
        return np.empty((len(features), 0))
    standard = train[:, varies] / spread[varies]
    ica = FastICA(
        min(count, int(np.linalg.matrix_rank(standard - standard.mean(0)))),
        whiten="unit-variance",
        fun=contrast,
        max_iter=MAX_ITERATIONS,
        tol=TOLERANCE,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # Components that still turn a little have long since told their samples apart.
        warnings.simplefilter("ignore", ConvergenceWarning)
        ica.fit(standard)
    scores: Floats = ica.transform(features[:, varies] / spread[varies])
    return scores


def skewness(values: Floats) -> tuple[Floats, Floats]:
    """Contrast u^2 and the mean of its derivative: finds what is skewed, whatever its tails."""
    return values**2, 2 * values.mean(axis=-1)


def _subset(rows: Ints, seed: int) -> Ints:
    """At most 10,000 of the rows."""
    if len(rows) <= MOST_FITTED:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_FITTED, replace=False))
