"""How well a network does on labelled images in several readings, compared on the same resampled patients."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from shortcutscope.models.heads.targets import class_count, margin
from shortcutscope.stats.bootstrap import cluster_weights, percentile_interval
from shortcutscope.stats.metrics import weighted_auroc
from shortcutscope.types import Array, Floats

#: Resamples of the patients; chance that any of several readings that are no better is called better.
RESAMPLES, LEVEL = 400, 0.05
#: Smallest AUROC difference that is named.
SMALLEST = 0.02


@dataclass(frozen=True)
class Performance:
    """AUROC of one reading, and how likely it makes the labels.

    Attributes
    ----------
    by_class
        Of each class against the others; of two classes of the second one.
    resampled : (RESAMPLES,)
        Their mean on resampled patients.
    loss, resampled_loss
        Mean negative log likelihood of the labels, each class against the others, and on the same resamples.
    """

    by_class: dict[int, float]
    resampled: Floats
    loss: float = float("nan")
    resampled_loss: Floats = field(default_factory=lambda: np.full(RESAMPLES, np.nan))

    @property
    def auroc(self) -> float:
        """Mean over the classes."""
        return float(np.mean(list(self.by_class.values())))

    def interval(self) -> tuple[float, float]:
        """Of 95 %."""
        return percentile_interval(self.resampled)

    def gain(self, over: Performance) -> tuple[float, float]:
        """Difference to another reading on the same images, and its standard error."""
        error = float(np.nanstd(self.resampled - over.resampled))
        return self.auroc - over.auroc, error

    def likelihood_gain(self, over: Performance) -> tuple[float, float]:
        """By how much its loss is smaller than another reading's, and the standard error of that."""
        return over.loss - self.loss, float(np.nanstd(over.resampled_loss - self.resampled_loss))


class Judge:
    """Gives the performance of logits on the same images.

    Parameters
    ----------
    labels, groups : (N,)
        Classes and patients.
    task
        Of the scores that are read, see `shortcutscope.models.heads.targets.resolve_task`.
    seed
        Of the resamples.
    """

    def __init__(self, labels: Array, groups: Array, task: str, seed: int) -> None:
        self.labels, self.task = labels, task
        self._weights = cluster_weights(groups, RESAMPLES, seed)
        present = sorted(set(labels.tolist()))
        self.classes = present[1:] if len(present) == 2 else present

    def performance(self, logits: Tensor) -> Performance:
        """Of logits (N, K)."""
        allowed = [c for c in self.classes if c < class_count(logits, self.task)]
        every = np.ones((1, len(self.labels)))
        by_class, resampled, losses = {}, [], []
        for c in allowed:
            scores = margin(logits, self.task, c).double().numpy()
            of_class = (self.labels == c).astype(float)
            by_class[c] = float(weighted_auroc(of_class, scores, every)[0])
            resampled.append(weighted_auroc(of_class, scores, self._weights))
            losses.append(np.logaddexp(0, np.where(of_class == 1, -scores, scores)))
        loss = np.mean(losses, axis=0)
        resampled_loss = self._weights @ loss / self._weights.sum(axis=1)
        return Performance(by_class, np.mean(resampled, axis=0), float(loss.mean()), resampled_loss)


def lower_bounds(others: dict[str, Performance], given: Performance) -> dict[str, float]:
    """Bounds that the gains over the given reading exceed, all at once, at the level of `LEVEL`.

    The largest studentized difference is resampled (max-T; Romano & Wolf 2005), so that many readings may be
    compared: where none is better, one of them is called so with probability `LEVEL`.
    """
    gains = {name: performance.gain(given) for name, performance in others.items()}
    return _bounds(gains, {name: p.resampled - given.resampled for name, p in others.items()})


def likelihood_bounds(others: dict[str, Performance], given: Performance) -> dict[str, float]:
    """The same of the gains in log likelihood."""
    gains = {name: performance.likelihood_gain(given) for name, performance in others.items()}
    return _bounds(gains, {name: given.resampled_loss - p.resampled_loss for name, p in others.items()})


def _bounds(gains: dict[str, tuple[float, float]], resampled: dict[str, Floats]) -> dict[str, float]:
    noise = []
    for name, (gain, error) in gains.items():
        if error > 0:
            resamples = resampled[name]
            noise.append((np.where(np.isnan(resamples), gain, resamples) - gain) / error)
    if not noise:
        return {name: gain for name, (gain, _) in gains.items()}
    widest = float(np.quantile(np.max(noise, axis=0), 1 - LEVEL))
    return {name: gain - widest * error for name, (gain, error) in gains.items()}
