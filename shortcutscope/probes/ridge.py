"""Cross-fitted ridge regression in closed form, class-stratified, for any number of targets at once.

Features and targets are centred class by class, so that what the label explains is gone from both,
and features are divided by their pooled within-class standard deviation. Means and deviations are those
of the training folds. What is expensive is shared: with fewer features than samples one Gram matrix per fold,
of which training statistics are the total minus the fold's; otherwise one kernel matrix per fold. Targets
(concepts and their permutations) then cost two matrix products each. Gram matrices and products are summed
over blocks of samples, so that memory does not grow with them; there are kernels only where samples are fewer
than features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from shortcutscope.probes.alive import alive
from shortcutscope.probes.blocks import BLOCK_ROWS, Blocks, FeatureRows
from shortcutscope.types import Array, Bools, Floats, Ints

#: Ridge penalty per training sample, for features of unit variance.
PENALTY = 0.05
#: Samples above which the products of permuted targets are in single precision. Their AUROC is then some 1e-7
#: off, where its deviation under the null is 1e-3.
SINGLE_ABOVE = 1 << 14
#: Numbers that permuted targets, their weights and their scores may hold at a time, as far as one concept's
#: permutations do with them; and those that even these may hold.
TARGETS, MOST_TARGETS = 1 << 23, 1 << 27


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


class Ridge(ABC):
    """One ridge per fold, fitted on the other folds' known samples, on shared statistics."""

    @abstractmethod
    def scores(self, targets: Floats) -> RidgeScores:
        """Fit every target ``(N, T)`` on the training folds and score each sample by its own fold's model.

        Targets are read at the known samples only; all samples are scored.
        """

    @abstractmethod
    def null_scores(self, targets: Bools) -> Floats:
        """Residual scores ``(T, N)`` of many targets of two values, a row each; see `SINGLE_ABOVE`."""

    @abstractmethod
    def covariances(self, targets: Floats) -> list[Floats]:
        """Per fold the covariances ``(D, T)`` of targets ``(N, T)`` with standardised training features."""

    @abstractmethod
    def solve(self, fold: int, vectors: Floats) -> Floats:
        """Apply the inverse of a fold's penalised covariance of standardised features to ``(D, T)``."""

    @abstractmethod
    def residual_scores(self, weights: Sequence[Floats]) -> Floats:
        """Scores ``(N, T)`` by each sample's own fold's weights ``(D, T)`` of standardised features."""

    @abstractmethod
    def targets_at_once(self, n: int) -> int:
        """How many targets `null_scores` is to be given at a time, of concepts with `n` permutations each."""


def cross_fitted_ridge(
    features: npt.ArrayLike | FeatureRows | Blocks,
    labels: Ints,
    folds: Ints,
    known: Bools,
    penalty: float = PENALTY,
) -> Ridge:
    """Prepare the ridge; the cheaper of its two forms is taken.

    Parameters
    ----------
    features
        ``(N, D)``.
    labels
        ``(N,)`` class codes 0 ... C - 1.
    folds
        ``(N,)`` fold of each sample, 0 ... F - 1.
    known
        ``(N,)`` the samples that may be trained on; the others are scored only.
    penalty
        Ridge penalty relative to the number of training samples.
    """
    blocks = Blocks.of(features)
    if blocks.shape[1] <= known.sum():
        return _PrimalRidge(_Samples(blocks, labels, folds, known), penalty)
    # The kernel of single-precision features needs no more digits than they have, and costs half.
    return _DualRidge(
        _Data.of(blocks, labels, folds, known), penalty, np.result_type(np.float32, blocks.rows.dtype)
    )


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


@dataclass(frozen=True, eq=False)
class _Samples:
    """Features in blocks, with what is known of the samples."""

    blocks: Blocks
    labels: Ints
    folds: Ints
    known: Bools

    @property
    def n_folds(self) -> int:
        return int(self.folds.max()) + 1

    @property
    def n_classes(self) -> int:
        return int(self.labels.max(initial=0)) + 1

    def parts(
        self, dtype: npt.DTypeLike = np.float64, *, known: bool = False
    ) -> Iterator[tuple[int, Ints, Floats]]:
        """Fold, samples and centred features of each block's share of each fold, of known samples or all."""
        for span, rows in self.blocks.centred(dtype):
            folds = np.where(self.known[span], self.folds[span], -1) if known else self.folds[span]
            for fold in range(self.n_folds):
                inside = np.flatnonzero(folds == fold)
                if len(inside):
                    yield fold, inside + span.start, np.take(rows, inside, axis=0)

    def class_sums(self, samples: Ints, values: Floats) -> Floats:
        """Sums ``(C, D)`` of values ``(n, D)`` of some samples."""
        member = self.labels[samples] == np.arange(self.n_classes)[:, None]
        return np.asarray(member.astype(values.dtype) @ values, np.float64)


@dataclass(frozen=True, eq=False)
class _Products:
    """Of targets, per fold, over the known samples."""

    features: Floats  # (F, D, T) sums of feature times target
    classes: Floats  # (F, C, T) sums by class


def ridge_bytes(
    n_samples: int, n_features: int, n_concepts: int, n_permutations: int, n_folds: int = 4
) -> int:
    """Memory that probing a layer holds at once, at most.

    The features in blocks and their Gram matrices do not grow with the samples; the permutations of one
    concept and their scores do.
    """
    n, d = n_samples, n_features
    dual = d > n
    columns = _targets_at_once(n_permutations, n, 0 if dual else d, n_folds)
    columns = min(columns, n_concepts * n_permutations)
    targets = columns * n * (6 if n > SINGLE_ABOVE else 10)
    if dual:  # the features in double precision and another order, and some ten kernels
        return 28 * n * d + 80 * n**2 + 3 * targets
    blocks = 22 * min(n, BLOCK_ROWS) * d
    return 8 * (n_folds + 1) * d**2 + blocks + targets + 24 * columns * n_folds * d


def _targets_at_once(n_targets: int, n_samples: int, n_features: int, n_folds: int) -> int:
    """Targets that fit together, where their weights take as much as their scores at most."""
    each = max(n_samples, 2 * n_folds * n_features)
    return max(1, min(max(n_targets, TARGETS // each), MOST_TARGETS // each))


class _PrimalRidge(Ridge):
    """Through the Gram matrix of each fold: training statistics are the total minus the fold's."""

    def __init__(self, samples: _Samples, penalty: float) -> None:
        self._samples = samples
        n_folds, n_classes, d = samples.n_folds, samples.n_classes, samples.blocks.shape[1]
        # Lower triangles, in the order of Fortran, which LAPACK works on in place.
        grams: list[Floats] = [np.zeros((d, d), order="F") for _ in range(n_folds)]
        self._counts, self._sums = np.zeros((n_folds, n_classes)), np.zeros((n_folds, n_classes, d))
        for fold, rows, part in samples.parts(known=True):
            grams[fold] = _added(grams[fold], 1.0, part)
            self._counts[fold] += np.bincount(samples.labels[rows], minlength=n_classes)
            self._sums[fold] += samples.class_sums(rows, part)
        total = grams[0].copy(order="F")
        for gram in grams[1:]:
            total += gram
        self._models = []
        for fold, gram in enumerate(grams):
            np.subtract(total, gram, out=gram)
            self._models.append(self._fit(fold, gram, penalty))

    def _training(self, fold: int) -> tuple[Floats, Floats]:
        """Counts ``(C,)`` and sums ``(C, D)`` of the other folds' known samples."""
        return self._counts.sum(axis=0) - self._counts[fold], self._sums.sum(axis=0) - self._sums[fold]

    def _fit(self, fold: int, gram: Floats, penalty: float) -> _PrimalModel:
        counts, sums = self._training(fold)
        centre = _Centre.of(counts, sums, np.diagonal(gram), self._samples.blocks.size)
        between = sums * np.sqrt(_inverse(counts))[:, None]
        gram = _added(gram, -1.0, between)
        gram *= centre.inverse[:, None]
        gram *= centre.inverse / max(1.0, float(counts.sum()))
        gram[np.diag_indices_from(gram)] += penalty
        factor = linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        return _PrimalModel(centre, factor)

    def _products(self, targets: Array, dtype: npt.DTypeLike) -> _Products:
        """Of targets ``(T, N)``."""
        samples, t = self._samples, len(targets)
        result = _Products(
            np.zeros((samples.n_folds, samples.blocks.shape[1], t)),
            np.zeros((samples.n_folds, samples.n_classes, t)),
        )
        for fold, rows, part in samples.parts(dtype, known=True):
            values = np.take(targets, rows, axis=1).astype(dtype)
            result.features[fold] += part.T @ values.T
            result.classes[fold] += samples.class_sums(rows, values.T)
        return result

    def _covariance(self, fold: int, products: _Products) -> Floats:
        counts, sums = self._training(fold)
        means = (products.classes.sum(axis=0) - products.classes[fold]) * _inverse(counts)[:, None]
        product = products.features.sum(axis=0) - products.features[fold] - sums.T @ means
        inverse = self._models[fold].centre.inverse[:, None]
        return np.asarray(inverse * product / max(1.0, counts.sum()))

    def covariances(self, targets: Floats) -> list[Floats]:
        products = self._products(targets.T, np.float64)
        return [self._covariance(fold, products) for fold in range(len(self._models))]

    def solve(self, fold: int, vectors: Floats) -> Floats:
        return np.asarray(linalg.cho_solve(self._models[fold].factor, vectors, check_finite=False))

    def scores(self, targets: Floats) -> RidgeScores:
        covariances = self.covariances(targets)
        weights = [self._raw(fold, self.solve(fold, c)) for fold, c in enumerate(covariances)]
        offsets = [m.centre.means @ w for m, w in zip(self._models, weights, strict=True)]
        residual, plain = np.empty(targets.shape), np.empty(targets.shape)
        for fold, rows, part in self._samples.parts():
            raw = part @ weights[fold]
            residual[rows] = raw - offsets[fold][self._samples.labels[rows]]
            plain[rows] = raw - offsets[fold].mean(axis=0)
        return RidgeScores(residual, plain)

    def null_scores(self, targets: Bools) -> Floats:
        dtype = np.float32 if self._samples.blocks.shape[0] > SINGLE_ABOVE else np.float64
        products = self._products(targets, dtype)
        weights: list[Floats] = []
        offsets: list[Floats] = []
        for fold, model in enumerate(self._models):
            own = self._raw(fold, self.solve(fold, self._covariance(fold, products)))
            weights.append(own.astype(dtype))
            offsets.append((model.centre.means @ own).astype(dtype))
        del products
        scores = np.empty(targets.shape, dtype)
        for fold, rows, part in self._samples.parts(dtype):
            scores[:, rows] = (part @ weights[fold] - offsets[fold][self._samples.labels[rows]]).T
        return scores

    def residual_scores(self, weights: Sequence[Floats]) -> Floats:
        raw = [self._raw(fold, one) for fold, one in enumerate(weights)]
        offsets = [m.centre.means @ w for m, w in zip(self._models, raw, strict=True)]
        scores = np.empty((self._samples.blocks.shape[0], raw[0].shape[1]))
        for fold, rows, part in self._samples.parts():
            scores[rows] = part @ raw[fold] - offsets[fold][self._samples.labels[rows]]
        return scores

    def _raw(self, fold: int, weights: Floats) -> Floats:
        """Weights of the features from those of the standardised ones."""
        return np.asarray(self._models[fold].centre.inverse[:, None] * weights)

    def targets_at_once(self, n: int) -> int:
        return _targets_at_once(n, *self._samples.blocks.shape, self._samples.n_folds)


_SYRK: Callable[..., Floats] = linalg.get_blas_funcs("syrk", dtype=np.float64)


def _added(gram: Floats, factor: float, rows: Floats) -> Floats:
    """``gram + factor * rows.T @ rows``, in place and of the lower triangle alone."""
    return _SYRK(factor, rows.T, beta=1.0, c=gram, lower=1, overwrite_c=1)


@dataclass(frozen=True, eq=False)
class _PrimalModel:
    centre: _Centre
    factor: tuple[Floats, Any]


@dataclass(frozen=True, eq=False)
class _Data:
    """Samples sorted by fold, the known ones of a fold first, so that a fold is a slice and not a copy."""

    rows: Floats  # (N, D) centred features
    size: Floats  # (D,) of the features as they were given
    labels: Ints
    order: Ints  # sorted position -> sample
    spans: tuple[tuple[int, int, int], ...]  # start, end of the known, end of the fold
    n_classes: int

    @classmethod
    def of(cls, blocks: Blocks, labels: Ints, folds: Ints, known: Bools) -> _Data:
        order = np.lexsort((~known, folds))
        rows = np.asarray(blocks.whole(), np.float64)[order]
        if known.any():  # the kernel of features far from 0 would lose digits
            rows -= rows[known[order]].mean(axis=0)
        ends = np.cumsum(np.bincount(folds))
        starts = np.r_[0, ends[:-1]]
        spans = tuple(
            (int(start), int(start + known[order][start:end].sum()), int(end))
            for start, end in zip(starts, ends, strict=True)
        )
        return cls(rows, blocks.size, labels[order], order, spans, int(labels.max(initial=0)) + 1)

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


class _DualRidge(Ridge):
    """Through the kernel matrix of each fold's training samples, with more features than samples."""

    def __init__(self, data: _Data, penalty: float, dtype: npt.DTypeLike) -> None:
        self._data = data
        scaled = np.empty(
            data.rows.shape, dtype
        )  # one buffer: a fresh one per fold costs as much as the kernel
        self._models = [_DualModel.fit(data, fold, penalty, scaled) for fold in range(len(data.spans))]

    def null_scores(self, targets: Bools) -> Floats:
        return self.scores(targets.T.astype(np.float64)).residual.T

    def covariances(self, targets: Floats) -> list[Floats]:
        return [model.covariance(targets) for model in self._models]

    def solve(self, fold: int, vectors: Floats) -> Floats:
        return self._models[fold].solve(vectors)

    def residual_scores(self, weights: Sequence[Floats]) -> Floats:
        scores = np.empty((len(self._data.rows), weights[0].shape[1]))
        for model, one in zip(self._models, weights, strict=True):
            samples, rows = self._data.standardised(model.fold, model.centre)
            scores[samples] = rows @ one
        return scores

    def targets_at_once(self, n: int) -> int:
        return _targets_at_once(n, len(self._data.rows), 0, len(self._data.spans))

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
class _DualModel:
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

    def covariance(self, targets: Floats) -> Floats:
        train = self.data.train(self.fold)
        residual = self.data.residual_targets(targets[self.data.order], train)
        return np.asarray(self._rows.T @ residual / max(1, len(train)))

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
