"""Corrections: maps that take a concept out of features, learnt from samples whose concept is known.

Three of the field's: LEACE (Belrose et al. 2023), which needs no concept value of the samples that it is
applied to; the mean shift, by the class-conditional difference of means; and location and scale of each
value's samples, as ComBat (Johnson et al. 2007) without its shrinkage. The latter two need to know the
concept of every sample that they correct, as centres know which scanner an image is from. None of them needs
the label of those samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from shortcutscope.debias.clarc.activations import ConceptSamples
from shortcutscope.debias.clarc.erasure import Moments, concept_columns, leace_map
from shortcutscope.probes.alive import alive, size_of
from shortcutscope.types import Floats, Ints

#: Takes features (n, d) and concept values (n,) with NaN for unknown; gives features (n, d).
Correction = Callable[[Floats, Floats], Floats]
#: From features (n, d), concept (n,) of 0 and 1, and labels (n,) of samples to a correction.
Fit = Callable[[Floats, Floats, Ints], Correction]


def leace_correction(features: Floats, concept: Floats, labels: Ints) -> Correction:
    """Erase all that is linear of the concept inside every class, with the least change (LEACE)."""
    samples = ConceptSamples(np.arange(len(concept)), concept, labels, ())
    z = concept_columns(samples, conditional=True)
    middle = features.mean(axis=0)
    moments = Moments.empty(features.shape[1], z.shape[1])
    moments.add(features - middle, z)
    left, right = leace_map(*moments.covariances(), moments.rounding)

    def apply(rows: Floats, _: Floats) -> Floats:
        return np.asarray(rows - (rows - middle - moments.mean) @ right.T @ left.T)

    return apply


def mean_shift(features: Floats, concept: Floats, labels: Ints) -> Correction:
    """Move carriers and others together by their difference of means, averaged over the classes."""
    carriers, others = _means(features, concept, labels)
    difference = carriers - others

    def apply(rows: Floats, values: Floats) -> Floats:
        side = np.nan_to_num(values - 0.5)  # of unknown samples none
        return np.asarray(rows - np.outer(side, difference))

    return apply


def location_and_scale(features: Floats, concept: Floats, labels: Ints) -> Correction:
    """Give carriers and others the same means, averaged over the classes, and the same spread inside them."""
    means = dict(zip((1, 0), _means(features, concept, labels), strict=True))
    spreads = {t: _spread(features, concept == t, labels) for t in (0, 1)}
    middle = (means[0] + means[1]) / 2
    pooled = np.sqrt((spreads[0] ** 2 + spreads[1] ** 2) / 2)
    varies = alive(spreads[0], size_of(features)) & alive(spreads[1], size_of(features))

    def apply(rows: Floats, values: Floats) -> Floats:
        result = rows.astype(np.float64)
        for t in (0, 1):
            member = values == t
            factor = np.where(varies, pooled / np.where(varies, spreads[t], 1.0), 1.0)
            result[member] = (rows[member] - means[t]) * factor + middle
        return result

    return apply


#: By the names that the results have.
CORRECTIONS: Mapping[str, Fit] = {
    "leace": leace_correction,
    "mean shift": mean_shift,
    "location and scale": location_and_scale,
}


def _means(features: Floats, concept: Floats, labels: Ints) -> tuple[Floats, Floats]:
    """Means (d,) of carriers and others, averaged over the classes that have both."""
    sides = []
    for t in (1, 0):
        cells = [
            features[(labels == c) & (concept == t)].mean(axis=0)
            for c in np.unique(labels)
            if len(np.unique(concept[labels == c])) == 2
        ]
        sides.append(np.mean(cells, axis=0))
    return sides[0], sides[1]


def _spread(features: Floats, member: Floats, labels: Ints) -> Floats:
    """Deviation (d,) of some samples inside their classes, pooled."""
    squares, n = np.zeros(features.shape[1]), 0
    for c in np.unique(labels[member]):
        rows = features[member & (labels == c)]
        squares += ((rows - rows.mean(axis=0)) ** 2).sum(axis=0)
        n += len(rows)
    return np.asarray(np.sqrt(squares / max(1, n)))
