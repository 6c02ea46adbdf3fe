"""Which features vary at all: what is divided by a deviation of nothing but rounding is blown up to noise.

A feature that is the same for all samples, such as one of the empty background of an image, keeps a tiny
deviation from rounding. Beside features that vary it is small; among others like it, it is the largest of
all. So it is also held against the size of the features themselves. The same holds of logits from which all
that told samples apart was taken.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shortcutscope.types import Bools, Floats

#: A feature whose deviation is below this share of the largest one is dead: dividing by it would blow its
#: weight up.
DEAD = 1e-4
#: Deviations below this share of the features' size are rounding: some eight steps of single precision.
ROUNDING = 1e-6


def alive(spread: npt.ArrayLike, size: npt.ArrayLike) -> Bools:
    """Features (..., D) that vary by more than rounding, and not by far less than the others.

    Parameters
    ----------
    spread
        (..., D) deviations.
    size
        (..., D) root mean squares, see `size_of`, of all samples that went into the sums: where statistics of
        some are the total less those of the others, the rounding is that of the total.

    Examples
    --------
    >>> alive([1.0, 1e-7, 0.0], [2.0, 1.0, 1.0]).tolist()
    [True, False, False]
    """
    deviation = np.asarray(spread)
    return np.asarray(
        (deviation > DEAD * deviation.max(axis=-1, initial=0.0, keepdims=True))
        & (deviation > ROUNDING * np.asarray(size))
    )


def size_of(features: npt.ArrayLike) -> Floats:
    """Root mean square (D,) of features (N, D), from 0 and not from their mean."""
    values = np.asarray(features)
    squares = np.einsum("nd,nd->d", values, values, dtype=np.float64)
    return np.asarray(np.sqrt(squares / max(1, len(values))))


def without_rounding(values: npt.ArrayLike, size: float) -> Floats:
    """Values of which those that differ by rounding alone are equal, and nothing but rounding is 0.

    Where everything that told samples apart is taken out of a layer, what is left of their logits is the
    order in which a processor adds: it differs with the number of threads, and has no ranks.

    Parameters
    ----------
    values
        (N,), some hundreds: of very many that lie close, neighbours would run together.
    size
        Of what the values were before, or were computed from: gaps up to `ROUNDING` of it are rounding.

    Examples
    --------
    >>> without_rounding([0.5, 1e-9, 0.5 + 1e-8, 0.6], size=1.0).round(3).tolist()
    [0.5, 0.0, 0.5, 0.6]
    """
    given = np.asarray(values, np.float64)
    order = np.argsort(given, kind="stable")
    gaps = np.diff(given[order], prepend=given[order[:1]])
    run = np.empty(len(given), np.int64)
    run[order] = np.cumsum(gaps > ROUNDING * size)
    middles = np.bincount(run, given) / np.bincount(run)
    middles[np.abs(middles) <= ROUNDING * size] = 0.0
    return np.asarray(middles[run])
