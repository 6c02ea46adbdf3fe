"""Without boxes: patches that recur in the marked carriers and in the other images hardly do.

Discriminative patches in the sense of Singh et al. (2012), for a handful of images: candidates are the most
structured places of the carriers, compared with those of all other images by normalised correlation. Carriers
that show something alike are the boxes that nobody drew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import maximum_filter

from shortcutscope.retrieval.detecting.energy import blurred, normalized
from shortcutscope.retrieval.detecting.templates import Box, Film
from shortcutscope.types import Bools, Floats, Ints

#: Height and width of a patch in pixels of the working image, and how many an image has at most.
PATCH, COUNT = (11, 15), 300
#: Blur before patches are compared, and contrast below which there is none.
BLUR, FAINT = 0.7, 0.03
#: Share of the unmarked images that may carry it, and marked others that may be marked wrongly.
MAY_CARRY, WRONG = 0.4, 1
#: Excess of a correlation over that in the other images: most that counts, least of a patch that recurs, and
#: least of the surest one of a kind, short of which are folds of the body that many images have.
MOST_EXCESS, LEAST_EXCESS, SURE_EXCESS = 0.25, 0.06, 0.15
#: Farthest that the middle of a patch lies from a click, in pixels along each axis.
NEAR = 16
#: Fewest carriers that show a patch, one less where a fold is held out, and most kinds of patches.
FEWEST, FEWEST_OF_FOLD, MOST_KINDS = 3, 2, 6
#: Fewest carriers, and most kinds, of patches that are not searched for unless a person keeps them.
FEWEST_FURTHER, MOST_FURTHER = 2, 8
_SHIFTS = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Patches:
    """Structured places of an image.

    Attributes
    ----------
    at
        ``(n, 2)`` row and column of their middles.
    vectors
        ``(n, D)`` of mean 0 and length at most 1.
    shifted_at, shifted
        The same places and those a pixel around them.
    """

    at: Ints
    vectors: Float32
    shifted_at: Ints
    shifted: Float32

    def near(self, clicks: Sequence[Sequence[float]]) -> Patches:
        """Those around some points (x, y, ...); all of them without points."""
        if not clicks:
            return self
        owner_row, moved = _around(self.at, clicks), _around(self.shifted_at, clicks)
        if not owner_row.any():
            return self
        return Patches(
            self.at[owner_row], self.vectors[owner_row], self.shifted_at[moved], self.shifted[moved]
        )


def _around(at: Ints, clicks: Sequence[Sequence[float]]) -> Bools:
    points = np.array([[click[1], click[0]] for click in clicks])
    return np.asarray((np.abs(at[:, None] - points[None]).max(2) <= NEAR).any(1))


def patches_of(film: Film) -> Patches:
    """The most structured places of an image, none too near to its edge."""
    grey = film.image[:1]
    smooth = blurred(normalized(grey), BLUR)[0].numpy()
    slopes = torch.from_numpy(np.hypot(*np.gradient(smooth)))[None]
    energy = blurred(slopes, 2.0)[0].numpy()
    margin = PATCH[0] // 2
    energy[:margin], energy[-margin:], energy[:, :margin], energy[:, -margin:] = 0, 0, 0, 0
    rows, columns = np.nonzero((energy == maximum_filter(energy, 3)) & (energy > 0))
    best = np.argsort(-energy[rows, columns], kind="stable")[:COUNT]
    at = np.stack([rows[best], columns[best]], axis=1)
    half = [side // 2 for side in PATCH]
    padded = np.pad(blurred(grey, BLUR)[0].numpy(), [(half[0], half[0]), (half[1], half[1])], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, PATCH)
    limits = np.array(energy.shape) - 1
    shifted_at = np.concatenate([np.clip(at + shift, 0, limits) for shift in _SHIFTS])
    return Patches(at, _vectors(windows, at), shifted_at, _vectors(windows, shifted_at))


def _vectors(windows: npt.NDArray[np.float32], at: Ints) -> Float32:
    flat = windows[at[:, 0], at[:, 1]].reshape(len(at), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    floor = flat.shape[1] * FAINT**2
    return np.asarray(flat / np.sqrt((flat**2).sum(1, keepdims=True) + floor), np.float32)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Patches of all carriers, and how well each is matched in every image.

    Attributes
    ----------
    owner, at
        ``(P,)`` row of the carrier that a patch is from, and ``(P, 2)`` its place there.
    rows
        Rows of the images, carriers first.
    matches
        ``(P, len(rows))`` highest correlation.
    matched_at
        ``(P, len(rows), 2)`` where.
    """

    owner: Ints
    at: Ints
    rows: Ints
    matches: Float32
    matched_at: npt.NDArray[np.int16]


def compare(carriers: Sequence[int], patches: Mapping[int, Patches]) -> Candidates:
    """Match each patch of each carrier in all images."""
    rows = [*carriers, *(row for row in patches if row not in set(carriers))]
    owner = np.concatenate([np.full(len(patches[row].at), row) for row in carriers])
    at = np.concatenate([patches[row].at for row in carriers])
    vectors = np.concatenate([patches[row].vectors for row in carriers])
    matches = np.empty((len(owner), len(rows)), np.float32)
    places = np.empty((len(owner), len(rows), 2), np.int16)
    for column, row in enumerate(rows):
        correlation = vectors @ patches[row].shifted.T
        best = correlation.argmax(1)
        matches[:, column] = correlation[np.arange(len(owner)), best]
        places[:, column] = patches[row].shifted_at[best]
    return Candidates(owner, at, np.asarray(rows), matches, places)


def recurring(
    candidates: Candidates,
    carriers: Sequence[int],
    others: Sequence[int],
    fewest: int = FEWEST,
    most: int = MOST_KINDS,
    besides: Sequence[Sequence[tuple[int, Box]]] = (),
) -> list[list[tuple[int, Box]]]:
    """Kinds of patches that several of the carriers show, as boxes in pixels of the working images.

    Parameters
    ----------
    candidates
        Of these carriers, and perhaps further ones, which take no part.
    carriers, others
        Rows that were marked; all other images are unmarked.
    fewest, most
        Carriers that must show a patch, and how many kinds there are at most.
    besides
        Kinds that are known already.
    """
    of_carriers = np.isin(candidates.owner, carriers)
    excess = _excess(candidates, carriers, others)
    sure = of_carriers & (excess.max(1) >= SURE_EXCESS)
    strength = np.where(sure, np.clip(excess, 0, MOST_EXCESS).sum(1), 0.0)
    columns = {int(row): column for column, row in enumerate(candidates.rows)}
    kinds: list[list[tuple[int, Box]]] = []
    for row, (x0, y0, x1, y1) in (one for kind in besides for one in kind):
        middle = np.array([(y0 + y1) // 2, (x0 + x1) // 2])
        strength[_near(candidates, row, middle)] = 0
    while len(kinds) < most and strength.max(initial=0) > 0:
        best = int(strength.argmax())
        owner_row = int(candidates.owner[best])
        shown = [(owner_row, candidates.at[best])]
        for k, row in enumerate(carriers):
            if row != owner_row and excess[best, k] >= LEAST_EXCESS:
                shown.append((row, candidates.matched_at[best, columns[row]]))
        strength[best] = 0
        if len(shown) >= fewest:
            kinds.append([(row, _box(place)) for row, place in shown])
            for row, place in shown:
                strength[_near(candidates, row, place)] = 0
    return kinds


def _excess(candidates: Candidates, carriers: Sequence[int], others: Sequence[int]) -> Floats:
    """``(P, carriers)`` correlation beyond that in the images that are free of it; 0 in its own."""
    rows = candidates.rows
    free = candidates.matches[:, np.isin(rows, others)]
    marked = np.isin(rows, candidates.owner) | np.isin(rows, others)
    unmarked = candidates.matches[:, ~marked]
    usual = np.full(len(free), 0.5, np.float32)
    if free.shape[1]:
        usual = np.maximum(usual, np.sort(free, axis=1)[:, max(0, free.shape[1] - 1 - WRONG)])
    if unmarked.shape[1]:
        usual = np.maximum(usual, np.quantile(unmarked, 1 - MAY_CARRY, axis=1))
    columns = [int(np.flatnonzero(rows == row)[0]) for row in carriers]
    excess = candidates.matches[:, columns] - usual[:, None]
    excess[candidates.owner[:, None] == np.asarray(carriers)[None]] = 0
    return np.asarray(excess, np.float64)


def _near(candidates: Candidates, row: int, place: Ints) -> Bools:
    apart = np.abs(candidates.at - place)
    return np.asarray((candidates.owner == row) & (apart[:, 0] < PATCH[0]) & (apart[:, 1] < PATCH[1]))


def _box(place: Ints) -> Box:
    y, x = int(place[0]) - PATCH[0] // 2, int(place[1]) - PATCH[1] // 2
    return float(x), float(y), float(x + PATCH[1]), float(y + PATCH[0])
