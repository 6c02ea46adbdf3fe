"""The network on images that are alike in a concept: all without it, all with it, all at one exposure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Self

import numpy as np

from shortcutscope.pixels.margins import Margins
from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.scaled_images import ScaledImages
from shortcutscope.pixels.transfers.levels import with_mean
from shortcutscope.pixels.transfers.measures import grey_levels
from shortcutscope.stats.bootstrap import cluster_interval
from shortcutscope.stats.metrics import auroc
from shortcutscope.types import JSON, Floats, Ints, Record

Figure = tuple[float, tuple[float, float]]


@dataclass(frozen=True)
class Levelled:
    """Performance with the concept brought to one value in all images.

    Attributes
    ----------
    what
        What was brought to one value.
    n, n_groups
        Images and patients.
    auroc
        State (``"as they are"``, ``"one value"``, ``"all without"``, ...) to the AUROC of the positive class
        and its interval by patient.
    flips
        Share of predictions that differ between the two extremes, and its interval by patient.
    between
        The two extremes.
    values
        Of an exposure: mean grey of each state, in shares of the value range.
    """

    what: str
    n: int
    n_groups: int
    auroc: dict[str, Figure]
    flips: Figure
    between: tuple[str, str]
    values: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> Record:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: JSON) -> Self:
        """From JSON values."""
        figures = {k: (v[0], tuple(v[1])) for k, v in values["auroc"].items()}
        low = (values["flips"][0], tuple(values["flips"][1]))
        return cls(**{**values, "auroc": figures, "flips": low, "between": tuple(values["between"])})


def grey_values(images: ScaledImages, rows: Ints) -> dict[str, float]:
    """Mean grey of the darker half of the images, of all of them, and of the brighter half."""
    grey = np.array([float(grey_levels(x).mean()) for x in images.each(rows.tolist())])
    middle = float(np.median(grey))
    return {
        "dark": float(grey[grey <= middle].mean()),
        "one value": float(grey.mean()),
        "bright": float(grey[grey >= middle].mean()),
    }


@dataclass(frozen=True, eq=False)
class Levelling:
    """Rows whose images are brought to one value.

    Attributes
    ----------
    images, samples, rows
        Of the table.
    positive
        The class.
    n_bootstrap, seed
        Of the intervals.
    """

    images: ScaledImages
    samples: Samples
    rows: Ints
    positive: int
    n_bootstrap: int = 300
    seed: int = 0

    def exposure(self, margins: Margins, before: Floats) -> Levelled:
        """One gamma an image, to the mean grey of all, and of the darker and the brighter half."""
        values = grey_values(self.images, self.rows)
        after = {
            state: margins(with_mean(x, value) for x in self.images.each(self.rows.tolist()))
            for state, value in values.items()
        }
        return self._figures(
            "mean grey", {"as they are": before[self.rows], **after}, ("dark", "bright"), values
        )

    def sides(self, before: Floats, after: Floats) -> Levelled:
        """All without the concept, and all with it, from margins (N,) of images moved to the other side."""
        carries = self.samples.carries[self.rows] == 1
        own, other = before[self.rows], after[self.rows]
        states = {
            "as they are": own,
            "all without": np.where(carries, other, own),
            "all with": np.where(carries, own, other),
        }
        return self._figures("the concept", states, ("all without", "all with"), {})

    def _figures(
        self, what: str, states: dict[str, Floats], between: tuple[str, str], values: dict[str, float]
    ) -> Levelled:
        truth = (self.samples.labels[self.rows] == self.positive).astype(int)
        groups = self.samples.groups[self.rows]

        def figure(statistic: object) -> Figure:
            value = float(statistic(np.ones(len(truth))))  # type: ignore[operator]
            return value, cluster_interval(statistic, groups, self.n_bootstrap, seed=self.seed, by="rows")  # type: ignore[arg-type]

        areas = {
            state: figure(lambda w, scores=scores: auroc(truth, scores, w))
            for state, scores in states.items()
        }
        differ = (states[between[0]] > 0) != (states[between[1]] > 0)
        flips = figure(lambda w: (w @ differ) / w.sum(-1))
        return Levelled(what, len(truth), len(np.unique(groups)), areas, flips, between, values)
