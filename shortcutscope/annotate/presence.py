"""Whether a sample carries the concept at all: only then it gets a mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

_FOLDS = 4
Floats = npt.NDArray[np.float64]

#: Share of samples without the concept that may be taken for carriers.
FALSE_ALARMS = 0.02


@dataclass(frozen=True, eq=False)
class Presence:
    """Tells carriers by the peaks of their evidence and by an out-of-fold score of the network's features.

    Attributes
    ----------
    classifier
        On ``[score, log of each peak]``.
    limit
        Probability from which a sample is taken for a carrier.
    """

    classifier: Pipeline
    limit: float

    @classmethod
    def fit(cls, peaks: Mapping[str, npt.NDArray[Any]], score: Floats, concept: npt.NDArray[Any]) -> Presence:
        """From samples (N,) whose concept is known.

        Parameters
        ----------
        peaks
            By map the largest evidence of each sample (N,).
        score
            (N,) out of fold.
        concept
            (N,) 0 or 1.
        """
        features = _features(peaks, score)
        regression = LogisticRegression(C=0.3, class_weight="balanced", max_iter=1000)
        classifier = make_pipeline(StandardScaler(), regression).fit(features, concept)
        told = cross_val_predict(classifier, features, concept, cv=_FOLDS, method="predict_proba")[:, 1]
        alarms = float(np.quantile(told[concept == 0], 1 - FALSE_ALARMS))
        return cls(classifier, max(0.5, alarms))

    def probability(self, peaks: Mapping[str, npt.NDArray[Any]], score: Floats) -> Floats:
        """(N,) that samples carry it, if carriers were as frequent as the others."""
        return np.asarray(self.classifier.predict_proba(_features(peaks, score))[:, 1], np.float64)


def _features(peaks: Mapping[str, npt.NDArray[Any]], score: Floats) -> Floats:
    logs = [np.log(np.asarray(values, np.float64) + 1e-6) for values in peaks.values()]
    return np.stack([score, *logs], axis=1)
