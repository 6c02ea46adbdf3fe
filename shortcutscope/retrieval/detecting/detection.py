"""Searching a table for what was boxed, or for patches that the marked carriers have and others lack.

No sample is scored by a detector that saw its own mark: the marked ones, and those that stand in for marked
others, are scored by detectors that were taught, and whose patches were chosen, without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shortcutscope.data.splits import grouped_folds
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.progress import progress_bar
from shortcutscope.retrieval.detecting.detector import Detector, calibrated, fit_detector
from shortcutscope.retrieval.detecting.mining import (
    FEWEST,
    FEWEST_FURTHER,
    FEWEST_OF_FOLD,
    MOST_FURTHER,
    Candidates,
    compare,
    patches_of,
    recurring,
)
from shortcutscope.retrieval.detecting.null import FAR
from shortcutscope.retrieval.detecting.templates import ROUNDS, Box, Film, Found, kinds_of
from shortcutscope.retrieval.detecting.working import MOST_PIXELS, working_for
from shortcutscope.retrieval.places import EDGES
from shortcutscope.types import Floats, Ints

#: Images that the null of the scores is read from, and that of detectors of folds; images without marks that
#: serve as negatives where fewer others are marked, and folds of the marked ones.
NULL, FOLD_NULL, NEGATIVES, FOLDS = 100, 50, 10, 5
#: Most carriers, and most others, that a detector is taught by: more cost memory and teach little.
MOST_CARRIERS, MOST_OTHERS = 40, 30
#: Unmarked images that patches of the carriers are compared with, and most pixels of a working image then.
COMPARED, MINED_PIXELS = 60, 288 * 288
#: Boxes that together cover more of an image than this do not say where.
WHOLE = 0.5
#: A mined kind is dropped when the share of unmarked images that have it is so much of that of the carriers.
AS_COMMON = 0.8
#: In place of a fold: the detector that all marks taught.
ALL = -1

#: Row of the table and box: elements that look alike.
Kind = list[tuple[int, Box]]


@dataclass(frozen=True, eq=False)
class Detection:
    """What a search gave.

    Attributes
    ----------
    scores
        ``(N,)`` large for carriers, in units of the Gumbel law of images without it.
    places
        ``(N, 4)`` the surest place of each: left, top, right and bottom edge in pixels of its file.
    detector
        Taught by all marks, for new images.
    kinds
        What it was taught by, in pixels of the files.
    mined
        Whether these are patches that nobody boxed, nor kept.
    boxed
        Whether they were boxed.
    further
        Kinds that were mined, too, and are too rare to be searched for unless a person keeps them.
    """

    scores: Floats
    places: Floats
    detector: Detector
    kinds: tuple[Kind, ...]
    mined: bool
    boxed: bool
    further: tuple[Kind, ...] = ()

    @property
    def offered(self) -> tuple[Kind, ...]:
        """Kinds to look at: those that are searched for, then the further ones."""
        return (*self.kinds, *self.further)


@dataclass(frozen=True, eq=False)
class Where:
    """What is known of the marked samples.

    Attributes
    ----------
    boxes
        Row to the boxes in it, in pixels of its file; empty where nobody drew any.
    carriers, others
        Rows that were marked as carriers, and as free of it.
    kinds
        Patches that a person kept of those that were mined; None where none were looked at.
    clicks
        Row to points (x, y, x, y), near which patches are mined.
    """

    boxes: Mapping[int, Sequence[Sequence[float]]]
    carriers: Sequence[int]
    others: Sequence[int]
    kinds: Sequence[Kind] | None = None
    clicks: Mapping[int, Sequence[Sequence[float]]] = field(default_factory=dict)


def detect(
    images: ImageTable, where: Where, groups: npt.ArrayLike, *, seed: int = 0, progress: bool = True
) -> Detection | None:
    """Search all images of a table; None where carriers show nothing that recurs.

    Parameters
    ----------
    images
        ``N`` samples as large as in their files, see `shortcutscope.data.file_images.in_file_size`.
    where
        The marks.
    groups
        ``(N,)`` patients.
    seed
        Of folds and draws.
    progress
        Whether to show a bar.
    """
    search = Search(images, where, np.asarray(groups), seed)
    total = len(search.compared) + len(search.taught) + len(images)
    with progress_bar(desc="searching images", progress=progress, total=total, unit="image") as bar:
        search.load(bar.update)
        kinds = search.kinds(search.taught)
        if not kinds:
            return None
        return search.run(kinds, bar.update)


class Search:
    """Marks of a table in its working images; `rounds` of hard negatives teach its detectors."""

    def __init__(
        self,
        table: ImageTable,
        where: Where,
        groups: npt.NDArray[np.generic],
        seed: int,
        rounds: int = ROUNDS,
    ) -> None:
        self.table, self.groups, self.seed, self.rounds = table, groups, seed, rounds
        generator = np.random.default_rng([seed, 2])
        self.mined = not where.boxes and where.kinds is None
        starting = [*where.boxes] if where.boxes else list(where.carriers)
        shown = {row for kind in where.kinds or () for row, _ in kind}
        first = [row for row in starting if row in shown][:MOST_CARRIERS]
        rest = [row for row in starting if row not in shown]
        self.carriers = [*first, *_some(rest, MOST_CARRIERS - len(first), generator)]
        self.others = _some(where.others, MOST_OTHERS, generator)
        free = generator.permutation(
            np.setdiff1d(np.arange(len(table)), [*where.carriers, *where.others, *where.boxes])
        )
        self.unsure = [int(row) for row in free[: max(0, NEGATIVES - len(self.others))]]
        self.null = [int(row) for row in free if row not in set(self.unsure)][:NULL]
        self.compared = [int(row) for row in free[:COMPARED]] if self.mined else []
        some = [table.image(row) for row in self.carriers[:NEGATIVES]]
        boxes = [box for row in self.carriers for box in where.boxes.get(row, ())]
        # Patches that were kept were mined, and are searched for in the same working images.
        self.working = working_for(some, boxes, MOST_PIXELS if boxes else MINED_PIXELS)
        self.boxes = {
            row: [self.working.to_working(box) for box in where.boxes[row]]
            for row in self.carriers
            if row in where.boxes
        }
        self.kept = (
            None
            if where.kinds is None
            else [[(row, self.working.to_working(box)) for row, box in kind] for kind in where.kinds]
        )
        self.clicks = {
            row: [self.working.to_working(click) for click in several]
            for row, several in where.clicks.items()
        }
        self.films: dict[int, Film] = {}
        self.sizes: dict[int, tuple[int, int]] = {}
        self.candidates: Candidates | None = None

    @property
    def taught(self) -> list[int]:
        """Rows that detectors are taught by."""
        return [*self.carriers, *self.others, *self.unsure]

    def film(self, row: int) -> Film:
        """An image that is made ready, or was before."""
        if row in self.films:
            return self.films[row]
        image = self.table.image(row)
        self.sizes[row] = (int(image.shape[1]), int(image.shape[2]))
        return Film(self.working.of(image))

    def load(self, step: Callable[[], object]) -> None:
        """Read what detectors are taught by, and compare patches where there are no boxes."""
        patches = {}
        for row in self.taught:
            self.films[row] = self.film(row)
            if self.mined:
                patches[row] = patches_of(self.films[row]).near(self.clicks.get(row, ()))
            step()
        for row in self.compared:
            patches[row] = patches_of(self.film(row))
            step()
        if self.mined:
            self.candidates = compare(self.carriers, patches)

    def kinds(self, rows: Sequence[int]) -> list[Kind]:
        """What carriers among `rows` show, without a look at the others."""
        if self.kept is not None:
            chosen = [[(row, box) for row, box in kind if row in set(rows)] for kind in self.kept]
            return [kind for kind in chosen if kind]
        if self.candidates is None:
            return kinds_of([(row, box) for row in rows for box in self.boxes.get(row, ())])
        carriers = [row for row in rows if row in set(self.carriers)]
        others = [row for row in rows if row in set(self.others)]
        fewest = FEWEST if len(carriers) == len(self.carriers) else FEWEST_OF_FOLD
        return recurring(self.candidates, carriers, others, fewest)

    def run(self, kinds: Sequence[Kind], step: Callable[[], object]) -> Detection | None:
        """Search all images; None where unmarked images have all kinds as often as the carriers."""
        folds = self.folds()
        kinds_of_fold = self.kinds_by_fold(folds, kinds)
        detectors = {fold: self.fit(self.without(folds, fold), own) for fold, own in kinds_of_fold.items()}
        places: list[list[Found] | None] = []
        maxima: dict[int, list[list[float]]] = {fold: [] for fold in detectors}
        position = {row: k for k, row in enumerate(self.null)}
        for row in range(len(self.table)):
            film, fold = self.film(row), folds.get(row, ALL)
            places.append(detectors[fold].search(film) if fold in detectors else None)
            if row in position:
                for fold, detector in detectors.items():
                    if fold == ALL or position[row] < FOLD_NULL:
                        one = places[-1] if fold == ALL else detector.search(film)
                        maxima[fold].append([place.score for place in one or ()])
            step()
        ready = {fold: calibrated(detector, maxima[fold]) for fold, detector in detectors.items()}
        telling = {
            fold: self._telling(detector, kinds_of_fold[fold], maxima[fold], folds, fold)
            for fold, detector in ready.items()
        }
        if not telling[ALL]:
            return None
        return self._detection(ready, telling, places, folds, kinds)

    def _telling(
        self,
        detector: Detector,
        kinds: Sequence[Kind],
        maxima: Sequence[Sequence[float]],
        folds: Mapping[int, int],
        fold: int,
    ) -> list[int]:
        """Kinds that carriers have more often than unmarked images do; all of those that nobody mined."""
        numbers = list(range(len(kinds)))
        if not self.mined or not detector.knows_null:
            return numbers
        n_carriers = sum(folds[row] != fold for row in self.carriers)
        of_unmarked = [
            float(np.mean([template.in_units(scores[kind]) > FAR for scores in maxima]))
            for kind, template in enumerate(detector.templates)
        ]
        of_carriers = [len({row for row, _ in kind}) / n_carriers for kind in kinds]
        return [kind for kind in numbers if of_unmarked[kind] < AS_COMMON * of_carriers[kind]]

    def _detection(
        self,
        detectors: Mapping[int, Detector],
        telling: Mapping[int, Sequence[int]],
        places: Sequence[Sequence[Found] | None],
        folds: Mapping[int, int],
        kinds: Sequence[Kind],
    ) -> Detection:
        scores, edges = np.zeros(len(places)), np.full((len(places), len(EDGES)), np.nan)
        chosen = {fold: detector.only(telling[fold]) for fold, detector in detectors.items()}
        for row, found in enumerate(places):
            fold = folds.get(row, ALL)
            if found is not None and telling[fold]:
                best = chosen[fold].surest([found[kind] for kind in telling[fold]])
                scores[row], edges[row] = best.score, self.working.to_file(best.box, self.sizes[row])
        used = self._in_files([kinds[kind] for kind in telling[ALL]])
        further = self._in_files(self._further(kinds))
        return Detection(scores, edges, chosen[ALL], used, self.mined, bool(self.boxes), further)

    def _further(self, kinds: Sequence[Kind]) -> list[Kind]:
        if self.candidates is None:
            return []
        return recurring(
            self.candidates, self.carriers, self.others, FEWEST_FURTHER, MOST_FURTHER, besides=kinds
        )

    def _in_files(self, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
        return tuple(
            [(row, self.working.to_file(box, self.sizes[row])) for row, box in kind] for kind in kinds
        )

    def without(self, folds: Mapping[int, int], fold: int) -> list[int]:
        """Rows that the detector of a fold is taught by: all of them, or those of the other folds."""
        return self.taught if fold == ALL else [row for row in folds if folds[row] != fold]

    def kinds_by_fold(self, folds: Mapping[int, int], kinds: Sequence[Kind]) -> dict[int, Sequence[Kind]]:
        """What each detector is taught by.

        Where the others show nothing that recurs, there is no detector, and their fold is scored as an image
        that shows nothing.
        """
        chosen: dict[int, Sequence[Kind]] = {ALL: kinds}
        chosen |= {fold: self.kinds(self.without(folds, fold)) for fold in sorted(set(folds.values()))}
        return {fold: own for fold, own in chosen.items() if own}

    def folds(self) -> dict[int, int]:
        """Row to its fold, of those that detectors are taught by; carriers are in at least two."""
        rows = np.array(self.taught)
        carries = np.isin(rows, self.carriers).astype(int)
        count = min(FOLDS, len(np.unique(self.groups[rows][carries == 1])))
        if count < 2:
            raise InputError("all marked carriers are of one patient; mark samples of at least two")
        numbers = grouped_folds(self.groups[rows], carries, count, self.seed)
        if len(np.unique(numbers[carries == 1])) < 2:  # the others of few patients outweighed the carriers
            numbers = _in_turn(self.groups[rows], carries, count)
        return dict(zip(rows.tolist(), numbers.tolist(), strict=True))

    def fit(self, rows: Sequence[int], kinds: Sequence[Kind]) -> Detector:
        """The detector that these rows teach, not yet in units of a null."""
        taken: dict[int, list[Box]] = {}
        for kind in kinds:
            for row, box in kind:
                taken.setdefault(row, []).append(box)
        if self.boxes:  # all that was boxed, also of kinds that are too rare to learn
            taken = {row: self.boxes[row] for row in rows if row in self.boxes}
        # Carriers without boxes may show more than was mined: their other places are no negatives.
        negatives = rows if self.boxes else [row for row in rows if row not in set(self.carriers)]
        return fit_detector(
            self.films,
            taken,
            negatives,
            self.working,
            self.seed,
            kinds=kinds,
            unsure=self.unsure,
            rounds=self.rounds,
        )


def _in_turn(groups: npt.NDArray[np.generic], carries: Ints, count: int) -> Ints:
    """Folds of whole patients, dealt one by one, those of carriers first."""
    patients, of_patient = np.unique(groups, return_inverse=True)
    with_carriers = np.bincount(of_patient, weights=carries) > 0
    turn = np.empty(len(patients), np.intp)
    turn[np.argsort(~with_carriers, kind="stable")] = np.arange(len(patients)) % count
    return np.asarray(turn[of_patient])


def _some(rows: Sequence[int], count: int, generator: np.random.Generator) -> list[int]:
    if len(rows) <= count:
        return list(rows)
    return [int(row) for row in np.sort(generator.choice(np.asarray(rows), count, replace=False))]
