"""Subjects spread evenly over bins of two effects, and divided evenly within each bin."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np

from shortcutscope.errors import InputError
from shortcutscope.types import Array

Cell = TypeVar("Cell", bound=Hashable)

#: Bins along each of the two effects.
BINS = 10
#: Share of each split, as SimBA has them.
SPLITS = {"train": 0.5, "val": 0.25, "test": 0.25}


def checked_shares(splits: Mapping[str, float]) -> dict[str, float]:
    """Shares of the splits; InputError unless they are positive and add up to one."""
    shares = {str(name): float(share) for name, share in splits.items()}
    if not shares or min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise InputError(f"splits are {shares}; allowed are positive shares that add up to 1")
    return shares


def stratified_uniform(n: int, generator: np.random.Generator) -> Array:
    """Points (n, 2) of the unit square of which each of its 10 x 10 bins has n / 100, but for one.

    Either coordinate alone is uniform: where n is no multiple of 100, the bins with one point more are drawn.
    """
    whole, rest = divmod(n, BINS**2)
    more = generator.permutation(BINS**2)[:rest]
    bins = np.concatenate([np.repeat(np.arange(BINS**2), whole), more])
    corner = np.stack([bins // BINS, bins % BINS], axis=1)
    return np.asarray((corner + generator.random((n, 2))) / BINS)


def allotted(uniform: Array, shares: Mapping[Cell, float], generator: np.random.Generator) -> list[Cell]:
    """Divide points (n, 2) of the unit square so that each bin, and all together, are divided alike.

    Points are taken bin by bin along a line that goes back and forth through neighbouring bins, in random
    order within one; each goes where most is missing so far. So at no point of the line, and hence in no bin,
    is any share off by much more than one subject.
    """
    corner = np.minimum((uniform * BINS).astype(int), BINS - 1)
    across = np.where(corner[:, 0] % 2, BINS - 1 - corner[:, 1], corner[:, 1])
    line = np.lexsort((generator.random(len(uniform)), across, corner[:, 0]))
    cells = [cell for cell, share in shares.items() if share > 0]
    quotas = np.array([shares[cell] for cell in cells])
    counts = np.zeros(len(cells))
    assignment = np.empty(len(uniform), np.int64)
    for step, point in enumerate(line, start=1):
        # What is served next is what would be overdue first (Tijdeman 1980); ties are broken at random.
        due = np.where(quotas * step - counts > 0, (counts + 1) / quotas, np.inf)
        first = np.flatnonzero(due <= due.min() + 1e-9)
        assignment[point] = k = first[generator.integers(len(first))]
        counts[k] += 1
    return [cells[k] for k in assignment]
