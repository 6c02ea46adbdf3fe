"""Whether one of several students can be called the better one, or how many samples would tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from shortcutscope.compare.estimate import Estimate
from shortcutscope.stats.bootstrap import percentile_interval

__all__ = ["StudentChoice", "choice_among"]

#: Metrics that say how a network does without the shortcut, that which is measurable first.
BY = (("concept", "robust_auroc"), ("concept", "worst_group_accuracy"))
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
    if decided:
        return 0
    if difference <= 0:
        return None
    times = (_WIDE * float(np.nanstd(differences)) / difference) ** 2
    return None if times > ALIKE else max(1, int(np.ceil(n * (times - 1))))
