"""Discovered concepts whose carriers are another kind of image: they may be what the label should say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import TypedDict

import numpy as np

from shortcutscope.audit.context import Context
from shortcutscope.audit.doubtful_labels import used_with_label
from shortcutscope.discover.kinds_of_images import Quarters, QuartersOfImages, quarters_of
from shortcutscope.probes.association import Association
from shortcutscope.probes.concept import DISCOVERED, Concept
from shortcutscope.probes.usage import first_drawn
from shortcutscope.types import Floats, Ints, Record

#: Under which the figures are kept.
STAGE = "other-kinds"
#: Of what is measured: kept figures of another number are measured anew.
NUMBER = 3
#: Samples of each label with the concept, and without, that are looked at.
MOST_OF_CELL = 200
#: Samples that are named, at most.
MOST_NAMED = 200


class OtherKind(TypedDict):
    """What is kept of a concept.

    ``figures`` are those of `shortcutscope.discover.kinds_of_images.KindOfImage`; ``against`` names the
    samples that go against it, those first whose label the network contradicts most, where it is another
    kind of image.
    """

    figures: Record
    against: list[str]


def other_kinds(
    context: Context,
    concepts: Sequence[Concept],
    alone: Mapping[str, float],
    associations: Mapping[str, Association],
) -> dict[str, OtherKind]:
    """Of used, discovered concepts that go with the label, how far they are another kind of image.

    Parameters
    ----------
    concepts
        As examined.
    alone
        The used ones, to their effect.
    associations
        With the label.

    Returns
    -------
    dict
        Concept to its figures; only of pictures. A concept that a person named is not asked about: what its
        column means is known.
    """
    discovered = [c for c in concepts if c.origin == DISCOVERED]
    suspects = used_with_label(context, discovered, alone, associations)
    read = cache(lambda row: quarters_of(context.table.image(row).numpy(), context.table.value_range))
    result: dict[str, OtherKind] = {}
    for concept in suspects:
        depends = {**context.depends(concept), "number": NUMBER}
        figures = context.run.cached(STAGE, concept.name, depends, partial(_figures, context, concept, read))
        if figures:
            is_another = bool(figures["is_another"])
            against = _against(context, concept, associations[concept.name]) if is_another else []
            result[concept.name] = {"figures": figures, "against": against}
    return result


def _figures(context: Context, concept: Concept, read: Callable[[int], Quarters | None]) -> Record:
    """Of a draw of the samples; empty where they are no pictures."""
    rows = _drawn(context, concept.values)
    quarters = QuartersOfImages.of(read(int(row)) for row in rows)
    if quarters is None:
        return {}
    labels, groups = context.labels[rows], context.groups[rows]
    return quarters.kind(concept.values[rows], labels, groups, seed=context.settings.seed).to_dict()


def _drawn(context: Context, values: Floats) -> Ints:
    cells = [
        np.flatnonzero((context.labels == label) & (values == side))
        for label in np.unique(context.labels)
        for side in (0, 1)
    ]
    return np.sort(np.concatenate([first_drawn(cell, context.order, MOST_OF_CELL) for cell in cells]))


def _against(context: Context, concept: Concept, association: Association) -> list[str]:
    """Samples that go against a concept, by how far the network contradicts their label."""
    positive = context.labels == association.positive
    agrees = (concept.values == 1) == positive
    rows = np.flatnonzero(np.isfinite(concept.values) & (agrees == (association.phi < 0)))
    margin = context.scan.margin(association.positive)[rows]
    order = np.argsort(np.where(positive[rows], margin, -margin), kind="stable")
    ids = context.scan.samples["sample_id"].to_numpy()[rows[order][:MOST_NAMED]]
    return [str(name) for name in ids]
