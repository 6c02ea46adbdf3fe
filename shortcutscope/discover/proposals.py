"""Proposals: shortcuts that nobody named, from several views of the samples, ready to be audited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.candidates import Candidate, Setting, distinct, family, judge, two_groups
from shortcutscope.discover.clusters import NEIGHBOURS, Clusters, cluster
from shortcutscope.discover.components import class_components
from shortcutscope.discover.filters import image_bank, refusal
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import cross_fitted_scores, make_folds
from shortcutscope.probes.mixture import MIN_SEPARATION, confident, require_enough
from shortcutscope.scan.reading import Scan

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Components of the filter bank, alone and together with the first layer.
BANK_COMPONENTS = (16, 24)
#: Depths of the layers whose relevances, and whose activations, are clustered.
RELEVANCE_DEPTHS = (0.5, 0.8)
ACTIVATION_DEPTHS = (0.25, 0.5)
#: Largest part of a class that a cluster may be to be its rare side.
LARGEST_CLUSTER = 0.4
SMALLEST_CLUSTER = 8
#: Posterior probability from which a sample counts as a carrier or as free.
CONFIDENCE = 0.9
MIN_CARRIERS = 10
#: Evidence of two groups, in nats a sample, below which a proposal is dropped. Features of the task reach at
#: most .06 in unbiased models, and planted shortcuts that were found had .16 and more, in models that the
#: benchmark does not use.
SMALLEST_GAIN = 0.08
MOST = 10


@dataclass(frozen=True, eq=False)
class Proposal:
    """A shortcut proposed without anybody's mark.

    Attributes
    ----------
    name
        Unique among the proposals of a scan.
    view
        What it was found by.
    views
        All views that found the same samples.
    label
        The class that carriers are taken for more.
    scores
        (N,) larger for carriers, in the order of the scan's samples.
    seeds
        (N,) the carriers, before the doubtful are set apart.
    strength
        What proposals are ranked by: evidence of two groups x their separation x logit gap x association
        with the label (see :class:`shortcutscope.discover.candidates.Candidate`), times the families of views
        that agree.
    separation, bimodality, gap, t, phi, shares, gain
        As of a candidate.
    concept
        Carriers, non-carriers and unknown; None where the proposal was dropped.
    dropped
        Why it is not proposed after all; empty if it is.
    evidence
        Further facts for the report.
    """

    name: str
    view: str
    views: tuple[str, ...]
    label: int
    scores: Floats
    seeds: Bools
    strength: float
    separation: float
    bimodality: float
    gap: float
    t: float
    phi: float
    shares: Mapping[int, float]
    gain: float
    concept: Concept | None = None
    dropped: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def families(self) -> tuple[str, ...]:
        """Kinds of views that found it, such as ``("filters", "relevance")``."""
        return tuple(dict.fromkeys(family(view) for view in self.views))

    def __repr__(self) -> str:
        shares = ", ".join(f"{share:.0%} of class {label}" for label, share in self.shares.items())
        return f"Proposal({self.name!r}, {self.view}: {shares}; strength {self.strength:.2f})"


@dataclass(frozen=True)
class Discovery:
    """What was proposed, what was not and why, and which views could not be had.

    Attributes
    ----------
    proposals
        Strongest first.
    dropped
        Those not proposed, each with its reason; merged ones, too.
    notes
        Views that were left out, with the reason.
    """

    proposals: list[Proposal]
    dropped: list[Proposal]
    notes: tuple[str, ...]


def propose(scan: Scan, table: ImageTable, **options: Any) -> list[Proposal]:
    """Propose shortcuts, strongest first; see :func:`discover`."""
    return discover(scan, table, **options).proposals


def discover(
    scan: Scan,
    table: ImageTable,
    *,
    most: int = MOST,
    batch_size: int = 64,
    workers: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> Discovery:
    """Look for shortcuts in the images, the activations and the relevances of a scan.

    Parameters
    ----------
    scan
        Of `table`, in its order.
    table
        The scanned samples.
    most
        Most proposals.
    batch_size, workers
        For reading the images once.
    seed
        Of components and clusters.

    Raises
    ------
    InputError
        When `scan` is not of `table`.
    """
    if scan.samples["sample_id"].tolist() != table.frame["sample_id"].tolist():
        raise InputError("the scan is not of this table: their sample ids differ; scan the table first")
    setting = _setting(scan, seed)
    notes: list[str] = []
    found: list[Candidate] = []
    views = _views(scan, table, setting, notes, batch_size=batch_size, workers=workers, progress=progress)
    for view, scores in views:
        for column in scores.T:
            found += judge(view, column, setting)
    kept, merged = distinct(found, setting.labels)
    kept.sort(key=lambda c: -c.strength * len(_families(c, merged)))
    named = [_proposal(f"discovered {k}", c, merged) for k, c in enumerate(kept, 1)]
    tested = [_with_concept(p, scan, setting) for p in named]
    good = [p for p in tested if not p.dropped]
    surplus = [replace(p, dropped=f"{most} stronger ones are proposed") for p in good[most:]]
    twins = [
        _proposal("", weak, [], f"names the same samples as {_name(strong, kept)}") for weak, strong in merged
    ]
    return Discovery(good[:most], [*surplus, *(p for p in tested if p.dropped), *twins], tuple(notes))


def _setting(scan: Scan, seed: int) -> Setting:
    labels = scan.samples["label"].to_numpy().astype(np.int64)
    classes = np.unique(labels)
    # Of two classes, what speaks for one speaks against the other.
    sides = classes[1:] if len(classes) == 2 else classes
    margins = {int(c): scan.margin(int(c)).astype(np.float64) for c in sides}
    return Setting(labels, scan.samples["group"].to_numpy(), margins, seed)


def _views(
    scan: Scan, table: ImageTable, setting: Setting, notes: list[str], *, progress: bool, **reading: Any
) -> Iterator[tuple[str, Floats]]:
    """Name and scores (N, K) of every view; what cannot be had is noted."""
    first = scan.layers[0]
    early: npt.NDArray[Any] = scan.features(first)
    reason = refusal(table.shape)
    if reason is None:
        bank = image_bank(table, progress=progress, **reading).values
        early = np.concatenate([bank, early], axis=1)
        few, many = BANK_COMPONENTS
        yield from _components("filters: ", bank, few, setting, skewed=True)
        yield from _components("filters: ", bank, many, setting)
        yield from _components(f"filters: with {first.name}, ", early, many, setting)
    else:
        notes.append(reason)
        yield from _components(
            f"activation: {first.name}, ", early, BANK_COMPONENTS[-1], setting, skewed=True
        )
    kinds = [("activation", ACTIVATION_DEPTHS), ("relevance", RELEVANCE_DEPTHS)]
    try:
        scan.relevance(scan.layers[-1])
    except InputError as error:
        notes.append(f"nothing was clustered by relevance: {error}")
        kinds = kinds[:1]
    chosen = [(kind, layer) for kind, depths in kinds for layer in _at_depths(scan.layers, depths)]
    for kind, layer in tqdm(chosen, desc="clusters", unit="layer", disable=not progress, leave=False):
        scores, note = _cluster_view(kind, layer, early, scan, setting)
        if note:
            notes.append(f"{kind} at {layer.name}: {note}")
        yield f"{kind}: clusters at {layer.name}", scores


def _components(
    name: str, features: npt.NDArray[Any], count: int, setting: Setting, *, skewed: bool = False
) -> Iterator[tuple[str, Floats]]:
    found = class_components(features, setting.labels, count, skewed=skewed, seed=setting.seed)
    for where, scores in found:
        yield f"{name}{count} components, {where}", scores


def _cluster_view(
    kind: str, layer: Layer, early: npt.NDArray[Any], scan: Scan, setting: Setting
) -> tuple[Floats, str]:
    """Scores of the rare clusters of all classes at a layer, read off the input out of fold.

    Late in a network every cluster knows the decision, and a score read off there would be the logit under
    another name: two groups, used and associated. So it is asked what the members have in common before.
    """
    vectors = scan.relevance(layer) if kind == "relevance" else scan.activation(layer)
    targets, notes = [], [""]
    for label in np.unique(setting.labels):
        inside = np.flatnonzero(setting.labels == label)
        if len(inside) < 4 * NEIGHBOURS:
            continue
        clusters = cluster(vectors[inside], seed=setting.seed)
        notes.append(clusters.note)
        for members in _rare(clusters):
            target = np.full(len(vectors), np.nan)
            target[inside] = members
            targets.append(target)
    if not targets:
        return np.empty((len(vectors), 0)), max(notes)
    folds = make_folds(setting.labels, setting.groups, seed=setting.seed)
    scores = cross_fitted_scores(early, np.stack(targets, axis=1), setting.labels, folds)
    return scores, max(notes)


def _rare(clusters: Clusters) -> Iterator[Bools]:
    """Members (n,) of each cluster that is a small part of its class."""
    for assignment in (clusters.spectral, clusters.dense):
        for number in range(int(assignment.max()) + 1):
            members = assignment == number
            if SMALLEST_CLUSTER <= members.sum() <= LARGEST_CLUSTER * len(members):
                yield members


def _at_depths(layers: Sequence[Layer], depths: Sequence[float]) -> list[Layer]:
    nearest = (min(layers, key=lambda layer: abs(layer.depth - depth)) for depth in depths)
    return list(dict.fromkeys(nearest))


def _proposal(
    name: str, candidate: Candidate, merged: Sequence[tuple[Candidate, Candidate]], dropped: str = ""
) -> Proposal:
    return Proposal(
        name,
        candidate.view,
        _agreeing(candidate, merged),
        candidate.label,
        candidate.scores,
        candidate.carriers,
        candidate.strength * len(_families(candidate, merged)),
        candidate.separation,
        candidate.bimodality,
        candidate.gap,
        candidate.t,
        candidate.phi,
        candidate.shares,
        candidate.gain,
        dropped=dropped,
    )


def _agreeing(candidate: Candidate, merged: Sequence[tuple[Candidate, Candidate]]) -> tuple[str, ...]:
    """Names of all views that found a candidate, its own first."""
    return tuple(
        dict.fromkeys([candidate.view, *(weak.view for weak, strong in merged if strong is candidate)])
    )


def _families(candidate: Candidate, merged: Sequence[tuple[Candidate, Candidate]]) -> set[str]:
    return {family(view) for view in _agreeing(candidate, merged)}


def _with_concept(proposal: Proposal, scan: Scan, setting: Setting) -> Proposal:
    """The proposal with its concept, or with the reason why it makes none."""
    if proposal.separation < MIN_SEPARATION or proposal.phi <= 0:
        why = (
            f"its scores are one group (separation {proposal.separation:.1f}, needed {MIN_SEPARATION:g})"
            if proposal.phi > 0
            else "its carriers do not go with the class that they are taken for"
        )
        return replace(proposal, dropped=why)
    if proposal.gain < SMALLEST_GAIN:
        why = (
            f"evidence of two groups {proposal.gain:.2f}, needed {SMALLEST_GAIN:g}: its scores differ from "
            "one sample to the next by degrees, as features of the task do"
        )
        return replace(proposal, dropped=why)
    codes = np.unique(setting.labels, return_inverse=True)[1]
    posterior = two_groups(proposal.scores, codes, setting.seed).posterior(proposal.scores)
    values = confident(posterior, CONFIDENCE)
    try:
        require_enough(values, proposal.name, MIN_CARRIERS)
    except InputError as error:
        return replace(proposal, dropped=str(error))
    shares = ", ".join(f"{share:.0%} of class {label}" for label, share in proposal.shares.items())
    description = f"found by {'; '.join(proposal.views)}; carriers: {shares}"
    concept = Concept(proposal.name, values, "discovered", scan.samples["sample_id"].to_numpy(), description)
    return replace(proposal, concept=concept)


def _name(candidate: Candidate, kept: Sequence[Candidate]) -> str:
    return f"discovered {1 + next(k for k, c in enumerate(kept) if c is candidate)}"
