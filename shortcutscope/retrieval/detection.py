"""Searching a table for what was boxed in some of its images, none of them by a detector that saw its own mark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shortcutscope.data.file_images import in_file_size
from shortcutscope.data.splits import grouped_folds
from shortcutscope.data.stored_frame import stored_frame
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.progress import progress_bar
from shortcutscope.retrieval.detector import Detector, calibrated, fit_detector
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.places import EDGES, refuse_outside
from shortcutscope.retrieval.templates import Box, Film
from shortcutscope.retrieval.working import Working, working_for
from shortcutscope.types import Floats, Ints

#: Images that the null of the scores is read from, images without marks that serve as negatives where fewer
#: others are marked, and folds of the marked ones.
NULL, NEGATIVES, FOLDS = 100, 10, 5
#: Most boxed samples, and most others, that a detector is taught by: more cost memory and teach little.
MOST_BOXED, MOST_OTHERS = 60, 30
IMAGE_AXES = 2


@dataclass(frozen=True, eq=False)
class Detection:
    """What a search gave.

    Attributes
    ----------
    scores
        ``(N,)`` large for carriers, in units of the Gumbel law of images without it; of a marked sample by a
        detector that was taught without it.
    places
        ``(N, 4)`` the surest place of each: left, top, right and bottom edge in pixels of its file.
    detector
        Taught by all marks, for new images.
    """

    scores: Floats
    places: Floats
    detector: Detector


def detect(
    images: ImageTable,
    boxes: Mapping[int, Sequence[Sequence[float]]],
    others: Sequence[int],
    groups: Sequence[object],
    *,
    seed: int = 0,
    progress: bool = True,
) -> Detection:
    """Search all images of a table.

    Parameters
    ----------
    images
        ``N`` samples.
    boxes
        Row to the boxes marked in it, in pixels of its file.
    others
        Rows that were marked as free of it.
    groups
        ``(N,)`` patients.
    seed
        Of folds and draws.
    progress
        Whether to show a bar.
    """
    search = _Search.of(in_file_size(images), boxes, others, np.asarray(groups), seed)
    free = np.setdiff1d(np.arange(len(images)), search.marked)
    null = np.random.default_rng([seed, 1]).permutation(free)[:NULL]
    total = len(search.marked) + len(null) + len(images)
    with progress_bar(desc="searching images", progress=progress, total=total, unit="image") as bar:
        search.load(bar.update)
        folds = search.folds()
        detectors = search.taught(folds)
        detectors = search.calibrated(detectors, null, bar.update)
        scores, places = np.empty(len(images)), np.empty((len(images), len(EDGES)))
        for row in range(len(images)):
            detector = detectors[folds.get(row, -1)]
            scores[row], places[row] = search.best(detector, row)
            bar.update()
    return Detection(scores, places, detectors[-1])


@dataclass(frozen=True, eq=False)
class _Search:
    """Marks of a table in its working images."""

    table: ImageTable
    boxes: Mapping[int, Sequence[Box]]
    others: tuple[int, ...]
    unsure: tuple[int, ...]
    groups: np.ndarray
    working: Working
    seed: int
    films: dict[int, Film]

    @classmethod
    def of(
        cls,
        table: ImageTable,
        boxes: Mapping[int, Sequence[Sequence[float]]],
        others: Sequence[int],
        groups: np.ndarray,
        seed: int,
    ) -> _Search:
        generator = np.random.default_rng([seed, 2])
        boxes = {row: boxes[row] for row in _some([*boxes], MOST_BOXED, generator)}
        others = _some(others, MOST_OTHERS, generator)
        rows = np.setdiff1d(np.arange(len(table)), [*boxes, *others])
        missing = max(0, NEGATIVES - len(others))
        unsure = np.random.default_rng([seed, 0]).permutation(rows)[:missing]
        some = [table.image(row) for row in [*boxes][:NEGATIVES]]
        working = working_for(some, [box for row in boxes for box in boxes[row]])
        scaled = {row: [working.to_working(box) for box in boxes[row]] for row in boxes}
        return cls(table, scaled, tuple(others), tuple(map(int, unsure)), groups, working, seed, {})

    @property
    def marked(self) -> list[int]:
        """Rows that detectors are taught by."""
        return [*self.boxes, *self.others, *self.unsure]

    def film(self, row: int) -> Film:
        return self.films[row] if row in self.films else Film(self.working.of(self.table.image(row)))

    def load(self, step: Callable[[], object]) -> None:
        for row in self.marked:
            self.films[row] = self.film(row)
            step()

    def folds(self) -> dict[int, int]:
        """Row to its fold, of those that detectors are taught by."""
        rows = np.array(self.marked)
        kind = np.isin(rows, [*self.boxes]).astype(int)
        count = min(FOLDS, len(np.unique(self.groups[rows][kind == 1])))
        numbers = grouped_folds(self.groups[rows], kind, count, self.seed)
        return dict(zip(rows.tolist(), numbers.tolist(), strict=True))

    def taught(self, folds: Mapping[int, int]) -> dict[int, Detector]:
        """By fold the detector that was taught without it; -1: by all."""
        return {fold: self._fit([r for r in folds if folds[r] != fold]) for fold in sorted({-1, *folds.values()})}

    def _fit(self, rows: Sequence[int]) -> Detector:
        boxes = {row: self.boxes[row] for row in rows if row in self.boxes}
        return fit_detector(self.films, boxes, rows, self.working, self.seed, unsure=self.unsure)

    def calibrated(self, detectors: Mapping[int, Detector], null: Ints, step: Callable[[], object]) -> dict[int, Detector]:
        maxima: dict[int, list[list[float]]] = {fold: [] for fold in detectors}
        for row in null:
            film = self.film(int(row))
            for fold, detector in detectors.items():
                maxima[fold].append([found.score for found in detector.search(film)])
            step()
        return {fold: calibrated(detector, maxima[fold]) for fold, detector in detectors.items()}

    def best(self, detector: Detector, row: int) -> tuple[float, Box]:
        image = self.table.image(row)
        found = detector.best(self.films[row] if row in self.films else detector.film(image))
        return found.score, self.working.to_file(found.box, (int(image.shape[1]), int(image.shape[2])))


def _some(rows: Sequence[int], count: int, generator: np.random.Generator) -> list[int]:
    if len(rows) <= count:
        return list(rows)
    return [int(row) for row in np.sort(generator.choice(np.asarray(rows), count, replace=False))]


def require_images(marks: Marks, images: ImageTable | None, view: str) -> None:
    """Refuse boxes that cannot be searched for, before anything is read.

    Raises
    ------
    InputError
        Without boxes where they are asked for, without images, or with volumes or signals; for boxes outside
        their images, and too few boxed samples.
    """
    if view == "layers" or (view == "auto" and not len(marks.places)):
        return
    if not len(marks.places):
        raise InputError('view="places": no mark has a box; give x0, y0, x1, y1 beside the marks')
    if images is None:
        raise InputError('marks with boxes need the images: give them, or view="layers" to rank without the boxes')
    position = {str(name): row for row, name in enumerate(images.frame["sample_id"])}
    sizes = {}
    for name in marks.places["sample_id"].unique():
        size, _ = stored_frame(images.source, int(images.rows[position[name]]))
        if len(size) != IMAGE_AXES:
            raise InputError(
                'boxes are searched for in images alone, not in volumes or signals: give view="layers", which '
                "ranks these by the network's layers"
            )
        sizes[name] = (size[0], size[1])
    refuse_outside(marks.places, sizes)
