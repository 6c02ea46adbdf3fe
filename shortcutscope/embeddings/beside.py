"""Used concepts beside those that they go with: whose part of the head's margins is it?

The rules are those of an audit (:mod:`shortcutscope.probes.together.beside`). What a concept changes with
others held fixed is its coefficient in the regression of the head's margins on class, concept and others: for
a linear head that is what the partial pattern makes of the margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shortcutscope.audit.interventions.held_fixed import may_be_held, same_column
from shortcutscope.embeddings.scores import LinearScores
from shortcutscope.options import Statistics
from shortcutscope.probes.association import Association
from shortcutscope.probes.blocks import Blocks
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.together import statements
from shortcutscope.probes.together.beside import HeldFixed
from shortcutscope.probes.together.held_fixed import PartialEffect, partial_effect, related_concepts
from shortcutscope.probes.together.statements import Represented, Resampling
from shortcutscope.probes.usage import within_class_spread
from shortcutscope.probes.verdict import VerdictRule
from shortcutscope.types import Floats, Record


def besides(
    scores: LinearScores,
    concepts: Sequence[Concept],
    alone: Mapping[str, float],
    associations: Mapping[str, Association],
    statistics: Statistics,
    *,
    threshold: float,
    rule: VerdictRule,
) -> dict[str, Record]:
    """What every used concept is beside the others that it goes with.

    Parameters
    ----------
    scores
        Features and head.
    concepts
        All that are tested.
    alone
        The encoded ones that are used, to their effect with nothing held fixed.
    associations
        With the label.
    statistics, threshold, rule
        Resamples and seed; of use; limits of the verdicts.

    Returns
    -------
    dict
        See `shortcutscope.probes.together.statements.besides`.
    """
    effects = {
        c.name: held_fixed(scores, c, concepts, associations[c.name].positive)
        for c in concepts
        if c.name in alone
    }
    return statements.besides(
        Represented(scores.labels, scores.groups, lambda: [Blocks.of(scores.features)], scores.margin),
        {c.name: c.values for c in concepts},
        alone,
        {name: one for name, one in effects.items() if one is not None},
        associations,
        threshold=threshold,
        resampling=Resampling(statistics.n_bootstrap, statistics.seed, rule.smallest_cell),
    )


def held_fixed(
    scores: LinearScores, concept: Concept, concepts: Sequence[Concept], positive: int
) -> HeldFixed | None:
    """Effect of a concept with those held fixed that it goes with; None where there are none."""
    candidates = {c.name: c.values for c in concepts if may_be_held(c) and not same_column(c, concept)}
    others = related_concepts(concept.values, scores.labels, candidates)
    if not others.names and not others.unknown:
        return None
    partial = PartialEffect(float("nan"), float("nan"))
    if others.names:
        is_known = np.isfinite(concept.values) & others.known
        margins = scores.margin(positive)
        change: Floats = margins / within_class_spread(margins, scores.labels)
        partial = partial_effect(
            change[is_known],
            concept.values[is_known],
            scores.labels[is_known],
            others.values[is_known],
            scores.groups[is_known],
        )
    return HeldFixed(
        others.names, tuple(others.phi.tolist()), tuple(others.differ.tolist()), others.unknown, partial
    )
