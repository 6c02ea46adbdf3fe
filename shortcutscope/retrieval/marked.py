"""A classifier of the marked samples alone, for features that speak of the image as a whole.

Whitening by all unmarked samples (`classifier`) finds a rare direction, as that of a planted artifact. Where
the artifact is a natural one and lies along the directions in which images vary anyway, as frames do, it
takes away what tells them apart, and the plain regression on standardised features ranks better. What is seen
in several ways, as by the layers, the borders and the lines of a picture, is told apart by one regression on
all of them: ten marks say too little of which way is best.

The others that a person answers for are those that look like carriers, since they are asked about for their
rank. Those that do not are taken from the unmarked samples: what lies on the side of the marked others by a
first regression. Carriers that are not marked hardly are among them, however common they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from shortcutscope.data.splits import grouped_folds
from shortcutscope.types import Bools, Floats, Ints

#: Inverse penalty on blocks of total variance 1, and how many deviations a feature counts at most.
PENALTY, MOST = 3.0, 4.0
#: Fewest marked others; with fewer, unmarked samples stand for them.
FEWEST_OTHERS = 5
#: Unmarked samples that are looked at, and what those on the side of the others weigh beside these.
UNMARKED, UNLIKE = 200, 0.5


@dataclass(frozen=True, eq=False)
class Plain:
    """Scores of all samples, and the regression of all marks.

    Attributes
    ----------
    scores
        ``(N,)``, of marked samples by a model without the marks of their fold.
    mean, spread, weights
        ``(D,)`` of the features, for new samples.
    """

    scores: Floats
    mean: Floats
    spread: Floats
    weights: Floats

    def score(self, features: npt.ArrayLike) -> Floats:
        """Scores of new samples by their features ``(M, D)``, the blocks side by side."""
        return np.asarray(_standardised(features, self.mean, self.spread) @ self.weights)


def rank_by_marked(
    blocks: Sequence[tuple[npt.ArrayLike, float]],
    marks: Floats,
    groups: npt.ArrayLike,
    *,
    n_folds: int = 5,
    seed: int = 0,
) -> Plain:
    """Rank all samples by the marked ones.

    Parameters
    ----------
    blocks
        Features ``(N, D)`` of each way to see the samples, and its total variance beside the others.
    marks
        ``(N,)`` 1, 0 or NaN.
    groups
        ``(N,)`` patients.
    n_folds, seed
        Folds of whole patients; chooses among unmarked samples where few others are marked.
    """
    values = np.hstack([np.asarray(features, np.float64) for features, _ in blocks])
    mean, spread = values.mean(0), values.std(0)
    spread = np.where(spread > 1e-9 * (1 + np.abs(mean)), spread, np.inf)
    widths = [np.shape(features)[1] for features, _ in blocks]
    size = np.sqrt(
        np.repeat([share / width for (_, share), width in zip(blocks, widths, strict=True)], widths)
    )
    ready = _standardised(values, mean, spread) * size
    unmarked = np.random.default_rng(seed).permutation(np.flatnonzero(np.isnan(marks)))[:UNMARKED]
    taught = _taught(marks, unmarked)
    spare = unmarked[~taught[unmarked]]
    weights = _fit(ready, marks, taught, spare)
    scores = ready @ weights
    rows = np.flatnonzero(taught)
    folds = grouped_folds(np.asarray(groups)[rows], (marks[rows] == 1).astype(int), n_folds, seed)
    for fold in np.unique(folds):
        held_out, rest = rows[folds == fold], taught.copy()
        rest[held_out] = False
        if len(np.unique(marks[rest] == 1)) > 1:
            scores[held_out] = ready[held_out] @ _fit(ready, marks, rest, spare)
    return Plain(np.asarray(scores), mean, spread, weights * size)


def _taught(marks: Floats, unmarked: Ints) -> Bools:
    taught = ~np.isnan(marks)
    if np.count_nonzero(marks == 0) < FEWEST_OTHERS:
        taught[unmarked] = True
    return np.asarray(taught)


def _fit(ready: Floats, marks: Floats, taught: Bools, spare: Ints) -> Floats:
    """Weights by the taught samples, both sides alike, and then by spare ones unlike carriers as well."""
    rows = np.flatnonzero(taught)
    carries, half = marks[rows] == 1, len(rows) / 2
    weight = half * np.where(carries, 1 / carries.sum(), 1 / (~carries).sum())
    first = _regression(ready[rows], carries, weight)
    scores = ready @ first
    border = np.median(scores[rows[carries]]) / 2 + np.median(scores[rows[~carries]]) / 2
    unlike = spare[scores[spare] < border]
    if not len(unlike):
        return first
    weight[~carries] *= 1 - UNLIKE
    weight = np.r_[weight, np.full(len(unlike), half * UNLIKE / len(unlike))]
    rows = np.r_[rows, unlike]
    return _regression(ready[rows], marks[rows] == 1, weight)


def _regression(ready: Floats, carries: Bools, weight: Floats) -> Floats:
    model = LogisticRegression(C=PENALTY, max_iter=1000)
    return np.asarray(model.fit(ready, carries, sample_weight=weight).coef_[0])


def _standardised(features: npt.ArrayLike, mean: Floats, spread: Floats) -> Floats:
    return np.clip((np.asarray(features, np.float64) - mean) / spread, -MOST, MOST)
