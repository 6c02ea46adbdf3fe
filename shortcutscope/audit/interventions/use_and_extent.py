"""Use and extent of concepts: what taking them out changes, and over how much of the image they spread.

Both are measured on chosen samples. First the concepts are taken out of the decision layer, where the verdict
is made, and in the same pass cell maps are collected of those that are encoded. The other layers follow for
the concepts whose use may be more than nothing: elsewhere there is no curve over the depth to be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Literal

import numpy as np
from torch import Tensor

from shortcutscope.audit.context import EARLY_LAYERS, Context
from shortcutscope.audit.interventions.held_fixed import HeldCase, held_case
from shortcutscope.audit.interventions.rerun import ConceptEdit, Look, Rerun, rerun
from shortcutscope.models.heads.targets import margin
from shortcutscope.models.layers import Layer
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.probes.extent.cells import CHANNELS, cells_of
from shortcutscope.probes.extent.measuring import (
    ExtentFeatures,
    ExtentResult,
    ExtentRule,
    ExtentSamples,
    decide,
    mapped_layers,
    measure_extent,
    spread_choice,
    why_unmapped,
)
from shortcutscope.probes.profile import pattern_vectors
from shortcutscope.probes.together.beside import HeldFixed
from shortcutscope.probes.usage import (
    EFFECT_THRESHOLD,
    Prefix,
    UseSamples,
    evaluation_samples,
    use_edits,
    use_result,
)
from shortcutscope.processes import dealt, gathered, wait
from shortcutscope.stats.bootstrap import cluster_weights
from shortcutscope.types import JSON, Floats, Ints, Record

#: Samples per (half, class, value) on which use is measured at the decision layer, of concepts that are not
#: encoded and of those that are: there the verdict is made. And at the others.
USE_SAMPLES, ELSEWHERE_SAMPLES = (20, 40), 10
#: Layers besides the decision layer at which use is measured, at most.
ELSEWHERE_LAYERS = 4
#: Samples on which the extent of a concept is measured, at most.
EXTENT_SAMPLES = 480
#: Under which the effects are kept: at the decision layer, and at all others.
Stage = Literal["usage-last", "usage"]
LAST: Stage = "usage-last"
ELSEWHERE: Stage = "usage"
#: Use is measured at the other layers where its interval at the decision layer reaches this share of the
#: threshold, of either sign.
NEAR = 0.5
#: Bytes of the cell features that are held at once; concepts that need more are measured in turns.
HELD = 2**30


@dataclass(frozen=True, eq=False)
class Case:
    """One concept at one output, and the samples on which its use is measured.

    Attributes
    ----------
    context
        Of the output.
    concept
        Aligned to its samples, testable.
    positive
        The class that effects refer to.
    encoded
        Whether a layer knows the concept.
    probe
        What the layers say of it, for its extent; None where that is not to be measured here.
    """

    context: Context
    concept: Concept
    positive: int
    encoded: bool
    probe: JSON | None = None

    @property
    def name(self) -> str:
        """Of the concept."""
        return self.concept.name

    @property
    def key(self) -> str:
        """Name among the cases of all outputs."""
        return f"{self.context.run.path.name}\0{self.name}" if self.context.whole else self.name

    @cached_property
    def samples(self) -> UseSamples:
        """Concept, classes, patients and margins."""
        context, values = self.context, self.concept.values
        halves = make_folds(context.labels, context.groups, values, n_folds=2, seed=context.settings.seed)
        margins = context.scan.margin(self.positive)
        return UseSamples(values, context.labels, context.groups, margins, halves, self.positive)

    def _per_cell(self, layer: Layer) -> int:
        decides = layer.name == self.context.scan.layers[-1].name
        return USE_SAMPLES[self.encoded] if decides else ELSEWHERE_SAMPLES

    def edit(self, layer: Layer) -> ConceptEdit:
        """What takes the concept out of a layer, for each of the samples chosen there."""
        scan, samples = self.context.scan, self.samples
        chosen = evaluation_samples(
            samples.concept,
            samples.labels,
            samples.halves,
            self.context.order,
            per_cell=self._per_cell(layer),
        )
        halves = use_edits(self.context.activation(layer), samples, chosen, Prefix.of(scan, layer))
        shared = [(self.context.shared_rows(rows), one) for rows, one in halves]
        return ConceptEdit(self.key, layer, shared)

    def effect(self, edit: ConceptEdit, logits: Tensor | None) -> Record:
        """Effect of an edit; there are no scores where nothing could be fitted."""
        context, settings = self.context, self.context.settings
        edited: Floats = np.empty(0)
        if logits is not None:
            own = context.own_logits(logits)
            edited = margin(own, context.scan.task, self.positive).numpy().astype(float)
        result = use_result(
            self.samples,
            context.own_numbers(edit.rows),
            edited,
            n_bootstrap=settings.n_bootstrap,
            seed=settings.seed,
        )
        return asdict(result)

    def keep(self, stage: Stage, by_layer: Mapping[str, Record]) -> None:
        """Keep the effects at the decision layer, or those at all others."""
        self.context.run.keep(stage, self.name, self._depends(stage), by_layer)

    def kept(self, stage: Stage) -> dict[str, Record]:
        """The effects, empty where they were not measured."""
        return self.context.run.find(stage, self.name, self._depends(stage)) or {}

    def use(self) -> dict[str, Record]:
        """Layer to effect, of those that were measured."""
        return {**self.kept(ELSEWHERE), **self.kept(LAST)}

    @property
    def is_near(self) -> bool:
        """Whether an encoded concept may be used more than a little; of several outputs, whether it is."""
        last = self.kept(LAST)[self.context.scan.layers[-1].name]
        if self.context.whole is not None:  # there are as many curves as concepts, for each output
            limit = EFFECT_THRESHOLD[self.context.audited.role]
            return self.encoded and abs(last["effect"] or 0.0) > limit
        low, high = last["interval"]
        if low is None or high is None:
            return self.encoded
        limit = NEAR * EFFECT_THRESHOLD[self.context.audited.role]
        return self.encoded and max(abs(low), abs(high)) >= limit

    def beside(self, cases: Sequence[Case]) -> HeldCase | None:
        """The same with other concepts of its output held fixed; None where it goes with none."""
        concepts = [case.concept for case in cases if case.context is self.context]
        return held_case(self.context, self.concept, self.samples, self.key, concepts)

    def _depends(self, stage: Stage) -> Record:
        depends = {**self.context.depends(self.concept), "positive": self.positive}
        return {**depends, "encoded": self.encoded} if stage == LAST else depends


class _Looker:
    """One encoded concept, and the samples on which its extent is measured."""

    def __init__(self, case: Case, probe: JSON) -> None:
        self.case, self._aurocs = case, {row["layer"]: row["auroc"] for row in probe["rows"]}

    @cached_property
    def rows(self) -> Ints:
        """The samples, in rising order."""
        context = self.case.context
        return spread_choice(self._values, context.labels, EXTENT_SAMPLES, context.order)

    @cached_property
    def _values(self) -> Floats:
        return self.case.concept.as_marked(self.case.context.labels)

    @cached_property
    def samples(self) -> ExtentSamples:
        context, subset = self.case.context, self.rows
        settings, values = context.settings, self._values[subset]
        labels, groups = context.labels[subset], context.groups[subset]
        folds = make_folds(labels, groups, values, n_folds=4, seed=settings.seed)
        weights = cluster_weights(groups, settings.n_bootstrap, settings.seed)
        return ExtentSamples(values, labels, folds, weights)

    @property
    def unmapped(self) -> str | None:
        """Why it is not measured, None where it is."""
        return why_unmapped(self.samples, self.case.context.settings.extent)

    @cached_property
    def look(self) -> Look:
        """What has to be seen of the samples."""
        scan, subset, samples = self.case.context.scan, self.rows, self.samples
        vectors = {
            layer.name: pattern_vectors(
                self.case.context.activation(layer)[subset], samples.concept, samples.labels, samples.folds
            )[samples.folds]
            for layer in local_layers(scan.layers)
        }
        return Look(self.case.key, self.shared_rows, vectors)

    @property
    def shared_rows(self) -> Ints:
        """The samples, by their numbers among those of all outputs."""
        return self.case.context.shared_rows(self.rows)

    @property
    def kept(self) -> Record | None:
        """The extent, where it was measured."""
        context = self.case.context
        found: Record | None = context.run.find("extent", self.case.name, context.depends(self.case.concept))
        return found

    @property
    def waits(self) -> bool:
        """Whether its samples are still to be seen."""
        return self.kept is None and self.unmapped is None

    def measure(self, seen: Rerun) -> None:
        """Measure and keep the extent, unless it is kept."""
        if self.kept is not None:
            return
        context = self.case.context
        features = seen.features(self.case.key) or ExtentFeatures(None, {}, {})
        rule = context.settings.extent
        result = measure_extent(self.samples, features, encoded_auroc=max(self._aurocs.values()), rule=rule)
        record = _extent_record(result, self._aurocs, rule)
        context.run.keep("extent", self.case.name, context.depends(self.case.concept), record)


def measure_use_and_extent(
    context: Context, cases: Sequence[Case]
) -> tuple[list[dict[str, Record]], list[Record | None], list[HeldFixed | None]]:
    """Use of every concept by layer, and extent where it is asked for; what is kept is not measured again.

    What may be used, and goes with others, is also taken out with these held fixed.

    Parameters
    ----------
    context
        That the cases share: samples are run again for all of them at once.
    cases
        Concepts at outputs.

    Returns
    -------
    use
        For each case, layer to the effect.
    extents
        For each case the extent; None where it was not asked for.
    held
        For each case its effect with others held fixed; None where it goes with none, or is not used.
    """
    lookers = {case.key: _Looker(case, case.probe) for case in cases if case.probe is not None}
    last = context.scan.layers[-1]
    for some in _in_turns(context, cases, lookers):
        waiting = [lookers[case.key] for case in some if case.key in lookers]
        with context.run.stage("usage"):
            edits = _edits([case for case in some if not case.kept(LAST)], [last])
            looks = [looker.look for looker in waiting if looker.waits]
            done = Rerun({})
            if edits or looks:
                done = rerun(context, edits, looks, what="taking concepts out")
                _keep_shared(LAST, some, edits, done.logits)
        with context.run.stage("extent"):
            for k in dealt([1.0] * len(waiting)):
                waiting[k].measure(done)
            wait("extent")
    with context.run.stage("usage"):
        near = [case for case in cases if case.is_near]
        held = {case.key: one for case in near if (one := case.beside(cases)) is not None}
        _measure_elsewhere(context, near, list(held.values()))
    extents = [dict(lookers[case.key].kept or {}) if case.key in lookers else None for case in cases]
    beside = [held[case.key].result() if case.key in held else None for case in cases]
    return [case.use() for case in cases], extents, beside


def curve_layers(layers: Sequence[Layer]) -> list[Layer]:
    """Those at which use is measured besides the last, evenly over the depth of the network."""
    others = list(layers[:-1])
    places = np.linspace(0, len(others) - 1, min(len(others), ELSEWHERE_LAYERS)).round()
    return [others[int(k)] for k in places]


def _measure_elsewhere(context: Context, cases: Sequence[Case], held: Sequence[HeldCase] = ()) -> None:
    """Take concepts out of layers before the last, and of that with others held fixed; keep what changes."""
    missing = [case for case in cases if not case.kept(ELSEWHERE)]
    edits = _edits(missing, curve_layers(context.scan.layers))
    waiting = [case for case in held if case.waits]
    beside = _fitted([case.edit for case in waiting], [1.0] * len(waiting))
    if edits or beside:
        done = rerun(context, [*edits, *beside], what="taking concepts out of each layer")
        _keep_shared(ELSEWHERE, missing, edits, done.logits)
        own = dealt([1.0] * len(waiting))
        held_edits = [beside[k] for k in own]
        gathered(partial(_keep_held, [waiting[k] for k in own], held_edits, done.logits), "held fixed")


def _keep_held(
    cases: Sequence[HeldCase], edits: Sequence[ConceptEdit], logits: Mapping[tuple[str, str], Tensor]
) -> None:
    for case, edit in zip(cases, edits, strict=True):
        case.keep(edit, logits)


def use_by_layer(context: Context, concept: Concept, positive: int) -> dict[str, Record]:
    """Use of one concept at every layer, however small it is; what an audit measured is not measured again.

    Returns
    -------
    dict
        Layer to ``effect``, ``samples`` (those evaluated), ``change`` (of their logit) and so on.
    """
    case = Case(context, concept, positive, encoded=True)
    if not case.kept(LAST):
        edits = _edits([case], context.scan.layers[-1:])
        _keep_all(LAST, [case], edits, rerun(context, edits).logits)
    _measure_elsewhere(context, [case])
    return case.use()


def use_of_all(context: Context, concepts: Sequence[Concept], positive: int) -> dict[str, Record]:
    """Use of several concepts at the decision layer, in one pass; what an audit measured is not measured
    again.

    Returns
    -------
    dict
        Name of a concept to its ``effect``, ``samples``, ``change`` and so on.
    """
    last = context.scan.layers[-1]
    cases = [Case(context, concept, positive, encoded=True) for concept in concepts]
    missing = [case for case in cases if not case.kept(LAST)]
    if missing:
        edits = _edits(missing, [last])
        _keep_all(LAST, missing, edits, rerun(context, edits, what="taking concepts out").logits)
    return {case.name: case.kept(LAST)[last.name] for case in cases}


def _edits(cases: Sequence[Case], layers: Sequence[Layer]) -> list[ConceptEdit]:
    """What takes each concept out of each layer; processes that share the work fit some of them each."""
    wanted = [(case, layer) for layer in layers for case in cases]
    return _fitted(
        [partial(case.edit, layer) for case, layer in wanted],
        [float(layer.channels) ** 2 for _, layer in wanted],
    )


def _fitted(fits: Sequence[Callable[[], ConceptEdit]], costs: Sequence[float]) -> list[ConceptEdit]:
    own = dealt(costs)
    parts = gathered(lambda: [(k, fits[k]()) for k in own], "edits")
    found = dict(edit for part in parts for edit in part)
    return [found[k] for k in range(len(fits))]


def _keep_shared(
    stage: Stage,
    cases: Sequence[Case],
    edits: Sequence[ConceptEdit],
    logits: Mapping[tuple[str, str], Tensor],
) -> None:
    """Keep the effects; of processes that share the work each measures those of some concepts."""
    own = [cases[k] for k in dealt([1.0] * len(cases))]
    gathered(partial(_keep_all, stage, own, edits, logits), stage)


def _keep_all(
    stage: Stage,
    cases: Sequence[Case],
    edits: Sequence[ConceptEdit],
    logits: Mapping[tuple[str, str], Tensor],
) -> None:
    for case in cases:
        own = [edit for edit in edits if edit.concept == case.key]
        if own:
            names = [edit.layer.name for edit in own]
            effects = [case.effect(edit, logits.get((case.key, edit.layer.name))) for edit in own]
            case.keep(stage, dict(zip(names, effects, strict=True)))


def _in_turns(
    context: Context, cases: Sequence[Case], lookers: Mapping[str, _Looker]
) -> Iterator[list[Case]]:
    """Concepts whose cell features are held at once."""
    room = max(EXTENT_SAMPLES, HELD // max(1, _bytes_per_sample(context)))
    some: list[Case] = []
    rows: Ints = np.empty(0, np.int64)
    for case in cases:
        looker = lookers.get(case.key)
        more = np.union1d(rows, looker.shared_rows) if looker is not None and looker.waits else rows
        if len(more) > room and some:
            yield some
            some, more = [], more[~np.isin(more, rows)]
        some, rows = [*some, case], more
    yield some  # also where there are none, so that the stages are seen to be done


def _bytes_per_sample(context: Context) -> int:
    """Of the cell features of all layers, and of the input."""
    values = [
        min(layer.channels, CHANNELS) * _cells(layer.grid) for layer in mapped_layers(context.scan.layers)
    ]
    return 4 * (sum(values) + max(values, default=0))


def _cells(grid: Sequence[int]) -> int:
    return int(np.prod(cells_of(grid)))


def local_layers(layers: Iterable[Layer]) -> list[Layer]:
    """Early layers at which the participation ratio is read: none of a network of tokens.

    Attention shows every position the whole image, so that a response does not say where it comes from; and
    what stands in front of it embeds patches linearly, where what has no mean, such as noise, has no vector.
    """
    candidates = list(layers)
    if any(layer.layout == "tokens" for layer in candidates):
        return []
    return [layer for layer in candidates if layer.spatial][:EARLY_LAYERS]


def _strongest(changes: Mapping[str, float]) -> float | None:
    """The larger one of the changes in either direction."""
    return max(changes.values(), key=lambda change: abs(change)) if changes else None


def _extent_record(result: ExtentResult, aurocs: Mapping[str, float], rule: ExtentRule) -> Record:
    layers = {
        name: {
            "statistic": cells.lit_share,
            "verdict": decide(cells, {}, aurocs[name], rule)[0],
            "cell_map": cells.auroc,
            "participation": _strongest(result.layer_participation.get(name, {})),
        }
        for name, cells in result.layer_maps.items()
    }
    input_map = result.input_map
    return {
        "verdict": result.verdict,
        "reason": result.reason,
        "statistic": input_map.lit_share if input_map else None,
        "interval": input_map.interval if input_map else None,
        "cell_map": input_map.auroc if input_map else None,
        "participation": dict(result.participation),
        "places": asdict(result.places),
        "layers": layers,
    }
