"""One ranking from several: by how well each recovers the marks that were held out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Floats

#: A view takes part when it recovers held-out marks nearly as well as the best one.
NEARLY = 0.1
#: Recoveries that count as perfect, so that no view outweighs all others without bound.
PERFECT = 0.999


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
    """

    scores: Floats
    recoveries: Mapping[str, float]
    weights: Mapping[str, float]

    @property
    def carried_by(self) -> str:
        """The view with the largest share."""
        return max(self.weights, key=lambda name: self.weights[name])

    def __str__(self) -> str:
        recovered = ", ".join(f"{name} {value:.2f}" for name, value in self.recoveries.items())
        used = {name: share for name, share in self.weights.items() if share > 0}
        if len(used) == 1:
            return f"ranked by {self.carried_by} (held-out marks recovered with AUROC: {recovered})"
        shares = ", ".join(f"{name} {share:.0%}" for name, share in used.items())
        return f"ranked by {shares} (held-out marks recovered with AUROC: {recovered})"


def fuse(scores: Mapping[str, Floats], marks: Floats, labels: npt.ArrayLike) -> Fusion:
    """Choose, and join, rankings by out-of-fold evidence.

    Normal scores (van der Waerden 1952) of the views that recover held-out marks nearly as well as the best
    are averaged, each weighing its separation of the two sides in standard deviations.

    Parameters
    ----------
    scores
        View to ``(N,)`` scores, those of marked samples by a model that was not told their marks.
    marks
        ``(N,)`` 1, 0 or NaN.
    labels
        ``(N,)`` class.
    """
    carriers = (np.asarray(marks) == 1).astype(float)
    recovered = {
        name: float(within_class_auroc(carriers, values, np.asarray(labels)))
        for name, values in scores.items()
    }
    recoveries = {name: 0.5 if np.isnan(value) else value for name, value in recovered.items()}
    if len(scores) == 1:
        (name,) = scores
        return Fusion(scores[name], recoveries, {name: 1.0})
    best = max(recoveries.values())
    separation = {name: norm.ppf(min(PERFECT, max(0.5, value))) for name, value in recoveries.items()}
    weights = {
        name: separation[name] if value >= best - NEARLY else 0.0 for name, value in recoveries.items()
    }
    total = sum(weights.values())
    if total == 0:  # none tells anything
        weights = dict.fromkeys(recoveries, 1.0)
        total = float(len(weights))
    weights = {name: weight / total for name, weight in weights.items()}
    used = [name for name in weights if weights[name] > 0]
    if len(used) == 1:
        return Fusion(scores[used[0]], recoveries, weights)
    joined = sum(weights[name] * norm.ppf(rankdata(scores[name]) / (len(carriers) + 1)) for name in used)
    return Fusion(np.asarray(joined, np.float64), recoveries, weights)
