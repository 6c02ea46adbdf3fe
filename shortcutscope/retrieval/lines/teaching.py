"""Which lines of an image are of the kind that was boxed.

A line most of whose pixels lie in boxes is taken for what was meant, those of images that are marked as free
of it are not. A regression on their figures rates all lines; an image is as likely to have it as the sum of
its lines is, each weighing its length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from shortcutscope.data.splits import grouped_folds
from shortcutscope.retrieval.lines.figures import LENGTHS, SHORTEST, STRENGTHS, figures_of
from shortcutscope.retrieval.lines.tracing import Lines, lines_of, ridges_of
from shortcutscope.types import Floats

#: Share of a line's pixels that lie in boxes, and of the boxes that such a line runs through where lines were
#: meant, and not letters or discs.
INSIDE, EXPLAINED = 0.7, 0.6
#: Fewest such lines, images that have them, and images without.
FEWEST_LINES, FEWEST_IMAGES, FEWEST_OTHERS = 5, 3, 3
#: Pixels around a box that belong to it.
MARGIN = 1.0
#: Inverse penalty on figures of total variance 1, standard deviations that one counts at most, and folds.
PENALTY, MOST, FOLDS = 0.3, 3.0, 5
#: How much more a line counts that is rated one higher.
SHARPNESS = 2.0
#: Of an image without lines, in place of a sum.
_NOTHING = -50.0

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class _Traced:
    lines: Lines
    figures: Floats

    @classmethod
    def of(cls, grey: Tensor) -> _Traced:
        image = grey[0].numpy().astype(np.float64)
        ridges = ridges_of(image)
        lines = lines_of(ridges, STRENGTHS[0], max(SHORTEST, round(LENGTHS[0] * min(image.shape))))
        return cls(lines, figures_of(lines, ridges, image))

    def inside(self, boxes: Sequence[Box]) -> tuple[npt.NDArray[np.bool_], int]:
        """Lines most of whose pixels lie in boxes, and how many boxes these run through."""
        y, x = self.lines.y + 0.5, self.lines.x + 0.5
        within = np.array(
            [
                (x >= x0 - MARGIN) & (x <= x1 + MARGIN) & (y >= y0 - MARGIN) & (y <= y1 + MARGIN)
                for x0, y0, x1, y1 in boxes
            ]
        )
        pixels = np.bincount(self.lines.number, within.any(0), minlength=len(self.lines))
        inside = pixels >= INSIDE * self.lines.length
        return inside, int((within & inside[self.lines.number]).any(1).sum())


@dataclass(frozen=True, eq=False)
class LineRating:
    """What rates lines.

    Attributes
    ----------
    mean, spread, weights, intercept
        Of the regression on figures.
    """

    mean: Floats
    spread: Floats
    weights: Floats
    intercept: float

    @classmethod
    def fit(cls, meant: Floats, others: Floats) -> LineRating:
        """Learn from figures ``(L, D)`` of lines that are meant, and of others."""
        figures = np.concatenate([meant, others])
        mean, spread = figures.mean(0), figures.std(0)
        spread = np.where(spread > 1e-9 * (1 + np.abs(mean)), spread, np.inf) * np.sqrt(figures.shape[1])
        model = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=1000)
        model.fit(_standardised(figures, mean, spread), np.arange(len(figures)) < len(meant))
        return cls(mean, spread, model.coef_[0], float(model.intercept_[0]))

    def search(self, grey: Tensor) -> tuple[float, Box | None]:
        """Score of an image ``(1, H, W)``, and around its surest line left, top, right and bottom edge."""
        traced = _Traced.of(grey)
        if not len(traced.lines):
            return _NOTHING, None
        rated = _standardised(traced.figures, self.mean, self.spread) @ self.weights + self.intercept
        each = np.log(traced.lines.length) + SHARPNESS * rated
        own = traced.lines.number == int(each.argmax())
        y, x = traced.lines.y[own], traced.lines.x[own]
        return float(logsumexp(each)), (
            float(x.min()),
            float(y.min()),
            float(x.max() + 1),
            float(y.max() + 1),
        )


@dataclass(frozen=True, eq=False)
class LineSearch:
    """Ratings by fold.

    Attributes
    ----------
    ratings
        Of each fold, taught without it; under None the one that all marks taught.
    folds
        Row to its fold, of those that taught.
    """

    ratings: Mapping[int | None, LineRating]
    folds: Mapping[int, int]

    def search(self, grey: Tensor, row: int | None = None) -> tuple[float, Box | None]:
        """As of `LineRating`, by what was taught without a row."""
        return self.ratings[None if row is None else self.folds.get(row)].search(grey)


def teach_lines(
    read: Callable[[int], Tensor],
    boxes: Mapping[int, Sequence[Box]],
    others: Sequence[int],
    groups: npt.NDArray[np.generic],
    *,
    seed: int = 0,
) -> LineSearch | None:
    """Learn which lines are meant; None where the boxes hold too few, or mostly something else.

    Parameters
    ----------
    read
        Grey working image ``(1, H, W)`` of a row.
    boxes
        Row to boxes in pixels of the working image.
    others
        Rows that are marked as free of it.
    groups
        ``(N,)`` patients.
    seed
        Of folds.
    """
    meant: dict[int, Floats] = {}
    explained = 0
    for row, several in boxes.items():
        traced = _Traced.of(read(row))
        inside, hit = traced.inside(several)
        explained += hit
        if inside.any():
            meant[row] = traced.figures[inside]
    few = sum(len(figures) for figures in meant.values()) < FEWEST_LINES
    few |= explained < EXPLAINED * sum(len(several) for several in boxes.values())
    if few or len(meant) < FEWEST_IMAGES or len(others) < FEWEST_OTHERS:
        return None
    free = {row: _Traced.of(read(row)).figures for row in others}
    rows = np.array([*boxes, *free])
    numbers = grouped_folds(groups[rows], np.isin(rows, [*boxes]).astype(int), FOLDS, seed)
    folds = dict(zip(rows.tolist(), numbers.tolist(), strict=True))
    ratings: dict[int | None, LineRating] = {}
    for fold in (None, *sorted(set(folds.values()))):
        sides = [
            [figures for row, figures in side.items() if folds[row] != fold and len(figures)]
            for side in (meant, free)
        ]
        if not all(sides):
            return None
        ratings[fold] = LineRating.fit(*(np.concatenate(side) for side in sides))
    return LineSearch(ratings, folds)


def _standardised(figures: Floats, mean: Floats, spread: Floats) -> Floats:
    most = MOST / np.sqrt(figures.shape[1])
    return np.clip((figures - mean) / spread, -most, most)
