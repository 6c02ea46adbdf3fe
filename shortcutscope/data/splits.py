"""Folds and hold-outs that keep a patient on one side."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from shortcutscope.errors import InputError
from shortcutscope.types import Bools, Ints

_SHOWN = 5
_FINEST_HOLDOUT = 20
#: Groups up to which the fold of each is searched for.
_MOST_SEARCHED = 300


def grouped_folds(groups: npt.ArrayLike, strata: npt.ArrayLike, n_folds: int, seed: int) -> Ints:
    """Assign whole groups to folds of like composition.

    scikit-learn's StratifiedGroupKFold, shuffled; where every sample is its own group the equivalent and
    much quicker StratifiedKFold; and of many groups, for which the former's search is slow and chance alone
    spreads well, each stratum's are dealt one by one. Strata with fewer samples than folds cannot be spread
    and are pooled into one; if a fold would still stay empty (a few large groups), the groups are spread by
    size alone.

    Parameters
    ----------
    groups : (N,)
        Patient or lesion of each sample.
    strata : (N,)
        What the folds should share, for example ``label * 2 + concept``.
    n_folds
        Number of folds, at least 2.
    seed
        Seed of the shuffle.

    Returns
    -------
    (N,) int64
        Fold of each sample, 0 to ``n_folds - 1``, none of them empty.

    Raises
    ------
    InputError
        For fewer groups than folds, or inputs of different lengths.

    Examples
    --------
    >>> folds = ss.grouped_folds(["a", "a", "b", "c", "d", "e"], [0, 0, 1, 0, 1, 1], n_folds=2, seed=0)
    >>> sorted(set(folds.tolist())), bool(folds[0] == folds[1])
    ([0, 1], True)
    """
    # With scipy.stats it takes longer to import than all else that a table needs.
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

    group, n_groups = _codes(groups, "groups")
    stratum, n_strata = _codes(strata, "strata")
    if len(group) != len(stratum):
        raise InputError(f"groups has {len(group)} entries and strata {len(stratum)}; they must match")
    if n_folds < 2:
        raise InputError(f"n_folds must be at least 2, not {n_folds}")
    if n_groups < n_folds:
        raise InputError(
            f"{n_groups} group(s) cannot fill {n_folds} folds; use at most {n_groups} folds, or more patients"
        )
    stratum = _without_rare(stratum, n_strata, n_folds)
    if n_groups == len(group):
        splits = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(stratum, stratum)
    elif n_groups > _MOST_SEARCHED:
        return _dealt(group, stratum, n_folds, seed)
    else:
        whole = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        splits = whole.split(stratum, stratum, group)
    folds = _fold_numbers(splits, len(group))
    if len(np.unique(folds)) < n_folds:
        order = np.random.default_rng(seed).permutation(n_groups)
        folds = _fold_numbers(GroupKFold(n_folds).split(stratum, stratum, order[group]), len(group))
    return folds


def _without_rare(stratum: Ints, n_strata: int, n_folds: int) -> Ints:
    """Strata of which those with fewer samples than folds are pooled."""
    sizes = np.bincount(stratum, minlength=n_strata)
    stratum = np.where(sizes[stratum] < n_folds, n_strata, stratum)
    if np.bincount(stratum).max() < n_folds:  # all are rare, and so is their pool only if N < n_folds
        return np.zeros_like(stratum)
    if 0 < (stratum == n_strata).sum() < n_folds:  # a pool that is itself too rare joins the largest stratum
        stratum[stratum == n_strata] = int(np.argmax(sizes))
    return stratum


def _dealt(group: Ints, stratum: Ints, n_folds: int, seed: int) -> Ints:
    """Folds of groups that are dealt in random order, those that hold the rarest strata first."""
    rarity = np.bincount(stratum)[stratum]
    order = np.lexsort((rarity, group))
    first = order[np.unique(group[order], return_index=True)[1]]  # a sample of its rarest stratum
    shuffled = np.random.default_rng(seed).permutation(len(first))
    dealt = shuffled[np.lexsort((stratum[first][shuffled], rarity[first][shuffled]))]
    folds = np.empty(len(first), np.int64)
    folds[dealt] = np.arange(len(first)) % n_folds
    return folds[group]


def _fold_numbers(splits: Any, n: int) -> Ints:
    folds = np.empty(n, dtype=np.int64)
    for number, (_, members) in enumerate(splits):
        folds[members] = number
    return folds


def holdout(groups: npt.ArrayLike, strata: npt.ArrayLike, fraction: float, seed: int) -> Bools:
    """Hold out whole groups, stratified.

    The fraction is met to the nearest ``k / n`` with ``n`` up to 20 (and up to the number of groups), as
    `k` of `n` grouped folds.

    Parameters
    ----------
    groups, strata : (N,)
        As in :func:`grouped_folds`.
    fraction
        Share of the samples to hold out, between 0 and 1.
    seed
        Seed of the shuffle.

    Returns
    -------
    (N,) bool
        True for the held-out samples; neither side is empty.

    Raises
    ------
    InputError
        For a fraction outside (0, 1), or a single group.

    Examples
    --------
    >>> held = ss.holdout(["a", "a", "b", "c", "d", "e"], [0, 0, 1, 0, 1, 1], fraction=0.4, seed=0)
    >>> held.shape, bool(held[0] == held[1])
    ((6,), True)
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction must lie between 0 and 1, not {fraction}")
    _, n_groups = _codes(groups, "groups")
    if n_groups < 2:
        raise InputError(
            "one group cannot be split into two sides; give the samples' patients, or more of them"
        )
    finest = min(_FINEST_HOLDOUT, n_groups)
    share = Fraction(fraction).limit_denominator(finest)
    if share <= 0:
        share = Fraction(1, finest)
    elif share >= 1:
        share = Fraction(finest - 1, finest)
    return grouped_folds(groups, strata, share.denominator, seed) < share.numerator


def assert_groups_apart(groups: npt.ArrayLike, folds: npt.ArrayLike) -> None:
    """Refuse folds, or splits, that share a group.

    Parameters
    ----------
    groups, folds : (N,)
        Group and fold (or split name) of each sample.

    Raises
    ------
    InputError
        Naming the groups that lie in more than one fold.
    """
    table = pd.DataFrame({"group": np.asarray(groups), "fold": np.asarray(folds)}).drop_duplicates()
    torn = table[table["group"].duplicated(keep=False)]
    if torn.empty:
        return
    places = torn.groupby("group", sort=True)["fold"].agg(
        lambda folds_of: ", ".join(sorted(map(str, folds_of)))
    )
    examples = "; ".join(f"{group!r} in {where}" for group, where in places.head(_SHOWN).items())
    raise InputError(
        f"{len(places)} group(s) lie in more than one fold: {examples}"
        f"{' ...' if len(places) > _SHOWN else ''}. "
        "A patient on both sides makes held-out numbers too good: move each group to one side."
    )


def assert_splits_apart(frame: pd.DataFrame) -> None:
    """Refuse a table with one ``group`` in two splits; unknown splits ("") are left out.

    Raises
    ------
    InputError
        Naming the groups.
    """
    assigned = frame[frame["split"].astype(str) != ""]
    assert_groups_apart(assigned["group"].to_numpy(), assigned["split"].to_numpy())


def _codes(values: npt.ArrayLike, name: str) -> tuple[Ints, int]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise InputError(f"{name} must be one entry per sample, not an array of shape {array.shape}")
    codes, unique = pd.factorize(array, sort=True)
    if (codes < 0).any():
        raise InputError(f"{name} has {int((codes < 0).sum())} missing entries; give each sample one")
    return codes.astype(np.int64), len(unique)
