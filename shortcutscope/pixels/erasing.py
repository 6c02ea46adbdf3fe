"""Erase a localized concept where its mask is, and insert it where it is not.

Erasing fills the mask of a carrier. Its null fills the same masks in the same way in images *of the same
label* that do not carry it: what a fill hides of the image itself differs by label, and counts for nothing.
Inserting adds what a carrier has more than its own fill, inside its mask, to an image without; its null adds
the same of another image without. An artifact moved to another place of its image is no null: networks
answer that it stands in an odd place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shortcutscope.pixels.decision import FEWEST
from shortcutscope.pixels.effects import FEWEST_OF_NULL, Changes, Direction
from shortcutscope.pixels.fills import Fill
from shortcutscope.pixels.margins import Margins
from shortcutscope.pixels.masks import ImageMasks, usable
from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.scaled_images import ScaledImages, onto
from shortcutscope.types import Bools, Floats, Ints

#: Fewest pairs of a mask and an image that a label's null is made of.
NULL_PAIRS = 40
#: Other places of an image that is looked at alone.
ALONE = 20
#: Tries for a place that no mask of the image's own is in.
_TRIES = 20

NULL_WITHOUT = "the same masks and fill in images of the same label that do not carry it"
NULL_ELSEWHERE = "the same masks and fill at other places of images that carry it, since no label has others"
NULL_WITH = "the same, cut from another image that does not carry it"


@dataclass(frozen=True, eq=False)
class ChangesWithNull:
    """One direction: what was done, and what its null did.

    Attributes
    ----------
    own, null
        The changes.
    null_of
        What the null is, in words.
    """

    own: Changes
    null: Changes
    null_of: str


@dataclass(frozen=True, eq=False)
class Erasing:
    """The masks of a concept's carriers, and how they are filled.

    Attributes
    ----------
    images, samples
        All samples of the table.
    masks
        By row.
    fill
        How a mask is filled.
    per_label
        Most images of each label and side.
    seed
        Of all draws.
    """

    images: ScaledImages
    samples: Samples
    masks: ImageMasks
    fill: Fill
    per_label: int = 60
    seed: int = 0

    @cached_property
    def own_masks(self) -> Mapping[int, Bools]:
        """Row of a carrier to its mask, of at most `per_label` carriers of each label that have one."""
        rng = np.random.default_rng([self.seed, 1])
        masks: dict[int, Bools] = {}
        for label in self.samples.classes:
            wanted = self.per_label
            for row in rng.permutation(self.samples.of(1, label)).tolist():
                mask = usable(self.masks(row)) if wanted else None
                if mask is not None:
                    masks[row], wanted = mask, wanted - 1
        return dict(sorted(masks.items()))

    def untested(self) -> str | None:
        """Why nothing can be tested, or None."""
        carriers, others = len(self.own_masks), len(self.samples.of(0))
        patients = len(np.unique(self.samples.groups[[*self.own_masks]])) if carriers else 0
        if patients < FEWEST:
            return (
                f"the masks are of {carriers} images of {patients} patients that carry it, and {FEWEST} are "
                "needed (a mask of more than half of its image does not count)"
            )
        if others < FEWEST:
            return f"{others} images do not carry it, and {FEWEST} are needed"
        return None

    def alone(self, margins: Margins) -> ChangesWithNull:
        """Erase where too few carry it for a test: each beside the same fill at other places of itself."""
        rng = np.random.default_rng([self.seed, 5])
        own = [*self.own_masks]
        pairs = []
        for row, mask in self.own_masks.items():
            places = (_elsewhere(mask, rng, leads=self.images.dims == 1) for _ in range(ALONE))
            pairs += [(row, place) for place in places if place is not None]
        erased = margins(self.erased(row, self.own_masks[row]) for row in own)
        edited = margins(self.erased(row, mask) for row, mask in pairs)
        null_rows = np.array([row for row, _ in pairs], int)
        before = self._as_they_are(margins, np.concatenate([np.array(own, int), null_rows]))
        return ChangesWithNull(
            Changes(np.array(own, int), before[: len(own)], erased),
            Changes(null_rows, before[len(own) :], edited),
            NULL_ELSEWHERE,
        )

    def erased(self, row: int, mask: Bools) -> Floats:
        """An image with a mask of any size filled."""
        image = self.images[row]
        return self.fill(image, _fitted(mask, image))

    def inserted(self, row: int, giver: int, mask: Bools) -> Floats:
        """An image with what another has more than its own fill inside a mask."""
        image, given = self.images[row], self.images[giver]
        place = _fitted(mask, given)
        more = np.where(place, given - self.fill(given, place), 0).astype(np.float32)
        return np.clip(image + onto(more, image.shape[1:]), 0, 1)

    def trial(self, direction: Direction, margins: Margins) -> ChangesWithNull:
        """Do it, and its null."""
        return self._without(margins) if direction == "without" else self._with(margins)

    def before_after(
        self, direction: Direction, count: int | None = None
    ) -> Iterator[tuple[int, Floats, Floats]]:
        """Rows with their images before and after; of some of them, drawn at random."""
        rng = np.random.default_rng([self.seed, 4])
        if direction == "without":
            for row in rng.permutation([*self.own_masks])[:count].tolist():
                yield row, self.images[row], self.erased(row, self.own_masks[row])
            return
        rows, givers, _ = self._pairs
        for k in rng.permutation(len(rows))[:count].tolist():
            row, giver = int(rows[k]), int(givers[k])
            yield row, self.images[row], self.inserted(row, giver, self.own_masks[giver])

    def _without(self, margins: Margins) -> ChangesWithNull:
        own = [*self.own_masks]
        erased = margins(self.erased(row, self.own_masks[row]) for row in own)
        pairs, null_of = self._null_pairs()
        edited = margins(self.erased(row, mask) for row, mask in pairs)
        null_rows = np.array([row for row, _ in pairs], int)
        before = self._as_they_are(margins, np.concatenate([own, null_rows]))
        return ChangesWithNull(
            Changes(np.array(own), before[: len(own)], erased),
            Changes(null_rows, before[len(own) :], edited),
            null_of,
        )

    def _null_pairs(self) -> tuple[list[tuple[int, Bools]], str]:
        """Images and masks that are not theirs."""
        rng = np.random.default_rng([self.seed, 2])
        pairs: list[tuple[int, Bools]] = []
        for label in self.samples.classes:
            carriers = [row for row in self.own_masks if self.samples.labels[row] == label]
            others = rng.permutation(self.samples.of(0, label))
            if not carriers or len(others) < FEWEST_OF_NULL:
                continue
            count = max(NULL_PAIRS, min(len(carriers), self.per_label))
            givers, takers = rng.choice(carriers, count), np.resize(others[: self.per_label], count)
            pairs += [(int(j), self.own_masks[int(i)]) for i, j in zip(givers, takers, strict=True)]
        if pairs:
            return pairs, NULL_WITHOUT
        for row, mask in self.own_masks.items():
            place = _elsewhere(mask, rng, leads=self.images.dims == 1)
            if place is not None:
                pairs.append((row, place))
        return pairs, NULL_ELSEWHERE

    @cached_property
    def _pairs(self) -> tuple[Ints, Ints, Ints]:
        """Images without it, carriers that give it, and others that give nothing."""
        rng = np.random.default_rng([self.seed, 3])
        rows = self.samples.drawn(0, self.per_label, rng)
        givers = rng.choice([*self.own_masks], len(rows))
        every = self.samples.of(0)
        shift = rng.integers(1, len(every), len(rows))
        return rows, givers, every[(np.searchsorted(every, rows) + shift) % len(every)]

    def _with(self, margins: Margins) -> ChangesWithNull:
        rows, givers, silent = self._pairs
        masks = [self.own_masks[int(g)] for g in givers]
        put = margins(self.inserted(int(j), int(i), m) for j, i, m in zip(rows, givers, masks, strict=True))
        null = margins(self.inserted(int(j), int(i), m) for j, i, m in zip(rows, silent, masks, strict=True))
        before = self._as_they_are(margins, rows)
        return ChangesWithNull(Changes(rows, before, put), Changes(rows, before, null), NULL_WITH)

    def _as_they_are(self, margins: Margins, rows: Ints) -> Floats:
        unique, member = np.unique(rows, return_inverse=True)
        return margins(self.images.each(unique.tolist()))[member]


def _fitted(mask: Bools, image: Floats) -> Bools:
    """A mask of another image on this one."""
    size = image.shape if mask.ndim == image.ndim else image.shape[1:]
    if mask.shape == size:
        return mask
    if mask.ndim == image.ndim:  # a signal: each lead its own
        leads = [onto(lead, size[1:]) for lead in mask]
        return np.stack(leads).astype(bool)
    return np.asarray(onto(mask, size), bool)


def _elsewhere(mask: Bools, rng: np.random.Generator, *, leads: bool) -> Bools | None:
    """The mask moved, without going round the edges, to where it does not meet itself; None without room.

    Along the first axis of a signal, its `leads`, nothing moves.
    """
    places = np.nonzero(mask)
    axes = range(int(leads), mask.ndim)
    for _ in range(_TRIES):
        moved = [p.copy() for p in places]
        for axis in axes:
            low, high = int(places[axis].min()), int(places[axis].max())
            moved[axis] += int(rng.integers(-low, mask.shape[axis] - high))
        other = np.zeros_like(mask)
        other[tuple(moved)] = True
        if not (other & mask).any():
            return other
    return None
