"""A probe on plain features of the image, by which it is seen whether a transfer arrived."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.scaled_images import onto
from shortcutscope.pixels.transfers.measures import bands, noise, rim_of, sharpness
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.stats.metrics import auroc
from shortcutscope.types import Floats, Ints

#: Halvings of the patients over which a new probe's AUROC is averaged: with few samples one varies much.
SPLITS = 3
#: Inverse of the probe's penalty on standardized features.
_PENALTY = 0.05
#: Cells of the thumbnail along each axis, by the number of axes.
_CELLS = {1: (16,), 2: (8, 8), 3: (4, 4, 4)}
#: Bands of frequency.
_BANDS = 13
_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)


def input_features(image: Floats) -> Floats:
    """Grey levels, noise, sharpness, rim, a thumbnail, and mean and peak of the spectrum by radius."""
    grey = image if image.ndim == 2 else image.mean(0, keepdims=True)
    levels = [grey.mean(), grey.std(), noise(grey), sharpness(grey), *np.quantile(grey, _QUANTILES)]
    cells = tuple(min(n, side) for n, side in zip(_CELLS[image.ndim - 1], image.shape[1:], strict=True))
    parts = [np.array(levels), np.asarray(onto(grey, cells)).ravel(), _spectrum(grey)]
    if image.ndim == 3:
        parts.append(np.array(rim_of(grey)))
    if image.ndim > 2 and len(image) > 1:
        flat = image.reshape(len(image), -1)
        parts += [flat.mean(1), flat.std(1)]
    return np.concatenate(parts).astype(np.float64)


def _spectrum(grey: Floats) -> Floats:
    """Logarithms of mean and peak power in bands of frequency, mean of channels; 0 of an empty band."""
    axes = tuple(range(1, grey.ndim))
    power = np.abs(np.fft.fftn(grey, axes=axes)).astype(np.float64) ** 2
    logs = np.log(power + 1e-6).reshape(len(grey), -1).mean(0)
    mean, peak = np.zeros(_BANDS), np.zeros(_BANDS)
    for k, member in enumerate(_members(grey.shape[1:])):
        if len(member):
            mean[k], peak[k] = logs[member].mean(), logs[member].max() - logs[member].mean()
    return np.concatenate([mean, peak])


@lru_cache(maxsize=8)
def _members(shape: tuple[int, ...]) -> list[Ints]:
    number = bands(shape, _BANDS).ravel()
    return [np.flatnonzero(number == k + 1) for k in range(_BANDS)]


class InputProbe:
    """Cross-fitted in two halves of the patients: each sample is scored by what the other half taught.

    Parameters
    ----------
    samples
        Whose sides it tells apart; of all of them the concept is known.
    folds
        (N,) 0 or 1.
    """

    def __init__(self, samples: Samples, folds: Ints) -> None:
        self.samples, self.folds = samples, folds
        self.weights = side_weights(samples)

    def fitted(self, features: Floats) -> list[Pipeline]:
        """A probe a half, fitted on the other one."""
        return [self._fit(features, self.folds != k) for k in (0, 1)]

    def scores(self, probes: list[Pipeline], features: Floats) -> Floats:
        """Each sample's score by the probe that did not see it."""
        scores = np.zeros(len(features))
        for k, probe in enumerate(probes):
            inside = self.folds == k
            scores[inside] = probe.decision_function(features[inside])
        return scores

    def separation(self, features: Floats) -> float:
        """AUROC within labels of a probe that is fitted anew, in the mean over `SPLITS` halvings."""
        s, areas = self.samples, []
        for seed in range(SPLITS):
            folds = self.folds if not seed else make_folds(s.labels, s.groups, s.carries, 2, seed)
            probe = InputProbe(s, folds)
            areas.append(within_labels(s, probe.scores(probe.fitted(features), features)))
        return float(np.mean(areas))

    def _fit(self, features: Floats, rows: Floats) -> Pipeline:
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=300, class_weight="balanced")
        )
        return probe.fit(
            features[rows],
            self.samples.carries[rows].astype(int),
            logisticregression__sample_weight=self.weights[rows],
        )


def side_weights(samples: Samples) -> Floats:
    """Weights by which both sides hold every label alike, as far as a label has both."""
    weights = np.zeros(len(samples.labels))
    for label in samples.classes:
        sides = [samples.of(side, label) for side in (0, 1)]
        n0, n1 = map(len, sides)
        for rows in sides:
            weights[rows] = n0 * n1 / max(n0 + n1, 1) / max(len(rows), 1)
    return weights + 1e-6 if weights.any() else np.ones(len(weights))


def within_labels(samples: Samples, scores: Floats) -> float:
    """AUROC of the concept inside each label, averaged by what it rests on; over all where no label has both.

    A label with few samples of one side counts by them, not by its size.
    """
    areas, sizes = [], []
    for label in samples.both_sides(1):
        rows = np.concatenate([samples.of(0, label), samples.of(1, label)])
        n1 = samples.carries[rows].sum()
        areas.append(float(auroc(samples.carries[rows], scores[rows])))
        sizes.append(n1 * (len(rows) - n1) / len(rows))
    return float(np.average(areas, weights=sizes)) if areas else float(auroc(samples.carries, scores))
