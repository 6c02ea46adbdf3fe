"""What networks answer to images that are alike in a property of the picture: before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from shortcutscope.compare.estimate import Estimate, not_measurable
from shortcutscope.compare.performance import ComparedSamples
from shortcutscope.data.table import ImageTable
from shortcutscope.models.heads.head import Head
from shortcutscope.pixels.levelled import grey_values
from shortcutscope.pixels.margins import Margins
from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.scaled_images import ScaledImages
from shortcutscope.pixels.transferring import Transferring
from shortcutscope.pixels.transfers import TRANSFERS, require_possible
from shortcutscope.pixels.transfers.levels import with_mean
from shortcutscope.probes.concept import Concept
from shortcutscope.stats.metrics import auroc
from shortcutscope.types import Floats, Ints

__all__ = ["LevelledImages"]

#: From a row to its image in a state.
_State = Callable[[int], Floats]


def _at_grey(images: ScaledImages, value: float) -> _State:
    return lambda row: with_mean(images[row], value)


@dataclass(frozen=True, eq=False)
class LevelledImages:
    """Images of a table in states in which all are alike; the same for every network.

    Attributes
    ----------
    images
        Of the table.
    rows
        Those that are looked at.
    states
        Name of a state to its images by row; the first and the last are the extremes.
    detail
        What is alike in them.
    untested
        Why nothing is measured; empty otherwise.
    """

    images: ScaledImages
    rows: Ints
    states: Mapping[str, _State]
    detail: str
    untested: str = ""

    @classmethod
    def of(cls, table: ImageTable, concept: Concept, transfer: str, *, seed: int) -> LevelledImages:
        """States of a table's images.

        Where the transfer moves grey levels, all at one mean grey: that of the darker half, of all, and of
        the brighter half. By any other transfer, all without the concept and all with it.

        Raises
        ------
        InputError
            For a transfer that does not exist, or cannot be done to these images.
        """
        images, frame = ScaledImages.of(table), table.frame
        require_possible(transfer, images.dims)
        groups = np.unique(frame["group"].to_numpy(), return_inverse=True)[1]
        values = concept.aligned_to(frame["sample_id"]).values
        samples = Samples(values, frame["label"].to_numpy(np.int64), groups)
        moving = Transferring(images, samples, seed=seed)
        if TRANSFERS[transfer].of_levels and images.dims > 1:
            rows = np.arange(len(table))
            greys = grey_values(images, rows).values()
            return cls(
                images, rows, {f"all at mean grey {x:.2f}": _at_grey(images, x) for x in greys}, "mean grey"
            )
        if (why := moving.untested()) is not None:
            return cls(images, moving.rows, {}, transfer, why)

        def side(of: int) -> _State:
            return lambda row: images[row] if values[row] == of else moving.moved(transfer, row)

        both = {f"all without {concept.name}": side(0), f"all with {concept.name}": side(1)}
        return cls(images, moving.rows, both, transfer)

    def estimates(
        self, model: nn.Module, head: Head, samples: ComparedSamples, *, batch_size: int
    ) -> Iterator[Estimate]:
        """Predictions that differ between the extremes, and the AUROC where all images are alike.

        Parameters
        ----------
        model
            Lent out by `frozen`.
        head
            Which scores are read.
        samples
            Of the table.
        batch_size
            Images at a time.
        """
        if self.untested:
            yield not_measurable("pixels", "pixel_flip_rate", self.untested, self.detail)
            return
        margins_of = Margins(model, self.images, head, samples.positive, batch_size)
        margins = {}
        for name, image in self.states.items():
            margins[name] = np.full(len(samples.labels), np.nan)
            margins[name][self.rows] = margins_of(image(int(row)) for row in self.rows)
        within = np.isin(np.arange(len(samples.labels)), self.rows)
        first, *_, last = margins
        differ = ((margins[first] > 0) != (margins[last] > 0)).astype(np.float64)
        yield samples.estimate(
            "pixels",
            "pixel_flip_rate",
            "low",
            lambda w, k: w @ differ[k] / w.sum(1),
            within,
            note=f"{first} against {last}",
        )
        # Of three states the one in the middle says what is left without the property.
        states = [name for name in margins if name not in (first, last)] or [first, last]
        yield samples.estimate(
            "pixels",
            "levelled_auroc",
            "high",
            lambda w, k: np.min([auroc(samples.truth[k], margins[name][k], w) for name in states], axis=0),
            within,
            why="one class only",
            note=states[0] if len(states) == 1 else "the lower of both ends",
        )
