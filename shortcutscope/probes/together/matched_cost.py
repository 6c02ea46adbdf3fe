"""What a concept costs with others held fixed: weighted so that they are as frequent with it as without."""

from __future__ import annotations

import numpy as np

from shortcutscope.probes.association import Association
from shortcutscope.stats.bootstrap import MIN_CLUSTERS, cluster_interval
from shortcutscope.stats.metrics import aligned_auroc, robust_auroc
from shortcutscope.types import Array, Bools, Floats, Ints, Record

#: Others that are matched at once: of more, few samples have a counterpart.
MOST_MATCHED = 3


def matched_cost(
    concept: Floats,
    others: Floats,
    scored: tuple[Array, Array, Floats],
    association: Association,
    *,
    n_bootstrap: int,
    seed: int,
    smallest: int = MIN_CLUSTERS,
) -> Record:
    """Aligned minus robust AUROC, with others as frequent in carriers as in the rest of each class.

    Samples of a class in which a combination of the others occurs with one value of the concept alone have no
    counterpart, and are left out; the others are weighted by the inverse of how frequent their value is among
    such as have the same class and others (Robins et al. 2000).

    Parameters
    ----------
    concept
        (N,) 0, 1 or NaN.
    others
        (N, K) likewise.
    scored
        Label, patient and logit margin (N,) of each sample.
    association
        Whose direction says what is aligned.

    Returns
    -------
    dict
        ``value``, ``interval``, ``n`` (samples of the smallest group of class and concept) and, where it was
        not measured, ``why``.
    """
    labels, groups, margins = scored
    is_known = np.isfinite(concept) & np.isfinite(others).all(axis=1)
    y = (labels[is_known] == association.positive).astype(np.int64)
    t, units, score = concept[is_known].astype(np.int64), groups[is_known], margins[is_known]
    weights = matching_weights(t, np.column_stack([y, others[is_known]]), y)
    a = 1 - t if np.nan_to_num(association.phi) < 0 else t
    matched = weights > 0
    cells = [(y == c) & (t == v) & matched for c in (0, 1) for v in (0, 1)]
    n = min(int(cell.sum()) for cell in cells)
    patients = min(len(np.unique(units[cell])) for cell in cells)
    if patients < smallest:
        why = f"not measured: {patients} patients of a group have a counterpart; {smallest} are needed"
        return {"value": None, "interval": None, "n": n, "why": why}
    inside = y[matched], a[matched], score[matched]

    def gap(w: Array) -> Floats:
        w = w * weights[matched]
        return np.asarray(aligned_auroc(*inside, w) - robust_auroc(*inside, w))

    interval = cluster_interval(gap, units[matched], n_bootstrap, seed=seed, by="rows")
    return {"value": float(gap(np.ones(len(inside[0])))), "interval": interval, "n": n}


def matching_weights(concept: Ints, strata: Array, labels: Ints) -> Floats:
    """Weights (N,) with which strata are as frequent with the concept as without, within each class.

    Parameters
    ----------
    concept
        (N,) 0 or 1.
    strata
        (N, K) of which each combination, which tells the class, is a stratum.
    labels
        (N,)

    Returns
    -------
    weights
        0 in strata with one value of the concept alone.
    """
    cell = np.unique(strata, axis=0, return_inverse=True)[1].ravel()
    weights = np.zeros(len(concept))
    sizes = np.array([np.bincount(cell[concept == v], minlength=cell.max(initial=0) + 1) for v in (0, 1)])
    both: Bools = (sizes > 0).all(axis=0)
    for value in (0, 1):
        for label in np.unique(labels):
            rows = (concept == value) & (labels == label) & both[cell]
            share = sizes[:, cell[rows]]
            weights[rows] = share.sum(axis=0) / share[value]
            weights[rows] *= np.count_nonzero(rows) / max(weights[rows].sum(), 1e-12)
    return weights
