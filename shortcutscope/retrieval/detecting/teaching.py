"""Detectors that boxes taught, in units of their null: for masks, which search only what is asked for.

As in a search of a whole table (`detection`), whatever stands in a fold with a marked sample is searched by
a detector that was taught, and whose kinds were chosen, without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.progress import progress_bar
from shortcutscope.retrieval.detecting.detection import ALL, Kind, Search, Where
from shortcutscope.retrieval.detecting.detector import Detector, calibrated
from shortcutscope.retrieval.detecting.null import FEWEST
from shortcutscope.types import Floats

#: Rounds of hard negatives: with two, more than one in twenty images without it got a place.
ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Taught:
    """Detectors by fold.

    Attributes
    ----------
    detectors
        Of each fold, taught without it; under `ALL` the one that all marks taught.
    kinds
        What each was taught by, in pixels of the files.
    folds
        Row to its fold, of those that taught.
    null
        Rows without marks that scores are in units of.
    null_scores
        ``(len(null),)`` highest score of each by the detector of all marks.
    """

    detectors: Mapping[int, Detector]
    kinds: Mapping[int, Sequence[Kind]]
    folds: Mapping[int, int]
    null: tuple[int, ...]
    null_scores: Floats

    def fold(self, row: int) -> int:
        """Whose detector searches a row."""
        return self.folds.get(row, ALL)

    def most(self, fold: int) -> list[int]:
        """How many elements of each kind any boxed image shows."""
        return [max(Counter(row for row, _ in kind).values()) for kind in self.kinds[fold]]


def teach(
    images: ImageTable, where: Where, groups: npt.ArrayLike, *, seed: int = 0, progress: bool = True
) -> Taught:
    """Teach detectors by boxes.

    Parameters
    ----------
    images
        ``N`` samples as large as in their files, see `shortcutscope.data.file_images.in_file_size`.
    where
        The marks, with boxes: patches that were mined may be missing in a fold, which nothing would search.
    groups
        ``(N,)`` patients.
    seed
        Of folds and draws.
    progress
        Whether to show a bar.

    Raises
    ------
    InputError
        Without boxes, when too few images are unmarked, or all marked carriers are of one patient.
    """
    if not where.boxes:
        raise InputError("masks are taught by boxes, and there are none: box it on about ten carriers")
    search = Search(images, where, np.asarray(groups), seed, ROUNDS)
    if len(search.null) < FEWEST:
        raise InputError(
            f"how high chance comes is read from images without a mark, and {len(search.null)} are left; at "
            f"least {FEWEST} are needed and 100 advised. Scan more images, or mark fewer"
        )
    folds = search.folds()
    with progress_bar(
        desc="learning places", progress=progress, total=len(search.taught) + len(search.null), unit="image"
    ) as bar:
        search.load(bar.update)
        kinds = search.kinds_by_fold(folds, search.kinds(search.taught))
        detectors = {fold: search.fit(search.without(folds, fold), own) for fold, own in kinds.items()}
        maxima: dict[int, list[list[float]]] = {fold: [] for fold in detectors}
        for row in search.null:
            film = search.film(row)
            for fold, detector in detectors.items():
                maxima[fold].append([place.score for place in detector.search(film)])
            bar.update()
    ready = {fold: calibrated(detector, maxima[fold]) for fold, detector in detectors.items()}
    in_files = {
        fold: [[(row, search.working.to_file(box, search.sizes[row])) for row, box in kind] for kind in own]
        for fold, own in kinds.items()
    }
    templates = ready[ALL].templates
    in_units = [[t.in_units(one) for t, one in zip(templates, row, strict=True)] for row in maxima[ALL]]
    return Taught(ready, in_files, folds, tuple(search.null), np.array(in_units).max(1))
