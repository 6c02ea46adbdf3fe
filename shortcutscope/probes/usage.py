"""Use: does the output change when a concept is taken out of a layer, or moved along?

Encoded is not used (Stanley et al. 2025). Two answers per layer: the directional derivative of the
logit along the concept's activation vector (Kim et al. 2018, signed and against permuted concepts),
and the intervention: the concept is projected out of the layer's activations, with a direction fitted
on other patients, and the network goes on from there. The effect is the change of the logit that this
makes in carriers minus that in the others, within class, in standard deviations of the logit. A null
hypothesis alone would accuse every network that responds to an artifact at all, so the effect must
also exceed a threshold (`EFFECT_THRESHOLD`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from shortcutscope.models.layers import Layer
from shortcutscope.probes.alive import ROUNDING, size_of, without_rounding
from shortcutscope.probes.together.held_fixed import centre_within, is_own, without_span
from shortcutscope.scan.reading import Scan
from shortcutscope.stats.bootstrap import MIN_CLUSTERS, cluster_weights, percentile_interval
from shortcutscope.stats.metrics import flip_rate, robust_auroc, worst_group_accuracy
from shortcutscope.types import Array, Bools, Floats, Ints

#: Smallest effect that counts as use, in within-class standard deviations of the logit: on held-out
#: samples, and on the samples that the model was trained on, where effects are about twice as large.
EFFECT_THRESHOLD = {"held-out": 0.20, "training": 0.40}


@dataclass(frozen=True)
class LayerProjection:
    """Takes a concept out of a layer: ``h - s (w . (h - m)) / (w . s)`` at every position.

    Attributes
    ----------
    pattern : ndarray
        (C,) the signal ``s``: how the activations change with the concept within a class.
    filter : ndarray
        (C,) the ridge filter ``w`` that reads the concept.
    middle : ndarray
        (C,) half way between the two values of the concept, so that naming either of them present
        gives the same edit.
    """

    pattern: Floats
    filter: Floats
    middle: Floats


@dataclass(frozen=True)
class TokenProjection:
    """Takes a concept out of a layer of tokens: the class token carries it otherwise than the patches do.

    Attributes
    ----------
    prefix : LayerProjection
        For the first ``n_prefix`` tokens.
    patches : LayerProjection
        For the others.
    """

    prefix: LayerProjection
    patches: LayerProjection
    n_prefix: int


Projection = LayerProjection | TokenProjection


class Projections:
    """Several projections of one layer, each for some of the samples of a batch.

    Parameters
    ----------
    projections
        J of them, of one kind.
    device
        Where the activations will be.
    """

    def __init__(self, projections: Sequence[Projection], device: torch.device | str = "cpu") -> None:
        self._n_prefix = 0
        parts: list[Sequence[LayerProjection]] = []
        if any(isinstance(one, TokenProjection) for one in projections):
            tokens = [one for one in projections if isinstance(one, TokenProjection)]
            self._n_prefix = tokens[0].n_prefix
            parts = [[one.prefix for one in tokens], [one.patches for one in tokens]]
        else:
            parts = [[one for one in projections if isinstance(one, LayerProjection)]]
        self._tables = [_table(part, device) for part in parts]

    def edit(self, which: Tensor) -> Callable[[Tensor], Tensor]:
        """The edit of activations (n, C, P) in which sample i is given projection ``which[i]``."""

        def apply(values: Tensor) -> Tensor:
            if not self._n_prefix:
                return _project(values, *(t[which] for t in self._tables[0]))
            sides = values[..., : self._n_prefix], values[..., self._n_prefix :]
            return torch.cat(
                [
                    _project(side, *(t[which] for t in table))
                    for side, table in zip(sides, self._tables, strict=True)
                ],
                dim=2,
            )

        return apply


def _table(
    projections: Sequence[LayerProjection], device: torch.device | str
) -> tuple[Tensor, Tensor, Tensor]:
    """Patterns, filters by unit of the pattern, and middles, (J, C) each."""
    patterns, filters, middles = (
        np.stack([getattr(one, name) for one in projections]) for name in ("pattern", "filter", "middle")
    )
    along = (filters * patterns).sum(1, keepdims=True)
    along = np.where(along != 0, along, np.inf)  # else there is nothing to take out
    s, w, m = (
        torch.as_tensor(v, dtype=torch.float32).to(device) for v in (patterns, filters / along, middles)
    )
    return s, w, m


def _project(values: Tensor, pattern: Tensor, unit_filter: Tensor, middle: Tensor) -> Tensor:
    """Activations (n, C, P) without what the filters (n, C) read along the patterns (n, C)."""
    s, w = pattern.to(values.dtype), unit_filter.to(values.dtype)
    offset = (unit_filter * middle).sum(1).to(values.dtype)
    amount = torch.bmm(w.unsqueeze(1), values) - offset[:, None, None]
    return values - s.unsqueeze(2) * amount


def fit_projection(
    pooled: Floats,
    concept: Floats,
    labels: Ints,
    *,
    others: Floats | None = None,
    penalty: float = 0.02,
) -> LayerProjection:
    """Fit the pattern and the ridge filter of a concept, class by class centred.

    Parameters
    ----------
    pooled : ndarray
        (N, C) spatial means of a layer's activations.
    concept, labels : ndarray
        (N,); the concept is 0 or 1 and takes both values in at least one class.
    others : ndarray, optional
        (N, K) concepts that are held fixed: what class and they tell is taken off activations and concept.
    penalty : float
        Ridge penalty relative to the number of samples, on standardised channels.
    """
    target, centred, middles = concept.astype(float).copy(), pooled.astype(float).copy(), []
    for value in np.unique(labels):
        member = labels == value
        sides = [pooled[member & (concept == t)] for t in (0, 1)]
        if all(len(side) for side in sides):
            middles.append(0.5 * (sides[0].mean(0) + sides[1].mean(0)))
        target[member] -= target[member].mean()
        centred[member] -= centred[member].mean(0)
    if others is not None and others.shape[1]:
        fixed = centre_within(others, labels)
        target, centred = without_span(target, fixed), without_span(centred, fixed)
    spread = centred.std(0)
    centred[:, spread <= ROUNDING * size_of(pooled)] = 0.0  # the rounding of a constant channel is no signal
    spread = spread + 1e-4 * spread.max() + 1e-12
    return LayerProjection(
        pattern=centred.T @ target / (target @ target),
        filter=_ridge_filter(centred / spread, target, penalty * len(target)) / spread,
        middle=np.mean(middles, axis=0),
    )


def _ridge_filter(z: Floats, target: Floats, penalty: float) -> Floats:
    """``(z'z + p)^-1 z't``, through the smaller one of the Gram matrix and the kernel."""
    if z.shape[0] < z.shape[1]:
        kernel = z @ z.T
        kernel[np.diag_indices_from(kernel)] += penalty
        return np.asarray(z.T @ np.linalg.solve(kernel, target))
    gram = z.T @ z
    gram[np.diag_indices_from(gram)] += penalty
    return np.linalg.solve(gram, z.T @ target)


@dataclass(frozen=True)
class UseResult:
    """Effect of taking a concept out of a layer.

    Attributes
    ----------
    effect : float
        Change of the logit in carriers minus that in the others, within class, in standard deviations
        of the within-class logit; positive when the concept pushes towards the positive class.
    interval, p : tuple, float
        Bootstrap by patient; p of no effect.
    flip_rate : float
        Share of predictions that change.
    robust_auroc, worst_group : tuple of float
        Before and after, on the evaluated samples; NaN where a group of (class, concept value) that they rest
        on has fewer than `MIN_CLUSTERS` patients.
    samples : ndarray
        (n,) indices of the evaluated samples.
    change : ndarray
        (n,) change of their logit margin, before minus after.
    """

    effect: float
    interval: tuple[float, float]
    p: float
    flip_rate: float
    robust_auroc: tuple[float, float]
    worst_group: tuple[float, float]
    samples: Ints
    change: Floats


def evaluation_samples(
    concept: Floats, labels: Ints, halves: Ints, order: Ints, *, per_cell: int = 40
) -> tuple[Ints, Ints]:
    """Choose the samples of each half on which use is measured.

    Up to ``per_cell`` samples of every (class, concept) group, of the classes that have both values in
    that half.

    Parameters
    ----------
    concept, labels, halves
        (N,)
    order
        (N,) rank of each sample, see `drawn_order`: those that come first are taken.
    """
    by_half: list[list[Ints]] = [[], []]
    for half, parts in enumerate(by_half):
        for value in np.unique(labels):
            sides = [np.flatnonzero((halves == half) & (labels == value) & (concept == t)) for t in (0, 1)]
            if all(len(side) for side in sides):
                parts += [first_drawn(side, order, per_cell) for side in sides]
    first, second = (np.concatenate(parts) if parts else np.empty(0, np.int64) for parts in by_half)
    return first, second


def drawn_order(n: int, seed: int) -> Ints:
    """A random rank (n,) for each sample, by which those are chosen that are run again.

    The same for all concepts, which so have many of their samples in common.
    """
    return np.random.default_rng(seed).permutation(n)


def first_drawn(samples: Ints, order: Ints, count: int) -> Ints:
    """At most `count` of some samples, those of lowest rank, in their own order."""
    return np.sort(samples[np.argsort(order[samples], kind="stable")[:count]])


@dataclass(frozen=True, eq=False)
class Prefix:
    """The leading tokens of a layer, which have no place in the image.

    Attributes
    ----------
    token
        (N, C) the class token.
    count
        How many leading ones there are.
    """

    token: Floats
    count: int

    @classmethod
    def of(cls, scan: Scan, layer: Layer) -> Prefix | None:
        """Of a scanned layer; None where it has none."""
        return cls(scan.activation(layer.name, "class"), layer.prefix_tokens) if layer.prefix_tokens else None


@dataclass(frozen=True, eq=False)
class UseSamples:
    """The samples on which the use of one concept is measured.

    Attributes
    ----------
    concept, labels, groups, margins, halves
        (N,); concept 0, 1 or NaN (left out); margins are the model's logit margins towards ``positive``;
        halves are 0 and 1 and keep patients together.
    positive
        The class of the margins.
    """

    concept: Floats
    labels: Ints
    groups: Array
    margins: Floats
    halves: Ints
    positive: int = 1


def use_edits(
    pooled: Floats,
    samples: UseSamples,
    evaluated: tuple[Ints, Ints],
    prefix: Prefix | None = None,
    others: Floats | None = None,
) -> list[tuple[Ints, Projection]]:
    """What takes a concept out of one layer: each half's samples, and what was fitted on the other half.

    Parameters
    ----------
    pooled : ndarray
        (N, C) spatial means of the layer.
    samples : UseSamples
        Their concept, classes and patients.
    evaluated : tuple of ndarray
        Samples of each half on which the effect is measured, see `evaluation_samples`.
    prefix : Prefix, optional
        Of a layer of tokens; the concept is taken out of them with a direction of their own.
    others : ndarray, optional
        (N, K) concepts that are held fixed, known wherever the concept is.

    Returns
    -------
    list
        Empty where the direction cannot be fitted in either half.
    """
    concept, labels = samples.concept, samples.labels
    is_known = np.isfinite(concept)
    edits: list[tuple[Ints, Projection]] = []
    for half, rows in enumerate(evaluated):
        fit = is_known & (samples.halves != half)
        fixed = None if others is None else others[fit]
        if not len(rows) or not _both_in_a_class(concept[fit], labels[fit]):
            continue
        if fixed is None or is_own(concept[fit], labels[fit], fixed):
            edits.append((rows, _fit_edit(pooled[fit], concept[fit], labels[fit], prefix, fit, fixed)))
    return edits


def use_result(
    samples: UseSamples, rows: Ints, edited: Floats, *, n_bootstrap: int = 300, seed: int = 0
) -> UseResult:
    """The effect of an edit on the logit margins of some samples.

    Parameters
    ----------
    samples
        Of which `rows` were evaluated.
    rows, edited
        (n,) samples, and their margins with the concept taken out; none of them where no direction could be
        fitted.
    """
    concept, labels, margins = samples.concept, samples.labels, samples.margins
    if not len(rows):
        nan = float("nan")
        return UseResult(nan, (nan, nan), nan, nan, (nan, nan), (nan, nan), np.empty(0, int), np.empty(0))
    edited = without_rounding(edited, float(np.sqrt(np.mean(margins**2))))
    before, change = margins[rows], margins[rows] - edited
    spread = within_class_spread(margins, labels)
    t, y, groups = concept[rows], labels[rows], samples.groups[rows]
    effect = class_contrast(change, t, y, np.ones((1, len(rows))))[0] / spread
    weights = cluster_weights(groups, n_bootstrap, seed).astype(float)
    resampled = class_contrast(change, t, y, weights) / spread
    low, high = percentile_interval(resampled)
    deviation = float(np.nanstd(resampled)) if np.isfinite(low) else float("nan")
    truth, carriers = (y == samples.positive).astype(int), t.astype(int)
    robust, worst = _performance(truth, carriers, before, edited, groups)
    p = float(2 * stats.norm.sf(abs(effect) / deviation)) if deviation > 0 else float("nan")
    flips = float(flip_rate(before > 0, edited > 0))
    return UseResult(float(effect), (low, high), p, flips, robust, worst, rows, change)


def _fit_edit(
    pooled: Floats, concept: Floats, labels: Ints, prefix: Prefix | None, fit: Bools, others: Floats | None
) -> Projection:
    patches = fit_projection(pooled, concept, labels, others=others)
    if prefix is None:
        return patches
    return TokenProjection(
        fit_projection(prefix.token[fit], concept, labels, others=others), patches, prefix.count
    )


def _performance(
    truth: Ints, carriers: Ints, before: Floats, after: Floats, groups: Array
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Robust AUROC and worst group, before and after; NaN where a group has too few patients."""
    cells = [(truth == c) & (carriers == v) for c in (0, 1) for v in (0, 1)]
    if min(len(np.unique(groups[cell])) for cell in cells) < MIN_CLUSTERS:
        nowhere = (float("nan"), float("nan"))
        return nowhere, nowhere
    return (
        (robust_auroc(truth, carriers, before), robust_auroc(truth, carriers, after)),
        (
            worst_group_accuracy(truth, carriers, (before > 0).astype(int)),
            worst_group_accuracy(truth, carriers, (after > 0).astype(int)),
        ),
    )


def within_class_spread(margins: Floats, labels: Ints) -> float:
    """Standard deviation of the logit margin within a class, pooled over the classes."""
    spread = float(np.sqrt(np.mean([margins[labels == c].var() for c in np.unique(labels)])))
    return max(spread, ROUNDING * float(np.sqrt(np.mean(margins**2)))) + 1e-12


def _both_in_a_class(concept: Floats, labels: Ints) -> bool:
    return any(len(np.unique(concept[labels == c])) == 2 for c in np.unique(labels))


def class_contrast(change: Floats, concept: Floats, labels: Ints, weights: Floats) -> Floats:
    """Mean change of carriers minus others, averaged over the classes that have both.

    Parameters
    ----------
    change, concept, labels : (N,)
        Of every sample; `concept` is 0 or 1.
    weights : (B, N)
        Of the samples in each of B resamples.

    Returns
    -------
    contrast
        (B,), NaN in a resample without a class that has both.
    """
    differences = []
    for label in np.unique(labels):
        means = []
        for value in (1, 0):
            member = (labels == label) & (concept == value)
            mass = weights[:, member].sum(axis=1)
            means.append(weights[:, member] @ change[member] / np.where(mass > 0, mass, np.nan))
        differences.append(means[0] - means[1])
    stacked = np.stack(differences)
    counts = np.isfinite(stacked).sum(axis=0)
    return np.asarray(np.nansum(stacked, axis=0) / np.where(counts > 0, counts, np.nan), np.float64)
