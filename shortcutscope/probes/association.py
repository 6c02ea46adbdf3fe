"""Association: does a concept go with the label, in the data that the model learned from?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from shortcutscope.errors import InputError
from shortcutscope.stats.bootstrap import cluster_interval
from shortcutscope.types import JSON, Array, Floats


@dataclass(frozen=True)
class Association:
    """Association of a binary concept with one class.

    Attributes
    ----------
    phi : float
        Correlation of the concept with membership of ``positive``, in [-1, 1].
    interval : tuple of float
        Bootstrap interval, by patient.
    p : float
        Fisher's exact test with each patient counted once per (class, concept) it occurs with.
    positive : int
        The class; with more than two classes the one that the concept goes with most.
    carriers_by_class : dict
        Share of carriers in every class.
    conflicting : int
        Samples that go against the association (carriers outside the class, others inside it, or the
        other way round where phi is negative); None where it was measured elsewhere.
    positives_by_value : dict
        Share of ``positive`` among samples without (``"0"``) and with it; empty of earlier versions.
    """

    phi: float
    interval: tuple[float, float]
    p: float
    positive: int
    carriers_by_class: dict[str, float]
    conflicting: int | None
    positives_by_value: dict[str, float] = field(default_factory=dict)


def recorded(values: JSON) -> Association | None:
    """The association in a record of ``findings.json``; None where it holds none."""
    phi, p = values.get("phi"), values.get("p")
    if phi is None or p is None:
        return None
    low, high = values.get("interval") or (None, None)
    unknown = float("nan")
    return Association(
        phi=float(phi),
        interval=(unknown if low is None else float(low), unknown if high is None else float(high)),
        p=float(p),
        positive=int(values["positive"]),
        carriers_by_class=dict(values["carriers_by_class"]),
        conflicting=None,
        positives_by_value=dict(values.get("positives_by_value") or {}),
    )


def phi_coefficient(a: Floats, b: Floats, weights: Floats | None = None) -> Floats:
    """Phi (Pearson correlation of two binary variables); NaN when one of them is constant.

    Parameters
    ----------
    a, b : ndarray
        (N,) of 0 and 1.
    weights : ndarray, optional
        (B, N); one row of ones by default.

    Returns
    -------
    ndarray
        (B,)
    """
    w = np.ones((1, len(a))) if weights is None else np.asarray(weights, float)
    total, mean_a, mean_b, both = w.sum(1), w @ a, w @ b, w @ (a * b)
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = mean_a / total, mean_b / total
        result: Floats = (both / total - p * q) / np.sqrt(p * (1 - p) * q * (1 - q))
    return np.where(np.isfinite(result), result, np.nan)


def associate(
    concept: Floats,
    labels: Array,
    groups: Array,
    *,
    positive: int | None = None,
    n_bootstrap: int = 300,
    seed: int = 0,
) -> Association:
    """Measure the association of a concept with the label.

    Parameters
    ----------
    concept : ndarray
        (N,) of 0, 1 and NaN (left out).
    labels, groups : ndarray
        (N,)
    positive : int, optional
        The class to look at; by default class 1 of two, or the class with the largest ``|phi|``.

    Raises
    ------
    InputError
        When fewer than two classes are there.
    """
    is_known = np.isfinite(concept)
    t, y, g = concept[is_known], labels[is_known], groups[is_known]
    classes = np.unique(y)
    if len(classes) < 2:
        raise InputError(
            "association needs samples of at least two classes, but those with a known concept are all "
            f"of class {classes}"
        )
    if positive is None:
        by_class = {int(c): float(phi_coefficient(t, (y == c).astype(float))[0]) for c in classes}
        positive = (
            1 if set(by_class) == {0, 1} else max(by_class, key=lambda c: abs(np.nan_to_num(by_class[c])))
        )
    member = (y == positive).astype(float)
    phi = float(phi_coefficient(t, member)[0])
    once = pd.DataFrame({"g": g, "t": t, "y": member}).drop_duplicates()
    table = np.array([[((once.t == i) & (once.y == j)).sum() for j in (0, 1)] for i in (0, 1)])
    return Association(
        phi=phi,
        interval=cluster_interval(
            lambda w: phi_coefficient(t, member, w), g, n_bootstrap, seed=seed, by="rows"
        ),
        p=float(stats.fisher_exact(table)[1]),
        positive=positive,
        carriers_by_class={str(int(c)): float(t[y == c].mean()) for c in classes},
        conflicting=int((t != member).sum() if np.nan_to_num(phi) >= 0 else (t == member).sum()),
        positives_by_value={str(int(v)): float(member[t == v].mean()) for v in np.unique(t)},
    )
