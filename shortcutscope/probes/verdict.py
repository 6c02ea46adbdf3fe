"""From the measurements of a concept to its verdict, its cost and the layers to work on.

A shortcut is encoded *and* used *and* associated with the label; anything less says which of the three
is missing. What cannot be tested is said to be so, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy import stats

from shortcutscope.probes.association import Association
from shortcutscope.probes.concept import PICTURE
from shortcutscope.probes.together.beside import describe
from shortcutscope.stats.bootstrap import MIN_CLUSTERS, cluster_intervals
from shortcutscope.stats.metrics import (
    aligned_auroc,
    balanced_auroc,
    robust_auroc,
    worst_group_accuracy,
)
from shortcutscope.types import JSON, Array, Bools, Floats, Ints, Record

Verdict = Literal[
    "shortcut",
    "used on the pixels, a picture property",
    "used on the pixels",
    "encoded and used, may be the label",
    "encoded and used, no cost measured",
    "encoded and used, a picture property",
    "encoded and used, not associated",
    "explained by another concept",
    "encoded, not used",
    "not testable",
    "not encoded",
]
#: In order of concern, the gravest first.
CONCERN: tuple[Verdict, ...] = get_args(Verdict)
#: A group of samples: 1 for the positive class, and 1 for what goes with it.
Group = tuple[int, int]
CONFLICTING: tuple[Group, ...] = ((1, 0), (0, 1))
ALIGNED: tuple[Group, ...] = ((1, 1), (0, 0))

#: Effect of taking the concept out of the decision layer (standard deviations of the logit), mean and
#: standard deviation over planted shortcuts, by the correlation of the training data: what a shortcut
#: of each strength looks like, for the statement of power. Measured on thin networks by ``shortcutscope
#: bench extent`` (56 models at 95/5) and ``bench nulls`` (4 models at each of the others).
REFERENCE_EFFECT: Mapping[str, tuple[float, float]] = {
    "95/5": (1.43, 0.41),
    "80/20": (0.60, 0.15),
    "70/30": (0.32, 0.08),
    "60/40": (0.07, 0.05),
}


@dataclass(frozen=True)
class VerdictRule:
    """Limits of the verdict.

    Attributes
    ----------
    level : float
        False discovery rate for "encoded" and "associated", test level for "used".
    smallest_phi : float
        Smallest association that counts.
    smallest_side : int
        Samples that each value of the concept needs.
    smallest_conflict : int
        Samples that each value needs within at least one class: without them encoding and label cannot
        be told apart.
    smallest_groups : int
        Patients that carriers and non-carriers each need to come from.
    smallest_cell : int
        Patients that each group of (class, concept value) needs for a figure that rests on it: the interval
        of fewer is far too narrow (see `shortcutscope.stats.bootstrap.MIN_CLUSTERS`).
    """

    level: float = 0.05
    smallest_phi: float = 0.10
    smallest_side: int = 10
    smallest_conflict: int = 5
    smallest_groups: int = 5
    smallest_cell: int = MIN_CLUSTERS


def untestable(concept: Floats, labels: Array, groups: Array, rule: VerdictRule) -> str | None:
    """Why a concept cannot be tested on these samples, or None.

    Parameters
    ----------
    concept : ndarray
        (N,) of 0, 1 and NaN.
    """
    sides = {t: concept == t for t in (0, 1)}
    for t, member in sides.items():
        who = "carriers" if t else "samples without it"
        if member.sum() < rule.smallest_side:
            return f"too few {who}: {int(member.sum())}, at least {rule.smallest_side} are needed"
        patients = len(np.unique(groups[member]))
        if patients < rule.smallest_groups:
            return (
                f"all {who} come from {patients} patient{'s' if patients > 1 else ''} (groups): "
                f"the concept cannot be told from the patient; at least {rule.smallest_groups} are needed"
            )
    per_class = {c: min(int((m & (labels == c)).sum()) for m in sides.values()) for c in np.unique(labels)}
    if max(per_class.values()) < rule.smallest_conflict:
        return (
            "no conflicting samples: in every class (nearly) all samples have the same value of the concept "
            f"(fewer than {rule.smallest_conflict} of the other), so that it cannot be told from the label. "
            "Add samples in which concept and label disagree"
        )
    return None


def reach_verdict(
    *,
    encoded: bool,
    used: bool,
    effect: float,
    association: Association,
    associated: bool,
    cost: JSON,
) -> tuple[Verdict, str]:
    """Combine the three statements and the cost into a verdict and one sentence that gives its reason.

    Parameters
    ----------
    cost : mapping
        ``auroc_gap`` of `effects`. One that may be none makes no shortcut; one that could not be measured
        says neither.
    """
    if not encoded:
        return "not encoded", "no layer tells carriers from the others within a class better than chance does"
    if not used:
        return (
            "encoded, not used",
            "layers encode it, but taking it out changes the logit less than the threshold",
        )
    if not associated:
        return (
            "encoded and used, not associated",
            "the logit responds to it, but it does not go with the label in these data",
        )
    if np.sign(effect) != np.sign(association.phi):
        return (
            "encoded and used, not associated",
            "the logit responds to it, but in the direction opposite to its association with the label",
        )
    reason = "associated with the label, encoded, and used in the direction of the association"
    if cost["value"] is None:
        return "shortcut", f"{reason}; what it costs is {cost['why']}"
    low, high = cost["interval"]
    if low <= 0:
        return (
            "encoded and used, no cost measured",
            f"{reason}, but it costs nothing that these data show: AUROC where it agrees with the label less "
            f"that where it disagrees is {cost['value']:+.2f} ({low:+.2f} to {high:+.2f}, the smallest group "
            f"has {cost['n']} samples)",
        )
    return "shortcut", reason


def qualify_verdict(
    verdict: Verdict,
    reason: str,
    *,
    effect: float,
    origin: str,
    beside: JSON,
    another_kind: JSON | None = None,
) -> tuple[Verdict, str]:
    """What remains of a verdict beside other concepts, and where it is about the pictures as such.

    Parameters
    ----------
    verdict, reason
        As `reach_verdict` gave them.
    effect : float
        Of the concept alone.
    origin : str
        Of the concept.
    beside : mapping
        Statement of `shortcutscope.probes.together.beside`; empty where the concept goes with no other.
    another_kind : mapping, optional
        ``shape`` and ``texture``, AUROC, where the carriers of a discovered concept are another kind of image
        (`shortcutscope.discover.kinds_of_images`).

    Returns
    -------
    verdict, reason
        An explained concept is no shortcut, whatever it was alone, and nor is one that is used the other way
        with others held fixed. What cannot be told apart stays one, together with the other, and says so.
        Another kind of image that nobody named may be what the label should say.
    """
    if not verdict.startswith(("shortcut", "encoded and used")):
        return verdict, reason
    if beside.get("statement") == "explained by":
        text = f"the logit responds to it alone, but it is {describe(beside)}, below the threshold"
        return "explained by another concept", f"{text} ({beside['n_differ']} samples differ)"
    if beside.get("statement") == "beyond" and beside["effect"] * effect < 0:
        return (
            "encoded and used, not associated",
            f"the logit responds to it, but not in the direction that it has alone: it is {describe(beside)}",
        )
    if verdict == "shortcut" and origin == PICTURE:
        verdict = "encoded and used, a picture property"
        reason = (
            "the network responds to a picture property that is associated with the label; acquisition or "
            "disease cannot be told from these data"
        )
    if verdict in ("shortcut", "encoded and used, no cost measured") and another_kind:
        verdict = "encoded and used, may be the label"
        reason = (
            "check these labels first: carriers differ from the others in the shape of what is pictured and "
            f"in its texture alike, in all of the image (AUROC {another_kind['shape']:.2f} and "
            f"{another_kind['texture']:.2f} within labels), so that they are another kind of image rather "
            "than images to which something was added or done; it may be what the label should say, or "
            "where images come from"
        )
    clause = describe(beside)
    return verdict, f"{reason}; {clause}" if clause else reason


def effects(
    concept: Floats,
    labels: Array,
    groups: Array,
    margins: Floats,
    association: Association,
    *,
    n_bootstrap: int,
    seed: int,
    smallest: int = MIN_CLUSTERS,
) -> dict[str, Record]:
    """What the concept costs: performance where it agrees with the label and where it does not.

    Carriers are counted as aligned with the class the concept goes with, so that the numbers do not
    depend on which value is called present.

    Parameters
    ----------
    smallest : int
        Patients that a group of (class, concept value) needs. What rests on a smaller one is not measured;
        the worst group is the worst of those that have as many.

    Returns
    -------
    dict
        ``robust_auroc``, ``aligned_auroc``, ``auroc_gap`` (aligned minus robust), ``balanced_auroc`` and
        ``worst_group_accuracy`` (Saab et al. 2022; Sagawa et al. 2020), each with ``value``, ``interval``,
        ``n``, the samples of the smallest group that it rests on, and, where it was not measured, ``why``.
    """
    is_known, y, a, against = _aligned(concept, labels, association)
    score, units = margins[is_known], groups[is_known]
    member: dict[Group, Bools] = {(c, t): (y == c) & (a == t) for c, t in (*CONFLICTING, *ALIGNED)}
    patients = {group: len(np.unique(units[inside])) for group, inside in member.items()}
    large = [group for group in member if patients[group] >= smallest]
    among = np.any([member[group] for group in large], axis=0) if large else np.zeros(len(y), bool)
    prediction = (score > 0).astype(int)
    robust = _remembered(lambda w: robust_auroc(y, a, score, w))
    aligned = _remembered(lambda w: aligned_auroc(y, a, score, w))
    measures: dict[str, tuple[Iterable[Group], Callable[[Array], Any]]] = {
        "robust_auroc": (CONFLICTING, robust),
        "aligned_auroc": (ALIGNED, aligned),
        "auroc_gap": (member, lambda w: aligned(w) - robust(w)),
        "balanced_auroc": (member, lambda w: balanced_auroc(y, a, score, w)),
        "worst_group_accuracy": (
            large,
            lambda w: worst_group_accuracy(y[among], a[among], prediction[among], w[..., among]),
        ),
    }
    result: dict[str, Record] = {}
    for name, (needs, _) in measures.items():
        sizes = {group: (int(member[group].sum()), patients[group]) for group in needs}
        result[name] = _unmeasured(sizes, association.positive, against=against, smallest=smallest)
    measured = {name: measure for name, (_, measure) in measures.items() if "why" not in result[name]}
    if measured:
        intervals = cluster_intervals([*measured.values()], units, n_bootstrap, seed=seed)
        for (name, measure), interval in zip(measured.items(), intervals, strict=True):
            result[name] |= {"value": float(measure(np.ones(len(y)))), "interval": interval}
    worst = result["worst_group_accuracy"]
    if worst["value"] in (0.0, 1.0):
        worst["interval"] = _exact_interval(worst["value"], min(patients[group] for group in large))
    return result


def _remembered(measure: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """The same, which is not computed again for the weights that it was asked for last."""
    last: list[Any] = [None, None]

    def remembered(weights: Array) -> Any:
        if last[0] is not weights:
            last[:] = weights, measure(weights)
        return last[1]

    return remembered


def _aligned(concept: Floats, labels: Array, association: Association) -> tuple[Bools, Ints, Ints, bool]:
    """Samples of a known concept, their class and concept as 0 and 1, and whether the latter is reversed."""
    is_known = np.isfinite(concept)
    y = (labels[is_known] == association.positive).astype(int)
    a = concept[is_known].astype(int)
    against = bool(np.nan_to_num(association.phi) < 0)
    return is_known, y, 1 - a if against else a, against


def _unmeasured(
    sizes: Mapping[Group, tuple[int, int]], positive: int, *, against: bool, smallest: int
) -> Record:
    """The record of a figure before it is measured, with the reason where it will not be.

    Parameters
    ----------
    sizes
        Samples and patients of each group that it needs.
    """
    record: Record = {"value": None, "interval": None, "n": min((n for n, _ in sizes.values()), default=0)}
    few = {group: patients for group, (_, patients) in sizes.items() if patients < smallest}
    if few or not sizes:
        record["why"] = _too_few(few, positive, against=against, smallest=smallest)
    return record


def _too_few(patients: Mapping[Group, int], positive: int, *, against: bool, smallest: int) -> str:
    """Why nothing was measured: the groups that have too few patients, in words."""
    texts = []
    for (label, value), n in patients.items():
        which = f"class {positive}" if label else f"a class other than {positive}"
        with_it = "without" if bool(value) == against else "with"
        texts.append(f"{n} {'patient' if n == 1 else 'patients'} of {which} {with_it} it")
    of = " and ".join(texts) or "no group with so many"
    return f"not measured: {of}; {smallest} are needed"


def _exact_interval(value: float, n: int) -> tuple[float, float]:
    """Of a group that is all wrong, or all right, of which all resamples are the same."""
    width = 1 - 0.025 ** (1 / n)
    return (0.0, width) if value == 0 else (1 - width, 1.0)


def power(interval: tuple[float, float], threshold: float) -> dict[str, float]:
    """What this audit could have found, given how precisely it measured the effect.

    Parameters
    ----------
    interval : tuple of float
        95 % interval of the measured effect: its width gives the precision at this number of samples.
    threshold : float
        Limit of "used".

    Returns
    -------
    dict
        ``smallest_effect``, found in 80 % of audits of this size, and the chance to call a shortcut
        planted at a training correlation of 95/5, 80/20, 70/30 and 60/40 used (`REFERENCE_EFFECT`).
    """
    deviation = (interval[1] - interval[0]) / (2 * 1.96)
    chance = {
        name: float(stats.norm.sf((threshold - mean) / np.hypot(spread, deviation)))
        for name, (mean, spread) in REFERENCE_EFFECT.items()
    }
    return {"smallest_effect": float(threshold + stats.norm.ppf(0.8) * deviation), **chance}


def layer_weights(
    use: Mapping[str, float], low: Mapping[str, float], high: Mapping[str, float]
) -> dict[str, float]:
    """Weigh the layers for a later distillation by use, not by encoding.

    Parameters
    ----------
    use, low, high : mapping
        Layer name to the effect of taking the concept out there, and its interval.

    Returns
    -------
    dict
        The layers whose interval leaves out zero and whose effect has the sign of the strongest one,
        with weights that sum to one; empty when there is none.
    """
    solid = {k: v for k, v in use.items() if np.isfinite(v) and low[k] * high[k] > 0}
    if not solid:
        return {}
    sign = np.sign(max(solid.values(), key=abs))
    weights = {k: abs(v) for k, v in solid.items() if np.sign(v) == sign}
    total = sum(weights.values())
    return {k: v / total for k, v in weights.items()}
