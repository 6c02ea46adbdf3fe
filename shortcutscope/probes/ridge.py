"""Cross-fitted ridge regression in closed form, class-stratified, for any number of targets at once.

Features and targets are centred class by class, so that what the label explains is gone from both,
and features are divided by their pooled within-class standard deviation. Means and deviations are those
of the training folds. What is expensive is shared: with fewer features than samples one Gram matrix per fold,
of which training statistics are the total minus the fold's; otherwise one kernel matrix per fold. Targets
(concepts and their permutations) then cost two matrix products each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from shortcutscope.probes.alive import alive, size_of
from shortcutscope.types import Array, Bools, Floats, Ints

#: Ridge penalty per training sample, for features of unit variance.
PENALTY = 0.05


@dataclass(frozen=True)
class RidgeScores:
    """Out-of-fold scores of all samples.

    Attributes
    ----------
    residual
        ``(N, T)`` scores of the features minus their class's training mean: comparable within a class.
    plain
        ``(N, T)`` scores that do not look at the sample's own label: of the features minus the mean of the
        classes' means.
    """

    residual: Floats
    plain: Floats


class FoldModel(ABC):
    """The ridge of one fold, fitted on the other folds' known samples."""

    @abstractmethod
    def solve(self, vectors: Floats) -> Floats:
        """Apply the inverse of the penalised training covariance to ``(D, T)`` (standardised features)."""

    @abstractmethod
    def covariance(self, target: Floats) -> Floats:
        """Covariance ``(D,)`` of a target ``(N,)`` with the standardised training features."""

    @abstractmethod
    def standardised(self) -> tuple[Ints, Floats]:
        """Indices ``(n,)`` of the fold's samples and their residual standardised features ``(n, D)``."""


class Ridge(ABC):
    """One ridge per fold on shared statistics."""

    @abstractmethod
    def scores(self, targets: Floats) -> RidgeScores:
        """Fit every target ``(N, T)`` on the training folds and score each sample by its own fold's model.

        Targets are read at the known samples only; all samples are scored.
        """

    @abstractmethod
    def models(self) -> list[FoldModel]:
        """One model per fold."""


def cross_fitted_ridge(
    features: npt.ArrayLike, labels: Ints, folds: Ints, known: Bools, penalty: float = PENALTY
) -> Ridge:
    """Prepare the ridge; the cheaper of its two forms is taken.

    Parameters
    ----------
    features
        ``(N, D)``.
    labels
        ``(N,)`` class codes 0 ... C - 1.
    folds
        ``(N,)`` fold of each sample.
    known
        ``(N,)`` the samples that may be trained on; the others are scored only.
    penalty
        Ridge penalty relative to the number of training samples.
    """
    order = np.lexsort((~known, folds))
    rows = np.asarray(features, np.float64)[order]
    size = size_of(rows)
    if known.any():  # the Gram matrix of features far from 0 would lose digits
        rows -= rows[known[order]].mean(axis=0)
    ends = np.cumsum(np.unique(folds, return_counts=True)[1])
    starts = np.r_[0, ends[:-1]]
    spans = tuple(
        (int(start), int(start + known[order][start:end].sum()), int(end))
        for start, end in zip(starts, ends, strict=True)
    )
    data = _Data(rows, size, labels[order], order, spans, int(labels.max(initial=0)) + 1)
    if rows.shape[1] <= known.sum():
        return _PrimalRidge(data, penalty)
    # The kernel of single-precision features needs no more digits than they have, and costs half.
    return _DualRidge(data, penalty, np.result_type(np.float32, np.asarray(features).dtype))


@dataclass(frozen=True, eq=False)
class _Data:
    """Samples sorted by fold, the known ones of a fold first, so that a fold is a slice and not a copy."""

    rows: Floats  # (N, D) centred features
    size: Floats  # (D,) of the features as they were given
    labels: Ints
    order: Ints  # sorted position -> sample
    spans: tuple[tuple[int, int, int], ...]  # start, end of the known, end of the fold
    n_classes: int

    def train(self, fold: int) -> Ints:
        """Sorted positions that the fold's model is fitted on."""
        others = [np.arange(start, end) for i, (start, end, _) in enumerate(self.spans) if i != fold]
        return np.concatenate(others) if others else np.empty(0, np.intp)

    def test(self, fold: int) -> slice:
        start, _, end = self.spans[fold]
        return slice(start, end)

    def class_sums(self, values: Floats, labels: Ints) -> Floats:
        member = labels[:, None] == np.arange(self.n_classes)
        return np.asarray(member.T.astype(np.float64) @ values)

    def class_counts(self, labels: Ints) -> Floats:
        return np.bincount(labels, minlength=self.n_classes).astype(np.float64)

    def residual_targets(self, targets: Floats, positions: Ints) -> Floats:
        """Targets (sorted) at some positions minus their class mean there."""
        labels, values = self.labels[positions], targets[positions]
        means = self.class_sums(values, labels) * _inverse(self.class_counts(labels))[:, None]
        return np.asarray(values - means[labels])

    def standardised(self, fold: int, centre: _Centre) -> tuple[Ints, Floats]:
        test = self.test(fold)
        return self.order[test], centre.residual(self.rows[test], self.labels[test])


@dataclass(frozen=True, eq=False)
class _Centre:
    """Class means and inverse scale of a set of training samples."""

    means: Floats  # (C, D); the mean of the other classes' where a class has no training sample
    inverse: Floats  # (D,), 0 for dead channels

    @classmethod
    def of(cls, counts: Floats, sums: Floats, squares: Floats, size: Floats) -> _Centre:
        """From class counts ``(C,)``, class sums ``(C, D)``, total sums of squares ``(D,)`` and sizes."""
        means = sums * _inverse(counts)[:, None]
        within = (squares - counts @ means**2) / max(1.0, float(counts.sum()))
        if (counts > 0).any():
            means[counts == 0] = means[counts > 0].mean(axis=0)
        spread = np.sqrt(np.maximum(within, 0))
        varies = alive(spread, size)
        return cls(means, np.divide(1.0, spread, out=np.zeros_like(spread), where=varies))

    def residual(self, rows: Floats, labels: Ints) -> Floats:
        return np.asarray((rows - self.means[labels]) * self.inverse)


def _inverse(counts: Floats) -> Floats:
    return np.divide(1.0, counts, out=np.zeros_like(counts), where=counts > 0)


class _PrimalRidge(Ridge):
    """Through the Gram matrix of each fold: training statistics are the total minus the fold's."""

    def __init__(self, data: _Data, penalty: float) -> None:
        self._data = data
        spans = [slice(start, end) for start, end, _ in data.spans]
        self._known = spans
        self._counts = [data.class_counts(data.labels[part]) for part in spans]
        self._sums = [data.class_sums(data.rows[part], data.labels[part]) for part in spans]
        grams = [data.rows[part].T @ data.rows[part] for part in spans]
        total = np.sum(grams, axis=0)
        self._models = [self._fit(fold, total - grams[fold], penalty) for fold in range(len(spans))]

    def _fit(self, fold: int, gram: Floats, penalty: float) -> _PrimalModel:
        counts = np.sum(self._counts, axis=0) - self._counts[fold]
        sums = np.sum(self._sums, axis=0) - self._sums[fold]
        centre = _Centre.of(counts, sums, np.diagonal(gram), self._data.size)
        gram -= (sums.T * _inverse(counts)) @ sums
        gram *= centre.inverse[:, None] * centre.inverse / max(1.0, float(counts.sum()))
        gram[np.diag_indices_from(gram)] += penalty
        factor = linalg.cho_factor(gram, overwrite_a=True, check_finite=False)
        return _PrimalModel(self._data, fold, centre, factor)

    def models(self) -> list[FoldModel]:
        return list(self._models)

    def scores(self, targets: Floats) -> RidgeScores:
        data = self._data
        targets = targets[data.order]
        products = [data.rows[part].T @ targets[part] for part in self._known]
        sums = [data.class_sums(targets[part], data.labels[part]) for part in self._known]
        product, target_sum = np.sum(products, axis=0), np.sum(sums, axis=0)
        residual, plain = np.empty_like(targets), np.empty_like(targets)
        for fold, model in enumerate(self._models):
            counts = np.sum(self._counts, axis=0) - self._counts[fold]
            feature_sums = np.sum(self._sums, axis=0) - self._sums[fold]
            target_means = (target_sum - sums[fold]) * _inverse(counts)[:, None]
            covariance = product - products[fold] - feature_sums.T @ target_means
            inverse = model.centre.inverse[:, None]
            weights = inverse * model.solve(inverse * covariance / max(1.0, counts.sum()))
            test = data.test(fold)
            raw, labels = data.rows[test] @ weights, data.labels[test]
            residual[data.order[test]] = raw - (model.centre.means @ weights)[labels]
            plain[data.order[test]] = raw - model.centre.means.mean(axis=0) @ weights
        return RidgeScores(residual, plain)


@dataclass(frozen=True, eq=False)
class _PrimalModel(FoldModel):
    data: _Data
    fold: int
    centre: _Centre
    factor: tuple[Floats, Any]

    def solve(self, vectors: Floats) -> Floats:
        return np.asarray(linalg.cho_solve(self.factor, vectors, check_finite=False))

    def covariance(self, target: Floats) -> Floats:
        train = self.data.train(self.fold)
        residual = self.data.residual_targets(target[self.data.order, None], train)
        # Residual targets sum to 0 in every class, so that the features' class means drop out.
        product = self.data.rows[train].T @ residual[:, 0] / max(1, len(train))
        return np.asarray(self.centre.inverse * product)

    def standardised(self) -> tuple[Ints, Floats]:
        return self.data.standardised(self.fold, self.centre)


class _DualRidge(Ridge):
    """Through the kernel matrix of each fold's training samples, with more features than samples."""

    def __init__(self, data: _Data, penalty: float, dtype: npt.DTypeLike) -> None:
        self._data = data
        scaled = np.empty(
            data.rows.shape, dtype
        )  # one buffer: a fresh one per fold costs as much as the kernel
        self._models = [_DualModel.fit(data, fold, penalty, scaled) for fold in range(len(data.spans))]

    def models(self) -> list[FoldModel]:
        return list(self._models)

    def scores(self, targets: Floats) -> RidgeScores:
        data = self._data
        targets = targets[data.order]
        residual, plain = np.empty_like(targets), np.empty_like(targets)
        for fold, model in enumerate(self._models):
            test, train = data.test(fold), data.train(fold)
            residual_targets = data.residual_targets(targets, train) / max(1, len(train))
            weights = linalg.cho_solve(model.factor, residual_targets, check_finite=False)
            scores = model.kernel @ weights
            residual[data.order[test]] = scores
            plain[data.order[test]] = scores + (model.class_kernel @ weights)[data.labels[test]]
        return RidgeScores(residual, plain)


@dataclass(frozen=True, eq=False)
class _DualModel(FoldModel):
    data: _Data
    fold: int
    centre: _Centre
    penalty: float
    factor: tuple[Floats, Any]  # of the training samples' kernel / n + penalty
    kernel: Floats  # (n_test, n_train) of residual standardised features
    class_kernel: Floats  # (C, n_train) of the classes' offsets

    @classmethod
    def fit(cls, data: _Data, fold: int, penalty: float, scaled: Array) -> _DualModel:
        train, test = data.train(fold), data.test(fold)
        labels, part = data.labels[train], data.rows[train]
        squares = np.einsum("nd,nd->d", part, part)
        centre = _Centre.of(data.class_counts(labels), data.class_sums(part, labels), squares, data.size)
        np.multiply(data.rows, centre.inverse, out=scaled, casting="same_kind")
        plain = (scaled @ scaled.T).astype(np.float64)
        # Centring by class in kernel space: the centred features themselves are never formed.
        average = _averaging(labels, data.n_classes)
        train_kernel, test_kernel = plain[np.ix_(train, train)], plain[test][:, train]
        of_class = average @ train_kernel
        between = of_class @ average.T
        inner = train_kernel - of_class[labels] - of_class.T[:, labels] + between[labels][:, labels]
        inner /= max(1, len(train))
        inner[np.diag_indices_from(inner)] += penalty
        y = data.labels[test]
        kernel = test_kernel - of_class[y] - (test_kernel @ average.T)[:, labels] + between[y][:, labels]
        from_class = of_class - between[:, labels]
        factor = linalg.cho_factor(inner, overwrite_a=True, check_finite=False)
        return cls(data, fold, centre, penalty, factor, kernel, from_class - from_class.mean(axis=0))

    def solve(self, vectors: Floats) -> Floats:
        # Woodbury: (R'R/n + p)^-1 v = (v - R' (RR'/n + p)^-1 R v / n) / p
        rows = self._rows
        inner = linalg.cho_solve(self.factor, rows @ vectors, check_finite=False)
        return np.asarray((vectors - rows.T @ inner / max(1, len(rows))) / self.penalty)

    def covariance(self, target: Floats) -> Floats:
        train = self.data.train(self.fold)
        residual = self.data.residual_targets(target[self.data.order, None], train)
        return np.asarray(self._rows.T @ residual[:, 0] / max(1, len(train)))

    def standardised(self) -> tuple[Ints, Floats]:
        return self.data.standardised(self.fold, self.centre)

    @cached_property
    def _rows(self) -> Floats:
        # Only erasing directions needs them; a probe does with the kernel.
        train = self.data.train(self.fold)
        return self.centre.residual(self.data.rows[train], self.data.labels[train])


def _averaging(labels: Ints, n_classes: int) -> Floats:
    """``(C, n)`` matrix that takes class means; for a class without samples, the mean of the others'."""
    member = (labels == np.arange(n_classes)[:, None]).astype(np.float64)
    counts = member.sum(axis=1)
    average = member * _inverse(counts)[:, None]
    if (counts > 0).any():
        average[counts == 0] = average[counts > 0].mean(axis=0)
    return np.asarray(average)
