"""What the strongest proposal hides: a second search among the samples that are free of it.

Of two shortcuts at once, nearly all samples of a class carry both. Components then show "this or that", and
where one covers the other the second cannot be seen in carriers of the first at all. Among the samples that
are free of the first one the second stands alone. What is found there is looked for in all samples; where it
cannot be told in carriers of the first one, its values are those of the free samples alone. Among the
carriers nothing is searched anew: groups of them may be kinds of the first one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shortcutscope.discover.candidates import SampleInfo, ShortcutCandidate, agreement
from shortcutscope.discover.confirm import HeldOut, confirm
from shortcutscope.discover.early import EarlyFeatures
from shortcutscope.discover.proposal import Proposal
from shortcutscope.discover.refine import refine
from shortcutscope.discover.search import doubt, needed_gain, search, too_small
from shortcutscope.discover.views.filters import input_components
from shortcutscope.probes.crossfit import cross_fitted_scores
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Bools, Floats, Ints

#: Correlation, within class, from which a weaker proposal shares something with a stronger one.
SHARED = 0.2
#: Agreement, within class, of the groups in all samples with those of the free ones, from which they are the
#: same groups.
SAME_GROUPS = 0.8
#: Separation of two groups among the free samples. There what divides the images by nature is not blurred by
#: the first one and came to 4.5, and planted second ones, but for one (4.4), to 4.8 and more.
CLEAR_AMONG_FREE = 4.75

Confirmed = tuple[Proposal, HeldOut]


@dataclass(frozen=True, eq=False)
class Beside:
    """What was found among the samples that are free of the strongest proposal.

    Attributes
    ----------
    everywhere
        Told in all samples.
    free
        Told in the free samples alone.
    dropped
        With the reason; twins, too.
    looked_at
        Scores, times classes.
    """

    everywhere: list[Confirmed]
    free: list[Confirmed]
    dropped: list[Proposal]
    looked_at: int

    def merged(self, others: Sequence[Confirmed], carriers: Bools, labels: Ints) -> list[Confirmed]:
        """With the first search's other proposals, in the order in which they stand for each other.

        What stands alone is purer than what the first search made of the same. What is known of all samples
        says more than what is known of the free ones, unless it is mixed with the strongest one's `carriers`.
        """
        mixed = [agreement(h.carriers, carriers, labels) >= SHARED for _, h in others]
        pure = [c for c, is_mixed in zip(others, mixed, strict=True) if not is_mixed]
        rest = [c for c, is_mixed in zip(others, mixed, strict=True) if is_mixed]
        return [*self.everywhere, *pure, *self.free, *rest]


def search_beside(
    strongest: Confirmed, scan: Scan, early: EarlyFeatures, samples: SampleInfo, first_number: int
) -> Beside:
    """Search the samples that are surely free of the strongest proposal.

    The views are the components of the input and the first layer, for which nothing is read again.

    Parameters
    ----------
    strongest
        The proposal, and how other patients' samples tell it.
    scan, early, samples
        Of all samples.
    first_number
        Of the first proposal's name.
    """
    first, held_out = strongest
    rows = np.flatnonzero(held_out.values == 0)
    free = samples.take(rows)
    if too_small(free):
        return Beside([], [], [], 0)
    views = _named(input_components(scan, early.take(rows), free), first.name)
    result = search(views, early.values[rows], free, first_number, CLEAR_AMONG_FREE)
    n, values = len(samples.labels), early.values
    clear = [p for p in result.proposals if not p.dropped]
    gain = needed_gain(result.looked_at, n)
    wholes = [_everywhere(p, rows, held_out.carriers, values, samples, gain) for p in clear]
    everywhere = [replace(p, candidate=whole) for p, whole in zip(clear, wholes, strict=True) if whole]
    alone = [p for p, whole in zip(clear, wholes, strict=True) if not whole]
    read_everywhere = confirm([p.candidate for p in everywhere], values, samples)
    read_alone = confirm([p.candidate for p in alone], values[rows], free)
    dropped = [*(p for p in result.proposals if p.dropped), *result.twins]
    return Beside(
        list(zip(everywhere, read_everywhere, strict=True)),
        [
            (_taught(p, rows, values, samples), _of_all(h, rows, n))
            for p, h in zip(alone, read_alone, strict=True)
        ],
        [replace(p, candidate=_spread(p.candidate, rows, n)) for p in dropped],
        result.looked_at,
    )


def told_apart(
    proposals: Sequence[Proposal], early: Floats, samples: SampleInfo, gain: float
) -> list[Proposal]:
    """Proposals less what stronger ones explain of them, where two clear groups are left without it."""
    told: list[Proposal] = []
    for proposal in proposals:
        stronger = [] if proposal.dropped else [p for p in told if not p.dropped]
        shared = [p for p in stronger if agreement(p.scores, proposal.scores, samples.labels) >= SHARED]
        if shared:
            (own,) = refine([proposal.candidate], early, samples, beside=[p.seeds for p in shared])
            if own is not None and not doubt(own, gain):
                proposal = replace(proposal, candidate=own)
        told.append(proposal)
    return told


def _named(views: Iterator[tuple[str, Floats]], name: str) -> Iterator[tuple[str, Floats]]:
    for view, scores in views:
        yield f"{view}, of samples without {name}", scores


def _everywhere(
    proposal: Proposal, rows: Ints, carriers: Bools, early: Floats, samples: SampleInfo, gain: float
) -> ShortcutCandidate | None:
    """The groups of some samples looked for in all; None where they are not clear, or not the same.

    That all carriers of the strongest one, or none, are in the upper group is no answer: there the score
    shows the strongest one.
    """
    members = _filled(proposal.seeds, rows, len(early))[:, None]
    (whole,) = refine([proposal.candidate], early, samples, beside=[carriers], members=members)
    if whole is None or doubt(whole, gain) or agreement(whole.carriers, carriers, samples.labels) >= SHARED:
        return None
    same = agreement(whole.carriers[rows], proposal.seeds, samples.labels[rows])
    return whole if same >= SAME_GROUPS else None


def _taught(proposal: Proposal, rows: Ints, early: Floats, samples: SampleInfo) -> Proposal:
    """A proposal of some samples with scores of all, by a probe that learns its groups in these."""
    members = _filled(proposal.seeds, rows, len(early))
    scores = cross_fitted_scores(early, members, samples.labels, samples.folds)
    return replace(proposal, candidate=replace(proposal.candidate, scores=scores, carriers=members == 1))


def _spread(candidate: ShortcutCandidate, rows: Ints, n: int) -> ShortcutCandidate:
    """A candidate of some samples, unknown in the others."""
    scores, carriers = _filled(candidate.scores, rows, n), _filled(candidate.carriers, rows, n) == 1
    return replace(candidate, scores=scores, carriers=carriers)


def _of_all(held_out: HeldOut, rows: Ints, n: int) -> HeldOut:
    """What was read of some samples, unknown in the others."""
    scores, values = _filled(held_out.scores, rows, n), _filled(held_out.values, rows, n)
    return HeldOut(scores, _filled(held_out.carriers, rows, n) == 1, values, held_out.failure)


def _filled(values: Floats | Bools, rows: Ints, n: int) -> Floats:
    """(n,) NaN but for some samples."""
    filled = np.full(n, np.nan)
    filled[rows] = values
    return filled
