"""From ten marked samples to a concept: who else carries it, who does not, and who is doubtful.

A balanced logistic regression on the early layers tells the marked samples from the unlabelled ones
(positive and unlabelled learning). No sample is scored by a model that was
told it is free of the artifact; a mixture of two groups then says how many carriers each class has, and
the most certain of them, by rank, get a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LogisticRegression

from shortcutscope.data.sample_names import as_ids
from shortcutscope.data.splits import grouped_folds
from shortcutscope.errors import InputError
from shortcutscope.probes.alive import alive, size_of
from shortcutscope.probes.mixture import fit_mixture, require_enough
from shortcutscope.stats.metrics import auroc
from shortcutscope.types import Array, Bools, Floats, Ints

#: Fewest marks to learn from.
MIN_MARKS = 5
#: AUROC of held-out marks against the unlabelled samples of their class, below which the marks are refused.
MIN_RECOVERY = 0.65
#: Share of the carriers, and of the others, that a class is estimated to have, that get a value.
KEEP = 0.7
#: Folds over the samples, and inverse penalty of the logistic regression.
N_FOLDS, INVERSE_PENALTY = 5, 0.01
#: Unlabelled samples that one model is fitted on: ten marks do not gain from more.
MAX_UNLABELLED = 4000


@dataclass(frozen=True, eq=False)
class MarkPropagation:
    """What the marks say about all samples.

    Attributes
    ----------
    values
        ``(N,)`` 1, 0 or NaN.
    marks
        ``(N,)`` those of them that a person gave.
    scores
        ``(N,)`` out-of-fold scores.
    recovery
        AUROC of held-out marks against the unlabelled samples of their class: a lower bound of the quality,
        since unlabelled carriers count against it.
    summary, notes
        For the report.
    """

    values: Floats
    marks: Floats
    scores: Floats
    recovery: float
    summary: str
    notes: tuple[str, ...]


def propagate_marks(
    blocks: Sequence[npt.ArrayLike],
    samples: pd.DataFrame,
    carriers: Sequence[str],
    others: Sequence[str] = (),
    *,
    keep: float = KEEP,
    min_carriers: int = 10,
    seed: int = 0,
) -> MarkPropagation:
    """Values for all samples from marks on a few.

    The regression is fitted inside one class, the one whose held-out marks it recovers best: there the label
    cannot stand in for the artifact. Where the artifact is common, unlabelled samples mostly carry it and
    teach nothing; so marks in the class where it is rare are worth most.

    Parameters
    ----------
    blocks
        Features ``(N, D_l)`` of each layer.
    samples
        ``N`` rows with sample_id, label and group.
    carriers, others
        Sample ids marked as carriers, and as free of it.
    keep, min_carriers, seed
        See :meth:`shortcutscope.probes.concept.Concept.from_marks`.

    Raises
    ------
    InputError
        See there.
    """
    if not 0 < keep <= 1:
        raise InputError(f"keep={keep:g}; it must lie above 0 and not above 1, for example {KEEP}")
    marks = _marks(samples["sample_id"].astype(str).to_numpy(), carriers, others)
    labels = np.asarray(np.unique(samples["label"].to_numpy(), return_inverse=True)[1], np.intp)
    problem = _Problem(_standardised(blocks), labels, marks, seed)
    folds = grouped_folds(
        samples["group"].to_numpy(), 3 * labels + np.nan_to_num(marks, nan=2), N_FOLDS, seed
    )
    inside, recovery = problem.best_classes(folds)
    fitted_in = np.isin(labels, inside)
    held_out = problem.scores(fitted_in, folds, hold_marks=True)
    scores = np.where(np.isnan(marks), problem.scores(fitted_in, folds, hold_marks=False), held_out)
    free_inside = fitted_in & np.isnan(marks)
    start = (float(np.median(scores[free_inside])), float(scores[marks == 1].mean()))
    mixture = fit_mixture(scores, labels, start, marks)
    values = np.where(np.isnan(marks), surest(scores, labels, mixture.shares, keep), marks)
    require_enough(values, "marks", min_carriers)
    n_marks = int((marks == 1).sum())
    summary = (
        f"{n_marks} marks; {int((values == 1).sum())} carriers and {int((values == 0).sum())} others "
        f"by a classifier of them; held-out marks recovered with AUROC {recovery:.2f}"
    )
    return MarkPropagation(values, marks, scores, recovery, summary, _notes(values, recovery))


def surest(scores: Floats, labels: Ints, shares: Floats, keep: float) -> Floats:
    """Values ``(N,)`` of the samples at either end of the scores of their class, NaN between.

    Ranks inside a class stay right where the two groups of scores are no Gaussians, or lie elsewhere in
    one class than in the other. In a class of ``n`` with an estimated share ``s`` of carriers, the top
    ``keep s n`` are carriers and the last ``keep (1 - s) n`` are not.
    """
    values = np.full(len(scores), np.nan)
    for code, share in enumerate(shares):
        ranked = np.flatnonzero(labels == code)
        ranked = ranked[np.argsort(-scores[ranked], kind="stable")]
        values[ranked[: int(keep * share * len(ranked))]] = 1
        values[ranked[len(ranked) - int(keep * (1 - share) * len(ranked)) :]] = 0
    return values


@dataclass(frozen=True, eq=False)
class _Problem:
    """Marked against unlabelled samples."""

    features: Floats
    labels: Ints
    marks: Floats
    seed: int

    def recovery(self, classes: tuple[int, ...], folds: Ints) -> float:
        """AUROC of held-out marks against the unlabelled samples of the classes fitted in."""
        fitted_in = np.isin(self.labels, classes)
        scores = self.scores(fitted_in, folds, hold_marks=True)
        return float(auroc(np.nan_to_num(self.marks)[fitted_in], scores[fitted_in]))

    def best_classes(self, folds: Ints) -> tuple[tuple[int, ...], float]:
        """The classes to fit in, and how well marks are recovered there; InputError where nowhere."""
        candidates = _candidate_classes(self.labels[self.marks == 1])
        recovered = {inside: self.recovery(inside, folds) for inside in candidates}
        inside = max(recovered, key=lambda classes: recovered[classes])
        recovery = recovered[inside]
        if not recovery >= MIN_RECOVERY:
            raise InputError(
                f"the marked samples cannot be told from the unlabelled ones (AUROC of held-out marks "
                f"{recovery:.2f}, needed {MIN_RECOVERY}). Mark samples in the class where the artifact is "
                "rare, mark more, or name samples without it as others"
            )
        return inside, recovery

    def scores(self, fitted_in: Bools, folds: Ints, *, hold_marks: bool) -> Floats:
        """Score each sample by a model without its fold; ``hold_marks``: also without the fold's marks."""
        scores = np.empty(len(self.labels))
        for fold in np.unique(folds):
            test = folds == fold
            train = fitted_in & (~test if hold_marks else ~test | ~np.isnan(self.marks))
            scores[test] = self._fit(train, self.seed + int(fold)).decision_function(self.features[test])
        return scores

    def _fit(self, train: Bools, seed: int) -> LogisticRegression:
        marked = np.flatnonzero(train & (self.marks == 1))
        free = np.flatnonzero(train & (self.marks == 0))
        unlabelled = np.flatnonzero(train & np.isnan(self.marks))
        if len(unlabelled) > MAX_UNLABELLED:
            rng = np.random.default_rng(seed)
            unlabelled = np.sort(rng.choice(unlabelled, MAX_UNLABELLED, replace=False))
        if not len(marked):
            raise InputError("all marked samples are of one patient; mark samples of at least two")
        rows = np.concatenate([marked, free, unlabelled])
        # Both sides weigh the same; a few samples named free of it weigh half as much as all unlabelled.
        parts = (_even(len(marked), 1.0), _even(len(free), 0.5), self._like_marks(unlabelled, marked))
        weights = np.concatenate(parts)
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=1000)
        return model.fit(self.features[rows], self.marks[rows] == 1, sample_weight=weights / weights.mean())

    def _like_marks(self, unlabelled: Ints, marked: Ints) -> Floats:
        """Weights that give unlabelled samples the classes of the marks, so that the label is no cue."""
        n_classes = int(self.labels.max()) + 1
        shares = np.bincount(self.labels[marked], minlength=n_classes) / len(marked)
        present = np.bincount(self.labels[unlabelled], minlength=n_classes)
        return np.asarray((shares / np.maximum(present, 1))[self.labels[unlabelled]])


def _even(n: int, total: float) -> Floats:
    return np.full(n, total / max(1, n))


def _candidate_classes(marked_labels: Ints) -> list[tuple[int, ...]]:
    """Each class with enough marks to learn from; all marked classes together if none has."""
    classes, counts = np.unique(marked_labels, return_counts=True)
    enough: list[tuple[int, ...]] = [
        (int(c),) for c, count in zip(classes, counts, strict=True) if count >= MIN_MARKS
    ]
    return enough or [tuple(int(c) for c in classes)]


def _standardised(blocks: Sequence[npt.ArrayLike]) -> Floats:
    """All layers' features side by side; dead channels are 0."""
    if not blocks:
        raise InputError("no layer was given to learn the marks from")
    parts = []
    for block in blocks:
        values = np.asarray(block, np.float64)
        spread = values.std(axis=0)
        varies = alive(spread, size_of(values))
        scaled = (values - values.mean(axis=0))[:, varies] / spread[varies]
        parts.append(scaled.astype(np.float32))
    return np.concatenate(parts, axis=1)


def _marks(ids: Array, carriers: Sequence[str], others: Sequence[str]) -> Floats:
    """``(N,)`` 1 for marked, 0 for named others, NaN for the rest."""
    carriers, others = [str(i) for i in carriers], [str(i) for i in others]
    position = {name: k for k, name in enumerate(ids)}
    carriers, others = (as_ids(names, list(position)) for names in (carriers, others))
    unknown = [i for i in [*carriers, *others] if i not in position]
    if unknown:
        raise InputError(f"{len(unknown)} marked samples are not in the scan, among them {unknown[:5]}")
    both = sorted(set(carriers) & set(others))
    if both:
        raise InputError(f"samples are marked as carriers and as others: {both[:5]}")
    if len(set(carriers)) < MIN_MARKS:
        raise InputError(
            f"{len(set(carriers))} marked samples; at least {MIN_MARKS} are needed, ten are advised"
        )
    marks = np.full(len(ids), np.nan)
    marks[[position[i] for i in carriers]] = 1.0
    marks[[position[i] for i in others]] = 0.0
    return marks


def _notes(values: Floats, recovery: float) -> tuple[str, ...]:
    notes = ["the concept is inferred from marked samples; errors in it make effects look smaller"]
    if recovery < 0.85:
        notes.append(f"held-out marks are recovered with AUROC {recovery:.2f} only: mark more samples")
    doubtful = float(np.isnan(values).mean())
    if doubtful > 0.3:
        notes.append(f"{doubtful:.0%} of the samples are doubtful and left out")
    return tuple(notes)
