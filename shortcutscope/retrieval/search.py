"""What is ranked by beside the layers: places in the images as large as in their files, borders and lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from shortcutscope.data.file_images import in_file_size
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.progress import progress_bar
from shortcutscope.retrieval.borders import border_features
from shortcutscope.retrieval.checks import require_images, shows_more_than_input, sizes_of, why_not_searched
from shortcutscope.retrieval.detecting.crops import Crops, crops_of
from shortcutscope.retrieval.detecting.detection import MINED_PIXELS, Detection, Kind, Where, detect
from shortcutscope.retrieval.detecting.working import Working, working_for
from shortcutscope.retrieval.lines.figures import line_features
from shortcutscope.retrieval.marked import Plain, rank_by_marked
from shortcutscope.retrieval.marks import Marks
from shortcutscope.types import Floats

View = Literal["auto", "layers", "places", "features"]
VIEWS = ("auto", "layers", "places", "features")
PLACES, PICTURE = "places", "layers, borders and lines"
#: Fewest carriers to search by; images that the range of grey is read from.
FEWEST, SOME = 5, 10
#: What reads the figures of a picture; their total variance beside that of the layers.
FIGURES = ((border_features, 1.0), (line_features, 2.0))


@dataclass(frozen=True, eq=False)
class Searched:
    """Rankings beside that by layers.

    Attributes
    ----------
    scores
        Name of the view to ``(N,)``.
    detection
        Where; None where nothing was searched for, or nothing found that recurs.
    notes
        What a reader should know.
    picture
        What pictures as a whole are scored by, where they are.
    mined
        View to its number of kinds, of a detector that nobody boxed anything for and whose scores are in
        units of the law of images without it.
    """

    scores: dict[str, Floats] = field(default_factory=dict)
    detection: Detection | None = None
    notes: tuple[str, ...] = ()
    picture: Plain | None = None
    mined: dict[str, int] = field(default_factory=dict)


class FileSearch:
    """The images of a retrieval, in the order of its samples.

    Parameters
    ----------
    images
        The scanned table, or None.
    sample_ids, groups
        ``(N,)``.
    view
        What is asked for.
    running
        How images are read.
    seed
        Of folds and draws.
    """

    def __init__(
        self,
        images: ImageTable | None,
        sample_ids: Sequence[str],
        groups: npt.ArrayLike,
        view: View,
        running: Running,
        seed: int,
    ) -> None:
        if view not in VIEWS:
            raise InputError(f"view={view!r}; allowed are {', '.join(VIEWS)}")
        if view == "places" and images is None:
            raise InputError('view="places" searches the images: give them')
        self.view, self.seed, self.running, self.images = view, seed, running, images
        self.ids, self.groups = [str(name) for name in sample_ids], np.asarray(groups)
        self.kept: list[Kind] | None = None
        self._figures: list[Floats] | None = None
        self._table: ImageTable | None = None
        self._grey: Working | None = None

    @property
    def searches(self) -> bool:
        """Whether the view that is asked for looks at the images."""
        return self.view in ("auto", "places")

    def check(self, marks: Marks) -> None:
        """Refuse places that cannot be searched for, before anything is read."""
        if self.searches:
            require_images(marks, self.images)

    @property
    def table(self) -> ImageTable:
        """The images in the size of their files."""
        if self._table is None:
            assert self.images is not None
            position = {str(name): row for row, name in enumerate(self.images.frame["sample_id"])}
            ordered = self.images.take([position[name] for name in self.ids])
            self._table = in_file_size(ordered).keeping(self.running)
        return self._table

    def __call__(self, marks: Marks, layers: npt.NDArray[np.float32]) -> Searched:
        """Rank by places, and where nobody boxed any also by the picture as a whole.

        Parameters
        ----------
        marks
            Of a person.
        layers
            ``(N, D)`` features of the network's layers.
        """
        values = marks.aligned_to(self.ids)
        if not self.searches or self.images is None or np.count_nonzero(values == 1) < FEWEST:
            return Searched()
        boxes = marks.areas(self.ids)
        if boxes and self.kept is None:
            sizes = sizes_of(self.images, [self.ids[row] for row in boxes])
            reason = why_not_searched({self.ids[row]: boxes[row] for row in boxes}, sizes)
            if reason:
                return Searched(notes=(f"{reason}: ranked by layers alone",))
            return self._by_places(Where(boxes, [*boxes], np.flatnonzero(values == 0).tolist()))
        if self.view != "places" and self.kept is None and not shows_more_than_input(self.images):
            return Searched()
        carriers, others = (np.flatnonzero(values == value).tolist() for value in (1, 0))
        clicks = {row: several for row, several in marks.boxes(self.ids).items() if several}
        searched = self._by_places(Where({}, carriers, others, self.kept, clicks))
        if self.view == "places":
            return searched
        picture = rank_by_marked(self._blocks(layers), values, self.groups, seed=self.seed)
        return replace(searched, scores={**searched.scores, PICTURE: picture.scores}, picture=picture)

    def _blocks(self, layers: npt.NDArray[np.float32]) -> list[tuple[npt.ArrayLike, float]]:
        """What the picture as a whole is told apart by, and how much each counts."""
        if self._figures is None:
            self._figures = self._figures_of(self.table, self.running)
        shares = [share for _, share in FIGURES]
        return [(layers, 1.0), *zip(self._figures, shares, strict=True)]

    def score_pictures(
        self, searched: Searched, layers: npt.NDArray[np.float32], data: ImageTable, running: Running
    ) -> Floats:
        """Scores ``(M,)`` of new images as a whole, with the features ``(M, D)`` of their layers."""
        assert searched.picture is not None
        figures = self._figures_of(in_file_size(data), running)
        return searched.picture.score(np.hstack([layers, *figures]))

    def score_places(self, searched: Searched, data: ImageTable, running: Running) -> Floats:
        """Scores ``(M,)`` of new images by places."""
        table = in_file_size(data)
        assert searched.detection is not None
        detector = searched.detection.detector
        bar = progress_bar(range(len(table)), desc="searching images", progress=running.progress)
        found = [max(one.score for one in detector.search(detector.film(table.image(row)))) for row in bar]
        return np.array(found)

    def crops(self, detection: Detection) -> Crops:
        """Pictures of what the detector was taught by."""
        return crops_of(detection, self.table)

    def _by_places(self, where: Where) -> Searched:
        if where.kinds is not None and not where.kinds:
            return Searched(notes=("all mined crops were dropped: box a few samples to say where it is",))
        found = detect(self.table, where, self.groups, seed=self.seed, progress=self.running.progress)
        if found is None:
            note = (
                "no patch was found that the marked carriers have and the others lack; box a few to say where"
            )
            return Searched(notes=(note,))
        notes: tuple[str, ...] = ()
        if found.mined:
            notes = (
                "nobody boxed where it is: the detector looks for patches that the marked carriers have "
                "and others lack; look at crops, and keep() those that show it",
            )
        by_units = not found.boxed and found.detector.knows_null
        mined = {PLACES: len(found.kinds)} if by_units else {}
        return Searched({PLACES: found.scores}, found, notes, mined=mined)

    def _figures_of(self, table: ImageTable, running: Running) -> list[Floats]:
        """Figures ``(N, D)`` of each kind, read in one pass."""
        if self._grey is None:
            some = [self.table.image(row) for row in range(min(SOME, len(self.table)))]
            self._grey = replace(working_for(some, [], MINED_PIXELS), colours=False)
        figures: list[list[Floats]] = [[] for _ in FIGURES]
        bar = progress_bar(range(len(table)), desc="reading borders and lines", progress=running.progress)
        with torch.no_grad():
            for row in bar:
                grey = self._grey.of(table.image(row))
                for (read, _), rows in zip(FIGURES, figures, strict=True):
                    rows.append(read(grey))
        return [np.stack(rows) for rows in figures]
