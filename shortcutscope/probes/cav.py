"""Concept activation vectors on pooled features: pattern, ridge and logistic, balanced against the label.

A shortcut goes with the label, so that a naive vector mostly points along the label. Balancing gives every
(class, concept) group its weight: ``"class"``, both concept values weigh the same inside each class, and the
classes keep their size; ``"group"``, all groups weigh the same. The three kinds differ in what they fit under
these weights:

- pattern (signal): cov(a, t) / var(t), which for a binary concept is the difference of the weighted means
  (Pahde et al. 2025); robust to distractors.
- ridge and logistic (filters): discriminative, better at telling samples apart; may point off the pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression, Ridge

from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.probes.alive import alive, size_of
from shortcutscope.probes.blocks import Blocks, FeatureRows
from shortcutscope.probes.ridge import PENALTY
from shortcutscope.types import Array, Bools, Floats, Ints

Balance = Literal["class", "group"] | None
Kind = Literal["pattern", "ridge", "logistic"]


@dataclass(frozen=True, eq=False)
class CAV:
    """A concept activation vector on standardised features.

    Attributes
    ----------
    direction
        ``(D,)`` weights of the standardised features; 0 for dead channels.
    intercept
        Score at the features' mean; it belongs to the score, so that 0 is the border between the values.
    mean, scale
        ``(D,)`` of the samples it was fitted on.
    kind
        ``"pattern"``, ``"ridge"`` or ``"logistic"``.
    quantity
        What the features are, for example ``"layer4 activation mean,max,std"``. A vector says nothing about
        another quantity than the one that it was fitted on.
    """

    direction: Floats
    intercept: float
    mean: Floats
    scale: Floats
    kind: Kind
    quantity: str = ""

    @property
    def filter(self) -> Floats:
        """``(D,)`` weights of the features as they are."""
        return np.asarray(self.direction / self.scale)

    @property
    def signal(self) -> Floats:
        """``(D,)`` change of the features as they are from 0 to 1, of a pattern vector.

        Raises
        ------
        InputError
            For a filter: its weights are no change of the features (Haufe et al. 2014).
        """
        if self.kind != "pattern":
            raise InputError(f"a {self.kind} vector is a filter and has no signal; fit a pattern vector")
        return np.asarray(self.direction * self.scale)

    def score(self, features: npt.ArrayLike, quantity: str | None = None) -> Floats:
        """Scores ``(N,)`` of features ``(N, D)``, with the intercept.

        Raises
        ------
        InputError
            When the features have another width, or ``quantity`` is another one than the vector's.
        """
        if quantity is not None and quantity != self.quantity:
            raise InputError(
                f"this vector was fitted on {self.quantity!r} and cannot score {quantity!r}; fit one on that"
            )
        features = np.asarray(features)
        if features.ndim != 2 or features.shape[1] != len(self.direction):
            raise InputError(f"features of shape {features.shape} for a vector of {len(self.direction)}")
        weights = self.filter
        return np.asarray(features @ weights + (self.intercept - self.mean @ weights), np.float64)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file."""
        path = Path(path)
        tensors = {"direction": self.direction, "mean": self.mean, "scale": self.scale}
        tensors["intercept"] = np.array([self.intercept])
        save_file(tensors, path, metadata={"kind": self.kind, "quantity": self.quantity})
        return path

    @classmethod
    def open(cls, path: str | Path) -> CAV:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            When the file is no such file.
        """
        with intact(path, "a concept activation vector", "make it again"):
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls(
                direction=tensors["direction"],
                intercept=float(tensors["intercept"][0]),
                mean=tensors["mean"],
                scale=tensors["scale"],
                kind=metadata["kind"],
                quantity=metadata["quantity"],
            )


def pattern_cav(
    features: npt.ArrayLike,
    concept: npt.ArrayLike,
    labels: npt.ArrayLike,
    balance: Balance = "class",
    *,
    quantity: str = "",
) -> CAV:
    """Pattern (signal) vector; ``balance="class"`` is the class-stratified one, ``None`` the naive one.

    Parameters
    ----------
    features
        ``(N, D)`` pooled activations, best ``[mean, max, std]``.
    concept
        ``(N,)`` 0, 1 or NaN (left out).
    labels
        ``(N,)`` classes. Classes with one concept value only are left out, unless ``balance`` is ``None``.
    balance
        See the module.
    quantity
        Remembered by the vector.

    Raises
    ------
    InputError
        When no class has both values, so that the concept cannot be told from the label.
    """
    features, t, y = _checked(features, concept, labels)
    shift = features[~np.isnan(t)].mean(axis=0) if (~np.isnan(t)).any() else np.zeros(features.shape[1])
    cells = _Cells.of(features - shift, t, y, _n_classes(y))
    return _pattern(cells, shift, size_of(features[~np.isnan(t)]), balance, quantity)


def ridge_cav(
    features: npt.ArrayLike,
    concept: npt.ArrayLike,
    labels: npt.ArrayLike,
    balance: Balance = "group",
    *,
    penalty: float = PENALTY,
    quantity: str = "",
) -> CAV:
    """Ridge filter on the values -1 and 1; ``penalty`` is relative to the number of samples.

    Parameters and errors are those of :func:`pattern_cav`.
    """
    z, t, weights, mean, scale = _weighted_problem(features, concept, labels, balance)
    fit = Ridge(alpha=penalty * weights.sum()).fit(z, 2 * t - 1, sample_weight=weights)
    return CAV(np.asarray(fit.coef_, np.float64), float(fit.intercept_), mean, scale, "ridge", quantity)


def logistic_cav(
    features: npt.ArrayLike,
    concept: npt.ArrayLike,
    labels: npt.ArrayLike,
    balance: Balance = "group",
    *,
    C: float = 0.01,
    quantity: str = "",
) -> CAV:
    """Logistic filter; ``C`` is scikit-learn's inverse penalty, with weights of mean 1.

    Parameters and errors are those of :func:`pattern_cav`.
    """
    z, t, weights, mean, scale = _weighted_problem(features, concept, labels, balance)
    fit = LogisticRegression(C=C, max_iter=2000).fit(z, t, sample_weight=weights)
    direction = np.asarray(fit.coef_[0], np.float64)
    return CAV(direction, float(fit.intercept_[0]), mean, scale, "logistic", quantity)


class CavOptions(TypedDict, total=False):
    """Of the kinds that are penalised: `ridge_cav` and `logistic_cav`."""

    penalty: float
    C: float


def cross_fit_cav(
    kind: Kind,
    features: npt.ArrayLike,
    concept: npt.ArrayLike,
    labels: npt.ArrayLike,
    folds: npt.ArrayLike,
    balance: Balance = "group",
    **options: Unpack[CavOptions],
) -> Floats:
    """Out-of-fold scores of a vector: each sample by the one that was fitted on the other folds.

    Parameters
    ----------
    kind
        ``"pattern"``, ``"ridge"`` or ``"logistic"``.
    features, concept, labels, balance
        As :func:`pattern_cav`; samples with an unknown concept are scored, too.
    folds
        ``(N,)``.
    **options
        Of the kind: ``penalty`` or ``C``.

    Returns
    -------
    array of shape (N,)
        NaN in a fold whose training samples cannot tell the concept from the label.
    """
    folds = np.asarray(folds)
    if kind == "pattern":
        return cross_fit_patterns(features, np.asarray(concept)[:, None], labels, folds, balance)[:, 0]
    features, t, y = _checked(features, concept, labels)
    _check_folds(folds, len(t))
    if kind not in ("ridge", "logistic"):
        raise InputError(f"kind={kind!r}; allowed are 'pattern', 'ridge' and 'logistic'")
    fit: Callable[..., CAV] = ridge_cav if kind == "ridge" else logistic_cav
    penalties: dict[str, object] = {**options}
    scores = np.full(len(t), np.nan)
    for fold in np.unique(folds):
        test = folds == fold
        if _usable(_cell_counts(t[~test], y[~test], _n_classes(y)), balance).any():
            scores[test] = fit(features[~test], t[~test], y[~test], balance, **penalties).score(
                features[test]
            )
    return scores


def cross_fit_patterns(
    features: npt.ArrayLike | FeatureRows | Blocks,
    concepts: npt.ArrayLike,
    labels: npt.ArrayLike,
    folds: npt.ArrayLike,
    balance: Balance = "group",
) -> Floats:
    """Out-of-fold scores of the pattern vectors of many concepts, from the sums of their groups alone.

    Parameters
    ----------
    features
        ``(N, D)``; read twice, a block at a time.
    concepts
        ``(N, K)`` of 0, 1 and NaN; samples with an unknown concept are scored, too.
    labels, folds
        ``(N,)``.
    balance
        As :func:`pattern_cav`.

    Returns
    -------
    array of shape (N, K)
        NaN in a fold whose training samples cannot tell the concept from the label.
    """
    blocks, t = Blocks.of(features), np.asarray(concepts, np.float64)
    y, numbers = _codes(labels), _codes(folds)
    if t.ndim != 2 or {blocks.shape[0]} != {len(t), *y.shape}:
        raise InputError(
            f"features {blocks.shape}, concepts {t.shape}, labels {y.shape}; needed are (N, D), (N, K), (N,)"
        )
    _check_values(t)
    _check_folds(np.asarray(folds), len(t))
    n_folds, n_classes = int(numbers.max()) + 1, _n_classes(y)
    cells = [_Cells.of(np.empty((0, blocks.shape[1])), t[:0], y[:0], n_classes) for _ in range(n_folds)]
    for span, rows in blocks.centred():
        for fold in np.unique(numbers[span]):
            inside = numbers[span] == fold
            cells[fold] += _Cells.of(rows[inside], t[span][inside], y[span][inside], n_classes)
    total = _Cells(*(np.sum([getattr(c, part) for c in cells], axis=0) for part in _Cells.PARTS))
    weights = np.zeros((n_folds, blocks.shape[1], t.shape[1]))
    offsets = np.full((n_folds, t.shape[1]), np.nan)
    for fold, k in np.ndindex(offsets.shape):
        train = _Cells(*(getattr(total, part)[k] - getattr(cells[fold], part)[k] for part in _Cells.PARTS))
        if _usable(train.counts, balance).any():
            cav = _pattern(train, np.zeros(blocks.shape[1]), blocks.size, balance, "")
            weights[fold, :, k], offsets[fold, k] = cav.filter, cav.intercept - cav.mean @ cav.filter
    scores = np.empty(t.shape)
    for span, rows in blocks.centred():
        for fold in np.unique(numbers[span]):
            inside = numbers[span] == fold
            scores[span][inside] = rows[inside] @ weights[fold] + offsets[fold]  # of a view
    return scores


@dataclass(frozen=True, eq=False)
class _Cells:
    """Counts, sums and sums of squares of the (class, concept) groups, of K concepts or of one."""

    counts: Floats  # ([K,] C, 2)
    sums: Floats  # ([K,] C, 2, D)
    squares: Floats  # ([K,] D)

    PARTS = ("counts", "sums", "squares")

    @classmethod
    def of(cls, features: Floats, t: Floats, y: Ints, n_classes: int) -> _Cells:
        """Of features (n, D) and concepts (n, K), or one concept (n,)."""
        columns, shape = t if t.ndim > 1 else t[:, None], (*t.shape[1:], n_classes, 2)
        is_known = ~np.isnan(columns)
        cell = np.where(is_known, 2 * y[:, None] + np.nan_to_num(columns), -1)
        member = (cell.T[:, None] == np.arange(2 * n_classes)[:, None]).astype(np.float64)
        sums = np.einsum("kcn,nd->kcd", member, features, optimize=True)
        squares = is_known.T.astype(np.float64) @ features**2
        return cls(
            member.sum(axis=2).reshape(shape),
            sums.reshape(*shape, features.shape[1]),
            squares.reshape(*t.shape[1:], features.shape[1]),
        )

    def __iadd__(self, other: _Cells) -> _Cells:
        for part in self.PARTS:
            np.add(getattr(self, part), getattr(other, part), out=getattr(self, part))
        return self


def _pattern(cells: _Cells, shift: Floats, size: Floats, balance: Balance, quantity: str) -> CAV:
    weights = _cell_weights(cells.counts, balance)
    n = max(1.0, float(cells.counts.sum()))
    mean = cells.sums.sum(axis=(0, 1)) / n
    scale, varies = _scale(np.sqrt(np.maximum(cells.squares / n - mean**2, 0)), size)
    means = cells.sums / np.maximum(cells.counts, 1)[..., None]
    without, carriers = np.einsum("ct,ctd->td", weights / weights.sum(axis=0), means)
    direction = np.where(varies, carriers - without, 0.0) / scale
    middle = ((carriers + without) / 2 - mean) / scale
    return CAV(direction, float(-middle @ direction), mean + shift, scale, "pattern", quantity)


def _weighted_problem(
    features: npt.ArrayLike, concept: npt.ArrayLike, labels: npt.ArrayLike, balance: Balance
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Standardised features, concept and weights of the samples that are fitted on, and mean and scale."""
    features, t, y = _checked(features, concept, labels)
    counts = _cell_counts(t, y, _n_classes(y))
    per_sample = _cell_weights(counts, balance) / np.maximum(counts, 1)
    is_known = ~np.isnan(t)
    mean = features[is_known].mean(axis=0)
    scale, varies = _scale(features[is_known].std(axis=0), size_of(features[is_known]))
    weights = np.where(is_known, per_sample[y, np.nan_to_num(t).astype(int)], 0.0)
    used = weights > 0
    z = np.where(varies, (features[used] - mean) / scale, 0.0)
    return z, t[used], weights[used] / weights[used].mean(), mean, scale


def _scale(spread: Floats, size: Floats) -> tuple[Floats, Bools]:
    """Divisors of the features, 1 for dead channels, and which are alive."""
    varies = alive(spread, size)
    return np.where(varies, spread, 1.0), varies


def _cell_counts(t: Floats, y: Ints, n_classes: int) -> Floats:
    is_known = ~np.isnan(t)
    cell = 2 * y[is_known] + t[is_known].astype(int)
    return np.bincount(cell, minlength=2 * n_classes).reshape(n_classes, 2).astype(np.float64)


def _usable(counts: Floats, balance: Balance) -> Bools:
    """Classes that are fitted on."""
    if balance is None:
        return np.full(len(counts), bool((counts.sum(axis=0) > 0).all()))
    return np.asarray((counts > 0).all(axis=1))


def _cell_weights(counts: Floats, balance: Balance) -> Floats:
    """Total weight ``(C, 2)`` of each (class, concept) group."""
    if balance not in (None, "class", "group"):
        raise InputError(f"balance={balance!r}; allowed are 'class', 'group' and None")
    usable = _usable(counts, balance)
    if not usable.any():
        where = "the samples have" if balance is None else "no class has"
        raise InputError(
            f"{where} {'one value' if balance is None else 'both values'} of the concept among its known "
            f"samples (counts by class: {counts.astype(int).tolist()}), so that no vector can be fitted. Add "
            "samples on which the concept and the label disagree"
        )
    if balance is None:
        return counts
    size = counts.sum(axis=1, keepdims=True) if balance == "class" else np.ones((len(counts), 1))
    return np.asarray(np.where(usable[:, None], np.repeat(size, 2, axis=1) / 2, 0.0))


def _checked(
    features: npt.ArrayLike, concept: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[Floats, Floats, Ints]:
    features, t = np.asarray(features, np.float64), np.asarray(concept, np.float64)
    y = np.asarray(labels)
    if features.ndim != 2 or t.shape != (len(features),) or y.shape != t.shape:
        raise InputError(
            f"features {features.shape}, concept {t.shape}, labels {y.shape}; needed are (N, D), (N,), (N,)"
        )
    if not np.isfinite(features).all():
        raise InputError("features hold NaN or infinite values; scan the model again and check its outputs")
    _check_values(t)
    return features, t, _codes(y)


def _check_values(t: Floats) -> None:
    if (~(np.isnan(t) | (t == 0) | (t == 1))).any():
        raise InputError("the concept holds other values than 0, 1 and NaN (unknown)")


def _check_folds(folds: Array, n: int) -> None:
    if folds.shape != (n,) or len(np.unique(folds)) < 2:
        raise InputError(f"folds of shape {folds.shape} for {n} samples; at least 2 folds are needed")


def _codes(values: npt.ArrayLike) -> Ints:
    return np.asarray(np.unique(np.asarray(values), return_inverse=True)[1], np.intp)


def _n_classes(y: Ints) -> int:
    return int(y.max(initial=0)) + 1
