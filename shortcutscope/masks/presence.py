"""Whether a sample carries the concept at all: only then it gets a mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from shortcutscope.errors import InputError
from shortcutscope.masks.evidence import PATCHES
from shortcutscope.stats.metrics import auroc
from shortcutscope.types import Array, Floats

_FOLDS = 4

#: Share of samples without the concept that may be taken for carriers, and of carriers that may be called
#: free of it without a word.
FALSE_ALARMS, MISSES = 0.02, 0.05
#: Level at which carriers have to be told from the others out of fold.
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Presence:
    """Tells carriers by the peaks of their evidence and by an out-of-fold score of the network's features.

    Attributes
    ----------
    classifier
        On ``[score, log of each peak]``.
    names
        Of the peaks that it looks at.
    scored
        Whether it looks at the score.
    limit
        Probability above which a sample is taken for a carrier: at most `FALSE_ALARMS` of the samples that
        are known to be without the concept lie above it.
    absent
        Probability below which a sample is called free of it: at most `MISSES` of the known carriers lie
        below. Between the two nobody can tell; where carriers and others are far apart, there is no between.
    told
        (N,) probabilities of the samples it was fitted on, out of fold.
    """

    classifier: Pipeline
    names: tuple[str, ...]
    scored: bool
    limit: float
    absent: float
    told: Floats

    @classmethod
    def fit(
        cls,
        peaks: Mapping[str, Array],
        score: Floats | None,
        concept: Array,
        folds: Array | None = None,
    ) -> Presence:
        """From samples (N,) whose concept is known.

        What was learnt of single places may say all by itself, and then the rest only blurs it: of the two
        the one is taken that tells carriers better out of fold.

        Parameters
        ----------
        peaks
            By map the largest evidence of each sample (N,), of evidence that was fitted on others.
        score
            (N,) out of fold; None does without.
        concept
            (N,) 0 or 1.
        folds
            (N,) whole patients; None for folds of samples.
        """
        regression = LogisticRegression(C=0.3, class_weight="balanced", max_iter=1000)
        classifier = make_pipeline(StandardScaler(), regression)
        cv: PredefinedSplit | int = _FOLDS
        if folds is not None and len(np.unique(folds)) > 1:
            split = PredefinedSplit(folds)
            # Where a rest lacks carriers or others, folds of samples have to do.
            cv = split if all(len(np.unique(concept[rest])) == 2 for rest, _ in split.split()) else _FOLDS
        ways = [(tuple(peaks), score is not None), *([((PATCHES,), False)] if PATCHES in peaks else [])]
        looks = [_features(peaks, names, score if scored else None) for names, scored in ways]
        told = [
            cross_val_predict(classifier, of, concept, cv=cv, method="predict_proba")[:, 1] for of in looks
        ]
        best = max(range(len(ways)), key=lambda way: auroc(concept, told[way]))
        (names, scored), features, probabilities = ways[best], looks[best], told[best]
        limit = max(0.5, _quantile(probabilities[concept == 0], FALSE_ALARMS))
        absent = -_quantile(-probabilities[concept == 1], MISSES)
        fitted = classifier.fit(features, concept)
        return cls(fitted, names, scored, limit, min(absent, limit), probabilities)

    def probability(self, peaks: Mapping[str, Array], score: Floats | None) -> Floats:
        """(N,) that samples carry it, if carriers were as frequent as the others."""
        features = _features(peaks, self.names, score if self.scored else None)
        return np.asarray(self.classifier.predict_proba(features)[:, 1], np.float64)


def require_separable(probabilities: Floats, concept: Array, name: str) -> None:
    """Refuse masks of a concept whose carriers cannot be told from others.

    Parameters
    ----------
    probabilities
        (N,) probabilities, out of fold.
    concept
        (N,) 0 or 1.
    name
        Of the concept.

    Raises
    ------
    InputError
        With what was measured.
    """
    carriers, others = probabilities[concept == 1], probabilities[concept == 0]
    if mannwhitneyu(carriers, others, alternative="greater").pvalue <= LEVEL:
        return
    raise InputError(
        f"which samples carry {name!r} cannot be seen from the images or the network: out of fold, the "
        f"{len(carriers)} with it are told from the {len(others)} without it with an AUROC of "
        f"{auroc(concept, probabilities):.2f}, which is no better than chance. Masks would be guesses; give "
        "more samples whose concept is known, or check the column"
    )


def _quantile(null: Floats, share: float) -> float:
    """The value that a further draw exceeds with at most this probability, or the highest of a few.

    By the ranks of exchangeable draws (Vovk et al. 2005), so that few samples give a high limit.
    """
    rank = min(len(null), int(np.ceil((len(null) + 1) * (1 - share))))
    return float(np.sort(null)[rank - 1])


def _features(peaks: Mapping[str, Array], names: tuple[str, ...], score: Floats | None) -> Array:
    logs = [np.log(np.asarray(peaks[name], np.float64) + 1e-6) for name in names]
    return np.stack([*([] if score is None else [score]), *logs], axis=1)
