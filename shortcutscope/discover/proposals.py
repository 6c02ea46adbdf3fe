"""Proposals: shortcuts that nobody named, from several views of the samples, ready to be audited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.beside import Confirmed, search_beside, told_apart
from shortcutscope.discover.candidates import SMALLEST_T, SampleInfo, agreement, lies_within, logit_gap
from shortcutscope.discover.confirm import HeldOut, confirm
from shortcutscope.discover.early import EarlyFeatures, early_features
from shortcutscope.discover.proposal import Proposal, numbered
from shortcutscope.discover.search import needed_gain, search, too_small
from shortcutscope.discover.views import ViewInput, view_scores
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Array, Ints

#: Correlation, within class, of two proposals' out-of-fold scores from which they are one direction.
SAME_DIRECTION = 0.8
MOST = 10


@dataclass(frozen=True)
class Discovery:
    """What was proposed, what was not and why, and which views could not be had.

    Attributes
    ----------
    proposals
        Strongest first, and numbered so.
    dropped
        Those not proposed, each with its reason and the numbers that follow; merged ones, too.
    notes
        Views that were left out, with the reason.
    looked_at
        Number of scores, times classes, that the proposals were chosen from.
    """

    proposals: list[Proposal]
    dropped: list[Proposal]
    notes: tuple[str, ...]
    looked_at: int

    def renamed(self, names: Mapping[str, str]) -> Discovery:
        """Under other names, see `Proposal.renamed`."""
        proposals, dropped = ([p.renamed(names) for p in ps] for ps in (self.proposals, self.dropped))
        return replace(self, proposals=proposals, dropped=dropped)


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
    reason = too_small(samples)
    if reason:
        return Discovery([], [], (f"nothing was looked for in {reason}",), 0)
    running = running or Running()
    early = early_features(scan, table, running) if early is None else early
    notes: list[str] = []
    views = view_scores(ViewInput(scan, early, samples, notes, neurons, running.progress))
    first = search(views, early.values, samples)
    gain = needed_gain(first.looked_at, len(table))
    proposals = told_apart(first.proposals, early.values, samples, gain)
    clear = [p for p in proposals if not p.dropped]
    confirmed = list(zip(clear, confirm([p.candidate for p in clear], early.values, samples), strict=True))
    dropped = [*(p for p in proposals if p.dropped), *first.twins]
    looked_at = first.looked_at
    at = next((k for k, (_, h) in enumerate(confirmed) if not h.failure), None)
    if at is not None:
        second = search_beside(confirmed[at], scan, early, samples, len(proposals) + 1)
        confirmed[at + 1 :] = second.merged(confirmed[at + 1 :], confirmed[at][1].carriers, samples.labels)
        dropped += second.dropped
        looked_at += second.looked_at
    ids = scan.samples["sample_id"].to_numpy()
    tested = list(_with_concepts(confirmed, samples, ids, looked_at))
    good = sorted((p for p in tested if not p.dropped), key=lambda p: -p.strength)
    surplus = [replace(p, dropped=f"{most} stronger ones are proposed") for p in good[most:]]
    dropped = [*surplus, *(p for p in tested if p.dropped), *dropped]
    names = numbered([*good[:most], *dropped])
    return Discovery(good[:most], dropped, tuple(notes), looked_at).renamed(names)


def _sample_info(scan: Scan, seed: int) -> SampleInfo:
    labels = scan.samples["label"].to_numpy().astype(np.int64)
    classes = np.unique(labels)
    # Of two classes, what speaks for one speaks against the other.
    sides = classes[1:] if len(classes) == 2 else classes
    margins = {int(c): scan.margin(int(c)).astype(np.float64) for c in sides}
    return SampleInfo(labels, scan.samples["group"].to_numpy(), margins, seed)


def _with_concepts(
    confirmed: Sequence[Confirmed], samples: SampleInfo, ids: Array, looked_at: int
) -> Iterator[Proposal]:
    """Each proposal with its concept, or with the reason why it makes none."""
    accepted: list[tuple[str, HeldOut]] = []
    strata = samples.labels
    for proposal, result in confirmed:
        why = result.failure or _repeated(proposal, result, accepted, samples, strata)
        if why:
            yield replace(proposal, dropped=why)
            continue
        strata = np.unique(np.stack([strata, result.carriers]), axis=1, return_inverse=True)[1].ravel()
        accepted.append((proposal.name, result))
        concept = Concept(
            proposal.name, result.values, "discovered", ids, _description(proposal), selected_from=looked_at
        )
        yield replace(proposal, concept=concept)


def _repeated(
    proposal: Proposal,
    result: HeldOut,
    accepted: Sequence[tuple[str, HeldOut]],
    samples: SampleInfo,
    strata: Ints,
) -> str:
    """Why a proposal says nothing beyond accepted ones, in the samples that it was read in; else empty."""
    labels, known = samples.labels, np.isfinite(result.scores)
    for name, one in accepted:
        both = known & np.isfinite(one.scores)
        if agreement(one.scores[both], result.scores[both], labels[both]) >= SAME_DIRECTION:
            return f"is the same direction as {name}"
    for name, one in accepted:
        both = known & np.isfinite(one.scores)
        if lies_within(result.carriers[both], one.carriers[both], labels[both]):
            return f"is a part of {name}: hardly any other sample carries it"
    margin = samples.margins[proposal.label][known]
    _, t = logit_gap(margin, result.carriers[known], strata[known], samples.groups[known])
    if accepted and t < SMALLEST_T:
        names = ", ".join(name for name, _ in accepted)
        return f"is explained by {names}: beside it, the logits do not differ (t {t:.1f})"
    return ""


def _description(proposal: Proposal) -> str:
    shares = ", ".join(f"{share:.0%} of class {label}" for label, share in proposal.shares.items())
    others = len(proposal.views) - 1
    more = f" and {others} other view{'s' if others > 1 else ''}" if others else ""
    return f"found by {proposal.views[0]}{more}; carriers: {shares}"
