"""Whether one of several students can be called the better one, or how many samples would tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from shortcutscope.types import Floats, Ints

__all__ = ["GroupSides", "StudentChoice", "choice_among", "smoothed_accuracies"]

#: Standard errors of an interval of 95 %.
_WIDE = 1.96
#: More than so many times as many samples are not worth collecting to tell two networks apart.
ALIKE = 20
#: What is added to the variance of a group against the shortcut, which few samples tell: so many more, in
#: which two networks differ by so much, half of them either way. Chosen on students of another seed than
#: those that it is judged on (docs/debiasing.md).
PRIOR_SAMPLES, PRIOR_DIFFERENCE = 1.0, 0.35


@dataclass(frozen=True, eq=False)
class GroupSides:
    """The four groups of label and concept that a choice rests on, a patient counting once in each.

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
    def of(cls, truth: npt.ArrayLike, aligned: npt.ArrayLike, groups: npt.ArrayLike) -> GroupSides:
        """From labels, the concept and patients.

        Parameters
        ----------
        truth
            (N,) 1 for the positive class.
        aligned
            (N,) the concept, 1 for what goes with the positive class, NaN where it is unknown.
        groups
            (N,) patients.
        """
        y, a = np.asarray(truth, np.float64), np.asarray(aligned, np.float64)
        known = np.isfinite(a)
        side = np.where(known, y + 2 * (a == y), -1).astype(np.int64)
        patient = np.unique(np.asarray(groups), return_inverse=True)[1]
        units, unit = np.unique(np.where(known, 4 * patient + side, -1), return_inverse=True)
        shift = int((units < 0).sum())
        return cls(unit - shift, units[shift:] % 4)

    @property
    def n_conflicting(self) -> int:
        """Patients in the groups against the shortcut."""
        return int((self.side < 2).sum())

    @property
    def complete(self) -> bool:
        """Whether every group has a sample, and one that agrees with the shortcut has two."""
        counts = np.bincount(self.side, minlength=4)
        return bool((counts > 0).all() and counts[2:].max() > 1)

    def means(self, values: Floats) -> Floats:
        """(U,) mean of (N,) values over the samples of each unit."""
        known = self.unit >= 0
        sums = np.bincount(self.unit[known], values[known], minlength=len(self.side))
        return sums / np.bincount(self.unit[known], minlength=len(self.side))

    def over_groups(self, values: Floats) -> float:
        """Mean over the groups of the mean of (U,) values within each."""
        return float(np.mean([values[self.side == k].mean() for k in range(4)]))


class StudentChoice(NamedTuple):
    """The better one of the two best students.

    Attributes
    ----------
    best, next_best
        Names.
    difference
        How much the best one is better, in smoothed group accuracy.
    interval
        Of the difference (95 %, by patient, paired).
    decided
        The interval leaves out zero.
    more
        Samples that go against the shortcut that would be needed on top, were the difference what it seems;
        0 where it is decided, None where it would be more than `ALIKE` times as many.
    """

    best: str
    next_best: str
    difference: float
    interval: tuple[float, float]
    decided: bool
    more: int | None

    def text(self, n_conflicting: int) -> str:
        """In a sentence; beside the number of samples that go against the shortcut."""
        low, high = self.interval
        figures = f"smoothed group accuracy higher by {self.difference:.3f}, {low:+.3f} to {high:+.3f}"
        if self.decided:
            return f"{self.best!r} is better than {self.next_best!r} ({figures})"
        cannot = (
            f"{self.best!r} and {self.next_best!r} cannot be told apart with {n_conflicting} samples that go "
            f"against the shortcut ({figures} for the first)"
        )
        if self.more is None:
            return f"{cannot}: they do about alike, take the simpler one"
        return f"{cannot}; about {self.more} more of them would settle it"


def choice_among(margins: Mapping[str, npt.ArrayLike], sides: GroupSides) -> StudentChoice | None:
    """Compare the two best of several networks on the same samples, also where few go against the shortcut.

    Networks are ranked by their smoothed group accuracy, see `smoothed_accuracies`. The best of several is
    taken for its luck, too: where the interval against the next best holds zero, nothing is chosen. That
    interval is of the normal distribution, of differences patient by patient; the variance of a group against
    the shortcut has that of `PRIOR_SAMPLES` further ones added (in the way of Bonett & Price 2012), since few
    samples in which two networks agree do not say that they always do.

    Parameters
    ----------
    margins
        Name to (N,) margins towards the positive class.
    sides
        Of the same samples.

    Returns
    -------
    StudentChoice or None
        None for fewer than two networks, and without samples of every group.
    """
    if len(margins) < 2 or not sides.complete:
        return None
    right = _smoothed(margins, sides)
    worth = {name: sides.over_groups(values) for name, values in right.items()}
    best, second, *_ = sorted(worth, key=lambda name: -worth[name])
    error = _error(right[best] - right[second], sides)
    difference = worth[best] - worth[second]
    interval = difference - _WIDE * error, difference + _WIDE * error
    decided = interval[0] > 0
    more = _more(error, difference, sides.n_conflicting, decided)
    return StudentChoice(best, second, difference, interval, decided, more)


def smoothed_accuracies(margins: Mapping[str, npt.ArrayLike], sides: GroupSides) -> dict[str, float]:
    """Accuracy of every network, the mean over the four groups, in which a margin counts by its size.

    A sample counts Phi(margin towards its class / s) instead of 1 or 0, s being the standard deviation of the
    network's margins within the groups, which many samples tell. So two samples say more than whether they
    are right.
    """
    return {name: sides.over_groups(values) for name, values in _smoothed(margins, sides).items()}


def _smoothed(margins: Mapping[str, npt.ArrayLike], sides: GroupSides) -> dict[str, Floats]:
    """(U,) share of each patient's samples that is right, smoothed."""
    towards = np.where(np.isin(sides.side, (1, 3)), 1.0, -1.0)
    right = {}
    for name, values in margins.items():
        known = np.asarray(values, np.float64)
        spread = _spread(sides.means(known), sides) or 1.0
        signed = np.zeros(len(known))
        signed[sides.unit >= 0] = towards[sides.unit[sides.unit >= 0]]
        right[name] = sides.means(stats.norm.cdf(signed * known / spread))
    return right


def _spread(values: Floats, sides: GroupSides) -> float:
    """Standard deviation of (U,) values within the groups."""
    parts = [values[sides.side == k] for k in range(4)]
    deviations = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
    return float(np.sqrt(deviations / max(1, len(values) - 4)))


def _error(differences: Floats, sides: GroupSides) -> float:
    """Standard error of the mean over the groups of (U,) differences."""
    variance = 0.0
    for k in range(4):
        own, more = differences[sides.side == k], PRIOR_SAMPLES if k < 2 else 0.0
        n = len(own) + more
        squares = float((own**2).sum()) + more * PRIOR_DIFFERENCE**2
        variance += (squares / n - (float(own.sum()) / n) ** 2) / n / 16
    return float(np.sqrt(variance))


def _more(error: float, difference: float, n: int, decided: bool) -> int | None:
    """Further samples until an interval as wide as its standard error says leaves out zero."""
    if decided:
        return 0
    if difference <= 0:
        return None
    times = (_WIDE * error / difference) ** 2
    return None if times > ALIKE else max(1, int(np.ceil(n * (times - 1))))
