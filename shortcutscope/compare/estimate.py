"""One measured number with its resamples, and what two of them say about each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from shortcutscope.stats.bootstrap import MIN_CLUSTERS, percentile_interval
from shortcutscope.types import Array, Floats, Record

#: Where a metric is best: as large as possible, as small as possible, at zero. None: neither is better.
Goal = Literal["high", "low", "zero"] | None
#: Part, metric, detail: what must agree for two estimates to be compared.
Key = tuple[str, str, str]

#: Weights that a metric is given at a time: 32 MiB in float64.
_BLOCK = 1 << 22

COLUMNS = (
    "network",
    "table",
    "metric",
    "value",
    "low",
    "high",
    "change",
    "change_low",
    "change_high",
    "better",
    "part",
    "detail",
    "note",
)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A metric of one network on one table.

    Attributes
    ----------
    part
        What it is about: ``"overall"``, ``"concept"``, ``"group"``, ``"twins"``, ``"pixels"``,
        ``"relevance"``, ``"layer"`` or ``"subgroup"``.
    metric, detail
        Its name, and which group, layer or subgroup it is about.
    goal
        Where it is best.
    value
        NaN where it cannot be measured.
    resampled
        ``(B,)`` the same on every resample of the patients; empty where there is no interval.
    note
        Why it cannot be measured, or what a reader must know.
    """

    part: str
    metric: str
    goal: Goal
    value: float
    resampled: Floats = field(default_factory=lambda: np.empty(0), repr=False)
    detail: str = ""
    note: str = ""

    @property
    def key(self) -> Key:
        """What it measures."""
        return self.part, self.metric, self.detail

    @property
    def interval(self) -> tuple[float, float]:
        """95 % by patient."""
        return percentile_interval(self.resampled) if len(self.resampled) else (float("nan"), float("nan"))


def resample(statistic: Callable[[Floats], Any], weights: Array, n_groups: int) -> tuple[float, Floats]:
    """Value of a weighted statistic, and its values on the resamples, a block of them at a time.

    Parameters
    ----------
    statistic
        From weights ``(B, N)`` to ``(B,)``.
    weights
        ``(B, N)`` multiplicities, from `shortcutscope.stats.bootstrap.cluster_weights`.
    n_groups
        Patients among the samples; with too few of them nothing is resampled.
    """
    n = weights.shape[1]
    value = float(np.asarray(statistic(np.ones((1, n))))[0])
    if n_groups < MIN_CLUSTERS or np.isnan(value):
        return value, np.empty(0)
    step = max(1, _BLOCK // max(n, 1))
    blocks = [
        np.asarray(statistic(weights[k : k + step].astype(np.float64))) for k in range(0, len(weights), step)
    ]
    return value, np.concatenate(blocks)


def not_measurable(part: str, metric: str, why: str, detail: str = "") -> Estimate:
    """An estimate that is not there, and why."""
    return Estimate(part, metric, None, float("nan"), detail=detail, note=f"not measurable: {why}")


def paired_rows(
    network: str,
    table: str,
    measured: list[Estimate],
    before: Mapping[Key, Estimate] | None,
    renamed: Mapping[str, str] | None = None,
) -> Iterator[Record]:
    """Rows of a network on a table, each with its change against the network before.

    The difference is taken resample by resample: both were measured on the same patients, and what they share
    cancels. A metric that is best at zero changes by what its distance from zero changes.

    Parameters
    ----------
    before
        Estimates of the biased network on the same table; None for that network itself.
    renamed
        Name of a layer to its name in the biased network.
    """
    for one in measured:
        reference = None
        if before is not None:
            detail = (renamed or {}).get(one.detail, one.detail) if one.part == "layer" else one.detail
            reference = before.get((one.part, one.metric, detail))
        change, (low, high) = _change(one, reference)
        yield {
            "network": network,
            "table": table,
            "metric": one.metric,
            "value": one.value,
            "low": one.interval[0],
            "high": one.interval[1],
            "change": change,
            "change_low": low,
            "change_high": high,
            "better": _better(one.goal, low, high),
            "part": one.part,
            "detail": one.detail,
            "note": one.note,
        }


def _change(one: Estimate, reference: Estimate | None) -> tuple[float, tuple[float, float]]:
    nan = float("nan")
    if reference is None:
        return nan, (nan, nan)
    of: Callable[[Any], Any] = np.abs if one.goal == "zero" else np.asarray
    change = float(of(one.value) - of(reference.value))
    if not len(one.resampled) or len(one.resampled) != len(reference.resampled):
        return change, (nan, nan)
    return change, percentile_interval(of(one.resampled) - of(reference.resampled))


def _better(goal: Goal, low: float, high: float) -> bool | None:
    """Whether the change is an improvement; None where its interval holds zero, or neither is better."""
    if goal is None or not (low > 0 or high < 0):
        return None
    return (low > 0) == (goal == "high")
