"""One ranking from several: by how well each recovers the marks that were held out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from shortcutscope.retrieval.presence import FindOdds, presence
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Floats

#: A view takes part when it is expected to tell carriers nearly as well as the best one.
NEARLY = 0.03
#: Recoveries that count as perfect, so that no view outweighs all others without bound.
PERFECT = 0.999
#: Standard errors by which a detector that mined must recover marks worse than the best view to be left out,
#: and by which a view must recover them better than one that sees the same and more to take part.
WORSE, BETTER = 2.0, 1.0
#: AUROC above chance, and its spread, that views of natural artifacts have before anything is known.
USUAL, SPREAD = 0.12, 0.1


@dataclass(frozen=True, eq=False)
class Fusion:
    """A ranking of all samples by several views.

    Attributes
    ----------
    scores
        ``(N,)`` large for carriers.
    recoveries
        View to the AUROC of held-out marked carriers against the other samples of their class.
    weights
        View to its share of the ranking; 0 for those that recover the marks worse than the best one.
    presence
        What the finds of a detector say that mined what it looks for; None without one.
    """

    scores: Floats
    recoveries: Mapping[str, float]
    weights: Mapping[str, float]
    presence: FindOdds | None = None

    @property
    def carried_by(self) -> str:
        """The view with the largest share."""
        return max(self.weights, key=lambda name: self.weights[name])

    def __str__(self) -> str:
        recovered = ", ".join(f"{name} {value:.2f}" for name, value in self.recoveries.items())
        finds = "" if self.presence is None else f"; {self.presence}"
        used = {name: share for name, share in self.weights.items() if share > 0}
        if len(used) == 1:
            return f"ranked by {self.carried_by} (held-out marks recovered with AUROC: {recovered}{finds})"
        shares = ", ".join(f"{name} {share:.0%}" for name, share in used.items())
        return f"ranked by {shares} (held-out marks recovered with AUROC: {recovered}{finds})"


def fuse(
    scores: Mapping[str, Floats],
    marks: Floats,
    labels: npt.ArrayLike,
    mined: Mapping[str, int] | None = None,
    usual: Mapping[str, float] | None = None,
    contained: Mapping[str, str] | None = None,
) -> Fusion:
    """Choose, and join, rankings by out-of-fold evidence.

    How well a view recovers held-out marks is shrunk by its error towards what is usual. Normal scores (van
    der Waerden 1952) of the views that are nearly as good as the best are averaged, each weighing its
    separation of the two sides in standard deviations. A detector that mined
    what it looks for is left out only where it recovers marks plainly worse: ten marks say too little of
    which is better, and both can be right, the detector where it found something and the others where it did
    not. So log odds are added. A view that another one contains has to recover the marks plainly better: once
    samples were asked about for their rank, what was fitted against the unmarked ones tells them from these.

    Parameters
    ----------
    scores
        View to ``(N,)`` scores, those of marked samples by a model that was not told their marks.
    marks
        ``(N,)`` 1, 0 or NaN.
    labels
        ``(N,)`` class.
    mined
        Views of detectors that mined what they look for to their number of kinds; their scores are in units
        of the law of images without it.
    usual
        AUROC above chance that a view usually has, where it is not that of most.
    contained
        View to another one that sees the same and more.
    """
    marks, labels = np.asarray(marks, np.float64), np.asarray(labels)
    recoveries = {name: _recovery(values, marks, labels) for name, values in scores.items()}
    if len(scores) == 1:
        (name,) = scores
        return Fusion(scores[name], recoveries, {name: 1.0})
    n_carriers = int((marks == 1).sum())
    finding = [name for name in scores if name in (mined or {})]
    views = [name for name in scores if name not in finding]
    surpassed = _surpassed({name: recoveries[name] for name in views}, contained or {}, n_carriers)
    ordinary = {
        name: _expected(recoveries[name], n_carriers, (usual or {}).get(name, USUAL))
        for name in views
        if name not in surpassed
    }
    weights = {**dict.fromkeys(views, 0.0), **_weights(ordinary)}
    joined = _joined(scores, weights)
    if not finding:
        return Fusion(joined, recoveries, weights)
    (name,) = finding
    finds = presence(scores[name], marks, (mined or {})[name])
    best = max(recoveries[view] for view in ordinary)
    behind = best - recoveries[name] > max(NEARLY, WORSE * _error(n_carriers))
    if finds.weight == 0 or behind:
        return Fusion(joined, recoveries, {**weights, name: 0.0}, finds)
    odds = _separation(max(ordinary.values())) * _normal(joined)
    share = float(finds.odds.std() / (finds.odds.std() + odds.std()))
    shares = {view: value * (1 - share) for view, value in weights.items()}
    return Fusion(odds + finds.odds, recoveries, {**shares, name: share}, finds)


def _recovery(values: Floats, marks: Floats, labels: npt.NDArray[np.generic]) -> float:
    value = float(within_class_auroc((marks == 1).astype(float), values, labels))
    return 0.5 if np.isnan(value) else value


def _expected(recovery: float, n_carriers: int, usual: float) -> float:
    """AUROC of a recovery that is shrunk by its error to what is usual."""
    precision, before = 1 / _error(n_carriers) ** 2, 1 / SPREAD**2
    return 0.5 + (usual * before + (recovery - 0.5) * precision) / (before + precision)


def _surpassed(recoveries: Mapping[str, float], contained: Mapping[str, str], n_carriers: int) -> set[str]:
    """Views that another one contains and that do not recover the marks plainly better."""
    return {
        name
        for name, larger in contained.items()
        if name in recoveries
        and larger in recoveries
        and recoveries[name] - recoveries[larger] <= BETTER * _error(n_carriers)
    }


def _error(n_carriers: int) -> float:
    """Standard error of a recovery, that of a mean of uniform ranks."""
    return float(1 / np.sqrt(12 * max(1, n_carriers)))


def _weights(expected: Mapping[str, float]) -> dict[str, float]:
    best = max(expected.values())
    separation = {
        name: _separation(value) if value >= best - NEARLY else 0.0 for name, value in expected.items()
    }
    total = sum(separation.values())
    if total == 0:  # none tells anything
        return dict.fromkeys(expected, 1 / len(expected))
    return {name: value / total for name, value in separation.items()}


def _joined(scores: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    used = [name for name in weights if weights[name] > 0]
    if len(used) == 1:
        return scores[used[0]]
    return np.asarray(sum(weights[name] * _normal(scores[name]) for name in used), np.float64)


def _normal(values: Floats) -> Floats:
    return np.asarray(norm.ppf(rankdata(values) / (len(values) + 1)), np.float64)


def _separation(expected: float) -> float:
    """Standard deviations between the two sides."""
    return float(np.sqrt(2) * norm.ppf(min(PERFECT, max(0.5, expected))))
