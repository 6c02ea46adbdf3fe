"""Can a candidate be told in samples that it was not made from?

A candidate was chosen, of many, on the samples that it is to be tested on. So what a sample carries is read
anew from other patients: a probe of the early features learns the two groups on all folds but one and says
what the samples of that one are. What cannot be told in this way was a peculiarity of the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shortcutscope.discover.candidates import (
    CONFIRMED_T,
    SampleInfo,
    ShortcutCandidate,
    logit_gap,
    two_groups,
)
from shortcutscope.probes.crossfit import cross_fitted_scores
from shortcutscope.probes.mixture import MIN_SEPARATION, confident
from shortcutscope.types import Array, Bools, Floats, Ints

#: Posterior probability from which a sample counts as a carrier or as free.
CONFIDENCE = 0.9
#: Fewest confident samples with it, and without it.
MIN_CARRIERS = 10


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A candidate as other patients' samples tell it.

    Attributes
    ----------
    scores
        (N,) out of fold, larger for carriers; NaN for samples in which it was not looked for.
    carriers
        (N,) the upper of their two groups.
    values
        (N,) 1, 0 or NaN where it cannot be said.
    failure
        Why the candidate is not confirmed; empty if it is.
    """

    scores: Floats
    carriers: Bools
    values: Floats
    failure: str = ""


def confirm(candidates: Sequence[ShortcutCandidate], early: Array, samples: SampleInfo) -> list[HeldOut]:
    """Read candidates off the early features of other patients' samples.

    Parameters
    ----------
    candidates
        To be confirmed.
    early
        (N, F) early features.
    samples
        Labels, patients and margins.
    """
    codes = np.unique(samples.labels, return_inverse=True)[1]
    targets = [_sides(candidate.scores, codes, samples) for candidate in candidates]
    failures = [_too_few(target) for target in targets]
    accepted = [target for target, failure in zip(targets, failures, strict=True) if not failure]
    if accepted:
        stacked = np.stack(accepted, axis=1)
        columns = iter(cross_fitted_scores(early, stacked, samples.labels, samples.folds).T)
    return [
        HeldOut(target, target == 1, target, f"even by its own scores {failure}")
        if failure
        else _judged_again(candidate, next(columns), codes, samples)
        for candidate, target, failure in zip(candidates, targets, failures, strict=True)
    ]


def _judged_again(candidate: ShortcutCandidate, scores: Floats, codes: Ints, samples: SampleInfo) -> HeldOut:
    mixture = two_groups(scores, codes, samples.seed)
    posterior = mixture.posterior(scores)
    values, carriers = confident(posterior, CONFIDENCE), posterior > 0.5
    _, t = logit_gap(samples.margins[candidate.label], carriers, samples.labels, samples.groups)
    failure = _too_few(values)
    if mixture.separation < MIN_SEPARATION:
        failure = f"they are one group (separation {mixture.separation:.2f}, needed {MIN_SEPARATION:g})"
    elif not failure and t < CONFIRMED_T:
        failure = f"the logits of the two groups do not differ (t {t:.1f}, needed {CONFIRMED_T:g})"
    return HeldOut(
        scores, carriers, values, f"read from other patients' samples, {failure}" if failure else ""
    )


def _sides(scores: Floats, codes: Ints, samples: SampleInfo) -> Floats:
    return confident(two_groups(scores, codes, samples.seed).posterior(scores), CONFIDENCE)


def _too_few(values: Floats) -> str:
    with_it, without = int((values == 1).sum()), int((values == 0).sum())
    if min(with_it, without) >= MIN_CARRIERS:
        return ""
    return (
        f"only {with_it} samples surely have it and {without} surely not; {MIN_CARRIERS} of each are needed"
    )
