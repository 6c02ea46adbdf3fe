"""From marks to a score for every sample, none of them by a model that was told its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from shortcutscope.data.splits import grouped_folds
from shortcutscope.errors import InputError
from shortcutscope.probes.cav import CAV
from shortcutscope.retrieval.classifier import PENALTY, Whitening, fit_marks, whiten
from shortcutscope.retrieval.views import Views
from shortcutscope.stats.metrics import auroc
from shortcutscope.types import Bools, Floats, Ints

#: Fewest carriers to learn from, and fewest of a class that is learnt in.
MIN_MARKS = 5
MIN_IN_CLASS = 3
#: A class is learnt in when its held-out marks are recovered nearly as well as those of the best class.
NEARLY = 0.05
#: A view set is preferred to an earlier one only when it recovers held-out marks better by this much.
BETTER = 0.01


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores of all samples.

    Attributes
    ----------
    scores
        ``(N,)`` large for carriers. Each sample is scored by a model that was fitted without it, and a marked
        one by a model that saw no mark of its fold either.
    vector
        The classifier of all marks, for new samples.
    views
        Names of the views it reads.
    recovery
        AUROC of held-out marked carriers against the other samples of their class. Unmarked carriers count
        against it, so that it is a lower bound.
    classes
        The classes that were learnt in.
    """

    scores: Floats
    vector: CAV
    views: tuple[str, ...]
    recovery: float
    classes: tuple[int, ...]


def rank(
    views: Views,
    marks: Floats,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    n_folds: int = 5,
    C: float = PENALTY,
    seed: int = 0,
) -> Ranking:
    """Rank all samples by the marks on some of them.

    A class is learnt in where held-out marks are told from its other samples. Where the artifact is common,
    the unmarked samples carry it, too, and such a class drops out.

    Parameters
    ----------
    views
        Features of ``N`` samples.
    marks
        ``(N,)`` 1 carrier, 0 free of it, NaN unmarked.
    labels, groups
        ``(N,)`` class and patient.
    n_folds, C, seed
        Folds of whole patients, inverse penalty, seed of folds and draws.

    Raises
    ------
    InputError
        For fewer than five marked carriers, or none that can be told from other samples.
    """
    marks = np.asarray(marks, np.float64)
    if np.count_nonzero(marks == 1) < MIN_MARKS:
        raise InputError(
            f"{np.count_nonzero(marks == 1)} carriers are marked; at least {MIN_MARKS} are needed, "
            "ten are advised, in the class where the artifact is rare"
        )
    values, classes = np.unique(np.asarray(labels), return_inverse=True)
    problem = _Problem.of(views, marks, np.asarray(classes, np.intp), np.asarray(groups), n_folds, C, seed)
    learnt, recovery = problem.learnable()
    scores, vector = problem.scores(learnt), problem.vector(learnt, views.quantity)
    return Ranking(scores, vector, views.names, recovery, tuple(int(values[c]) for c in learnt))


def choose_views(
    views: Views,
    offered: Sequence[tuple[str, ...]],
    marks: Floats,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    n_folds: int = 5,
    seed: int = 0,
) -> Ranking:
    """Rank by the set of views that recovers held-out marks best; by the first one of those nearly equal.

    Parameters
    ----------
    offered
        Sets of names, in order of preference. The others are those of :func:`rank`.
    """
    best: Ranking | None = None
    for names in offered:
        ranking = rank(views.only(names), marks, labels, groups, n_folds=n_folds, seed=seed)
        if best is None or ranking.recovery > best.recovery + BETTER:
            best = ranking
    if best is None:
        raise InputError("no set of views was offered to choose from")
    return best


@dataclass(frozen=True, eq=False)
class _Problem:
    whitening: dict[tuple[int, ...], tuple[Whitening, Floats]]
    views: Views
    marks: Floats
    classes: Ints
    folds: Ints
    C: float
    seed: int

    @classmethod
    def of(
        cls,
        views: Views,
        marks: Floats,
        classes: Ints,
        groups: npt.NDArray[np.generic],
        n_folds: int,
        C: float,
        seed: int,
    ) -> _Problem:
        folds = grouped_folds(groups, 3 * classes + np.nan_to_num(marks, nan=2), n_folds, seed)
        return cls({}, views, marks, classes, folds, C, seed)

    def learnable(self) -> tuple[tuple[int, ...], float]:
        """The classes to learn in, and how well held-out marks are recovered there."""
        present, counts = np.unique(self.classes[self.marks == 1], return_counts=True)
        enough = [
            int(c)
            for c, n in zip(present, counts, strict=True)
            if n >= MIN_IN_CLASS and self._in_several_folds(int(c))
        ]
        if not enough:  # marks scattered over many classes are learnt from together
            together = tuple(int(c) for c in present)
            return together, self.recovery(together)
        recovered = {c: self.recovery((c,)) for c in enough}
        best = max(recovered.values())
        learnt = tuple(c for c in enough if recovered[c] >= best - NEARLY)
        return learnt, best if len(learnt) == 1 else self.recovery(learnt)

    def recovery(self, learnt: tuple[int, ...]) -> float:
        """AUROC of held-out marked carriers against the others of the classes learnt in."""
        inside = np.isin(self.classes, learnt)
        is_carrier = (self.marks == 1).astype(float)
        if is_carrier[inside].min() == is_carrier[inside].max():
            return 0.5
        scores = self._held_out(learnt)
        return float(np.mean([auroc(is_carrier[rows], scores[rows]) for rows in self._inside(learnt)]))

    def _in_several_folds(self, label: int) -> bool:
        """Whether marked carriers of a class are left when any fold is held out."""
        return len(np.unique(self.folds[(self.classes == label) & (self.marks == 1)])) > 1

    def _inside(self, learnt: tuple[int, ...]) -> list[Bools]:
        carriers = self.marks == 1
        rows = [self.classes == c for c in learnt]
        return [members for members in rows if carriers[members].any() and not carriers[members].all()]

    def scores(self, learnt: tuple[int, ...]) -> Floats:
        """Marked samples by models without the marks of their fold, the others by models with all marks."""
        marked = ~np.isnan(self.marks)
        scores = self._held_out(learnt)
        for fold in np.unique(self.folds):
            test = self.folds == fold
            scores[test & ~marked] = self._score(learnt, ~test | marked, test & ~marked)
        return scores

    def vector(self, learnt: tuple[int, ...], quantity: str) -> CAV:
        """The classifier of all samples and marks."""
        whitening, whitened = self._whitened(learnt)
        model = self._fit(learnt, whitened, np.ones(len(self.marks), bool))
        return whitening.vector(model.coef_[0], float(model.intercept_[0]), quantity)

    def _held_out(self, learnt: tuple[int, ...]) -> Floats:
        scores = np.empty(len(self.marks))
        for fold in np.unique(self.folds):
            test = self.folds == fold
            scores[test] = self._score(learnt, ~test, test)
        return scores

    def _score(self, learnt: tuple[int, ...], train: Bools, test: Bools) -> Floats:
        _, whitened = self._whitened(learnt)
        model = self._fit(learnt, whitened, train)
        return np.asarray(whitened[test] @ model.coef_[0] + model.intercept_[0])

    def _fit(self, learnt: tuple[int, ...], whitened: Floats, train: Bools) -> LogisticRegression:
        inside = train & np.isin(self.classes, learnt)
        return fit_marks(whitened, self.marks, self.classes, inside, C=self.C, seed=self.seed)

    def _whitened(self, learnt: tuple[int, ...]) -> tuple[Whitening, Floats]:
        if learnt not in self.whitening:
            inside = np.isin(self.classes, learnt)
            features = self.views.features
            whitening = whiten(features[inside], self.views.widths, self.classes[inside], seed=self.seed)
            self.whitening[learnt] = (whitening, whitening.apply(features))
        return self.whitening[learnt]
