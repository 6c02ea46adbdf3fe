"""How marking goes: precision with its interval, drift between rounds, and whether to go on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from shortcutscope.types import Bools, Floats, Ints

#: Parts of the top k by rank, within which answers stand for the samples that were not asked about.
STRATA = 4
DRAWS = 4000
#: Shortest head of the ranking whose changes count.
HEAD = 10
STABLE_OVERLAP, STABLE_CORRELATION = 0.9, 0.95
#: Share of carriers among the latest answers by rank from which more of them are surely left.
FEW_LEFT = 0.2
#: AUROC of held-out marks below which the ranking says nothing, and below which carriers may be missed.
WEAK, DOUBTFUL = 0.65, 0.85


@dataclass(frozen=True)
class Precision:
    """Share of carriers among the first k, and what it rests on.

    Attributes
    ----------
    k, value, low, high
        Share and its 95 % interval.
    n_marked, n_answers
        Marked samples among the k, and those of them that were asked for (and so tell of the unmarked ones).
    """

    k: int
    value: float
    low: float
    high: float
    n_marked: int
    n_answers: int

    def __str__(self) -> str:
        return (
            f"precision at {self.k}: {self.value:.2f} ({self.low:.2f} to {self.high:.2f}; "
            f"{self.n_marked} marked, {self.n_answers} of them asked for)"
        )


def precision_at(k: int, order: Ints, marks: Floats, answered: Bools, *, seed: int = 0) -> Precision:
    """Precision of the first k of a ranking, with an interval from the marks among them.

    Marked samples are counted as they are. What the unmarked ones are is drawn from Jeffreys' posterior of
    the answers in their part of the ranking (Brown, Cai & DasGupta 2001): four parts, since answers near the
    top say little of the end. Marks that one began with were chosen for being carriers, and tell nothing of
    others. Of a part without answers nothing is known: the interval takes in none and all of it.

    Parameters
    ----------
    k
        Length of the list.
    order
        Rows of the samples, best first.
    marks
        ``(N,)`` 1, 0, NaN; scores of marked samples must be held out.
    answered
        ``(N,)`` the marks that answer a query.
    seed
        Of the draws.
    """
    generator = np.random.default_rng(seed)
    top = order[:k]
    carriers, open_ended = np.full(DRAWS, float(np.nansum(marks[top]))), 0
    for part in np.array_split(top, min(STRATA, len(top))):
        unmarked = int(np.isnan(marks[part]).sum())
        hits = marks[part][answered[part] & ~np.isnan(marks[part])]
        if not len(hits):
            open_ended += unmarked
            continue
        share = generator.beta(0.5 + (hits == 1).sum(), 0.5 + (hits == 0).sum(), DRAWS)
        carriers += generator.binomial(unmarked, share)
    low, value, high = np.quantile(carriers, [0.025, 0.5, 0.975]) + np.array([0, 0.5, 1]) * open_ended
    low, value, high = low / len(top), value / len(top), high / len(top)
    marked = ~np.isnan(marks[top])
    n_marked, n_answers = int(marked.sum()), int((marked & answered[top]).sum())
    return Precision(len(top), float(value), float(low), float(high), n_marked, n_answers)


@dataclass(frozen=True)
class Drift:
    """How a round of marks changed the ranking.

    Attributes
    ----------
    round
        The later of the two.
    correlation
        Spearman's rank correlation of the scores, in the classes that are learnt in: where the artifact is
        common, the order among many carriers says nothing.
    k, overlap
        Share of the first k that were among the first k before.
    """

    round: int
    correlation: float
    k: int
    overlap: float

    def __str__(self) -> str:
        return (
            f"round {self.round}: rank correlation {self.correlation:.2f}, "
            f"{self.overlap:.0%} of the first {self.k} kept"
        )


def drift(before: Floats, after: Floats, number: int, k: int) -> Drift:
    """Compare the scores ``(N,)`` of two rounds, and their first k."""
    k = min(max(k, HEAD), len(after))
    first, second = (set(np.argsort(-scores, kind="stable")[:k].tolist()) for scores in (before, after))
    correlation = float(spearmanr(before, after).statistic)
    return Drift(number, correlation, k, len(first & second) / k)


@dataclass(frozen=True)
class Advice:
    """Whether to go on marking, in words, with the figures behind it.

    Attributes
    ----------
    stop
        True where further marks are not expected to change the ranking.
    text
        What to do and why.
    recovery
        AUROC of held-out marked carriers against the others of their class.
    found
        Share of carriers among the latest answers to queries by rank; NaN without such answers.
    drift
        Of the latest round.
    """

    stop: bool
    text: str
    recovery: float
    found: float
    drift: Drift | None

    def __str__(self) -> str:
        return self.text


def advise(recovery: float, latest: Floats, drifted: Drift | None) -> Advice:
    """Say whether to go on.

    Parameters
    ----------
    recovery
        See `Advice`.
    latest
        Answers (1, 0) to the latest queries by rank, all of them among the best of the unmarked samples.
    drifted
        Drift of the latest round; None before any.
    """
    share = float(latest.mean()) if len(latest) else float("nan")
    recovery_text = f"held-out marks are recovered with AUROC {recovery:.2f}"
    answers = f"{int(latest.sum())} of the last {len(latest)} best-ranked samples asked about carry it"
    stop = False
    if recovery < WEAK:
        text = (
            f"Look at the marks: {recovery_text}, so that the ranking says little. Mark samples in the class "
            "where the artifact is rare, give the images, or take other layers"
        )
    elif drifted is None or not len(latest):
        text = f"Go on: {recovery_text}, but no query by rank has been answered"
    elif share > FEW_LEFT:
        text = f"Go on: {answers}, so that more are left ({drifted})"
    elif drifted.overlap < STABLE_OVERLAP or drifted.correlation < STABLE_CORRELATION:
        text = f"Go on: the ranking still changes ({drifted}); {answers}"
    else:
        missed = "" if recovery >= DOUBTFUL else ": carriers may be left that these features do not tell"
        stop, text = True, f"Stop: {answers}, and the ranking stays ({drifted}); {recovery_text}{missed}"
    return Advice(stop, text, recovery, share, drifted)
