"""Permutation tests inside strata, their p-values, and the correction for many of them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shortcutscope.errors import InputError
from shortcutscope.types import Bools, Floats, Ints

Tail = Literal["greater", "less", "two-sided"]

#: With fewer permutations the moments of the null are too uncertain to extrapolate from.
MIN_FOR_TAIL = 50
#: Nothing smaller is claimed from a few hundred permutations.
SMALLEST_P = 1e-6


def benjamini_hochberg(p: npt.ArrayLike) -> Floats:
    """Q-values (Benjamini & Hochberg 1995) over all entries that are not NaN; NaN stays NaN.

    Parameters
    ----------
    p
        P-values of any shape; all of them are one family of tests.

    Returns
    -------
    array of the shape of ``p``
    """
    p = np.asarray(p, np.float64)
    tested = ~np.isnan(p)
    if ((p[tested] < 0) | (p[tested] > 1)).any():
        raise InputError("benjamini_hochberg: p holds values outside [0, 1]")
    q = np.full(p.shape, np.nan)
    if tested.any():
        from scipy import stats  # only here: options, which know the least of permutations, load this file

        q[tested] = stats.false_discovery_control(p[tested], method="bh")
    return q


def permute_within(
    values: npt.ArrayLike, strata: npt.ArrayLike, groups: npt.ArrayLike | None, n: int, seed: int
) -> Bools:
    """Permute a concept inside strata, whole groups together where the concept belongs to the group.

    Inside a label stratum the concept is exchangeable if the features say nothing about it beyond the label
    itself. Where all images of a patient share the concept, it is the patients that are
    exchangeable: their values are exchanged among the patients with the same set of labels. Else the values
    are exchanged among the samples of a label.

    Parameters
    ----------
    values
        ``(N,)`` concept, 0, 1 or NaN for unknown; unknown samples take no part.
    strata
        ``(N,)`` labels.
    groups
        ``(N,)`` group (patient) of each sample, or ``None`` if each sample is its own.
    n
        Number of permutations.
    seed
        Seed of the permutations.

    Returns
    -------
    array of shape (n, N)
        Where the permuted concept is 1; False at unknown samples.
    """
    values, strata = np.asarray(values, np.float64), np.asarray(strata)
    if values.ndim != 1 or strata.shape != values.shape:
        raise InputError(
            f"permute_within: values {values.shape} and strata {strata.shape}; both must be (N,)"
        )
    if (~(np.isnan(values) | (values == 0) | (values == 1))).any():
        raise InputError("permute_within: values hold others than 0, 1 and NaN (unknown)")
    rows = np.flatnonzero(~np.isnan(values))
    rng = np.random.default_rng(seed)
    permuted = np.zeros((n, len(values)), bool)
    carries = values[rows] == 1
    _, stratum = np.unique(strata[rows], return_inverse=True)
    if groups is not None and len(rows):
        _, member = np.unique(np.asarray(groups)[rows], return_inverse=True)
        n_groups = int(member.max()) + 1
        if n_groups < len(rows) and _constant_within(carries, member, n_groups):
            per_group = np.zeros(n_groups, bool)
            per_group[member] = carries
            composition = np.zeros((n_groups, int(stratum.max()) + 1), bool)
            composition[member, stratum] = True
            _, kind = np.unique(composition, axis=0, return_inverse=True)
            permuted[:, rows] = _shuffle(per_group, kind.ravel(), n, rng)[:, member]
            return permuted
    if len(rows):
        permuted[:, rows] = _shuffle(carries, stratum, n, rng)
    return permuted


def permutation_p(observed: npt.ArrayLike, null: npt.ArrayLike, tail: Tail = "greater") -> Any:
    """P-value of a statistic against its permutation null, also where no permutation reached it.

    With a count of ``c`` permutations at least as extreme, p = (1 + c) / (1 + n), which is exact at every
    level that ``n`` can resolve (Phipson & Smyth 2010). Where ``c = 0``, only p <= 1 / (1 + n) is known, too
    coarse for a correction over layers and concepts. There the tail is extrapolated, as Knijnenburg et al.
    (2009) propose, from the moments of the null instead of its few largest values (Winkler et al. 2016): the
    larger of Student's predictive distribution (a normal null whose mean and spread are estimated) and
    Pearson's type III with the null's skewness plus one standard error, since a skewness that is
    underestimated makes p too small. For normal nulls and for maxima over layers this is conservative; for
    heavier tails p below 1 / (1 + n) can be half of what it should be. The result never exceeds 1 / (1 + n)
    and is never below 1e-6. It is not used where c >= 1, though a count below 10 is an imprecise estimate:
    mixing it in would give up the exactness of the test at the usual levels.

    Parameters
    ----------
    observed
        Scalar or ``(K,)``.
    null
        ``(n,)`` or ``(n, K)``; NaN entries are left out.
    tail
        ``"greater"``, ``"less"``, or ``"two-sided"`` (twice the smaller one, at most 1).

    Returns
    -------
    float or array of shape (K,)
        NaN where the observed value or its whole null is NaN.
    """
    observed, null = np.asarray(observed, np.float64), np.asarray(null, np.float64)
    if null.ndim != observed.ndim + 1 or null.shape[1:] != observed.shape:
        raise InputError(f"permutation_p: observed {observed.shape} needs a null (n, *{observed.shape})")
    if tail not in ("greater", "less", "two-sided"):
        raise InputError(f"permutation_p: tail={tail!r}; allowed are 'greater', 'less' and 'two-sided'")
    columns = null.reshape(len(null), observed.size)
    pairs = zip(observed.ravel(), columns.T, strict=True)
    p = np.array([_column_p(value, column, tail) for value, column in pairs])
    return float(p[0]) if observed.ndim == 0 else p


def _column_p(observed: float, null: Floats, tail: Tail) -> float:
    null = null[~np.isnan(null)]
    if np.isnan(observed) or len(null) == 0:
        return float("nan")
    if tail == "greater":
        return _upper_p(observed, null)
    if tail == "less":
        return _upper_p(-observed, -null)
    return min(1.0, 2 * min(_upper_p(observed, null), _upper_p(-observed, -null)))


def _upper_p(observed: float, null: Floats) -> float:
    n = len(null)
    # An observed statistic that equals a permuted one up to rounding ties with it.
    count = int((null >= observed - 1e-12 * max(1.0, abs(observed))).sum())
    exact = (1 + count) / (1 + n)
    if count or n < MIN_FOR_TAIL:
        return exact
    return float(np.clip(_tail(observed, null), min(SMALLEST_P, exact), exact))


def _tail(observed: float, null: Floats) -> float:
    from scipy import stats

    n, centre, spread = len(null), float(null.mean()), float(null.std(ddof=1))
    if spread <= 1e-12 * max(1.0, abs(centre)):
        return 1.0  # a degenerate null says nothing about its tail
    z = (observed - centre) / spread / np.sqrt(1 + 1 / n)
    student = float(stats.t.sf(z, df=n - 1))
    skewness = float(stats.skew(null, bias=False)) + np.sqrt(6 / n)
    return max(student, float(stats.pearson3.sf(z, skewness)) if skewness > 0 else 0.0)


def _constant_within(values: Bools, member: Ints, n_groups: int) -> bool:
    carriers = np.bincount(member, values, n_groups)
    return bool(((carriers == 0) | (carriers == np.bincount(member, minlength=n_groups))).all())


def _shuffle(values: Bools, strata: Ints, n: int, rng: np.random.Generator) -> Bools:
    """``(n, M)`` independent permutations of ``values`` inside each stratum."""
    result = np.empty((n, len(values)), bool)
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        result[:, inside] = rng.permuted(np.repeat(values[None, inside], n, axis=0), axis=1)
    return result
