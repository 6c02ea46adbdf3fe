"""Two groups in one score: a Gaussian mixture whose groups may be differently frequent in each class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from skimage.filters import threshold_otsu

from shortcutscope.errors import InputError
from shortcutscope.types import Bools, Floats, Ints

#: Difference of the groups' means, in units of their common spread, below which a score has one group only
#: (Ashman et al. 1994).
MIN_SEPARATION = 2.0
#: Least spread of a group, as a share of that of all samples: it must not shrink onto one of them.
#: And movement of the means, in units of it, at which nothing moves any more.
FLOOR, STILL = 0.05, 1e-6


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
        prior = _log_odds(self.shares) + np.log(self.spreads[0] / self.spreads[1])
        return np.asarray(expit((first - second) / 2 + prior[codes]))


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
    middle, spread = float(scores.mean()), float(scores.std())
    unit = spread or 1.0
    floor = (FLOOR * spread + 1e-12) / unit
    known = None if free.all() else fixed
    sums = _Sums.of((scores - middle) / unit, codes, free, floor)
    groups = sums.groups(np.where(free, (scores > sum(start) / 2).astype(np.float64), fixed))
    for _ in range(n_iterations):
        before, expected = groups, sums.responsibility(groups)
        groups = sums.groups(expected if known is None else np.where(free, expected, known))
        if max(abs(groups.first - before.first), abs(groups.second - before.second)) < STILL * floor:
            break
    means = np.array([groups.first, groups.second]) * unit + middle
    return Mixture(
        means, np.array([groups.first_spread, groups.second_spread]) * unit, np.array(groups.shares)
    )


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


class _Groups(NamedTuple):
    """A mixture in plain numbers: means and spreads of others and carriers, and shares of the carriers."""

    first: float
    second: float
    first_spread: float
    second_spread: float
    shares: list[float]


@dataclass(frozen=True, eq=False)
class _Sums:
    """What iterations sum over the samples: two products each, and the rest is a handful of numbers.

    Attributes
    ----------
    rows
        ``(3 + C, N)`` 1, scores and their squares; the scores have mean 0 and spread 1. And who is in each
        class, of those whose group is not known.
    whole
        Of all samples.
    floor
        Least spread.
    """

    rows: Floats
    whole: list[float]
    floor: float

    @classmethod
    def of(cls, scores: Floats, codes: Ints, free: Bools, floor: float) -> _Sums:
        """Of scores ``(N,)`` in their own unit."""
        classes = np.arange(int(codes.max(initial=0)) + 1)
        in_class = (codes == classes[:, None]) & free
        rows = np.concatenate([[np.ones_like(scores), scores, scores**2], in_class])
        return cls(rows, rows.sum(axis=1).tolist(), floor)

    def groups(self, member: Floats) -> _Groups:
        """What fits members ``(N,)`` best."""
        carriers = (self.rows @ member).tolist()
        others = [whole - part for whole, part in zip(self.whole, carriers, strict=True)]
        (first, first_spread), (second, second_spread) = self._group(others), self._group(carriers)
        if first > second:
            first = second = (first + second) / 2
        # One sample of doubt on each side: a class without carriers may have some all the same.
        shares = [(part + 1) / (size + 2) for part, size in zip(carriers[3:], self.whole[3:], strict=True)]
        return _Groups(first, second, first_spread, second_spread, shares)

    def _group(self, sums: list[float]) -> tuple[float, float]:
        total = max(sums[0], 1e-9)
        mean = sums[1] / total
        variance = (sums[2] - 2 * mean * sums[1] + mean**2 * sums[0]) / total
        return mean, max(math.sqrt(max(variance, 0.0)), self.floor)

    def responsibility(self, groups: _Groups) -> Floats:
        """As that of a mixture: the log odds are a polynomial of the score."""
        first, second = 0.5 / groups.first_spread**2, 0.5 / groups.second_spread**2
        prior = _log_odds(np.array(groups.shares)) + math.log(groups.first_spread / groups.second_spread)
        odds = [
            first * groups.first**2 - second * groups.second**2,
            2 * (second * groups.second - first * groups.first),
            first - second,
            *prior.tolist(),
        ]
        return np.asarray(expit(np.array(odds) @ self.rows))


def _log_odds(shares: Floats) -> Floats:
    """Of the carriers' share in each class, away from none and all."""
    share = np.clip(shares, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(share) - np.log1p(-share))
