"""What one kind of element looks like: a linear template on oriented energy, and the very crops.

The template (as of Dalal & Triggs 2005) is a regularised logistic regression on the cells in a box against
those of other places, a few rounds over with the places that it wrongly scores high (hard negatives). It says
where to look; correlation with the crops, which is exact for rigid things such as stamped letters, says
whether it is that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from shortcutscope.retrieval.detecting.energy import STRIDE, cells
from shortcutscope.types import Floats

#: Longest side of a template in cells; larger elements are looked for in a smaller picture.
LONGEST = 24
#: Boxes are of one kind when their sides differ by less than this factor, or by so many pixels.
ALIKE, NEARLY = 1.3, 4
#: Inverse penalty of the regression on standardised cells, rounds of hard negatives, and how many of each.
PENALTY, ROUNDS, HARD, RANDOM = 0.01, 2, 15, 40
#: Places of an image that are compared with the crops, how far around them, and what a correlation of 1
#: weighs beside the log-odds of the template.
CANDIDATES, AROUND, CORRELATION = 8, 3, 20.0
#: Correlation with a crop from which an unmarked place is no negative: it may be an element that was left
#: out.
SAME = 0.7
#: Contrast below which a crop is flat.
FAINT = 0.02
#: Weight of a box moved by a cell, beside the box itself.
MOVED = 0.25
_NOWHERE = -1e9

#: Left, top, right and bottom edge, in pixels of a working image.
Box = tuple[float, float, float, float]


class Film:
    """An image as it is searched: ``(C, H, W)`` from 0 to 1, and its cells at each level, made once."""

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self._cells: dict[int, Tensor] = {}
        self._smaller: dict[int, Tensor] = {0: image}

    def at(self, level: int) -> Tensor:
        """The image, each level half the size of the one before."""
        if level not in self._smaller:
            self._smaller[level] = functional.avg_pool2d(self.at(level - 1)[None], 2, ceil_mode=True)[0]
        return self._smaller[level]

    def cells(self, level: int) -> Tensor:
        """Cells at a level."""
        if level not in self._cells:
            with torch.no_grad():
                self._cells[level] = cells(self.at(level))
        return self._cells[level]


@dataclass(frozen=True)
class Found:
    """A place and how much it looks like the element: log-odds, higher is surer."""

    score: float
    box: Box


@dataclass(frozen=True, eq=False)
class Template:
    """One kind of element.

    Attributes
    ----------
    size
        Height and width in pixels of its level.
    level
        How often the working image is halved.
    weights, bias
        ``(F, h, w)`` on cells.
    crops
        ``(n, 1, H, W)`` of mean 0 and length 1.
    location, scale
        Of the Gumbel law that its highest score in images without the element follows.
    """

    size: tuple[int, int]
    level: int
    weights: Tensor
    bias: float
    crops: Tensor
    location: float = 0.0
    scale: float = 1.0

    def calibrated(self, location: float, scale: float) -> Template:
        """The same, with scores in units of their null."""
        return replace(self, location=location, scale=scale)

    def in_units(self, score: float) -> float:
        """A score in units of its null."""
        return (score - self.location) / self.scale

    def scores(self, film: Film) -> Tensor:
        """Log-odds ``(h, w)`` of each cell being its middle, by the template alone."""
        return score_maps([self], film)[0]

    def search(self, film: Film, count: int = CANDIDATES, scores: Tensor | None = None) -> list[Found]:
        """The places that look most like it, best first; `scores` where they are known."""
        with torch.no_grad():
            places = peaks(self.scores(film) if scores is None else scores, count)
            high, wide = self.size
            corners = [(STRIDE * y + 1 - high // 2, STRIDE * x + 1 - wide // 2) for y, x, _ in places]
            correlation = self._correlation(film.at(self.level)[:1], corners)
        found = []
        side, factor = 2 * AROUND + 1, 2**self.level
        for (top, left), (_, _, odds), values in zip(corners, places, correlation, strict=True):
            best = int(values.argmax())
            y, x = top - AROUND + best // side, left - AROUND + best % side
            total = self.in_units(odds + CORRELATION * float(values.max()))
            box = (x * factor, y * factor, (x + wide) * factor, (y + high) * factor)
            found.append(Found(total, tuple(map(float, box))))  # type: ignore[arg-type]
        return sorted(found, key=lambda one: -one.score)

    def correlation(self, film: Film, places: Sequence[tuple[int, int]]) -> list[float]:
        """Highest correlation with a crop around each cell (row, column)."""
        high, wide = self.size
        corners = [(STRIDE * y + 1 - high // 2, STRIDE * x + 1 - wide // 2) for y, x in places]
        return self._correlation(film.at(self.level)[:1], corners).amax((1, 2)).tolist() if corners else []

    def _correlation(self, image: Tensor, corners: Sequence[tuple[int, int]]) -> Tensor:
        """Highest correlation with a crop ``(K, n, n)`` around each corner."""
        high, wide = self.size
        grown = (high + 2 * AROUND, wide + 2 * AROUND)
        parts = torch.stack([window(image, y - AROUND, x - AROUND, grown) for y, x in corners])
        mean = functional.avg_pool2d(parts, self.size, 1)
        power = (functional.avg_pool2d(parts**2, self.size, 1) - mean**2).clamp(min=0) * high * wide
        floor = high * wide * FAINT**2
        return (functional.conv2d(parts, self.crops) / (power + floor).sqrt()).amax(1)


def score_maps(templates: Sequence[Template], film: Film) -> list[Tensor]:
    """`Template.scores` of several, those of one level and shape in one pass over the film."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for number, template in enumerate(templates):
        alike.setdefault((template.level, *template.weights.shape[1:]), []).append(number)
    maps: dict[int, Tensor] = {}
    for (level, high, wide), numbers in alike.items():
        sides = (wide // 2, wide // 2, high // 2, high // 2)
        padded = functional.pad(film.cells(level)[None], sides, mode="replicate")
        odds = functional.conv2d(padded, torch.stack([templates[number].weights for number in numbers]))[0]
        maps.update({number: odds[k] + templates[number].bias for k, number in enumerate(numbers)})
    return [maps[number] for number in range(len(templates))]


def window(values: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    """A part ``(C, h, w)`` of ``(C, H, W)``, beyond whose edges the values are repeated."""
    rows = torch.arange(top, top + size[0]).clamp(0, values.shape[1] - 1)
    columns = torch.arange(left, left + size[1]).clamp(0, values.shape[2] - 1)
    return values[:, rows[:, None], columns]


def peaks(scores: Tensor, count: int, apart: int = 3) -> list[tuple[int, int, float]]:
    """Row, column and value of the highest local maxima of ``(h, w)``."""
    around = functional.max_pool2d(scores[None, None], 2 * apart + 1, 1, apart)[0, 0]
    values = torch.where(scores == around, scores, torch.full_like(scores, _NOWHERE)).flatten()
    best = values.topk(min(count, len(values)))
    wide = scores.shape[1]
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(index // wide, index % wide, value) for index, value in pairs if value > _NOWHERE / 2]


def kinds_of(boxes: Iterable[tuple[int, Box]]) -> list[list[tuple[int, Box]]]:
    """Boxes grouped by size, the largest first; those of a single image only where there are no others."""
    kinds: list[list[tuple[int, Box]]] = []
    for row, box in sorted(boxes, key=lambda one: (-_area(one[1]), one)):
        for kind in kinds:
            if all(_alike(a, b) for a, b in zip(_sides(kind[0][1]), _sides(box), strict=True)):
                kind.append((row, box))
                break
        else:
            kinds.append([(row, box)])
    return [kind for kind in kinds if len({row for row, _ in kind}) > 1] or kinds


def _sides(box: Box) -> tuple[float, float]:
    return box[3] - box[1], box[2] - box[0]


def _area(box: Box) -> float:
    high, wide = _sides(box)
    return high * wide


def _alike(a: float, b: float) -> bool:
    return abs(a - b) <= NEARLY or max(a, b) <= ALIKE * min(a, b)


def fit_template(
    films: Mapping[int, Film],
    boxes: Sequence[tuple[int, Box]],
    taken: Mapping[int, Sequence[Box]],
    negatives: Sequence[int],
    generator: np.random.Generator,
    unsure: frozenset[int] = frozenset(),
    rounds: int = ROUNDS,
) -> Template:
    """Learn a kind.

    Parameters
    ----------
    films
        By row: those with boxes, and the negatives.
    boxes
        Row and place of each element of the kind.
    taken
        Row to all boxes of that film, of whatever kind: no negatives.
    negatives
        Rows whose other places are negatives.
    generator
        Chooses random places.
    unsure
        Negatives in which places that look like a crop are left out.
    rounds
        Of hard negatives.
    """
    template = _empty(films, boxes)
    learner = _Learner(films, template, boxes, taken, negatives, unsure)
    learner.add_random(generator)
    for turn in range(rounds + 1):
        template = learner.fit()
        if turn < rounds:
            learner.add_hard(template)
    return template


def _empty(films: Mapping[int, Film], boxes: Sequence[tuple[int, Box]]) -> Template:
    """A template that has its size, its level and its crops, and no weights."""
    high, wide = (float(np.median([_sides(box)[axis] for _, box in boxes])) for axis in (0, 1))
    level = 0
    while max(high, wide) / 2**level > LONGEST * STRIDE:
        level += 1
    size = tuple(max(3, round(side / 2**level)) + 2 | 1 for side in (high, wide))
    crops = []
    for row, box in boxes:
        top, left = _corner(box, level, (size[0], size[1]))
        crops.append(window(films[row].at(level)[:1], top, left, (size[0], size[1])))
    stack = torch.stack(crops)
    stack = stack - stack.mean((1, 2, 3), keepdim=True)
    stack = stack / stack.pow(2).sum((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-3)
    shape = [max(3, side // STRIDE | 1) for side in size]
    features = films[boxes[0][0]].cells(level).shape[0]
    return Template((size[0], size[1]), level, torch.zeros(features, *shape), 0.0, stack)


def _corner(box: Box, level: int, size: tuple[int, int]) -> tuple[int, int]:
    y, x = (box[1] + box[3]) / 2 / 2**level, (box[0] + box[2]) / 2 / 2**level
    return round(y - size[0] / 2), round(x - size[1] / 2)


class _Learner:
    """Places of both kinds, and the regression on them."""

    def __init__(
        self,
        films: Mapping[int, Film],
        template: Template,
        boxes: Sequence[tuple[int, Box]],
        taken: Mapping[int, Sequence[Box]],
        negatives: Sequence[int],
        unsure: frozenset[int],
    ) -> None:
        self.films, self.template, self.taken, self.negatives = films, template, taken, negatives
        self.unsure = unsure
        self.shape = template.weights.shape[1:]
        self.positive: list[Floats] = []
        self.weight: list[float] = []
        self.negative: list[Floats] = []
        scale = STRIDE * 2**template.level
        for row, (x0, y0, x1, y1) in boxes:
            y, x = round(((y0 + y1) / 2 - 1) / scale), round(((x0 + x1) / 2 - 1) / scale)
            for dy, dx in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)):
                self.positive.append(self._at(row, y + dy, x + dx))
                self.weight.append(1.0 if dx == dy == 0 else MOVED)

    def _at(self, row: int, y: int, x: int) -> Floats:
        grid, (high, wide) = self.films[row].cells(self.template.level), self.shape
        return window(grid, y - high // 2, x - wide // 2, (high, wide)).reshape(-1).numpy()

    def add_random(self, generator: np.random.Generator) -> None:
        for row in self.negatives:
            high, wide = self.films[row].cells(self.template.level).shape[1:]
            free = self._free(row, (high, wide))
            for y, x in zip(
                generator.integers(0, high, RANDOM), generator.integers(0, wide, RANDOM), strict=True
            ):
                if free[y, x]:
                    self.negative.append(self._at(row, int(y), int(x)))

    def add_hard(self, template: Template) -> None:
        """The places that are scored highest and lie in no box."""
        for row in self.negatives:
            scores = template.scores(self.films[row])
            scores = torch.where(
                self._free(row, tuple(scores.shape)), scores, torch.full_like(scores, _NOWHERE)
            )
            places = [(y, x) for y, x, _ in peaks(scores, HARD)]
            if row in self.unsure:
                alike = template.correlation(self.films[row], places)
                places = [place for place, value in zip(places, alike, strict=True) if value < SAME]
            self.negative += [self._at(row, y, x) for y, x in places]

    def _free(self, row: int, shape: tuple[int, ...]) -> Tensor:
        """Cells that are not the middle of a box, nor near it."""
        free, scale = torch.ones(shape, dtype=torch.bool), STRIDE * 2**self.template.level
        for x0, y0, x1, y1 in self.taken.get(row, ()):
            top, left = (max(0, int(edge // scale) - 2) for edge in (y0, x0))
            free[top : int(y1 // scale) + 2, left : int(x1 // scale) + 2] = False
        return free

    def fit(self) -> Template:
        features = np.stack([*self.positive, *self.negative]).astype(np.float32)
        is_element = np.arange(len(features)) < len(self.positive)
        share = np.array(self.weight) * len(self.negative) / sum(self.weight)
        weight = np.concatenate([share, np.ones(len(self.negative))])
        mean, spread = features.mean(0), features.std(0) + 1e-2
        model = LogisticRegression(C=PENALTY, max_iter=50, tol=1e-3)
        model.fit((features - mean) / spread, is_element, sample_weight=weight / weight.mean())
        weights = (model.coef_[0] / spread).astype(np.float32)
        bias = float(model.intercept_[0] - (weights * mean).sum())
        return replace(
            self.template,
            weights=torch.from_numpy(weights).reshape(self.template.weights.shape),
            bias=bias,
        )
