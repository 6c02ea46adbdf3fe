"""What a candidate's two groups have in common, learnt and looked for again until it is clear.

A view shows a shortcut as well as it happens to: a component is mixed with anatomy, a cluster holds half of
the carriers. A probe of the early features learns the two groups of such a score on all folds of patients
but one, and scores the samples of that one. What the members truly share tells better than what they were
found by, so the groups of the new scores are clearer, and are learnt again. A shortcut, which is there or
not, comes apart into two groups within a few rounds; a feature of the task, which differs by degrees, stays
what it is. Several views of a part of the same carriers end at the same groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shortcutscope.discover.candidates import (
    SampleInfo,
    ShortcutCandidate,
    candidate_of,
    fitted_rows,
    two_groups,
)
from shortcutscope.probes.alive import ROUNDING
from shortcutscope.probes.crossfit import cross_fitted_scores
from shortcutscope.probes.mixture import Mixture, fit_mixture
from shortcutscope.types import Array, Bools, Floats, Ints

#: How often groups are learnt and looked for again. By the fourth round planted shortcuts stand apart; with
#: more rounds features of the task, too, move towards two groups.
ROUNDS = 4
#: Groups of fewer samples than this are not learnt.
FEWEST = 2


def refine(
    candidates: Sequence[ShortcutCandidate],
    early: Array,
    samples: SampleInfo,
    rounds: int = ROUNDS,
    *,
    beside: Sequence[Bools] = (),
    members: Floats | None = None,
) -> list[ShortcutCandidate | None]:
    """Candidates by scores of other patients' samples, None where two groups are lost on the way.

    Parameters
    ----------
    candidates
        As the views show them.
    early
        (N, F) early features.
    samples
        Labels, patients and margins.
    rounds
        How often groups are learnt and looked for again, 1 or more.
    beside
        Carriers (N,) of what is known already: its part is taken out of all scores before two groups are
        looked for, so that "this or that" becomes "that".
    members
        (N, K) the groups that each candidate starts from, 1, 0, or NaN where it cannot be said; by default
        those of its scores.

    Returns
    -------
    list of ShortcutCandidate or None
        In the order of `candidates`, of the same view and class. No score looks at its own sample's group,
        and all groups are judged anew. Whether the logits of the two differ is left to the caller.
    """
    if not candidates:
        return []
    codes = np.unique(samples.labels, return_inverse=True)[1]
    if members is None:
        scores = _without(np.stack([c.scores for c in candidates], axis=1), beside, samples.labels)
        groups = [two_groups(column, codes, samples.seed).posterior(column) for column in scores.T]
        members = np.stack(groups, axis=1)
    else:
        members = members.copy()
    rows = fitted_rows(len(early), samples.seed)
    for _ in range(rounds):
        told = cross_fitted_scores(early, members, samples.labels, samples.folds)
        scores = _standard(_without(told, beside, samples.labels))
        pairs = zip(scores[rows].T, members[rows].T, strict=True)
        mixtures = [_regrouped(s, m, codes[rows]) for s, m in pairs]
        for k, mixture in enumerate(mixtures):
            if mixture is not None:
                members[:, k] = mixture.posterior(scores[:, k])
    return [
        None if mixture is None else candidate_of(candidate.view, candidate.label, column, mixture, samples)
        for candidate, column, mixture in zip(candidates, scores.T, mixtures, strict=True)
    ]


def _without(scores: Floats, beside: Sequence[Bools], labels: Ints) -> Floats:
    """Scores less what carriers of others explain of them within class."""
    if not beside:
        return scores
    carriers = np.stack([np.asarray(b, np.float64) for b in beside], axis=1)
    inside = np.concatenate([carriers, scores], axis=1)
    for label in np.unique(labels):
        inside[labels == label] -= inside[labels == label].mean(0)
    k = carriers.shape[1]
    slopes = np.linalg.lstsq(inside[:, :k], inside[:, k:], rcond=None)[0]
    return np.asarray(scores - (carriers - carriers.mean(0)) @ slopes)


def _standard(scores: Floats) -> Floats:
    spread = scores.std(0)
    return np.asarray((scores - scores.mean(0)) / np.where(spread > ROUNDING, spread, np.inf))


def _regrouped(scores: Floats, members: Floats, codes: Ints) -> Mixture | None:
    """Two groups of new scores, started from those that were learnt; None where there are none."""
    known = np.isfinite(members)
    sure = members[known]
    if not FEWEST <= sure.sum() <= len(sure) - FEWEST:
        return None
    low, high = (float(np.average(scores[known], weights=w)) for w in (1 - sure, sure))
    return fit_mixture(scores, codes, (low, high)) if low < high else None
