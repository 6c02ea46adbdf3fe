"""Which property twins should get: that without which the shortcut is told least from what is left of it.

A test on the pixels takes the gentlest transfer that reaches the other side. Twins need more: a film whose
mean is another's may still show, by its contrast, how it was exposed. So what is asked of twins with the
property of images drawn at random is how well a new probe on plain features tells whose original carried it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shortcutscope.pixels.choice import possible
from shortcutscope.pixels.input_probe import InputProbe, input_features
from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.transferring import SEEN, Transferring
from shortcutscope.pixels.transfers import moved
from shortcutscope.pixels.transfers.side import side_of
from shortcutscope.progress import progress_bar

__all__ = ["TwinCandidate", "TwinChoice", "twin_choice"]


@dataclass(frozen=True)
class TwinCandidate:
    """A transfer, tried on copies of some images.

    Attributes
    ----------
    name
        Of the transfer.
    left
        AUROC within labels with which a new probe tells the twins of carriers from those of others.
    moved
        Root of the mean squared change of the pixels.
    """

    name: str
    left: float
    moved: float


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
        least = min(one.left for one in self.candidates)
        alike = [one for one in self.candidates if one.left <= least + self.error(least)]
        return min(alike, key=lambda one: one.moved)

    def error(self, area: float) -> float:
        """Standard error of an AUROC on so many images, about."""
        return float(np.sqrt(max(area * (1 - area), 0.25 / self.n) / (self.n / 2)))

    def named(self, name: str) -> TwinCandidate | None:
        """The candidate of a name, if it was tried."""
        return next((one for one in self.candidates if one.name == name), None)

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


def twin_choice(transferring: Transferring, *, progress: bool = False) -> TwinChoice:
    """Try all transfers on copies of some images, each with the property of another of them."""
    rows = np.array([*transferring.copies])
    copies, samples = [transferring.copies[int(row)] for row in rows], transferring.samples
    few = Samples(samples.carries[rows], samples.labels[rows], samples.groups[rows])
    probe = InputProbe(few, transferring.folds[rows])
    donors = np.random.default_rng([transferring.seed, 7]).permutation(len(rows))
    sides = [side_of(image, dark=transferring.dark) for image in copies]
    names = possible(transferring.images.dims, same_size=transferring.same_size)
    tried = []
    for name in progress_bar(names, desc="twins", progress=progress):
        features, square = [], 0.0
        for i, image in enumerate(copies):
            rng = np.random.default_rng([transferring.seed, 8, i])
            twin = moved(name, image, sides[i], sides[int(donors[i])], rng)
            features.append(input_features(twin))
            square += float(((twin - image) ** 2).mean()) / len(copies)
        tried.append(TwinCandidate(name, probe.separation(np.array(features)), float(np.sqrt(square))))
    as_they_are = np.array([input_features(image) for image in copies])
    return TwinChoice(tried, probe.separation(as_they_are), len(rows), bool(few.both_sides(1)))
