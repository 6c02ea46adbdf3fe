"""Two groups in one score: a Gaussian mixture whose groups may be differently frequent in each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.filters import threshold_otsu

from shortcutscope.errors import InputError
from shortcutscope.types import Bools, Floats, Ints

#: Difference of the groups' means, in units of their common spread, below which a score has one group only
#: (Ashman et al. 1994).
MIN_SEPARATION = 2.0


@dataclass(frozen=True, eq=False)
class Mixture:
    """Two Gaussians, group 1 being the carriers, with the carriers' share in each class.

    Attributes
    ----------
    means, spreads
        ``(2,)``.
    shares
        ``(C,)`` share of the carriers in each class.
    """

    means: Floats
    spreads: Floats
    shares: Floats

    @property
    def separation(self) -> float:
        """Ashman's D of the two groups."""
        return float((self.means[1] - self.means[0]) / np.sqrt(np.square(self.spreads).mean()))

    def posterior(self, scores: Floats) -> Floats:
        """Probability ``(N,)`` of being a carrier, NaN for NaN scores.

        It does not look at a sample's class, but takes the mean share of the classes: else the rare samples
        on which concept and label disagree would be given the concept that their label suggests, and they
        are the ones that tell a shortcut. Beyond the groups' means it is held constant: a wider Gaussian
        wins far out on both sides, but a score below the typical other sample's is no sign of a carrier.
        """
        anywhere = Mixture(self.means, self.spreads, self.shares.mean(keepdims=True))
        clipped = np.asarray(np.clip(scores, *self.means))
        return anywhere.responsibility(clipped, np.zeros(len(scores), np.intp))

    def responsibility(self, scores: Floats, codes: Ints) -> Floats:
        """Probability ``(N,)`` of group 1 under the mixture as it is, for the expectation step."""
        first, second = (np.square((scores - m) / s) for m, s in zip(self.means, self.spreads, strict=True))
        share = np.clip(self.shares, 1e-6, 1 - 1e-6)
        prior = np.log(share) - np.log1p(-share) + np.log(self.spreads[0] / self.spreads[1])
        odds = (first - second) / 2 + prior[codes]
        return np.asarray(1 / (1 + np.exp(-np.clip(odds, -500, 500))))


def fit_mixture(
    scores: Floats,
    codes: Ints,
    start: tuple[float, float],
    anchors: Floats | None = None,
    n_iterations: int = 200,
) -> Mixture:
    """Expectation maximisation with the groups' means starting at ``start`` = (others, carriers).

    Parameters
    ----------
    scores
        ``(N,)`` finite.
    codes
        ``(N,)`` class codes.
    start
        First guess of the means of others and carriers.
    anchors
        ``(N,)`` 1 and 0 for samples whose group is known, NaN for the rest.
    n_iterations
        Most iterations; it stops when nothing moves.
    """
    fixed = np.full(len(scores), np.nan) if anchors is None else anchors
    free = np.isnan(fixed)
    n_classes = int(codes.max(initial=0)) + 1
    floor = 0.05 * float(scores.std()) + 1e-12  # a group must not shrink onto one sample
    middle = sum(start) / 2
    member = np.where(free, (scores > middle).astype(np.float64), fixed)
    mixture = _maximise(scores, codes, member, free, n_classes, floor)
    for _ in range(n_iterations):
        member = np.where(free, mixture.responsibility(scores, codes), fixed)
        moved = _maximise(scores, codes, member, free, n_classes, floor)
        still = np.abs(moved.means - mixture.means).max() < 1e-6 * floor
        mixture = moved
        if still:
            break
    return mixture


def split_scores(
    scores: Floats, codes: Ints, name: str, *, confidence: float = 0.9, min_carriers: int = 10
) -> Floats:
    """Values ``(N,)`` of the two groups of a score: 1, 0, or NaN where the posterior is not confident.

    Raises
    ------
    InputError
        When the scores do not fall into two groups, or one of them has too few confident samples.
    """
    check_confidence(confidence)
    if scores.ndim != 1 or codes.shape != scores.shape:
        raise InputError(
            f"{name!r}: scores of shape {scores.shape} for {codes.shape} labels; both must be (N,)"
        )
    finite = np.isfinite(scores)
    if len(np.unique(scores[finite])) < 2:
        raise InputError(f"{name!r}: the scores do not differ between samples")
    threshold = float(threshold_otsu(scores[finite]))  # type: ignore[no-untyped-call]
    start = (
        float(scores[finite & (scores <= threshold)].mean()),
        float(scores[finite & (scores > threshold)].mean()),
    )
    mixture = fit_mixture(scores[finite], codes[finite], start)
    if mixture.separation < MIN_SEPARATION:
        raise InputError(
            f"{name!r}: the scores do not fall into two groups (separation {mixture.separation:.1f}, needed "
            f"{MIN_SEPARATION:g}). Give the values themselves, or a column with the score as continuous"
        )
    values = np.full(len(scores), np.nan)
    values[finite] = confident(mixture.posterior(scores[finite]), confidence)
    require_enough(values, name, min_carriers)
    return values


def confident(posterior: Floats, confidence: float) -> Floats:
    """1, 0, or NaN where neither value has the wanted probability."""
    return np.where(posterior >= confidence, 1.0, np.where(posterior <= 1 - confidence, 0.0, np.nan))


def require_enough(values: Floats, name: str, min_carriers: int) -> None:
    """Refuse values with too few samples on one side."""
    with_it, without = int((values == 1).sum()), int((values == 0).sum())
    if min(with_it, without) < min_carriers:
        raise InputError(
            f"{name!r}: only {with_it} samples confidently with and {without} without it; at least "
            f"{min_carriers} of each are needed. Give more marks, or lower the confidence"
        )


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that would call every sample both or neither."""
    if not 0.5 < confidence < 1:
        raise InputError(f"confidence={confidence:g}; it must lie between .5 and 1, for example .9")


def _maximise(
    scores: Floats, codes: Ints, member: Floats, free: Bools, n_classes: int, floor: float
) -> Mixture:
    weights = np.stack([1 - member, member])
    totals = np.maximum(weights.sum(axis=1), 1e-9)
    means = weights @ scores / totals
    spreads = np.sqrt((weights * (scores - means[:, None]) ** 2).sum(axis=1) / totals)
    sizes = np.bincount(codes[free], minlength=n_classes)
    carriers = np.bincount(codes[free], weights=member[free], minlength=n_classes)
    # One sample of doubt on each side: a class without carriers may have some all the same.
    shares = (carriers + 1) / (sizes + 2)
    if means[0] > means[1]:
        means = np.array([means.mean()] * 2)
    return Mixture(means, np.maximum(spreads, floor), shares)
