"""What is ranked by beside the layers: places in the images as large as in their files, borders and lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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
from shortcutscope.retrieval.lines.teaching import LineSearch, teach_lines
from shortcutscope.retrieval.marked import Plain, rank_by_marked
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.places import EDGES
from shortcutscope.types import Floats

View = Literal["auto", "layers", "places", "features"]
VIEWS = ("auto", "layers", "places", "features")
PLACES, PICTURE = "places", "layers, borders and lines"
#: Fewest carriers to search by; images that the range of grey is read from.
FEWEST, SOME = 5, 10
#: What reads the figures of a picture; their total variance beside that of the layers.
FIGURES = ((border_features, 1.0), (line_features, 2.0))


@dataclass(frozen=True, eq=False)
class RatedLines:
    """Lines of all samples, rated by those that were boxed.

    Attributes
    ----------
    search
        What rates them.
    scores
        ``(N,)`` large for carriers.
    places
        ``(N, 4)`` around the surest line of each, in pixels of its file.
    """

    search: LineSearch
    scores: Floats
    places: Floats

    @property
    def scaled(self) -> Floats:
        """``(N,)`` scores in standard deviations."""
        return _scaled(self.scores, self.scores)


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
    lines
        What rates their lines, where boxes hold some; counts as much as the rest of the picture.
    mined
        View to its number of kinds, of a detector that nobody boxed anything for and whose scores are in
        units of the law of images without it.
    """

    scores: dict[str, Floats] = field(default_factory=dict)
    detection: Detection | None = None
    notes: tuple[str, ...] = ()
    picture: Plain | None = None
    lines: RatedLines | None = None
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
                searched = Searched(notes=(f"{reason}: no place is searched for",))
                whole = self.view != "places" and shows_more_than_input(self.images)
                return self._with_picture(searched, layers, values) if whole else searched
            others = np.flatnonzero(values == 0).tolist()
            searched = self._by_places(Where(boxes, [*boxes], others))
            lines = None if self.view == "places" else self._rated(boxes, others)
            return searched if lines is None else self._with_picture(searched, layers, values, lines)
        if self.view != "places" and self.kept is None and not shows_more_than_input(self.images):
            return Searched()
        carriers, others = (np.flatnonzero(values == value).tolist() for value in (1, 0))
        clicks = {row: several for row, several in marks.boxes(self.ids).items() if several}
        searched = self._by_places(Where({}, carriers, others, self.kept, clicks))
        if self.view == "places":
            return searched
        return self._with_picture(searched, layers, values)

    def _with_picture(
        self,
        searched: Searched,
        layers: npt.NDArray[np.float32],
        values: Floats,
        lines: RatedLines | None = None,
    ) -> Searched:
        """Add what the picture as a whole tells, and the lines that were boxed."""
        picture = rank_by_marked(self._blocks(layers), values, self.groups, seed=self.seed)
        scores = picture.scores if lines is None else _scaled(picture.scores, picture.scores) + lines.scaled
        scores_of = {**searched.scores, PICTURE: scores}
        return replace(searched, scores=scores_of, picture=picture, lines=lines)

    def _rated(
        self, boxes: Mapping[int, Sequence[Sequence[float]]], others: Sequence[int]
    ) -> RatedLines | None:
        """Lines of all pictures, rated by those that were boxed; None where the boxes hold too few."""
        inside = {row: [self.grey.to_working(box) for box in several] for row, several in boxes.items()}
        search = teach_lines(self._grey_picture, inside, others, self.groups, seed=self.seed)
        if search is None:
            return None
        bar = progress_bar(range(len(self.table)), desc="rating lines", progress=self.running.progress)
        found = [search.search(self._grey_picture(row), row) for row in bar]
        sizes = sizes_of(self.table, self.ids)
        places = [
            (np.nan,) * len(EDGES) if box is None else self.grey.to_file(box, sizes[name])
            for (_, box), name in zip(found, self.ids, strict=True)
        ]
        scores = np.array([score for score, _ in found])
        without = np.array([box is None for _, box in found])
        scores[without] = scores[~without].min(initial=0.0)
        return RatedLines(search, scores, np.array(places))

    def _grey_picture(self, row: int) -> Tensor:
        return self.grey.of(self.table.image(row))

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
        table = in_file_size(data)
        scores = searched.picture.score(np.hstack([layers, *self._figures_of(table, running)]))
        if searched.lines is None:
            return scores
        rated = [searched.lines.search.search(self.grey.of(table.image(row)))[0] for row in range(len(table))]
        scores = _scaled(scores, searched.picture.scores)
        lowest = searched.lines.scores.min()
        return scores + _scaled(np.maximum(rated, lowest), searched.lines.scores)

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

    @property
    def grey(self) -> Working:
        """What makes the pictures that are looked at as a whole."""
        if self._grey is None:
            some = [self.table.image(row) for row in range(min(SOME, len(self.table)))]
            self._grey = replace(working_for(some, [], MINED_PIXELS), colours=False)
        return self._grey

    def _figures_of(self, table: ImageTable, running: Running) -> list[Floats]:
        """Figures ``(N, D)`` of each kind, read in one pass."""
        figures: list[list[Floats]] = [[] for _ in FIGURES]
        bar = progress_bar(range(len(table)), desc="reading borders and lines", progress=running.progress)
        with torch.no_grad():
            for row in bar:
                grey = self.grey.of(table.image(row))
                for (read, _), rows in zip(FIGURES, figures, strict=True):
                    rows.append(read(grey))
        return [np.stack(rows) for rows in figures]


def _scaled(scores: Floats, reference: Floats) -> Floats:
    return (scores - reference.mean()) / max(float(reference.std()), 1e-9)
