"""Move images of each side to the other by one transfer, and to others of their own side as the null."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shortcutscope.data.properties.names import OF_PICTURES
from shortcutscope.data.properties.pictures import picture_properties
from shortcutscope.pixels.choice import (
    Candidate,
    Sides,
    best,
    candidates,
    possible,
)
from shortcutscope.pixels.decision import FEWEST
from shortcutscope.pixels.effects import Changes, Direction
from shortcutscope.pixels.erasing import ChangesWithNull
from shortcutscope.pixels.margins import Margins
from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.scaled_images import ScaledImages
from shortcutscope.pixels.transfers import moved
from shortcutscope.pixels.transfers.side import Side, has_dark_background, side_of
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.types import Floats, Ints

#: Most images of each label and side on copies of which a transfer is chosen.
CHOSEN_ON = 60
#: Below this AUROC within labels the probe on the input does not see the concept.
SEEN = 0.75
#: What the best transfer must close of the probe's gap.
LEAST_CLOSED = 0.5
NULL_OF = "the same transfer to another image of the same side and label"


@dataclass(frozen=True, eq=False)
class Choice:
    """The candidates, and what the probe sees of the images as they are.

    Attributes
    ----------
    candidates
        All that were tried.
    separation
        AUROC within labels of the probe on the input.
    """

    candidates: Sequence[Candidate]
    separation: float

    def named(self, name: str | None) -> Candidate:
        """The candidate of a name; by default the best."""
        return best(self.candidates) if name is None else next(c for c in self.candidates if c.name == name)

    def untested(self, chosen: Candidate) -> str | None:
        """Why no direction can be tested, or None."""
        if not self.separation >= SEEN:
            return (
                f"plain features of the image do not show the concept (AUROC {self.separation:.2f} within "
                f"labels, and {SEEN} is needed), so that nobody can tell whether a transfer arrives"
            )
        if chosen.closed < LEAST_CLOSED:
            return (
                f"no transfer makes the sides alike: {chosen.name} closes {chosen.closed:.0%} of the "
                f"difference, and {LEAST_CLOSED:.0%} is needed"
            )
        return None


@dataclass(frozen=True, eq=False)
class Transferring:
    """The samples of both sides, in two halves of the patients.

    Attributes
    ----------
    images, samples
        All samples of the table.
    per_label
        Most images of each label and side.
    seed
        Of all draws.
    measure
        Of a concept that is a measured property of the picture, what measures it.
    """

    images: ScaledImages
    samples: Samples
    per_label: int = 200
    seed: int = 0
    measure: Callable[[Floats], float] | None = None

    def untested(self) -> str | None:
        """Why nothing can be tested, or None."""
        for side, who in ((1, "carry it"), (0, "do not carry it")):
            rows = self.rows[self.samples.carries[self.rows] == side]
            patients = len(np.unique(self.samples.groups[rows]))
            if patients < FEWEST:
                return f"{len(rows)} images of {patients} patients {who}, and {FEWEST} patients are needed"
        return None

    @cached_property
    def rows(self) -> Ints:
        """Those that are moved."""
        rng = np.random.default_rng([self.seed, 1])
        return np.sort(np.concatenate([self.samples.drawn(side, self.per_label, rng) for side in (0, 1)]))

    @cached_property
    def folds(self) -> Ints:
        """(N,) half of the patients, 0 or 1, of each of `rows`; -1 of all other samples."""
        rows, folds = self.rows, np.full(len(self.samples.labels), -1)
        s = self.samples
        folds[rows] = make_folds(s.labels[rows], s.groups[rows], s.carries[rows], n_folds=2, seed=self.seed)
        return folds

    @cached_property
    def dark(self) -> bool:
        """The images have a black background."""
        return has_dark_background(self.images.viewed(self.rows[:: max(1, len(self.rows) // 32)].tolist()))

    @cached_property
    def copies(self) -> dict[int, Floats]:
        """Small copies of some images of each label and side, by row, on which a transfer is chosen."""
        rng = np.random.default_rng([self.seed, 2])
        some = [
            rng.permutation(rows)[:CHOSEN_ON]
            for label in self.samples.classes
            for side in (0, 1)
            if len(rows := np.intersect1d(self.samples.of(side, label), self.rows))
        ]
        rows = np.sort(np.concatenate(some)).tolist()
        return dict(zip(rows, self.images.viewed(rows), strict=True))

    @cached_property
    def same_size(self) -> bool:
        """All images have one size."""
        return len({image.shape for image in self.copies.values()}) == 1

    def choice(self, only: str | None = None, *, progress: bool = False) -> Choice:
        """Try all transfers, or one, on copies of some images."""
        copies, s = self.copies, self.samples
        rows = np.array([*copies])
        few = Samples(s.carries[rows], s.labels[rows], s.groups[rows])
        folds = self.folds[rows]
        images = list(copies.values())
        sides = [
            Sides.of(
                few,
                np.flatnonzero(folds != k),
                lambda some: lambda: [images[i] for i in some],
                dark=self.dark,
            )
            for k in (0, 1)
        ]
        names = possible(self.images.dims, same_size=self.same_size) if only is None else [only]
        tried, separation = candidates(
            few, images, folds, sides, names, measure=self.measure, seed=self.seed, progress=progress
        )
        return Choice(tried, separation)

    @cached_property
    def sides(self) -> list[Sides]:
        """Of each half, what the other half's images show, in full size."""

        def images(rows: Ints) -> Callable[[], Iterable[Floats]]:
            return lambda: self.images.each(rows.tolist())

        return [
            Sides.of(self.samples, np.flatnonzero(self.folds == 1 - k), images, dark=self.dark)
            for k in (0, 1)
        ]

    def moved(self, name: str, row: int) -> Floats:
        """An image moved to the other side of its label, by what other patients show."""
        own, other = self._pair(row)
        return moved(name, self.images[row], own, other, np.random.default_rng([self.seed, 3, row]))

    def _pair(self, row: int) -> tuple[Side, Side]:
        s = self.samples
        sides: Sides = self.sides[int(self.folds[row])]
        return sides.pair(int(s.labels[row]), int(s.carries[row]))

    def of_direction(self, direction: Direction) -> Ints:
        """The rows that are moved in a direction."""
        side_value = 1 if direction == "without" else 0
        return np.intersect1d(self.rows, self.samples.of(side_value))

    def trial(self, direction: Direction, name: str, margins: Margins, before: Floats) -> ChangesWithNull:
        """Move the images of one side, and do the null.

        Parameters
        ----------
        before
            (N,) margins of the table's samples; those of `rows` are there.
        """
        rows = self.of_direction(direction)
        after = margins(self.moved(name, int(row)) for row in rows)
        pairs = self._null_pairs(rows)
        null = margins(self._as_another(name, i, j) for i, j in pairs)
        takers = np.array([i for i, _ in pairs], int)
        return ChangesWithNull(
            Changes(rows, before[rows], after), Changes(takers, before[takers], null), NULL_OF
        )

    def _null_pairs(self, rows: Ints) -> list[tuple[int, int]]:
        rng = np.random.default_rng([self.seed, 4])
        pairs = []
        for label in self.samples.classes:
            own = rows[self.samples.labels[rows] == label]
            if len(own) > 1:
                shift = rng.integers(1, len(own), len(own))
                pairs += list(
                    zip(own.tolist(), own[(np.arange(len(own)) + shift) % len(own)].tolist(), strict=True)
                )
        return pairs

    def _as_another(self, name: str, row: int, other: int) -> Floats:
        image, theirs = self.images[row], self.images[other]
        rng = np.random.default_rng([self.seed, 5, row])
        return moved(name, image, side_of(image, dark=self.dark), side_of(theirs, dark=self.dark), rng)

    def before_after(
        self, direction: Direction, name: str, count: int | None = None
    ) -> Iterator[tuple[int, Floats, Floats]]:
        """Rows with their images before and after; of some of them, drawn at random."""
        rng = np.random.default_rng([self.seed, 6])
        for row in rng.permutation(self.of_direction(direction))[:count].tolist():
            yield row, self.images[row], self.moved(name, row)


def property_measure(column: str | None) -> Callable[[Floats], float] | None:
    """What measures a column that was measured of the pictures; None of any other column.

    Examples
    --------
    >>> property_measure("picture_mean_grey")(np.full((1, 9, 9), 0.5, np.float32))
    0.5
    >>> property_measure("sex") is None
    True
    """
    if column not in OF_PICTURES:
        return None

    def measure(image: Floats) -> float:
        # Nothing is measured of a picture that is all rim.
        return picture_properties(image, (0.0, 1.0)).get(str(column), 0.0)

    return measure
