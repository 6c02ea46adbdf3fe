"""Which transfer stands for a diffuse concept of unknown kind.

Of the candidates that close most of the gap that a cross-fitted probe on the input sees between the sides,
the one is taken that leaves a *new* probe least to tell moved images from real ones of the other side; among
those that leave about as little, the one that changes the pixels least. The network has no say in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self

import numpy as np

from shortcutscope.pixels.effects import Direction
from shortcutscope.pixels.input_probe import InputProbe, input_features, side_weights, within_labels
from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.transfers import TRANSFERS, moved
from shortcutscope.pixels.transfers.side import Side
from shortcutscope.progress import progress_bar
from shortcutscope.types import JSON, Floats, Ints, Record

#: Share of the most that any closes, at most of the whole gap, that a candidate must close.
CLOSES = 0.8
#: Candidates that leave a new probe this much more than the least are as good.
AS_GOOD = 0.1
#: Where a new probe tells moved images from real ones better than this, they did not arrive.
ARRIVED = 0.85
#: Fewest images of a label and side that statistics are taken of.
FEWEST_OF_SIDE = 5


@dataclass(frozen=True)
class Candidate:
    """How far one transfer goes.

    Attributes
    ----------
    name
        Of the transfer.
    closed_without, closed_with
        Share of the probe's gap that it closes when the concept is taken out, and put in.
    left_without, left_with
        AUROC within labels of a new probe, of moved images against real ones of the other side.
    moved
        Root mean square of the change of a pixel, in shares of the value range.
    reached_without, reached_with
        Of a concept that is a measured property of the picture: AUROC within labels of the property itself,
        of moved images against real ones of the other side. None of any other concept.
    """

    name: str
    closed_without: float
    closed_with: float
    left_without: float
    left_with: float
    moved: float
    reached_without: float | None = None
    reached_with: float | None = None

    @property
    def closed(self) -> float:
        """Mean of both directions, each at most a little more than all."""
        return float(np.mean(np.clip([self.closed_without, self.closed_with], -1, 1.2)))

    @property
    def left(self) -> float:
        """How far the new probe is from chance, in the mean of both directions."""
        return float(np.mean(np.abs(np.array([self.left_without, self.left_with]) - 0.5)))

    def arrived(self, direction: Direction) -> bool:
        """Whether moved images can pass for those of the other side; of a property, by the property alone."""
        reached = self.reached_of(direction)
        return self.left_of(direction) <= ARRIVED if reached is None else 1 - ARRIVED <= reached <= ARRIVED

    def reached_of(self, direction: Direction) -> float | None:
        """AUROC of the property of a direction."""
        return self.reached_without if direction == "without" else self.reached_with

    def left_of(self, direction: Direction) -> float:
        """AUROC of the new probe of a direction."""
        return self.left_without if direction == "without" else self.left_with

    def to_dict(self) -> Record:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: JSON) -> Self:
        """From JSON values."""
        return cls(**values)


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The one that is taken, see the module.

    Examples
    --------
    >>> gamma, shift = Candidate("gamma", 1, 1, .55, .6, .1), Candidate("shift", 1, 1, .6, .6, .05)
    >>> best([gamma, shift, Candidate("noise", .1, .1, .9, .9, .01)]).name
    'shift'
    """
    # What does not bring a measured property to the other side is no transfer of it.
    able = [c for c in candidates if c.arrived("without") and c.arrived("with")]
    of_property = [c for c in able if c.reached_with is not None]
    able = of_property or list(candidates)
    most = min(max(c.closed for c in able), 1.0)
    close = [c for c in able if c.closed >= CLOSES * most]
    least = min(c.left for c in close)
    return min((c for c in close if c.left <= least + AS_GOOD), key=lambda c: c.moved)


@dataclass(frozen=True, eq=False)
class Sides:
    """What is known of the sides of every label, from one half of the patients.

    Attributes
    ----------
    cells
        (label, side) to its statistics.
    within_labels
        False where no label has both sides: the sides are then those of all labels together.
    """

    cells: Mapping[tuple[int, int], Side]
    within_labels: bool

    @classmethod
    def of(
        cls,
        samples: Samples,
        rows: Ints,
        images: Callable[[Ints], Callable[[], Iterable[Floats]]],
        *,
        dark: bool,
    ) -> Sides:
        """Of some samples.

        Parameters
        ----------
        samples
            All of them.
        rows
            Those of the half.
        images
            From rows to what gives their images.
        dark
            As of `Side`.
        """
        every = {
            (label, side): np.intersect1d(samples.of(side, label), rows)
            for label in samples.classes
            for side in (0, 1)
        }
        cells = {key: some for key, some in every.items() if len(some) >= FEWEST_OF_SIDE}
        if any((label, 0) in cells and (label, 1) in cells for label in samples.classes):
            return cls({key: Side(images(some), dark) for key, some in cells.items()}, True)
        pooled = {side: Side(images(np.intersect1d(samples.of(side), rows)), dark) for side in (0, 1)}
        return cls({(label, side): pooled[side] for label in samples.classes for side in (0, 1)}, False)

    def pair(self, label: int, side: int) -> tuple[Side, Side]:
        """The own side of a label and the other; a label that lacks one borrows another's difference."""
        labels = [label, *sorted({k for k, _ in self.cells} - {label})]
        whole = next(k for k in labels if (k, 0) in self.cells and (k, 1) in self.cells)
        return self.cells[whole, side], self.cells[whole, 1 - side]


def candidates(
    samples: Samples,
    images: Sequence[Floats],
    folds: Ints,
    sides: Sequence[Sides],
    names: Sequence[str],
    *,
    measure: Callable[[Floats], float] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> tuple[list[Candidate], float]:
    """Try transfers on copies of some images.

    Parameters
    ----------
    samples, images, folds
        The samples, their images, and in which half of the patients each is.
    sides
        Of each half, what the *other* half shows.
    names
        Of the transfers to try.
    measure
        Of a concept that is a measured property of the picture, what measures it.
    seed
        Of what is drawn within a transfer.
    progress
        Show a bar.

    Returns
    -------
    candidates, separation
        And the AUROC within labels with which the probe tells the sides apart as they are.
    """
    probe = InputProbe(samples, folds)
    features = np.array([input_features(image) for image in images])
    probes = probe.fitted(features)
    base = probe.scores(probes, features)
    real = None if measure is None else np.array([measure(image) for image in images])
    tried = []
    for name in progress_bar(names, desc="transfers", progress=progress):
        rng = np.random.default_rng([seed, len(name)])
        changed, square, reached = np.empty_like(features), 0.0, np.full(len(images), np.nan)
        for i, image in enumerate(images):
            own, other = sides[folds[i]].pair(int(samples.labels[i]), int(samples.carries[i]))
            new = moved(name, image, own, other, rng)
            changed[i] = input_features(new)
            reached[i] = np.nan if measure is None else measure(new)
            square += float(((new - image) ** 2).mean()) / len(images)
        scores = base, probe.scores(probes, changed)
        one = _candidate(name, samples, probe, (features, changed), scores, square)
        if real is not None:
            ends = [
                within_labels(samples, np.where(samples.carries == side, reached, real)) for side in (1, 0)
            ]
            one = replace(one, reached_without=ends[0], reached_with=ends[1])
        tried.append(one)
    return tried, within_labels(samples, base)


def _candidate(
    name: str,
    samples: Samples,
    probe: InputProbe,
    features: tuple[Floats, Floats],
    scores: tuple[Floats, Floats],
    square: float,
) -> Candidate:
    """Figures of a transfer, from features and the probe's scores before and after."""
    carries, weights = samples.carries, side_weights(samples)
    before, after = scores
    gap = _mean(before, carries == 1, weights) - _mean(before, carries == 0, weights)
    gap = gap if abs(gap) > 1e-9 else 1e-9
    closed = {
        side: _mean((after - before) * (-1 if side else 1), carries == side, weights) / gap for side in (0, 1)
    }
    left = {
        side: probe.separation(np.where((carries == side)[:, None], features[1], features[0]))
        for side in (0, 1)
    }
    return Candidate(name, closed[1], closed[0], left[1], left[0], float(np.sqrt(square)))


def _mean(values: Floats, member: Floats, weights: Floats) -> float:
    return float(np.average(values[member], weights=weights[member]))


def possible(dims: int, *, same_size: bool) -> list[str]:
    """Transfers that are tried on images of so many axes, of one size or not."""
    return [
        name
        for name, one in TRANSFERS.items()
        if dims in one.dims and (same_size or not one.same_size) and not one.by_name
    ]
