"""Performance by subgroup at an operating point, with intervals by patient.

All figures of a group are sums over patients, or linear in their weights up to first order (AUROC: DeLong
1988, clusters: Obuchowski 1997; the slope: its cluster-robust score). So one product of the patients'
multiplicities with what each of them adds resamples all figures at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm, rankdata

from shortcutscope.stats.bootstrap import MIN_CLUSTERS, group_draws, percentile_interval
from shortcutscope.stats.intervals import Interval, Z, difference, logit_interval, wilson
from shortcutscope.types import Bools, Floats, Ints

#: Patients that a figure needs; with fewer than `SMALL` its interval is Wilson's, and with fewer than
#: `MIN_CLUSTERS` it is not ranked.
FEWEST, SMALL = 5, 20
#: Patients whose multiplicities are multiplied at a time.
_BLOCK = 1 << 14
_STEPS, _TOLERANCE = 25, 1e-10


@dataclass(frozen=True)
class Figure:
    """A figure of a group.

    Attributes
    ----------
    value, low, high
        With its 95 % interval; None where there is none.
    n
        Patients that it rests on: of the smaller class, or the smaller group.
    p
        Of a difference: that there is none; None where a group is too small to be ranked.
    why
        Why it was not measured; empty where it was.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    p: float | None = None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Part:
    """One group, against the other groups of the same columns.

    Attributes
    ----------
    samples, patients
        Of the group.
    events, event_patients
        Its positive samples, and their patients.
    figures
        ``auroc``, ``sensitivity``, ``specificity``, ``calibration`` (observed less expected share of events),
        ``slope`` (of the logistic recalibration), and ``delta_auroc``, ``delta_tpr``, ``delta_fpr`` against
        the rest.
    """

    samples: int
    patients: int
    events: int
    event_patients: int
    figures: dict[str, Figure]


@dataclass(frozen=True, eq=False)
class Scored:
    """Samples with a decision.

    Attributes
    ----------
    events
        ``(N,)`` of the positive class.
    scores
        ``(N,)`` log odds of it.
    patients
        ``(N,)`` numbers from 0.
    threshold
        Log odds from which a sample is called positive.
    n_bootstrap, seed
        Resamples of the patients.
    """

    events: Bools
    scores: Floats
    patients: Ints
    threshold: float
    n_bootstrap: int = 300
    seed: int = 0

    @cached_property
    def draws(self) -> npt.NDArray[np.uint8]:
        """``(B, P)`` multiplicities of the patients."""
        return group_draws(int(self.patients.max()) + 1, self.n_bootstrap, self.seed)

    def parts(self, codes: Ints) -> list[Part | None]:
        """Figures of each group.

        Parameters
        ----------
        codes
            ``(N,)`` number of the group, -1 where it is unknown.

        Returns
        -------
        list of Part or None
            By number; None for one without samples.
        """
        is_known = codes >= 0
        groups = {code: _Group(self, codes == code) for code in np.unique(codes[is_known]).tolist()}
        parts: list[Part | None] = [None] * (max(groups, default=-1) + 1)
        for code, group in groups.items():
            others = [other for other in groups.values() if other is not group]
            rest = others[0] if len(others) == 1 else _Group(self, is_known & ~group.inside, whole=False)
            parts[code] = self._part(group, rest)
        return parts

    def _part(self, group: _Group, rest: _Group) -> Part:
        positives, negatives = group.class_patients
        figures = {
            "auroc": _auroc(group),
            "sensitivity": _share(group, "sensitivity", positives),
            "specificity": _share(group, "specificity", negatives),
            "calibration": _calibration(group),
            "slope": _slope(group),
        }
        deltas = {
            "auroc": (figures["auroc"], _auroc(rest)),
            "sensitivity": (figures["sensitivity"], _share(rest, "sensitivity", rest.class_patients[0])),
            "fpr": (_share(group, "fpr", negatives), _share(rest, "fpr", rest.class_patients[1])),
        }
        for key, (own, other) in deltas.items():
            name = f"delta_{'tpr' if key == 'sensitivity' else key}"
            figures[name] = _delta(own, other, partial(_correlation, group, rest, key))
        inside = group.inside
        return Part(
            int(inside.sum()),
            group.n_patients,
            int(self.events[inside].sum()),
            positives,
            figures,
        )


@dataclass(frozen=True, eq=False)
class _Group:
    """Some samples, and what their patients add to each sum; without a slope where not `whole`."""

    of: Scored
    inside: Bools
    whole: bool = True

    @cached_property
    def class_patients(self) -> tuple[int, int]:
        """Patients with an event, and with a sample that is none."""
        events, patients = self.of.events[self.inside], self.of.patients[self.inside]
        return len(np.unique(patients[events])), len(np.unique(patients[~events]))

    @cached_property
    def n_patients(self) -> int:
        return len(np.unique(self.of.patients[self.inside]))

    @cached_property
    def area(self) -> tuple[float, Floats]:
        """AUROC, and what each sample adds to it."""
        return auroc_influence(self.of.events[self.inside], self.of.scores[self.inside])

    @cached_property
    def recalibration(self) -> tuple[float, Floats]:
        """Slope of the logistic recalibration, and what each sample adds to it."""
        if not self.whole:
            return np.nan, np.zeros(int(self.inside.sum()))
        return slope_influence(self.of.events[self.inside], self.of.scores[self.inside])

    @cached_property
    def sums(self) -> Floats:
        """``(n, 7)``: what each sample adds."""
        events, scores = self.of.events[self.inside], self.of.scores[self.inside]
        called = scores >= self.of.threshold
        columns = [events & called, events, ~events & called, ~events, expit(scores)]
        return np.column_stack([*columns, self.area[1], self.recalibration[1]]).astype(np.float64)

    @cached_property
    def observed(self) -> dict[str, float]:
        values = self._figures(self.sums.sum(0)[None])
        return {name: float(value[0]) for name, value in values.items()}

    @cached_property
    def resampled(self) -> dict[str, Floats]:
        """``(B,)`` each figure in every resample."""
        draws, patients = self.of.draws, self.of.patients[self.inside]
        columns = [np.bincount(patients, column, draws.shape[1]) for column in self.sums.T]
        added = np.column_stack(columns).astype(np.float32)
        total = np.zeros((len(draws), added.shape[1]))
        for begin in range(0, len(added), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            total += draws[:, part].astype(np.float32) @ added[part]
        return self._figures(total)

    def _figures(self, total: Floats) -> dict[str, Floats]:
        hits, events, alarms, others, expected, area, slope = total.T
        n = np.where(events + others > 0, events + others, np.nan)
        fpr = alarms / np.where(others > 0, others, np.nan)
        return {
            "sensitivity": hits / np.where(events > 0, events, np.nan),
            "fpr": fpr,
            "specificity": (others - alarms) / np.where(others > 0, others, np.nan),
            "calibration": (events - expected) / n,
            "auroc": np.clip(self.area[0] + area, 0, 1),
            "slope": self.recalibration[0] + slope,
        }


def auroc_influence(events: Bools, scores: Floats) -> tuple[float, Floats]:
    """AUROC, and how much it grows with the weight of each sample, up to first order (DeLong et al. 1988).

    Parameters
    ----------
    events, scores
        ``(n,)``.

    Returns
    -------
    area : float
        NaN where one of the classes is empty.
    influence : array of shape (n,)
        Sums to zero.
    """
    positive, negative = int(events.sum()), int((~events).sum())
    influence: Floats = np.full(len(events), np.nan)
    if not positive or not negative:
        return float("nan"), influence
    ranks = rankdata(scores)
    influence[events] = (ranks[events] - rankdata(scores[events])) / negative
    influence[~events] = 1 - (ranks[~events] - rankdata(scores[~events])) / positive
    area = float(influence[events].mean())
    influence -= area
    influence /= np.where(events, positive, negative)
    return area, influence


def slope_influence(events: Bools, scores: Floats) -> tuple[float, Floats]:
    """Slope of a logistic regression of the events on the log odds, and what each sample adds to it.

    One for a calibrated network, less for one that is too sure (Cox 1958).

    Returns
    -------
    slope : float
        NaN where there is none: one class, one score, or classes that the score separates.
    influence : array of shape (n,)
    """
    unknown = float("nan"), np.full(len(events), np.nan)
    above, below = scores[events], scores[~events]
    if not len(above) or not len(below) or np.ptp(scores) == 0:
        return unknown
    if above.min() >= below.max() or above.max() <= below.min():
        return unknown
    spread, centre = float(scores.std()), float(scores.mean())
    design = np.column_stack([np.ones(len(scores)), (scores - centre) / spread])
    coefficients = np.zeros(2)
    for _ in range(_STEPS):
        fitted = expit(design @ coefficients)
        information = design.T @ (design * (fitted * (1 - fitted))[:, None])
        if np.linalg.cond(information) > 1 / _TOLERANCE:
            return unknown
        step = np.linalg.solve(information, design.T @ (events - fitted))
        coefficients = coefficients + step
        if np.abs(step).max() < _TOLERANCE:
            influence = np.linalg.solve(information, (design * (events - fitted)[:, None]).T)[1]
            return float(coefficients[1] / spread), influence / spread
    return unknown


def _auroc(group: _Group) -> Figure:
    n = min(group.class_patients)
    if n < FEWEST:
        return _few(n)
    value = group.area[0]
    return Figure(value, *_interval(group, "auroc", value, n), n=n)


def _share(group: _Group, name: str, n: int) -> Figure:
    if n < FEWEST:
        return _few(n)
    value = group.observed[name]
    return Figure(value, *_interval(group, name, value, n), n=n)


def _interval(group: _Group, name: str, value: float, n: int) -> Interval:
    if n < SMALL or value in (0, 1):
        return wilson(value, n)
    return logit_interval(value, group.resampled[name])


def _calibration(group: _Group) -> Figure:
    n = group.n_patients
    if n < FEWEST:
        return _few(n)
    low, high = percentile_interval(group.resampled["calibration"])
    measured = Figure(group.observed["calibration"], low, high, n)
    return measured if n >= MIN_CLUSTERS else replace(measured, low=None, high=None)


def _slope(group: _Group) -> Figure:
    n = min(group.class_patients)
    if n < MIN_CLUSTERS:
        return _few(n, MIN_CLUSTERS)
    value = group.recalibration[0]
    if np.isnan(value):
        return Figure(None, n=n, why="the score separates the classes, or is the same in all samples")
    return Figure(value, *percentile_interval(group.resampled["slope"]), n=n)


def _delta(own: Figure, other: Figure, correlation: Callable[[], float]) -> Figure:
    """A figure of the group less that of the rest."""
    n = min(own.n, other.n)
    if own.value is None or other.value is None:
        return Figure(None, n=n, why=own.why or f"of the other groups {other.why}")
    change = own.value - other.value
    low, high = difference(own.value, _ends(own), other.value, _ends(other), correlation())
    # By the side of the interval on which 0 lies, so that one without 0 is one with p below .05.
    error = (change - low if change > 0 else high - change) / Z
    p = None if n < MIN_CLUSTERS or not error > 0 else float(2 * norm.sf(abs(change) / error))
    return Figure(change, low, high, n, p)


def _correlation(group: _Group, rest: _Group, key: str) -> float:
    """Of a figure of both over the resamples: 0 where they share no patient."""
    if group.n_patients + rest.n_patients == len(np.unique(group.of.patients[group.inside | rest.inside])):
        return 0.0
    pairs = np.stack([group.resampled[key], rest.resampled[key]])
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    constant = pairs.shape[1] < MIN_CLUSTERS or bool((np.ptp(pairs, axis=1) == 0).any())
    return 0.0 if constant else float(np.corrcoef(pairs)[0, 1])


def _ends(figure: Figure) -> Interval:
    assert figure.low is not None
    assert figure.high is not None
    return figure.low, figure.high


def _few(n: int, needed: int = FEWEST) -> Figure:
    who = "1 patient" if n == 1 else f"{n} patients"
    return Figure(None, n=n, why=f"not measured: {who}, {needed} are needed")
