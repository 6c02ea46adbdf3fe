"""Which features vary at all: what is divided by a deviation of nothing but rounding is blown up to noise.

A feature that is the same for all samples, such as one of the empty background of an image, keeps a tiny
deviation from rounding. Beside features that vary it is small; among others like it, it is the largest of
all. So it is also held against the size of the features themselves.
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
