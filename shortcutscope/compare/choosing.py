"""Whether one of several students can be called the better one, or how many samples would tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from shortcutscope.compare.estimate import Estimate
from shortcutscope.stats.bootstrap import percentile_interval
from shortcutscope.types import Floats, Ints

__all__ = ["Sides", "StudentChoice", "choice_among", "choose_by_separation", "separations"]

#: Metrics that say how a network does without the shortcut, that which is measurable first.
BY = (("concept", "robust_auroc"), ("concept", "worst_group_accuracy"))
#: What networks are ranked by where few samples go against the shortcut.
SEPARATION = "separation"
#: Degrees of freedom that the groups which agree with the shortcut lend to the variance of those against it.
PRIOR = 4
#: Standard errors of an interval of 95 %.
_WIDE = 1.96
#: More than so many times as many samples are not worth collecting to tell two networks apart.
ALIKE = 20


class StudentChoice(NamedTuple):
    """The better one of the two best students.

    Attributes
    ----------
    best, next_best
        Names.
    metric
        By which they were ranked.
    difference
        How much the best one is better, and its interval (95 %, by patient, paired).
    interval
        Of the difference.
    decided
        The interval leaves out zero.
    more
        Samples that go against the shortcut that would be needed on top, were the difference what it seems;
        0 where it is decided, None where it would be more than `ALIKE` times as many.
    """

    best: str
    next_best: str
    metric: str
    difference: float
    interval: tuple[float, float]
    decided: bool
    more: int | None

    def text(self, n_conflicting: int) -> str:
        """In a sentence; beside the number of samples that go against the shortcut."""
        low, high = self.interval
        name = self.metric.replace("_auroc", " AUROC").replace("_", " ")
        figures = f"{name} higher by {self.difference:.3f}, {low:+.3f} to {high:+.3f}"
        if self.decided:
            return f"{self.best!r} is better than {self.next_best!r} ({figures})"
        cannot = (
            f"{self.best!r} and {self.next_best!r} cannot be told apart with {n_conflicting} samples that go "
            f"against the shortcut ({figures} for the first)"
        )
        if self.more is None:
            return f"{cannot}: they do about alike, take the simpler one"
        return f"{cannot}; about {self.more} more of them would settle it"


def choice_among(
    students: Mapping[str, Mapping[tuple[str, str, str], Estimate]], n: int
) -> StudentChoice | None:
    """Compare the two best of several networks on the same resamples of the patients.

    The best of several is taken for its luck, too: where the interval against the next best holds zero,
    nothing is chosen.

    Parameters
    ----------
    students
        Name to its estimates on one table, by part, metric and detail.
    n
        Samples that go against the shortcut.

    Returns
    -------
    StudentChoice or None
        None for fewer than two networks, and where nothing is measurable.
    """
    for part, metric in BY:
        measured_of = {
            name: estimates[part, metric, ""]
            for name, estimates in students.items()
            if (part, metric, "") in estimates and not np.isnan(estimates[part, metric, ""].value)
        }
        if len(measured_of) < 2:
            continue
        best, second, *_ = sorted(measured_of, key=lambda name: -measured_of[name].value)
        first, other = measured_of[best], measured_of[second]
        if not len(first.resampled) or len(first.resampled) != len(other.resampled):
            continue
        differences = first.resampled - other.resampled
        low, high = percentile_interval(differences)
        difference = first.value - other.value
        decided = low > 0
        return StudentChoice(
            best, second, metric, difference, (low, high), decided, _more(differences, difference, n, decided)
        )
    return None


def _more(differences: np.ndarray, difference: float, n: int, decided: bool) -> int | None:
    """Further samples until an interval as wide as its standard error says leaves out zero."""
    return _more_by(float(np.nanstd(differences)), difference, n, decided)


def _more_by(error: float, difference: float, n: int, decided: bool) -> int | None:
    if decided:
        return 0
    if difference <= 0:
        return None
    times = (_WIDE * error / difference) ** 2
    return None if times > ALIKE else max(1, int(np.ceil(n * (times - 1))))


@dataclass(frozen=True, eq=False)
class Sides:
    """The four groups of samples that a choice rests on, a patient counting once in each.

    Attributes
    ----------
    unit
        (N,) number of the patient within a group, over all groups; -1 where the concept is unknown.
    side
        (U,) of every such unit: 1 and 0 for the positive and the other classes against the shortcut, 3 and 2
        for those that agree with it.
    """

    unit: Ints
    side: Ints

    @classmethod
    def of(cls, truth: npt.ArrayLike, aligned: npt.ArrayLike, groups: npt.ArrayLike) -> Sides:
        """From (N,) 1 for the positive class, 1 for the concept that goes with it (NaN unknown), patients."""
        y, a = np.asarray(truth, np.float64), np.asarray(aligned, np.float64)
        known = np.isfinite(a)
        side = np.where(known, y + 2 * (a == y), -1).astype(np.int64)
        patient = np.unique(np.asarray(groups), return_inverse=True)[1]
        units, unit = np.unique(np.where(known, 4 * patient + side, -1), return_inverse=True)
        shift = int((units < 0).sum())
        return cls(unit - shift, units[shift:] % 4)

    def means(self, values: Floats) -> Floats:
        """(U,) mean of (N,) values over the samples of each unit."""
        known = self.unit >= 0
        sums = np.bincount(self.unit[known], values[known], minlength=len(self.side))
        return sums / np.bincount(self.unit[known], minlength=len(self.side))

    def spread(self, values: Floats) -> float:
        """Standard deviation of (U,) values within the groups, of all that have two units."""
        return float(np.sqrt(_pooled_variance([values[self.side == k] for k in range(4)])))


def separations(margins: Mapping[str, Floats], sides: Sides) -> dict[str, float]:
    """How far apart each network's margins hold the classes where the shortcut speaks against them.

    The mean margin of the positive class minus that of the others, of the samples against the shortcut, in
    standard deviations within the groups, which many samples tell.
    """
    return {name: _contrast(values, sides) for name, values in _standardised(margins, sides).items()}


def choose_by_separation(margins: Mapping[str, Floats], sides: Sides) -> StudentChoice | None:
    """The best of several networks where few samples go against the shortcut, by `separations`.

    Of two networks the margins are subtracted patient by patient. What the difference of so few means may be
    off is told by its variance within the groups: that of each group against the shortcut, moderated by that
    of the groups which agree with it (Smyth 2004, with `PRIOR` degrees of freedom), in an interval by
    Student's t.

    Parameters
    ----------
    margins
        Name to (N,) margins towards the positive class.
    sides
        Of the same samples.

    Returns
    -------
    StudentChoice or None
        None for fewer than two networks, and without samples of both classes against the shortcut.
    """
    if len(margins) < 2 or not {0, 1} <= set(sides.side.tolist()):
        return None
    standard = _standardised(margins, sides)
    worth = {name: _contrast(values, sides) for name, values in standard.items()}
    best, second, *_ = sorted(worth, key=lambda name: -worth[name])
    differences = standard[best] - standard[second]
    error, freedom = _error(differences, sides)
    difference = worth[best] - worth[second]
    wide = float(stats.t.ppf(0.975, freedom)) * error
    interval = difference - wide, difference + wide
    n = int((sides.side < 2).sum())
    more = _more_by(error, difference, n, decided=interval[0] > 0)
    return StudentChoice(best, second, SEPARATION, difference, interval, interval[0] > 0, more)


def _standardised(margins: Mapping[str, Floats], sides: Sides) -> dict[str, Floats]:
    means = {name: sides.means(np.asarray(values, np.float64)) for name, values in margins.items()}
    return {name: values / (sides.spread(values) or 1.0) for name, values in means.items()}


def _contrast(values: Floats, sides: Sides) -> float:
    return float(values[sides.side == 1].mean() - values[sides.side == 0].mean())


def _error(differences: Floats, sides: Sides) -> tuple[float, float]:
    """Standard error of the contrast of differences (U,), and its degrees of freedom."""
    prior = _pooled_variance([differences[sides.side == k] for k in (2, 3)])
    error, freedom = 0.0, float(PRIOR)
    for k in (0, 1):
        own = differences[sides.side == k]
        n = len(own)
        deviations = float(((own - own.mean()) ** 2).sum())
        error += (PRIOR * prior + deviations) / (PRIOR + n - 1) / n
        freedom += n - 1
    return float(np.sqrt(error)), freedom


def _pooled_variance(parts: Sequence[Floats]) -> float:
    deviations = sum(float(((part - part.mean()) ** 2).sum()) for part in parts if len(part))
    return deviations / max(1, sum(len(part) - 1 for part in parts if len(part)))
