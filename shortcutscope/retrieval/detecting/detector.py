"""A detector of local artifacts, taught by boxes on a few images: where an image has most of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from shortcutscope.retrieval.detecting.null import FEWEST, gumbel_law
from shortcutscope.retrieval.detecting.templates import (
    ROUNDS,
    Box,
    Film,
    Found,
    Template,
    fit_template,
    kinds_of,
    score_maps,
)
from shortcutscope.retrieval.detecting.working import Working


@dataclass(frozen=True, eq=False)
class Detector:
    """Templates of all kinds of boxed elements.

    Attributes
    ----------
    templates
        One per kind.
    working
        How images are searched.
    """

    templates: tuple[Template, ...]
    working: Working

    @property
    def knows_null(self) -> bool:
        """Whether scores are in units of the law of images without the element."""
        return all((template.location, template.scale) != (0.0, 1.0) for template in self.templates)

    def film(self, image: Tensor) -> Film:
        """An image of a file ``(C, H, W)``, made ready to be searched."""
        return Film(self.working.of(image))

    def search(self, film: Film) -> list[Found]:
        """The surest place of each kind, in pixels of the working image."""
        return [places[0] for places in self._by_kind(film)]

    def surest(self, places: Sequence[Found]) -> Found:
        """The surest of the places that were found of each kind before the detector was calibrated."""
        scores = [
            template.in_units(place.score) for template, place in zip(self.templates, places, strict=True)
        ]
        best = int(np.argmax(scores))
        return Found(scores[best], places[best].box)

    def only(self, kinds: Sequence[int]) -> Detector:
        """Some of the kinds."""
        return Detector(tuple(self.templates[kind] for kind in kinds), self.working)

    def places(self, film: Film, above: float) -> list[Found]:
        """All places that score higher than `above`, surest first, none of them twice."""
        sure = [one for places in self._by_kind(film) for one in places if one.score > above]
        return distinct(sorted(sure, key=lambda one: -one.score))

    def _by_kind(self, film: Film) -> list[list[Found]]:
        maps = score_maps(self.templates, film)
        return [t.search(film, scores=scores) for t, scores in zip(self.templates, maps, strict=True)]


def fit_detector(
    films: Mapping[int, Film],
    boxes: Mapping[int, Sequence[Box]],
    negatives: Sequence[int],
    working: Working,
    seed: int,
    *,
    kinds: Sequence[Sequence[tuple[int, Box]]] | None = None,
    unsure: Iterable[int] = (),
    rounds: int = ROUNDS,
) -> Detector:
    """Learn from boxes.

    Parameters
    ----------
    films
        By row: those with boxes, and the negatives.
    boxes
        Row to its boxes in working pixels.
    negatives
        Rows, also of those with boxes, whose other places are negatives.
    working
        How the films were made.
    seed
        Of the random places.
    kinds
        Boxes that look alike; by default those of about the same size.
    unsure
        Negatives of which nobody said that they are free of it: places that look like a box are left out.
    rounds
        Of hard negatives.
    """
    boxed_places = [(row, box) for row in boxes for box in boxes[row]]
    groups = kinds_of(boxed_places) if kinds is None else kinds
    doubtful = frozenset(unsure)
    templates = tuple(
        fit_template(films, kind, boxes, negatives, np.random.default_rng([seed, number]), doubtful, rounds)
        for number, kind in enumerate(groups)
    )
    return Detector(templates, working)


def calibrated(detector: Detector, maxima: Sequence[Sequence[float]]) -> Detector:
    """The same, with scores in units of their null, where there are images enough to know it.

    Parameters
    ----------
    maxima
        Per unmarked image, the highest score of each kind, before calibration.
    """
    if len(maxima) < FEWEST:
        return detector
    columns = np.asarray(maxima, np.float64).T
    laws = [gumbel_law(column) for column in columns]
    templates = [t.calibrated(*law) for t, law in zip(detector.templates, laws, strict=True)]
    return Detector(tuple(templates), detector.working)


def distinct(sure: Iterable[Found]) -> list[Found]:
    """Places of which none has its middle inside a surer one."""
    kept: list[Found] = []
    for one in sure:
        x, y = (one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2
        if not any(k.box[0] <= x < k.box[2] and k.box[1] <= y < k.box[3] for k in kept):
            kept.append(one)
    return kept
