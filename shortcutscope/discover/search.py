"""One search: scores of views become candidates, are refined, and are judged anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shortcutscope.discover.candidates import (
    CLEAR_SEPARATION,
    CONFIRMED_T,
    SMALLEST_GAIN,
    SampleInfo,
    ShortcutCandidate,
    distinct,
    judge,
)
from shortcutscope.discover.proposal import Proposal, proposal_name
from shortcutscope.discover.refine import refine
from shortcutscope.types import Floats

#: Odds for two groups, all samples together, for every score that was looked at. More than the smallest gain
#: only where samples are few.
SMALLEST_ODDS = 100
#: Smaller data hold no groups that could be told from chance.
FEWEST_SAMPLES, FEWEST_PATIENTS = 40, 8


@dataclass(frozen=True, eq=False)
class SearchOutcome:
    """What came of the views' scores.

    Attributes
    ----------
    proposals
        By strength; those that are no shortcut's score have their reason in `dropped`.
    twins
        Candidates that name the same samples as one of them.
    looked_at
        Scores, times classes.
    """

    proposals: list[Proposal]
    twins: list[Proposal]
    looked_at: int


def search(
    views: Iterable[tuple[str, Floats]],
    early: Floats,
    samples: SampleInfo,
    first_number: int = 1,
    separation: float = CLEAR_SEPARATION,
) -> SearchOutcome:
    """Judge, refine and judge anew what the views show.

    Parameters
    ----------
    views
        Name and scores (N, K) of each.
    early
        (N, F) early features.
    samples
        Labels, patients and margins.
    first_number
        Of the first proposal's name.
    separation
        That the two groups of a proposal must have.
    """
    candidates: list[ShortcutCandidate] = []
    looked_at = 0
    for view, scores in views:
        looked_at += scores.shape[1] * len(samples.margins)
        for column in scores.T:
            candidates += judge(view, column, samples)
    proposals, twins = _refined(candidates, early, samples, first_number)
    gain = needed_gain(looked_at, len(early))
    judged = [p if p.dropped else replace(p, dropped=doubt(p.candidate, gain, separation)) for p in proposals]
    return SearchOutcome(judged, twins, looked_at)


def needed_gain(looked_at: int, n: int) -> float:
    """Evidence of two groups, in nats a sample, that the best of so many scores of `n` samples must have."""
    return max(SMALLEST_GAIN, float(np.log(SMALLEST_ODDS * max(looked_at, 1))) / n)


def too_small(samples: SampleInfo) -> str:
    """What is too small for anything to be found; empty where something can be."""
    n, patients = len(samples.labels), len(np.unique(samples.groups))
    classes = len(np.unique(samples.labels))
    if n >= FEWEST_SAMPLES and patients >= FEWEST_PATIENTS and classes > 1:
        return ""
    return (
        f"{n} samples of {patients} patients and {classes} classes; at least "
        f"{FEWEST_SAMPLES} samples of {FEWEST_PATIENTS} patients and 2 classes are needed"
    )


def _refined(
    candidates: Sequence[ShortcutCandidate], early: Floats, samples: SampleInfo, first_number: int
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
    named = [replace(p, name=proposal_name(k)) for k, (p, _) in enumerate(together, first_number)]
    twins = [
        Proposal("", weak, (weak.view,), dropped=f"names the same samples as {p.name}")
        for p, (_, members) in zip(named, together, strict=True)
        for weak in members[1:]
    ]
    return named, twins


def _proposal(
    candidate: ShortcutCandidate, members: Sequence[ShortcutCandidate], dropped: str = ""
) -> Proposal:
    return Proposal("", candidate, tuple(dict.fromkeys(c.view for c in members)), dropped=dropped)


def doubt(candidate: ShortcutCandidate, gain: float, separation: float = CLEAR_SEPARATION) -> str:
    """Why a candidate is no shortcut's score; empty where nothing speaks against it."""
    if candidate.phi <= 0:
        return "its carriers do not go with the class that they are taken for"
    if candidate.separation < separation:
        return (
            f"its two groups run into each other (separation {candidate.separation:.2f}, needed "
            f"{separation:g}): its scores differ from one sample to the next by degrees, as features "
            "of the task do"
        )
    if candidate.gain < gain:
        return f"evidence of two groups {candidate.gain:.2f}, needed {gain:.2f}"
    if candidate.t < CONFIRMED_T:
        return f"the logits of its two groups do not differ (t {candidate.t:.1f}, needed {CONFIRMED_T:g})"
    return ""
