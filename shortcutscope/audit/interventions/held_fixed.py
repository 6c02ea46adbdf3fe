"""Used concepts beside those that they go with: whose direction it is that the output follows.

Other tested concepts are held fixed, of other columns than the concept's own. None that was computed from the
pixels or read from the network is: it would explain whatever the network reads there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from shortcutscope.audit.context import Context
from shortcutscope.audit.finding import use_statement
from shortcutscope.audit.interventions.rerun import ConceptEdit
from shortcutscope.models.heads.targets import margin
from shortcutscope.probes.association import Association
from shortcutscope.probes.blocks import Blocks
from shortcutscope.probes.concept import PICTURE, Concept
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.probes.together import statements
from shortcutscope.probes.together.beside import HeldFixed
from shortcutscope.probes.together.held_fixed import (
    Others,
    PartialEffect,
    contrasting_samples,
    partial_effect,
    related_concepts,
)
from shortcutscope.probes.together.statements import Represented, Resampling
from shortcutscope.probes.usage import (
    EFFECT_THRESHOLD,
    Prefix,
    UseSamples,
    use_edits,
    within_class_spread,
)
from shortcutscope.types import JSON, Record

#: Under which the effects are kept.
STAGE = "held-fixed"


@dataclass(frozen=True, eq=False)
class HeldCase:
    """One concept, and the others that are held fixed while it is taken out of the decision layer.

    Attributes
    ----------
    samples
        As for its use alone.
    key
        Of its case, among those of all outputs.
    others
        Of which the concepts are `fixed`.
    """

    context: Context
    concept: Concept
    samples: UseSamples
    key: str
    others: Others
    fixed: Sequence[Concept]

    @cached_property
    def known(self) -> UseSamples:
        """The samples that know all of the concepts, in halves of like composition."""
        samples, others = self.samples, self.others
        values = np.where(others.known, samples.concept, np.nan)
        together = np.column_stack([values, others.values[:, 0]])
        seed = self.context.settings.seed
        halves = make_folds(samples.labels, samples.groups, together, n_folds=2, seed=seed)
        return replace(samples, concept=values, halves=halves)

    def edit(self) -> ConceptEdit:
        """What takes the concept out, with the others held fixed."""
        context, known, layer = self.context, self.known, self.context.scan.layers[-1]
        strata = (known.labels, known.halves)
        contrasting = contrasting_samples(known.concept, self.others, strata, context.order)
        prefix = Prefix.of(context.scan, layer)
        halves = use_edits(context.activation(layer), known, contrasting, prefix, self.others.values)
        shared = [(context.shared_rows(rows), one) for rows, one in halves]
        return ConceptEdit(f"{self.key}\0held fixed", layer, shared)

    def effect(self, edit: ConceptEdit, logits: Tensor | None) -> PartialEffect:
        """Of the edit; NaN where nothing could be fitted."""
        if logits is None:
            return PartialEffect(float("nan"), float("nan"))
        context, known = self.context, self.known
        rows = context.own_numbers(edit.rows)
        scores = context.own_logits(logits)
        edited = margin(scores, context.scan.task, known.positive).numpy().astype(float)
        spread = within_class_spread(known.margins, known.labels)
        strata = 2 * known.labels[rows] + known.halves[rows]
        change = (known.margins[rows] - edited) / spread
        return partial_effect(
            change, known.concept[rows], strata, self.others.values[rows], known.groups[rows]
        )

    @property
    def kept(self) -> Record | None:
        """The effect, where it was measured."""
        effects: Record | None = self.context.run.find(STAGE, self.concept.name, self._depends())
        return effects

    @property
    def waits(self) -> bool:
        """Whether its effect is still to be measured."""
        return bool(self.others.names) and self.kept is None

    def keep(self, edit: ConceptEdit, logits: Mapping[tuple[str, str], Tensor]) -> None:
        """Keep the effect of an edit."""
        effects = self.effect(edit, logits.get((edit.concept, edit.layer.name)))
        self.context.run.keep(STAGE, self.concept.name, self._depends(), asdict(effects))

    def result(self) -> HeldFixed:
        """What was measured, or that nothing could be held fixed."""
        others = self.others
        effects = {name: np.nan if x is None else float(x) for name, x in (self.kept or {}).items()}
        return HeldFixed(
            others.names,
            tuple(others.phi.tolist()),
            tuple(others.differ.tolist()),
            others.unknown,
            PartialEffect(effects.get("effect", np.nan), effects.get("error", np.nan)),
        )

    def _depends(self) -> Record:
        depends = {**self.context.depends(self.concept), "positive": self.samples.positive}
        return {**depends, "held fixed": [c.fingerprint() for c in self.fixed]}


def held_case(
    context: Context, concept: Concept, samples: UseSamples, key: str, concepts: Sequence[Concept]
) -> HeldCase | None:
    """A concept with those that it goes with; None where there are none.

    Parameters
    ----------
    samples, key
        See `HeldCase`.
    concepts
        All that are tested, aligned to the scan's samples.
    """
    candidates = {c.name: c for c in concepts if may_be_held(c) and not same_column(c, concept)}
    others = related_concepts(
        concept.values, context.labels, {name: c.values for name, c in candidates.items()}
    )
    if not others.names and not others.unknown:
        return None
    return HeldCase(context, concept, samples, key, others, [candidates[name] for name in others.names])


def may_be_held(concept: Concept) -> bool:
    """Whether a concept may be held fixed: none that was read from the network or the pixels."""
    is_read = concept.origin == "discovered" or concept.marks is not None or concept.selected_from > 1
    return concept.origin != PICTURE and not is_read


def same_column(a: Concept, b: Concept) -> bool:
    """Whether two concepts are one, or values of one column, which tell each other."""
    return _column(a) == _column(b)


def _column(concept: Concept) -> str:
    return concept.name.partition("=")[0] if concept.reading is None else concept.reading.column


def used_alone(
    context: Context, concepts: Sequence[Concept], encoded: Mapping[str, bool], use: Mapping[str, JSON]
) -> dict[str, float]:
    """The encoded concepts that are used, to their effect at the decision layer with nothing held fixed."""
    last, role, rule = context.scan.layers[-1].name, context.audited.role, context.settings.verdict
    alone = {}
    for concept in concepts:
        used = use_statement(use[concept.name][last], last, role, rule, concept.selected_from)
        if encoded[concept.name] and used["value"]:
            alone[concept.name] = float(used["effect"])
    return alone


def besides(
    context: Context,
    concepts: Sequence[Concept],
    alone: Mapping[str, float],
    held: Mapping[str, HeldFixed],
    associations: Mapping[str, Association],
) -> dict[str, Record]:
    """What every used concept is beside the others that it goes with.

    Parameters
    ----------
    concepts
        As examined.
    alone
        See `used_alone`.
    held, associations
        See `shortcutscope.probes.together.statements.besides`, whose statements these are.
    """

    def layers() -> Iterator[Blocks]:
        return (Blocks.of(context.scan.feature_rows(layer)) for layer in context.scan.layers)

    settings = context.settings
    return statements.besides(
        Represented(context.labels, context.groups, layers, context.scan.margin),
        {c.name: c.values for c in concepts},
        alone,
        held,
        associations,
        threshold=EFFECT_THRESHOLD[context.audited.role],
        resampling=Resampling(settings.n_bootstrap, settings.seed, settings.verdict.smallest_cell),
    )
