"""Proposals: shortcuts that nobody named, from several views of the samples, ready to be audited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.candidates import (
    SMALLEST_T,
    SampleInfo,
    ShortcutCandidate,
    agreement,
    distinct,
    family,
    judge,
    lies_within,
    logit_gap,
)
from shortcutscope.discover.confirm import CONFIRMED_T, HeldOut, confirm
from shortcutscope.discover.early import EarlyFeatures, early_features
from shortcutscope.discover.refine import refine
from shortcutscope.discover.views import ViewInput, view_scores
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Array, Bools, Floats, Record

#: Separation of the two groups, in standard deviations, below which a refined proposal is dropped: of two
#: equal groups that far apart one sample in 44 lies on the wrong side. In unbiased models features of the
#: task, and what divides their images by nature, came to at most 3.9, and planted shortcuts to 4.2 and more,
#: in models that the benchmark does not use.
CLEAR_SEPARATION = 4.0
#: Evidence of two groups, in nats a sample, below which a proposal is dropped. Features of the task reach at
#: most .06 in unbiased models, and planted shortcuts that were found had .10 and more, in such models.
SMALLEST_GAIN = 0.08
#: Odds for two groups, all samples together, for every score that was looked at. More than the smallest gain
#: only where samples are few.
SMALLEST_ODDS = 100
#: Correlation, within class, of two proposals' out-of-fold scores from which they are one direction.
SAME_DIRECTION = 0.8
#: Correlation, within class, from which a stronger proposal's part is taken out of a weaker one.
SHARED = 0.2
MOST = 10
#: Smaller data hold no groups that could be told from chance.
FEWEST_SAMPLES, FEWEST_PATIENTS = 40, 8


@dataclass(frozen=True, eq=False)
class Proposal:
    """A shortcut proposed without anybody's mark.

    Attributes
    ----------
    name
        Unique among the proposals of a scan.
    candidate
        Its score, read from other patients' samples, and how it was judged.
    views
        All views that found the same samples, its own first.
    concept
        Carriers, non-carriers and unknown, each sample's value read from other patients; None where the
        proposal was dropped.
    dropped
        Why it is not proposed after all; empty if it is.
    """

    name: str
    candidate: ShortcutCandidate
    views: tuple[str, ...]
    concept: Concept | None = None
    dropped: str = ""

    @property
    def label(self) -> int:
        """The class that carriers are taken for more."""
        return self.candidate.label

    @property
    def scores(self) -> Floats:
        """(N,) larger for carriers, in the order of the scan's samples."""
        return self.candidate.scores

    @property
    def seeds(self) -> Bools:
        """(N,) the carriers, before the doubtful are set apart."""
        return self.candidate.carriers

    @property
    def families(self) -> tuple[str, ...]:
        """Kinds of views that found it, such as ``("filters", "relevance")``."""
        return tuple(dict.fromkeys(family(view) for view in self.views))

    @property
    def strength(self) -> float:
        """What proposals are ranked by: the candidate's strength times the families of views that agree."""
        return self.candidate.strength * len(self.families)

    @property
    def shares(self) -> Mapping[int, float]:
        """Share of carriers in each class."""
        return self.candidate.shares

    def to_dict(self) -> Record:
        """What a run keeps of it besides the values of its concept."""
        c = self.candidate
        return {
            "name": self.name,
            "views": list(self.views),
            "label": self.label,
            "strength": self.strength,
            "separation": c.separation,
            "gain": c.gain,
            "logit_gap": c.gap,
            "t": c.t,
            "phi": c.phi,
            "shares": {str(label): share for label, share in self.shares.items()},
            "dropped": self.dropped,
        }

    def __repr__(self) -> str:
        shares = ", ".join(f"{share:.0%} of class {label}" for label, share in self.shares.items())
        return f"Proposal({self.name!r}, {self.views[0]}: {shares}; strength {self.strength:.2f})"


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
    looked_at
        Number of scores, times classes, that the proposals were chosen from.
    """

    proposals: list[Proposal]
    dropped: list[Proposal]
    notes: tuple[str, ...]
    looked_at: int


def discover(
    scan: Scan,
    table: ImageTable,
    *,
    most: int = MOST,
    neurons: bool = False,
    seed: int = 0,
    running: Running | None = None,
    early: EarlyFeatures | None = None,
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
    neurons
        Whether outlying neurons are looked at, too.
    seed
        Of components, clusters and folds.
    running
        Batch size, workers and bars of reading the images once.
    early
        What `early_features` gives, where the images were read already.

    Raises
    ------
    InputError
        When `scan` is not of `table`, and for a scan of several labels: `discover_outputs` searches those.
    """
    scan.require_one_label("discover()")
    if scan.samples["sample_id"].tolist() != table.frame["sample_id"].tolist():
        raise InputError("the scan is not of this table: their sample ids differ; scan the table first")
    samples = _sample_info(scan, seed)
    reason = _too_small(samples)
    if reason:
        return Discovery([], [], (reason,), 0)
    running = running or Running()
    early = early_features(scan, table, running) if early is None else early
    notes: list[str] = []
    candidates, looked_at = _candidates(ViewInput(scan, early, samples, notes, neurons, running.progress))
    proposals, twins = _refined(candidates, early.values, samples)
    needed = max(SMALLEST_GAIN, float(np.log(SMALLEST_ODDS * max(looked_at, 1))) / len(table))
    doubted = [p if p.dropped else replace(p, dropped=_doubt(p.candidate, needed)) for p in proposals]
    doubted = _told_apart(doubted, early.values, samples, needed)
    clear = [p for p in doubted if not p.dropped]
    held_out = confirm([p.candidate for p in clear], early.values, samples)
    ids = scan.samples["sample_id"].to_numpy()
    tested = list(_with_concepts(clear, held_out, samples, ids, looked_at))
    good = [p for p in tested if not p.dropped]
    surplus = [replace(p, dropped=f"{most} stronger ones are proposed") for p in good[most:]]
    others = [p for p in (*tested, *doubted) if p.dropped]
    return Discovery(good[:most], [*surplus, *others, *twins], tuple(notes), looked_at)


def _candidates(inputs: ViewInput) -> tuple[list[ShortcutCandidate], int]:
    """Candidates of all views, and how many scores were looked at."""
    candidates: list[ShortcutCandidate] = []
    looked_at = 0
    for view, scores in view_scores(inputs):
        looked_at += scores.shape[1] * len(inputs.samples.margins)
        for column in scores.T:
            candidates += judge(view, column, inputs.samples)
    return candidates, looked_at


def _too_small(samples: SampleInfo) -> str:
    """Why nothing can be found in so few samples; empty where something can."""
    n, patients = len(samples.labels), len(np.unique(samples.groups))
    classes = len(np.unique(samples.labels))
    if n >= FEWEST_SAMPLES and patients >= FEWEST_PATIENTS and classes > 1:
        return ""
    return (
        f"nothing was looked for in {n} samples of {patients} patients and {classes} classes; at least "
        f"{FEWEST_SAMPLES} samples of {FEWEST_PATIENTS} patients and 2 classes are needed"
    )


def _sample_info(scan: Scan, seed: int) -> SampleInfo:
    labels = scan.samples["label"].to_numpy().astype(np.int64)
    classes = np.unique(labels)
    # Of two classes, what speaks for one speaks against the other.
    sides = classes[1:] if len(classes) == 2 else classes
    margins = {int(c): scan.margin(int(c)).astype(np.float64) for c in sides}
    return SampleInfo(labels, scan.samples["group"].to_numpy(), margins, seed)


def _refined(
    candidates: Sequence[ShortcutCandidate], early: Floats, samples: SampleInfo
) -> tuple[list[Proposal], list[Proposal]]:
    """Refined candidates with all the views that end at them, by strength; and those that they stand for.

    Those of which no two groups were left come last, and say so.
    """
    strongest, same = distinct(candidates, samples.labels)
    stands_for = [[s, *(weak for weak, strong in same if strong is s)] for s in strongest]
    refined = refine(strongest, early, samples)
    parts = {id(r): c for r, c in zip(refined, stands_for, strict=True) if r is not None}
    apart, merged = distinct([r for r in refined if r is not None], samples.labels)
    for weak, strong in merged:
        parts[id(strong)] += parts[id(weak)]
    proposals = [_proposal(candidate, parts[id(candidate)]) for candidate in apart]
    proposals.sort(key=lambda p: -p.strength)
    lost = [
        (_proposal(c[0], c, "its two groups are lost where other patients' samples tell them"), c)
        for r, c in zip(refined, stands_for, strict=True)
        if r is None
    ]
    together = [*((p, parts[id(p.candidate)]) for p in proposals), *lost]
    named = [replace(p, name=f"discovered {k}") for k, (p, _) in enumerate(together, 1)]
    twins = [
        Proposal("", weak, (weak.view,), dropped=f"names the same samples as {p.name}")
        for p, (_, members) in zip(named, together, strict=True)
        for weak in members[1:]
    ]
    return named, twins


def _told_apart(
    proposals: Sequence[Proposal], early: Floats, samples: SampleInfo, gain: float
) -> list[Proposal]:
    """Proposals less what stronger ones explain of them, where two clear groups are left without it."""
    told: list[Proposal] = []
    for proposal in proposals:
        stronger = [] if proposal.dropped else [p for p in told if not p.dropped]
        shared = [p for p in stronger if agreement(p.scores, proposal.scores, samples.labels) >= SHARED]
        if shared:
            (own,) = refine([proposal.candidate], early, samples, beside=[p.seeds for p in shared])
            if own is not None and not _doubt(own, gain):
                proposal = replace(proposal, candidate=own)
        told.append(proposal)
    return told


def _proposal(
    candidate: ShortcutCandidate, members: Sequence[ShortcutCandidate], dropped: str = ""
) -> Proposal:
    return Proposal("", candidate, tuple(dict.fromkeys(c.view for c in members)), dropped=dropped)


def _doubt(candidate: ShortcutCandidate, gain: float) -> str:
    """Why a candidate is no shortcut's score; empty where nothing speaks against it."""
    if candidate.phi <= 0:
        return "its carriers do not go with the class that they are taken for"
    if candidate.separation < CLEAR_SEPARATION:
        return (
            f"its two groups run into each other (separation {candidate.separation:.2f}, needed "
            f"{CLEAR_SEPARATION:g}): its scores differ from one sample to the next by degrees, as features "
            "of the task do"
        )
    if candidate.gain < gain:
        return f"evidence of two groups {candidate.gain:.2f}, needed {gain:.2f}"
    if candidate.t < CONFIRMED_T:
        return f"the logits of its two groups do not differ (t {candidate.t:.1f}, needed {CONFIRMED_T:g})"
    return ""


def _with_concepts(
    proposals: Sequence[Proposal],
    held_out: Sequence[HeldOut],
    samples: SampleInfo,
    ids: Array,
    looked_at: int,
) -> Iterable[Proposal]:
    """Each proposal with its concept, or with the reason why it makes none."""
    accepted: list[tuple[str, HeldOut]] = []
    strata = samples.labels
    for proposal, result in zip(proposals, held_out, strict=True):
        if result.failure:
            yield replace(proposal, dropped=result.failure)
            continue
        labels = samples.labels
        alike = (n for n, one in accepted if agreement(one.scores, result.scores, labels) >= SAME_DIRECTION)
        parts = (n for n, one in accepted if lies_within(result.carriers, one.carriers, labels))
        twin, whole = next(alike, None), next(parts, None)
        if twin is not None:
            yield replace(proposal, dropped=f"is the same direction as {twin}")
            continue
        if whole is not None:
            yield replace(proposal, dropped=f"is a part of {whole}: hardly any other sample carries it")
            continue
        _, t = logit_gap(samples.margins[proposal.label], result.carriers, strata, samples.groups)
        if accepted and t < SMALLEST_T:
            names = ", ".join(name for name, _ in accepted)
            why = f"is explained by {names}: beside it, the logits do not differ (t {t:.1f})"
            yield replace(proposal, dropped=why)
            continue
        strata = np.unique(np.stack([strata, result.carriers]), axis=1, return_inverse=True)[1].ravel()
        accepted.append((proposal.name, result))
        shares = ", ".join(f"{share:.0%} of class {label}" for label, share in proposal.shares.items())
        others = len(proposal.views) - 1
        more = f" and {others} other view{'s' if others > 1 else ''}" if others else ""
        description = f"found by {proposal.views[0]}{more}; carriers: {shares}"
        concept = Concept(
            proposal.name, result.values, "discovered", ids, description, selected_from=looked_at
        )
        yield replace(proposal, concept=concept)
