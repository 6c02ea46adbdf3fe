"""A classifier of carriers from few marks: whitened features, balanced logistic regression.

Ten marks cannot say how some thousand features go together, but all unmarked samples can. So the features
are whitened by the within-class covariance, shrunk towards the identity (Friedman 1989, regularised
discriminant analysis), before a logistic regression with a strong penalty tells the marked samples from the
others. All of it is linear, so that the result is one concept activation vector, saved and applied as any
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from shortcutscope.errors import InputError
from shortcutscope.probes.alive import alive, size_of
from shortcutscope.probes.cav import CAV
from shortcutscope.types import Bools, Floats, Ints

#: Added to every variance, as a share of the total variance of one view.
SHRINKAGE = 0.03
#: Inverse penalty of the logistic regression on whitened features, with weights of mean 1.
PENALTY = 1e-3
#: Samples that the covariance is taken from; more change little and cost their square.
MAX_REFERENCE = 2000
#: Unmarked samples that one model is fitted on.
MAX_UNMARKED = 4000
#: Weight of all samples that a person found free of it, relative to that of all unmarked ones.
NAMED = 0.5


@dataclass(frozen=True, eq=False)
class Whitening:
    """Features made uncorrelated and alike in size within class.

    Attributes
    ----------
    mean, scale
        ``(D,)``; the scale is infinite for dead features, which become 0.
    projection
        ``(D, K)`` from standardised to whitened features.
    """

    mean: Floats
    scale: Floats
    projection: Floats

    def apply(self, features: npt.ArrayLike) -> Floats:
        """Whitened features ``(N, K)``."""
        return np.asarray(((np.asarray(features) - self.mean) / self.scale) @ self.projection, np.float64)

    def vector(self, weights: Floats, intercept: float, quantity: str) -> CAV:
        """The vector on the features as they are that scores like ``weights`` on the whitened ones."""
        alive = np.isfinite(self.scale)
        direction = np.where(alive, self.projection @ weights, 0.0)
        return CAV(direction, intercept, self.mean, np.where(alive, self.scale, 1.0), "logistic", quantity)


def whiten(
    features: npt.ArrayLike,
    widths: Sequence[int],
    classes: Ints,
    *,
    shrinkage: float = SHRINKAGE,
    seed: int = 0,
) -> Whitening:
    """Fit a whitening to samples of which nothing but the class is known.

    Parameters
    ----------
    features
        ``(N, D)``, the views side by side; each view counts the same, whatever its width.
    widths
        Features of each view.
    classes
        ``(N,)``, whose means are taken out, so that the label is no direction of the covariance.
    shrinkage
        Added to every variance, as a share of a view's total variance.
    seed
        Chooses the samples where there are more than 2,000.

    Raises
    ------
    InputError
        When no feature varies.
    """
    features, classes = _subset(np.asarray(features, np.float64), np.asarray(classes), seed)
    means = {int(c): features[classes == c].mean(axis=0) for c in np.unique(classes)}
    centred = features - np.stack([means[int(c)] for c in classes])
    scale = _view_scale(centred.std(axis=0), size_of(features), widths)
    if not np.isfinite(scale).any():
        raise InputError("no feature varies between the samples; there is nothing to rank by")
    standardised = centred / scale
    # Through the samples where they are fewer than the features: the same directions at a lower cost.
    _, singular, directions = np.linalg.svd(standardised, full_matrices=False)
    size = np.sqrt(singular**2 / len(features) + shrinkage)
    return Whitening(np.mean(list(means.values()), axis=0), scale, directions.T / size)


def fit_marks(
    whitened: Floats, marks: Floats, classes: Ints, train: Bools, *, C: float = PENALTY, seed: int = 0
) -> LogisticRegression:
    """Marked against unmarked samples, both sides weighing the same in every class.

    Parameters
    ----------
    whitened
        ``(N, K)``.
    marks
        ``(N,)`` 1, 0, or NaN for unmarked samples, which are taken for weak negatives.
    classes
        ``(N,)``; only classes with marked carriers take part.
    train
        ``(N,)`` the samples to fit on.
    C, seed
        Inverse penalty; chooses among more than 4,000 unmarked samples.

    Raises
    ------
    InputError
        When one of the sides is empty.
    """
    rows, weights = [], []
    for label in np.unique(classes[train & (marks == 1)]):
        inside = train & (classes == label)
        positive, negative = np.flatnonzero(inside & (marks == 1)), np.flatnonzero(inside & (marks == 0))
        unmarked = _at_most(np.flatnonzero(inside & np.isnan(marks)), MAX_UNMARKED, seed)
        if not len(negative) + len(unmarked):
            continue
        negative_share = (NAMED if len(unmarked) else 1.0) if len(negative) else 0.0
        total = negative_share + (1.0 if len(unmarked) else 0.0)
        rows += [positive, negative, unmarked]
        weights += [
            np.full(len(positive), 1 / len(positive)),
            np.full(len(negative), negative_share / total / max(1, len(negative))),
            np.full(len(unmarked), (total - negative_share) / total / max(1, len(unmarked))),
        ]
    if not rows:
        raise InputError(
            "no class has both marked carriers and other samples to tell them from: mark samples of at least "
            "two patients, and in the class where the artifact is rare"
        )
    fit_rows, weight = np.concatenate(rows), np.concatenate(weights)
    model = LogisticRegression(C=C, max_iter=1000)
    return model.fit(whitened[fit_rows], marks[fit_rows] == 1, sample_weight=weight / weight.mean())


def _view_scale(spread: Floats, size: Floats, widths: Sequence[int]) -> Floats:
    """Divisors that give every view a total variance of 1; infinite for dead features."""
    if sum(widths) != len(spread):
        raise InputError(f"views of {list(widths)} features for {len(spread)} columns")
    parts, start = [], 0
    for width in widths:
        deviations = spread[start : start + width]
        varies = alive(deviations, size[start : start + width])
        parts.append(np.where(varies, deviations * np.sqrt(max(1, int(varies.sum()))), np.inf))
        start += width
    return np.concatenate(parts)


def _subset(features: Floats, classes: Ints, seed: int) -> tuple[Floats, Ints]:
    rows = _at_most(np.arange(len(features)), MAX_REFERENCE, seed)
    return features[rows], classes[rows]


def _at_most(rows: Ints, count: int, seed: int) -> Ints:
    if len(rows) <= count:
        return rows
    subset = np.random.default_rng(seed).choice(rows, count, replace=False)
    return np.asarray(np.sort(subset), np.intp)
