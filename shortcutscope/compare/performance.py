"""What a network scores on a table: overall, by group of label and concept, and by subgroup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.compare.estimate import Estimate, Goal, not_measurable, resample
from shortcutscope.data.table import ImageTable
from shortcutscope.models.frozen import device_of, frozen
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import (
    find_logits,
    margin,
    predicted_class,
    require_finite,
    resolve_task,
)
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.batches import batches
from shortcutscope.stats.bootstrap import MIN_CLUSTERS, cluster_weights
from shortcutscope.stats.metrics import (
    aligned_auroc,
    auroc,
    balanced_auroc,
    delta_tpr,
    expected_calibration_error,
    robust_auroc,
    worst_group_accuracy,
)
from shortcutscope.types import Array, Bools, Floats, Ints


def logits_of(
    model: nn.Module,
    table: ImageTable,
    *,
    device: str | torch.device | None = None,
    output: Output = None,
    batch_size: int = 64,
) -> Tensor:
    """Class scores (N, K) of every sample, float32 on the CPU; the network is given back as it was."""
    parts = []
    with frozen(model, device) as network, torch.inference_mode():
        place = device_of(network)
        for x, _, _ in batches(table, batch_size):
            parts.append(find_logits(network(x.to(place)), output).float().cpu())
    # Cloned outside of inference mode, so that callers may compute gradients with them.
    logits = torch.cat(parts).clone()
    require_finite(logits)
    return logits


@dataclass(frozen=True, eq=False)
class ComparedSamples:
    """The samples of a table as the metrics need them; the same for every network.

    Attributes
    ----------
    labels, groups
        ``(N,)`` class and patient.
    carries
        ``(N,)`` the concept, 0, 1 or NaN.
    aligned
        ``(N,)`` the same with 1 for what goes with the positive class.
    weights
        ``(B, N)`` resamples of the patients.
    """

    name: str
    concept: str
    labels: Ints
    groups: Array
    carries: Floats
    aligned: Floats
    positive: int
    classes: tuple[str, ...]
    weights: Ints

    @classmethod
    def of(
        cls,
        name: str,
        table: ImageTable,
        concept: Concept,
        positive: int,
        *,
        against: bool,
        n: int,
        seed: int,
    ) -> ComparedSamples:
        """Read them from a table; `against`: the concept goes against the positive class."""
        frame = table.frame
        carries = concept.aligned_to(frame["sample_id"]).values
        groups = frame["group"].to_numpy()
        return cls(
            name,
            concept.name,
            frame["label"].to_numpy(np.int64),
            groups,
            carries,
            1 - carries if against else carries,
            positive,
            tuple(table.classes or ()),
            cluster_weights(groups, n, seed),
        )

    @property
    def truth(self) -> Floats:
        """``(N,)`` 1 for the positive class."""
        return np.asarray(self.labels == self.positive, np.float64)

    @property
    def n_conflicting(self) -> int:
        """Samples in which the concept goes against the label."""
        finite = np.isfinite(self.aligned)
        return int((self.aligned[finite] != self.truth[finite]).sum())

    def class_name(self, label: int) -> str:
        """Of a label."""
        name = self.classes[label] if label < len(self.classes) else str(label)
        return f"class {name}" if name.isdigit() else name

    def estimate(
        self,
        part: str,
        metric: str,
        goal: Goal,
        statistic: Callable[[Floats, Bools], Any],
        within: Bools | None = None,
        *,
        detail: str = "",
        why: str = "",
        note: str = "",
    ) -> Estimate:
        """Resample a statistic of weights ``(B, n)`` over the samples `within`, given as mask."""
        inside = np.ones(len(self.labels), np.bool_) if within is None else within
        if not inside.any():
            return not_measurable(part, metric, why or "there are no such samples", detail)
        n_groups = len(np.unique(self.groups[inside]))
        if part in ("group", "subgroup"):
            if n_groups < MIN_CLUSTERS:
                few = f"{n_groups} patients, at least {MIN_CLUSTERS} are needed"
                return not_measurable(part, metric, few, detail)
            note = f"{int(inside.sum())} samples"
        value, resampled = resample(lambda w: statistic(w, inside), self.weights[:, inside], n_groups)
        if np.isnan(value):
            return not_measurable(part, metric, why or "there are no such samples", detail)
        if n_groups < MIN_CLUSTERS:
            few = f"no interval: {n_groups} patients, at least {MIN_CLUSTERS} are needed"
            note = f"{note}; {few}" if note else few
        return Estimate(part, metric, goal, value, resampled, detail, note)


@dataclass(frozen=True, eq=False)
class NetworkScores:
    """What a network says of the samples of a table.

    Attributes
    ----------
    margin
        ``(N,)`` towards the positive class.
    prediction
        ``(N,)`` classes.
    probabilities
        ``(N, K)``, or ``(N,)`` of class 1; None for several labels at once.
    """

    margin: Floats
    prediction: Ints
    probabilities: Floats | None

    @classmethod
    def of(cls, logits: Tensor, task: str, positive: int) -> NetworkScores:
        """From class scores (N, K)."""
        kind, wide = resolve_task(logits, task), logits.double()
        probabilities: Floats | None = None
        if kind == "binary":
            probabilities = torch.sigmoid(wide[:, 0]).numpy()
        elif kind == "multiclass":
            probabilities = torch.softmax(wide, dim=1).numpy()
        return cls(margin(wide, kind, positive).numpy(), predicted_class(wide, kind).numpy(), probabilities)


def performance(samples: ComparedSamples, scores: NetworkScores) -> Iterator[Estimate]:
    """Metrics over all samples, over those with a known concept, and per group of label and concept."""
    y, a, s = samples.truth, samples.aligned, scores.margin
    right = (scores.prediction == samples.labels).astype(np.float64)
    correct = (scores.prediction == samples.positive).astype(np.int64)
    finite = np.isfinite(samples.carries)
    yield samples.estimate("overall", "auroc", "high", lambda w, _: auroc(y, s, w), why="one class only")
    yield samples.estimate("overall", "accuracy", "high", lambda w, _: _mean(right, w))
    probabilities = scores.probabilities
    if probabilities is not None:
        yield samples.estimate(
            "overall",
            "ece",
            "low",
            lambda w, _: expected_calibration_error(samples.labels, probabilities, weights=w),
        )
    conflicting, agreeing = _by_agreement(samples)
    pairs: dict[str, tuple[Callable[..., Any], Mapping[str, Bools]]] = {
        "balanced_auroc": (balanced_auroc, {**conflicting, **agreeing}),
        "robust_auroc": (robust_auroc, conflicting),
        "aligned_auroc": (aligned_auroc, agreeing),
    }
    for name, (measure, needed) in pairs.items():

        def statistic(w: Floats, k: Bools, measure: Callable[..., Any] = measure) -> Any:
            return measure(y[k], a[k], s[k], w)

        yield _over_groups(samples, name, "high", statistic, finite, needed)
    positives = f"{samples.class_name(samples.positive)}, "
    members = {d: (samples.labels == c) & (samples.carries == t) for c, t, d in _groups(samples)}
    large = {d: m for d, m in members.items() if len(np.unique(samples.groups[m])) >= MIN_CLUSTERS}
    small = [repr(d) for d in members if d not in large]
    yield _over_groups(
        samples,
        "worst_group_accuracy",
        "high",
        lambda w, k: worst_group_accuracy(samples.labels[k], samples.carries[k], scores.prediction[k], w),
        np.any(list(large.values()), axis=0) if large else np.zeros(len(y), np.bool_),
        large or members,
        f"without {' and '.join(small)}: fewer than {MIN_CLUSTERS} patients" if small else "",
    )
    yield _over_groups(
        samples,
        "delta_tpr",
        "zero",
        lambda w, k: delta_tpr(y[k], samples.carries[k], correct[k], w),
        finite,
        {d: m for d, m in {**agreeing, **conflicting}.items() if d.startswith(positives)},
    )
    for label, carrier, detail in _groups(samples):
        yield samples.estimate(
            "group",
            "accuracy",
            "high",
            lambda w, k: _mean(right[k], w),
            (samples.labels == label) & (samples.carries == carrier),
            detail=detail,
        )


def subgroups(
    samples: ComparedSamples, scores: NetworkScores, others: Sequence[Concept], ids: Any
) -> Iterator[Estimate]:
    """Accuracy and AUROC with and without every other concept."""
    right = (scores.prediction == samples.labels).astype(np.float64)
    for concept in others:
        values = concept.aligned_to(ids).values
        for value in (1, 0):
            within, detail = values == value, f"{'with' if value else 'without'} {concept.name}"
            yield samples.estimate(
                "subgroup", "accuracy", "high", lambda w, k: _mean(right[k], w), within, detail=detail
            )
            yield samples.estimate(
                "subgroup",
                "auroc",
                "high",
                lambda w, k: auroc(samples.truth[k], scores.margin[k], w),
                within,
                detail=detail,
                why="one class only",
            )


def _groups(samples: ComparedSamples) -> list[tuple[int, int, str]]:
    return [
        (int(label), carrier, f"{samples.class_name(int(label))}, {'with' if carrier else 'without'} "
         f"{samples.concept}")
        for label in np.unique(samples.labels)
        for carrier in (0, 1)
    ]  # fmt: skip


def _by_agreement(samples: ComparedSamples) -> tuple[dict[str, Bools], dict[str, Bools]]:
    """The groups of positive class and concept that disagree with the association, and those that agree."""
    y, finite = samples.truth, np.isfinite(samples.carries)
    against = bool((samples.carries[finite] != samples.aligned[finite]).any())
    rest = [samples.class_name(int(c)) for c in np.unique(samples.labels) if c != samples.positive]
    names = {1: samples.class_name(samples.positive), 0: rest[0] if len(rest) == 1 else "the other classes"}
    sides: tuple[dict[str, Bools], dict[str, Bools]] = ({}, {})
    for c in (1, 0):
        for t in (1, 0):
            name = f"{names[c]}, {'with' if t else 'without'} {samples.concept}"
            sides[c == (1 - t if against else t)][name] = (y == c) & (samples.carries == t)
    return sides


def _over_groups(
    samples: ComparedSamples,
    metric: str,
    goal: Goal,
    statistic: Callable[[Floats, Bools], Any],
    within: Bools,
    groups: Mapping[str, Bools],
    note: str = "",
) -> Estimate:
    """A metric that rests on groups of label and concept, with the size of the smallest of them.

    The interval of fewer than `MIN_CLUSTERS` patients in one of them would be far too narrow.
    """
    patients = {name: len(np.unique(samples.groups[group])) for name, group in groups.items()}
    few = [f"{n} patients of the group {name!r}" for name, n in patients.items() if n < MIN_CLUSTERS]
    if few:
        return not_measurable("concept", metric, f"{' and '.join(few)}; {MIN_CLUSTERS} are needed")
    size = f"smallest group: {min(int(group.sum()) for group in groups.values())} samples"
    return samples.estimate(
        "concept", metric, goal, statistic, within, note=f"{size}; {note}" if note else size
    )


def _mean(values: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1)
    return np.asarray(weights @ values / np.where(total > 0, total, np.nan), np.float64)
