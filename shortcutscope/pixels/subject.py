"""What an intervention is about: the concept, its samples and association, the way, and the scores read."""

from __future__ import annotations

import numpy as np
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import device_of
from shortcutscope.models.heads.head import Head
from shortcutscope.models.preflight import preflight
from shortcutscope.options import Statistics
from shortcutscope.pixels.masks import ImageMasks
from shortcutscope.pixels.options import Intervening
from shortcutscope.pixels.result import Way
from shortcutscope.pixels.samples import Samples
from shortcutscope.probes.association import Association, associate
from shortcutscope.probes.concept import Concept


def concept_of(concept: Concept | str, data: ImageTable) -> Concept:
    """A concept, or the one that a column makes.

    Raises
    ------
    InputError
        For a column of several levels.
    """
    if isinstance(concept, Concept):
        return concept
    concept_read = Concept.from_column(data.frame, concept)
    if len(concept_read) != 1:
        names = ", ".join(repr(one.name) for one in concept_read)
        raise InputError(
            f"column {concept!r} has {len(concept_read)} levels ({names}): give one of Concept.from_column"
        )
    return concept_read[0]


def samples_of(concept: Concept, data: ImageTable) -> Samples:
    """Its values over the samples, with their labels and patients."""
    groups = np.unique(data.frame["group"].to_numpy(), return_inverse=True)[1]
    return Samples(np.asarray(concept.values, float), data.frame["label"].to_numpy().astype(np.int64), groups)


def way_of(intervening: Intervening, masks: ImageMasks | None) -> Way:
    """Erase where there are masks, unless something else is asked for.

    Raises
    ------
    InputError
        When masks are to be erased, and there are none.
    """
    if intervening.way == "erase" and masks is None:
        raise InputError(
            "way='erase' needs masks=: draw them with finding.annotate(model, data), or import them"
        )
    if intervening.way != "auto":
        return intervening.way
    return "transfer" if masks is None or intervening.transfer is not None else "erase"


def association_of(samples: Samples, statistics: Statistics) -> Association:
    """With the label, as these samples have it."""
    if len(samples.classes) < 2:  # of few images it is not known which way the concept should push
        positive = 1 if statistics.positive is None else statistics.positive
        unknown = float("nan")
        return Association(unknown, (unknown, unknown), unknown, positive, {}, None)
    return associate(
        samples.carries,
        samples.labels,
        samples.groups,
        positive=statistics.positive,
        n_bootstrap=statistics.n_bootstrap,
        seed=statistics.seed,
    )


def settled_head(model: nn.Module, data: ImageTable, head: Head, batch_size: int) -> Head:
    """The scores that are read, compared with the model on the first images."""
    from shortcutscope.models.memory_format import MemoryFormat
    from shortcutscope.scan.batches import batches, on_device

    if head.settled:
        return head
    batch = next(batches(data, 64, workers=0))
    seen = preflight(
        model,
        on_device(batch, device_of(model), MemoryFormat()),
        head,
        labels=data.frame["label"].to_numpy(),
        classes=data.classes,
        batch_size=batch_size,
        autocast=None,
    )
    return seen.head
