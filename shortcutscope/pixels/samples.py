"""The samples of an intervention: who carries the concept, of which class and patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shortcutscope.types import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Samples:
    """The table's samples by role.

    Attributes
    ----------
    carries
        (N,) 1, 0, or NaN where it is not known.
    labels, groups
        (N,) class and patient, as a number.
    """

    carries: Floats
    labels: Ints
    groups: Ints

    def of(self, side: int, label: int | None = None) -> Ints:
        """Rows of a side, and of a label."""
        member: Bools = self.carries == side
        return np.flatnonzero(member if label is None else member & (self.labels == label))

    @property
    def classes(self) -> list[int]:
        """Labels of the samples of which the concept is known."""
        return [int(k) for k in np.unique(self.labels[np.isfinite(self.carries)])]

    def both_sides(self, fewest: int) -> list[int]:
        """Labels that have so many samples with and without it."""
        return [k for k in self.classes if min(len(self.of(0, k)), len(self.of(1, k))) >= fewest]

    def drawn(self, side: int, most: int, rng: np.random.Generator) -> Ints:
        """At most so many rows of each label of a side."""
        parts = [rng.permutation(self.of(side, k))[:most] for k in self.classes]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)
