"""Before and after a correction: can the concept still be read, and what does a head make of the features?

Cross-fitted by patient. A correction makes what it was fitted on look clean, so that the probe that asks for
the concept again is fitted on other samples than the correction, and both on other patients than those it is
asked about. A head that is fitted here in folds sees features as it would in use: fitted on the samples that
the correction was fitted on, corrected, and read on the patients left out. A head that was given, or fitted
on training samples, stays what it is.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shortcutscope.embeddings.corrections import CORRECTIONS, Correction, Fit
from shortcutscope.embeddings.encoder import TestedConcepts
from shortcutscope.embeddings.heads import fit_head
from shortcutscope.embeddings.robustness import robustness_index
from shortcutscope.embeddings.scores import LinearScores
from shortcutscope.options import Statistics
from shortcutscope.probes.association import Association
from shortcutscope.probes.crossfit import cross_fitted_scores, make_folds
from shortcutscope.probes.verdict import effects
from shortcutscope.stats.bootstrap import cluster_interval
from shortcutscope.stats.metrics import auroc, resampled_auroc, within_class_auroc
from shortcutscope.types import JSON, Array, Bools, Floats, Ints, Record

#: Columns of the table of corrections.
COLUMNS = ("encoder", "concept", "method", "metric", "value", "low", "high", "n", "why")
METRICS = (
    "encoded_auroc", "label_auroc", "robust_auroc", "aligned_auroc", "auroc_gap", "robustness_index"
)  # fmt: skip
TOO_FEW = (
    "too few samples on which concept and label disagree to learn a correction from some of the patients"
)
#: The row that the others are compared with.
BEFORE = "none"
N_FOLDS = 4


@dataclass(frozen=True, eq=False)
class _Case:
    """One encoder and one concept."""

    scores: LinearScores
    concept: Floats
    association: Association
    statistics: Statistics
    k: int

    @cached_property
    def folds(self) -> Ints:  # the same for all corrections, as are the halves
        return make_folds(self.scores.labels, self.scores.groups, self.concept, N_FOLDS, self.statistics.seed)

    @cached_property
    def halves(self) -> list[tuple[Ints, Ints]]:
        """Of the samples outside each fold: those that a correction learns from, and those of the probe."""
        halves = []
        for fold in range(N_FOLDS):
            train = np.flatnonzero(self.folds != fold)
            labels, groups = self.scores.labels[train], self.scores.groups[train]
            half = make_folds(labels, groups, self.concept[train], 2, self.statistics.seed)
            halves.append((train[half == 0], train[half == 1]))
        return halves

    @property
    def known(self) -> Bools:
        return np.isfinite(self.concept)

    def fitted(self, fit: Fit | None, rows: Ints) -> Correction:
        """A correction that learns from the known ones of some samples."""
        rows = rows[self.known[rows]]
        if fit is None:
            return _unchanged
        if not _both_in_a_class(self.concept[rows], self.scores.labels[rows]):
            raise _TooFewError
        return fit(
            self.scores.features[rows].astype(np.float64), self.concept[rows], self.scores.labels[rows]
        )


class _TooFewError(Exception):
    """Some patients alone do not tell the concept from the label, so that no correction can be learnt."""


def _unchanged(features: Floats, _: Floats) -> Floats:
    return features


def corrected_features(
    scores: LinearScores,
    tested: TestedConcepts,
    statistics: Statistics,
    *,
    methods: Sequence[str],
    encoded: Container[str],
    k: int,
) -> list[Record]:
    """What each correction does for each encoded concept, one row per concept, method and metric.

    Parameters
    ----------
    scores
        An encoder's features and head.
    tested
        The concepts.
    statistics
        Resamples and seed.
    methods
        Names of `CORRECTIONS`.
    encoded
        Names of the concepts that there is something to correct of; of the others there is the row before.
    k
        Neighbours of the robustness index.

    Returns
    -------
    list of dict
        concept, method (``"none"`` before), metric (encoded_auroc, label_auroc, robust_auroc, aligned_auroc,
        auroc_gap, robustness_index), value, low, high, n (of the smallest group that it rests on) and why
        (where it was not measured).
    """
    rows: list[Record] = []
    fits: Mapping[str, Fit | None] = {BEFORE: None, **{name: CORRECTIONS[name] for name in methods}}
    for concept in tested.testable:
        case = _Case(scores, concept.values, tested.associations[concept.name][0], statistics, k)
        for method, fit in fits.items():
            if fit is not None and concept.name not in encoded:
                continue
            for metric, figure in _figures(case, fit):
                low, high = figure.get("interval") or (None, None)
                rows.append(
                    {
                        "concept": concept.name,
                        "method": method,
                        "metric": metric,
                        "value": figure["value"],
                        "low": low,
                        "high": high,
                        "n": figure.get("n"),
                        "why": figure.get("why") or "",
                    }
                )
    return rows


def _figures(case: _Case, fit: Fit | None) -> list[tuple[str, JSON]]:
    """Metric and figure of one correction; without a value where it cannot be cross-fitted."""
    try:
        return list(_measured(case, fit))
    except _TooFewError:
        return [(metric, {"value": None, "why": TOO_FEW}) for metric in METRICS]


def _measured(case: _Case, fit: Fit | None) -> Iterator[tuple[str, JSON]]:
    folds = case.folds
    yield "encoded_auroc", _readable(case, fit)
    features, margins = np.empty(case.scores.features.shape), np.empty(len(case.concept))
    for fold in range(N_FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        correct = case.fitted(fit, train)
        features[test] = correct(case.scores.features[test], case.concept[test])
        margins[test] = _margins(case, correct, train, test, features[test])
    yield from _performance(case, margins)
    index = robustness_index(
        features,
        case.scores.labels,
        case.concept,
        case.scores.groups,
        k=case.k,
        n_bootstrap=case.statistics.n_bootstrap,
        seed=case.statistics.seed,
    )
    yield "robustness_index", {**vars(index)}


def _margins(case: _Case, correct: Correction, train: Ints, test: Ints, features: Floats) -> Floats:
    """Margins of corrected features of the samples left out."""
    scores, positive = case.scores, case.association.positive
    penalty = scores.heads.penalty
    if penalty is None or scores.heads.fitted_on != "audited":
        return scores.margin_of(scores.heads.logits(features, test), positive)
    correction = correct(scores.features[train], case.concept[train])
    head = fit_head(correction, scores.labels[train], penalty, int(scores.labels.max()) + 1)
    return scores.margin_of(head.logits(features), positive)


def _performance(case: _Case, margins: Floats) -> Iterator[tuple[str, JSON]]:
    labels, groups, association = case.scores.labels, case.scores.groups, case.association
    truth = (labels == association.positive).astype(float)
    n_bootstrap, seed = case.statistics.n_bootstrap, case.statistics.seed
    interval = cluster_interval(lambda w: auroc(truth, margins, w), groups, n_bootstrap, seed=seed, by="rows")
    yield "label_auroc", {"value": auroc(truth, margins), "interval": interval, "n": len(truth)}
    costs = effects(case.concept, labels, groups, margins, association, n_bootstrap=n_bootstrap, seed=seed)
    for name in ("robust_auroc", "aligned_auroc", "auroc_gap"):
        yield name, costs[name]


def _readable(case: _Case, fit: Fit | None) -> JSON:
    """AUROC within class at which a fresh probe reads the concept from corrected features."""
    known, scored = case.known, np.zeros((2, len(case.concept)))
    for fold, halves in enumerate(case.halves):
        test = np.flatnonzero(case.folds == fold)
        for row, (learning, probing) in enumerate((halves, halves[::-1])):
            scored[row, test] = _probe(case, case.fitted(fit, learning), probing, test)
    t, y, g = case.concept[known], case.scores.labels[known], case.scores.groups[known]
    areas = [float(within_class_auroc(t, one[known], y)) for one in scored]
    resampled = [resampled_auroc(t, one[known], y) for one in scored]

    def mean(weights: Array) -> Floats:
        return np.asarray((resampled[0](weights) + resampled[1](weights)) / 2)

    interval = cluster_interval(mean, g, case.statistics.n_bootstrap, seed=case.statistics.seed, by="rows")
    return {
        "value": float(np.mean(areas)),
        "interval": interval,
        "n": int(min((t == 0).sum(), (t == 1).sum())),
    }


def _probe(case: _Case, correct: Correction, train: Ints, test: Ints) -> Floats:
    """Scores of the samples left out by a probe of some others, both corrected."""
    rows = np.concatenate([train, test])
    features = correct(case.scores.features[rows], case.concept[rows])
    fold = np.r_[np.zeros(len(train), np.int64), np.ones(len(test), np.int64)]
    targets = case.concept[rows]
    scores = cross_fitted_scores(features, targets, case.scores.labels[rows], fold, centre=True)
    return scores[len(train) :]


def _both_in_a_class(concept: Floats, labels: Ints) -> bool:
    return any(len(np.unique(concept[labels == c])) == 2 for c in np.unique(labels))
