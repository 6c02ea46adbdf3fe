"""Other concepts held fixed: what a concept does beyond those that it occurs with.

A bystander of the true shortcut is read from the network by the other's direction, and taking it out takes
the other out. So what concept and others share is taken off first, by partial regression (Frisch & Waugh
1933; Lovell 1963): what is left of a value is what class and others do not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shortcutscope.types import Array, Bools, Floats, Ints

#: Correlation within classes from which two concepts are taken to hang together.
SMALLEST_PHI = 0.10
#: And standard errors from 0 that it has to lie: with few samples, concepts correlate by chance.
BEYOND_CHANCE = 1.96
#: Share of the samples that know a concept which also have to know what is held fixed.
SMALLEST_KNOWN = 0.5
#: Share of a concept's variation within classes that must be its own, for anything to be said of it.
SMALLEST_OWN = 1e-6
#: Samples of each half on which the effect is measured; more only where one concept alone asks for them.
MOST_SAMPLES = 480


@dataclass(frozen=True, eq=False)
class Others:
    """The concepts that are held fixed while another one is examined, the most related first.

    Attributes
    ----------
    names
        K of them.
    values
        (N, K) 0, 1 or NaN.
    phi
        (K,) correlation with the concept within classes.
    differ
        (K,) samples of which they say otherwise than the concept (where phi is negative: the same).
    unknown
        Those that are related as well and known of too few samples to be held fixed.
    """

    names: tuple[str, ...]
    values: Floats
    phi: Floats
    differ: Ints
    unknown: tuple[str, ...] = ()

    @property
    def known(self) -> Bools:
        """(N,) samples of which all of them are known."""
        return np.isfinite(self.values).all(axis=1)

    def __len__(self) -> int:
        return len(self.names)


def related_concepts(concept: Floats, labels: Ints, candidates: Mapping[str, Floats]) -> Others:
    """Find the concepts that go with another one within classes.

    Parameters
    ----------
    concept
        (N,) 0, 1 or NaN.
    labels
        (N,)
    candidates
        Name to the values (N,) of a concept.

    Returns
    -------
    Others
        In the order of their correlation, whatever the order of the candidates. Left out as unknown are
        those with which fewer than half of the samples would remain that know the concept.

    Examples
    --------
    >>> import numpy as np
    >>> tag = np.tile([0.0, 0, 1, 1], 50)
    >>> others = related_concepts(tag, np.tile([0, 1], 100), {"coin": np.tile([0.0, 1], 100), "tag 2": tag})
    >>> others.names, others.differ.tolist()
    (('tag 2',), [0])
    """
    phi = {name: phi_within(concept, values, labels) for name, values in candidates.items()}
    related = [n for n, value in phi.items() if _hangs_together(value, concept, candidates[n])]
    is_known = np.isfinite(concept)
    remaining, fixed, unknown = is_known, [], []
    for name in sorted(related, key=lambda n: (-round(abs(phi[n]), 12), n)):
        also = remaining & np.isfinite(candidates[name])
        if also.sum() >= SMALLEST_KNOWN * is_known.sum():
            remaining = also
            fixed.append(name)
        else:
            unknown.append(name)
    values = np.column_stack([candidates[n] for n in fixed]) if fixed else np.empty((len(concept), 0))
    return Others(
        tuple(fixed),
        values,
        np.array([phi[n] for n in fixed]),
        np.array([_differ(concept, candidates[n], phi[n]) for n in fixed], np.int64),
        tuple(unknown),
    )


def _hangs_together(phi: float, concept: Floats, other: Floats) -> bool:
    n = np.count_nonzero(np.isfinite(concept) & np.isfinite(other))
    return abs(phi) >= SMALLEST_PHI and abs(phi) * np.sqrt(n) > BEYOND_CHANCE


def _differ(concept: Floats, other: Floats, phi: float) -> int:
    both = np.isfinite(concept) & np.isfinite(other)
    return int(np.count_nonzero((concept[both] != other[both]) == (phi >= 0)))


def phi_within(a: Floats, b: Floats, labels: Ints) -> float:
    """Correlation of two binary concepts (N,) within classes, where both are known; 0 if undefined."""
    both = np.isfinite(a) & np.isfinite(b)
    x, y = (centre_within(values[both], labels[both]) for values in (a, b))
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 1e-9 else 0.0


def centre_within(values: Floats, strata: Array) -> Floats:
    """Values (N,) or (N, D) minus their mean in each stratum."""
    result = np.array(values, np.float64)
    for stratum in np.unique(strata):
        member = strata == stratum
        result[member] -= result[member].mean(axis=0)
    return result


def residual(values: Floats, strata: Array, others: Floats) -> Floats:
    """What strata and others do not tell of values: the residual of least squares.

    Parameters
    ----------
    values
        (N,) or (N, D).
    strata
        (N,), of which each has a mean of its own.
    others
        (N, K) in any number, also such as follow from each other; without NaN.
    """
    return without_span(centre_within(values, strata), centre_within(others, strata))


def without_span(values: Floats, others: Floats) -> Floats:
    """Centred values (N,) or (N, D) minus their projection on the span of centred others (N, K)."""
    if not others.shape[1]:
        return values
    basis, sizes, _ = np.linalg.svd(others, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * np.sqrt(others.size)]
    return np.asarray(values - basis @ (basis.T @ values), np.float64)


def is_own(concept: Floats, strata: Array, others: Floats) -> bool:
    """Whether anything is left of a concept once strata and others are known."""
    whole = centre_within(concept, strata)
    rest = without_span(whole, centre_within(others, strata))
    return bool(rest @ rest > SMALLEST_OWN * max(float(whole @ whole), 1.0))


def contrasting_samples(
    concept: Floats, others: Others, strata: tuple[Ints, Ints], order: Ints, *, per_cell: int = 40
) -> tuple[Ints, Ints]:
    """Choose the samples of each half that tell a concept from the others.

    Up to ``per_cell`` of every (class, concept, other) group, other by other and the most related first,
    until there are `MOST_SAMPLES`.

    Parameters
    ----------
    concept
        (N,) NaN where it, or one of the others, is not known.
    strata
        Class and half (N,) of each sample.
    order
        (N,) rank of each sample: those that come first are taken.
    """
    labels, halves = strata
    picked: list[set[int]] = [set(), set()]
    for values in others.values.T:
        for half, some in enumerate(picked):
            if len(some) >= MOST_SAMPLES:
                continue
            rows = np.flatnonzero((halves == half) & np.isfinite(concept))
            rows = rows[np.argsort(order[rows], kind="stable")]
            cells = np.column_stack([labels[rows], concept[rows], values[rows]])
            member = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
            for cell in np.unique(member):
                some.update(rows[member == cell][:per_cell].tolist())
    first, second = (np.array(sorted(some), np.int64) for some in picked)
    return first, second


@dataclass(frozen=True)
class PartialEffect:
    """A coefficient with its standard error by patient; NaN where there is none."""

    effect: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 %."""
        return self.effect - 1.96 * self.error, self.effect + 1.96 * self.error


def partial_effect(
    change: Floats, concept: Floats, strata: Array, others: Floats, groups: Array
) -> PartialEffect:
    """The coefficient of a concept in the regression of a change on strata, concept and others.

    Parameters
    ----------
    change, concept, strata, groups
        (n,), of samples that know everything.
    others
        (n, K)

    Returns
    -------
    PartialEffect
        The standard error is robust to unequal variances and to patients with several samples (Liang & Zeger
        1986), with the usual correction for their number.
    """
    n, patients = len(change), np.unique(groups, return_inverse=True)[1]
    clusters = int(patients.max()) + 1 if n else 0
    if clusters < 2 or not is_own(concept, strata, others):
        return PartialEffect(float("nan"), float("nan"))
    remainder = residual(concept, strata, others)
    coefficient = float(remainder @ change / (remainder @ remainder))
    left = residual(change, strata, np.column_stack([concept, others]))
    scores = np.bincount(patients, remainder * left)
    free = n - len(np.unique(strata)) - 1 - others.shape[1]
    correction = clusters / (clusters - 1) * (n - 1) / max(1, free)
    error = float(np.sqrt(correction * (scores @ scores)) / (remainder @ remainder))
    return PartialEffect(coefficient, error)
