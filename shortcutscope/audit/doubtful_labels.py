"""Used concepts that may be what the label should say: which of their samples to read first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shortcutscope.audit.context import Context
from shortcutscope.probes.association import Association
from shortcutscope.probes.blocks import Blocks
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.doubtful_labels import doubtful_conflicts, doubtful_labels
from shortcutscope.probes.usage import first_drawn

#: Samples of which the labels are looked at, at most.
MOST_SAMPLES = 10_000


def used_with_label(
    context: Context,
    concepts: Sequence[Concept],
    alone: Mapping[str, float],
    associations: Mapping[str, Association],
) -> list[Concept]:
    """Those whose effect `alone` has the direction of their association with the label."""
    smallest = context.settings.verdict.smallest_phi
    return [
        c
        for c in concepts
        if c.name in alone
        and alone[c.name] * associations[c.name].phi > 0
        and abs(associations[c.name].phi) >= smallest
    ]


def samples_of_doubtful_label(
    context: Context,
    concepts: Sequence[Concept],
    alone: Mapping[str, float],
    associations: Mapping[str, Association],
) -> dict[str, tuple[str, ...]]:
    """Of used concepts that go with the label, the samples that go against them and may be mislabelled.

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
        Concept to sample ids; only of those with which at least half of all such samples may be mislabelled.
    """
    suspects = used_with_label(context, concepts, alone, associations)
    if not suspects:
        return {}
    rows = first_drawn(np.arange(len(context.scan)), context.order, MOST_SAMPLES)
    blocks = Blocks.of(context.scan.feature_rows(context.scan.layers[-1]))
    features = np.concatenate(
        [values[np.isin(np.arange(span.start, span.stop), rows)] for span, values in blocks]
    )
    labels, ids = context.labels[rows], context.scan.samples["sample_id"].to_numpy()[rows]
    doubtful = doubtful_labels(
        features.astype(np.float64), labels, context.groups[rows], seed=context.settings.seed
    )
    found = {}
    for concept in suspects:
        association = associations[concept.name]
        positive = labels == association.positive
        against = doubtful_conflicts(concept.values[rows], positive, association.phi, doubtful)
        if len(against):
            found[concept.name] = tuple(str(i) for i in ids[against])
    return found
