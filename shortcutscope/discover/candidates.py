"""Is a score a shortcut's? Two groups, which the model treats differently, and which go with the label.

Any direction in the samples is a candidate; nearly all of them are features of the task, which differ from
one sample to the next by degrees. A shortcut is there or not: within every class its score has the same two
groups, only in other shares. Unbiased models, too, have features that are encoded, used and associated with
the label; that there are two groups is what tells a shortcut from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import stats
from skimage.filters import threshold_otsu

from shortcutscope.probes.alive import ROUNDING
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.probes.mixture import Mixture, fit_mixture
from shortcutscope.types import Array, Bools, Floats, Ints

#: Scores that move the logit less surely than this are no candidates, unless they show two clear groups.
SMALLEST_T = 3.0
#: What the logits of two clear groups must differ by, over its error. Less than `SMALLEST_T`, since few
#: contradict a strong shortcut: of 500 images, with a tag on 95 % of one class and 5 % of the other, the tag
#: itself reaches 1.6 to 4.4. Use is tested more sharply by the audit.
CONFIRMED_T = 2.0
#: Separation of the two groups, in standard deviations, from which they are clear: of two equal groups that
#: far apart one sample in 44 lies on the wrong side. In unbiased models features of the task, and what
#: divides their images by nature, came to at most 3.9, and planted shortcuts to 4.2 and more, in models that
#: the benchmark does not use.
CLEAR_SEPARATION = 4.0
#: Evidence of two groups, in nats a sample, that clear ones have. Features of the task reach at most .06 in
#: unbiased models, and planted shortcuts that were found had .10 and more, in such models.
SMALLEST_GAIN = 0.08
#: Scores whose correlation with the logit is below this many standard errors are not looked at further.
SCREEN_T = 2.0
#: From this separation on two groups are apart; more does not count.
LARGEST_SEPARATION = 6.0
#: Fewest samples of a class on one side to tell the logits of the two apart.
FEWEST = 2
#: Fewest samples against the association, all classes together.
FEWEST_CONFLICTING = 8
#: Of the samples that a set would have outside another one by chance, the share that a part of it has at
#: most, and how many there must be for that to mean anything.
PART, EXPECTED_OUTSIDE = 0.25, 5.0
#: Samples that the two groups are fitted on; all are assigned.
MOST_FITTED = 10_000


@dataclass(frozen=True, eq=False)
class ShortcutCandidate:
    """A score that may tell the carriers of a shortcut from the rest.

    Attributes
    ----------
    view
        Where it comes from, such as ``"filters: 24 components, all classes"``. What stands before the colon
        is its family.
    label
        The class that the carriers are taken for more.
    scores
        (N,) larger for carriers.
    carriers
        (N,) the samples of the upper group.
    separation
        Distance of the two groups in standard deviations (Ashman's D).
    bimodality
        Variance between the groups over the total variance, within class.
    gap
        By how much the carriers' logits lie nearer to `label`, within class, in standard deviations.
    t
        `gap` over its standard error, counting patients.
    phi
        Correlation of carrying with belonging to `label`.
    shares
        Share of carriers in each class.
    gain
        Evidence that there are two groups, the same in every class, rather than one group a class: log
        likelihood a sample, in nats.
    """

    view: str
    label: int
    scores: Floats
    carriers: Bools
    separation: float
    bimodality: float
    gap: float
    t: float
    phi: float
    shares: Mapping[int, float]
    gain: float

    @property
    def strength(self) -> float:
        """Evidence of two groups x their separation x logit gap x association; 0 where one is missing."""
        apart = min(self.separation, LARGEST_SEPARATION)
        return max(self.gain, 0) * apart * max(self.gap, 0) * max(self.phi, 0)

    @property
    def clear(self) -> bool:
        """Whether its two groups are apart already."""
        return self.separation >= CLEAR_SEPARATION and self.gain >= SMALLEST_GAIN

    def conflicting(self, labels: Ints) -> Bools:
        """(N,) the samples that go against the association: the rare side of every class."""
        return np.asarray(self.carriers != (labels == self.label))


@dataclass(frozen=True, eq=False)
class SampleInfo:
    """What every score is judged against.

    Attributes
    ----------
    labels, groups
        (N,) class and patient of each sample.
    margins
        Class to (N,) by how much the model prefers it. Of two classes one is enough: what speaks against it
        speaks for the other.
    seed
        Of the draw of samples that groups are fitted on, and of the folds.
    """

    labels: Ints
    groups: Array
    margins: Mapping[int, Floats]
    seed: int = 0

    @cached_property
    def folds(self) -> Ints:
        """(N,) folds of whole patients, the same for all that is read off out of fold."""
        return make_folds(self.labels, self.groups, seed=self.seed)

    def take(self, rows: Ints) -> SampleInfo:
        """Of some samples and the classes that they have, with folds of their own."""
        labels = self.labels[rows]
        margins = {label: margin[rows] for label, margin in self.margins.items() if label in labels}
        return SampleInfo(labels, self.groups[rows], margins, self.seed)


def judge(view: str, scores: npt.ArrayLike, samples: SampleInfo) -> list[ShortcutCandidate]:
    """Candidates of a score, one for each class whose logit it moves; none for most scores.

    The score's sign does not matter: it is turned so that it grows with the class.
    """
    values = np.asarray(scores, np.float64)
    if not np.isfinite(values).all() or np.ptp(values) <= ROUNDING * np.abs(values).max(initial=0.0):
        return []
    candidates = []
    codes = np.unique(samples.labels, return_inverse=True)[1]
    for label, margin in samples.margins.items():
        member = samples.labels == label
        upward = values[member].mean() >= values[~member].mean()
        turned = (values - values.mean()) / values.std() * (1 if upward else -1)
        if _correlation_t(turned, margin, samples.labels) < SCREEN_T:
            continue
        mixture = two_groups(turned, codes, samples.seed)
        candidate = candidate_of(view, label, turned, mixture, samples)
        if candidate is not None and candidate.t >= (CONFIRMED_T if candidate.clear else SMALLEST_T):
            candidates.append(candidate)
    return candidates


def family(view: str) -> str:
    """The kind of a view: what stands before the colon of its name."""
    return view.partition(":")[0]


def distinct(
    candidates: Sequence[ShortcutCandidate], labels: Ints, same: float = 0.5
) -> tuple[list[ShortcutCandidate], list[tuple[ShortcutCandidate, ShortcutCandidate]]]:
    """The strongest of those that name the same samples, in descending strength.

    Parameters
    ----------
    candidates
        In any order.
    labels
        (N,)
    same
        Agreement of the carriers from which two are the same.

    Returns
    -------
    kept : list of ShortcutCandidate
    merged : list of (Candidate, Candidate)
        A weaker one and the stronger that stands for it.
    """
    strongest: list[ShortcutCandidate] = []
    merged: list[tuple[ShortcutCandidate, ShortcutCandidate]] = []
    for item in sorted(candidates, key=lambda c: -c.strength):
        twin = next((k for k in strongest if agreement(k.carriers, item.carriers, labels) >= same), None)
        if twin is None:
            strongest.append(item)
        else:
            merged.append((item, twin))
    return strongest, merged


def agreement(a: Array, b: Array, labels: Ints) -> float:
    """Absolute correlation of two scores, or sets of samples, within class; 0 where one does not vary.

    Two sets that both follow the label have much in common because of it; what is asked is whether they make
    the same exceptions.
    """
    return abs(correlation_within(a, b, labels))


def correlation_within(a: Array, b: Array, labels: Ints) -> float:
    """Correlation of two scores, or sets of samples, within class; 0 where one does not vary."""
    x, y = _centred(a, labels), _centred(b, labels)
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size else 0.0


def lies_within(members: Bools, others: Bools, labels: Ints) -> bool:
    """Whether a set of samples is a part of another: it has hardly any of those that are not in the other.

    How many it would have by chance, of as many members in each class, says whether that means anything: in
    a class nearly all of which is in the other set, every set is.
    """
    expected = sum(members[labels == k].sum() * (~others[labels == k]).mean() for k in np.unique(labels))
    outside = np.count_nonzero(members & ~others)
    return bool(expected >= EXPECTED_OUTSIDE and outside <= PART * expected)


def two_groups(scores: Floats, codes: Ints, seed: int = 0) -> Mixture:
    """The likeliest two groups, started from Otsu's threshold over all samples and within each class."""
    rows = fitted_rows(len(scores), seed)
    scores, codes = scores[rows], codes[rows]
    parts = [scores, *(scores[codes == code] for code in np.unique(codes))]
    fits = []
    for part in parts:
        if np.ptp(part) == 0:
            continue
        above = scores > threshold_otsu(part)  # type: ignore[no-untyped-call]
        if above.any() and not above.all():
            start = float(scores[~above].mean()), float(scores[above].mean())
            fits.append(fit_mixture(scores, codes, start))
    return max(fits, key=lambda mixture: _log_likelihood(mixture, scores, codes))


def fitted_rows(n: int, seed: int) -> Ints:
    """The samples, of n, that two groups are fitted on: all, or as many as are enough."""
    if n <= MOST_FITTED:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, MOST_FITTED, replace=False))


def candidate_of(
    view: str, label: int, scores: Floats, mixture: Mixture, samples: SampleInfo
) -> ShortcutCandidate | None:
    """A score with its two groups, judged; None where too few samples are against the association."""
    classes, codes = np.unique(samples.labels, return_inverse=True)
    carriers = mixture.posterior(scores) > 0.5
    member = samples.labels == label
    conflicting = np.count_nonzero(carriers != member)
    if min(conflicting, len(scores) - conflicting) < FEWEST_CONFLICTING or not 0 < carriers.mean() < 1:
        return None
    gap, t = logit_gap(samples.margins[label], carriers, samples.labels, samples.groups)
    return ShortcutCandidate(
        view,
        label,
        scores,
        carriers,
        mixture.separation,
        bimodality(scores, carriers, samples.labels),
        gap,
        t,
        float(np.corrcoef(carriers, member)[0, 1]),
        {int(c): float(carriers[samples.labels == c].mean()) for c in classes},
        likelihood_gain(mixture, scores, codes),
    )


def bimodality(scores: Floats, side: Bools, labels: Ints) -> float:
    """Variance between two sides over the total variance (Otsu 1979), both within class, in 0..1."""
    between = total = 0.0
    for label in np.unique(labels):
        inside = labels == label
        values, upper = scores[inside], side[inside]
        total += len(values) * float(values.var())
        if upper.any() and not upper.all():
            weight = len(values) * float(upper.mean() * (1 - upper.mean()))
            between += weight * float(values[upper].mean() - values[~upper].mean()) ** 2
    return between / total if total else 0.0


def logit_gap(margin: Floats, side: Bools, labels: Ints, groups: Array) -> tuple[float, float]:
    """Within class, by how much a side's margin is larger, in standard deviations, and that over its error.

    Parameters
    ----------
    margin
        (N,)
    side, labels, groups
        (N,); each patient counts once on each side of a class.
    """
    gaps, weights = [], []
    for label in np.unique(labels):
        inside = labels == label
        values, upper = margin[inside], side[inside]
        spread = float(values.std())
        if min(upper.sum(), (~upper).sum()) < FEWEST or spread == 0:
            continue
        few, many = (len(np.unique(groups[inside][part])) for part in (upper, ~upper))
        gaps.append(float(values[upper].mean() - values[~upper].mean()) / spread)
        weights.append(few * many / (few + many))
    if not gaps:
        return 0.0, 0.0
    gap = float(np.average(gaps, weights=weights))
    return gap, gap * float(np.sqrt(sum(weights)))


def _correlation_t(scores: Floats, margin: Floats, labels: Ints) -> float:
    return correlation_within(scores, margin, labels) * float(np.sqrt(len(scores)))


def _centred(values: Array, labels: Ints) -> Floats:
    """Values less the mean of their class."""
    centred = values.astype(np.float64)
    for label in np.unique(labels):
        inside = labels == label
        centred[inside] -= centred[inside].mean()
    return centred


def _log_likelihood(mixture: Mixture, scores: Floats, codes: Ints) -> float:
    share = np.clip(mixture.shares[codes], 1e-6, 1 - 1e-6)
    log = np.asarray(stats.norm.logpdf(scores[:, None], mixture.means, mixture.spreads))
    return float(np.logaddexp(log[:, 0] + np.log1p(-share), log[:, 1] + np.log(share)).sum())


def likelihood_gain(mixture: Mixture, scores: Floats, codes: Ints) -> float:
    """Log likelihood a sample gains, in nats, over classes that are each one group.

    Against one Gaussian a class, with means and spreads of their own: a feature of the task separates the
    classes, and two groups that are no more than the classes gain nothing.
    """
    classes = float(np.mean(_class_log_density(scores, codes)))
    return _log_likelihood(mixture, scores, codes) / len(scores) - classes


def _class_log_density(scores: Floats, codes: Ints) -> Floats:
    counts = np.bincount(codes)
    means = np.bincount(codes, scores) / counts
    spreads = np.sqrt(np.bincount(codes, np.square(scores - means[codes])) / counts)
    return np.asarray(stats.norm.logpdf(scores, means[codes], np.maximum(spreads, 1e-12)[codes]))
