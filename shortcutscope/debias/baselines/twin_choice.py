"""Which property twins should get: that without which the shortcut is told least from what is left of it.

A test on the pixels takes the gentlest transfer that reaches the other side. Twins need more: a film whose
mean is another's may still show, by its contrast, how it was exposed. So what is asked of twins with the
property of images drawn at random is how well a new probe on plain features tells whose original carried it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shortcutscope.debias.baselines.twins import in_order, twin_of
from shortcutscope.pixels.choice import possible
from shortcutscope.pixels.input_probe import InputProbe, input_features
from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.transferring import SEEN, Transferring
from shortcutscope.progress import progress_bar
from shortcutscope.types import Floats, Ints

__all__ = ["TwinCandidate", "TwinChoice", "TwinTrials"]


@dataclass(frozen=True)
class TwinCandidate:
    """Transfers, tried together on copies of some images; mostly one.

    Attributes
    ----------
    transfers
        Their names, in the order in which they are done.
    left
        AUROC within labels with which a new probe tells the twins of carriers from those of others.
    moved
        Root of the mean squared change of the pixels.
    """

    transfers: tuple[str, ...]
    left: float
    moved: float

    @property
    def name(self) -> str:
        """Of all of them."""
        return " and ".join(self.transfers)


@dataclass(frozen=True, eq=False)
class TwinChoice:
    """All transfers, and what the probe tells of the images as they are.

    Attributes
    ----------
    candidates
        Those that were tried.
    separation
        AUROC within labels of the probe on the images as they are.
    n
        Images that it was tried on.
    within_labels
        False where no label has images with and without the concept: the probe then tells labels, too.
    """

    candidates: Sequence[TwinCandidate]
    separation: float
    n: int
    within_labels: bool = True

    @property
    def best(self) -> TwinCandidate:
        """The gentlest of those that leave as little as any, but for a standard error."""
        least = max(0.5, min(one.left for one in self.candidates))  # below chance is chance
        alike = [one for one in self.candidates if one.left <= least + self.error(least)]
        return min(alike, key=lambda one: one.moved)

    def error(self, area: float) -> float:
        """Standard error of an AUROC on so many images, about."""
        return float(np.sqrt(max(area * (1 - area), 0.25 / self.n) / (self.n / 2)))

    def refusal(self) -> str | None:
        """Why no transfer can be taken, or None."""
        if not self.separation >= SEEN:
            return (
                f"plain features of the image do not show the concept (AUROC {self.separation:.2f} within "
                f"labels, and {SEEN} is needed), so that nobody can tell which transfer takes it away"
            )
        least = min(self.candidates, key=lambda one: one.left)
        if self.within_labels and least.left > self.separation - 2 * self.error(least.left):
            return (
                f"no transfer takes the concept away: of twins by {least.name}, which leaves least, plain "
                f"features still tell whose original carried it (AUROC {least.left:.2f}, "
                f"{self.separation:.2f} as they are)"
            )
        return None


@dataclass(frozen=True, eq=False)
class TwinTrials:
    """Copies of some images, whose twins are made and probed.

    Attributes
    ----------
    transferring
        The images, and who carries the concept.
    """

    transferring: Transferring

    def choice(self, given: Sequence[str] = (), *, progress: bool = False) -> TwinChoice:
        """Try every transfer; of twins that have other properties already, each beside these, and none more.

        Parameters
        ----------
        given
            Transfers that the twins have in any case.
        progress
            Show a bar.
        """
        names = possible(self.transferring.images.dims, same_size=self.transferring.same_size)
        sets = [(*given, name) for name in names if name not in given]
        tried = [
            self.candidate(transfers)
            for transfers in progress_bar(
                [tuple(given)] * bool(given) + sets, desc="twins", progress=progress
            )
        ]
        as_they_are = self._probe.separation(np.array([input_features(image) for image in self._copies]))
        return TwinChoice(tried, as_they_are, len(self._copies), bool(self._few.both_sides(1)))

    def candidate(self, transfers: Sequence[str]) -> TwinCandidate:
        """Twins with the properties of other copies, each of another one."""
        transfers, n, seed = in_order(transfers), len(self._copies), self.transferring.seed
        orders = [
            np.random.default_rng([seed, 7, *[k] * bool(k)]).permutation(n) for k in range(len(transfers))
        ]
        features, square = [], 0.0
        for i, image in enumerate(self._copies):
            donors = [self._copies[int(order[i])] for order in orders]
            rng = np.random.default_rng([seed, 8, i])
            twin = twin_of(image, donors, transfers, rng, dark=self.transferring.dark)
            features.append(input_features(twin))
            square += float(((twin - image) ** 2).mean()) / n
        return TwinCandidate(transfers, self._probe.separation(np.array(features)), float(np.sqrt(square)))

    @cached_property
    def _rows(self) -> Ints:
        return np.array([*self.transferring.copies])

    @cached_property
    def _copies(self) -> list[Floats]:
        return [*self.transferring.copies.values()]

    @cached_property
    def _few(self) -> Samples:
        samples, rows = self.transferring.samples, self._rows
        return Samples(samples.carries[rows], samples.labels[rows], samples.groups[rows])

    @cached_property
    def _probe(self) -> InputProbe:
        return InputProbe(self._few, self.transferring.folds[self._rows])
