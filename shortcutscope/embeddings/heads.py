"""Linear heads on features: one that is given, or one for each fold, fitted on the other patients."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from shortcutscope.data.manifests.columns import quoted
from shortcutscope.errors import InputError
from shortcutscope.probes.alive import alive, size_of
from shortcutscope.types import Array, Floats, Ints

WEIGHT_NAMES = ("weight", "weights", "coef", "coef_", "fc.weight", "W")
BIAS_NAMES = ("bias", "biases", "intercept", "intercept_", "fc.bias", "b")
#: Ridge penalties per training sample, on standardised features, among which cross-validation chooses.
PENALTIES = (1.0, 0.1, 0.01, 0.001)
MAX_ITERATIONS = 500


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Scores of features: ``features @ weight.T + bias``.

    Attributes
    ----------
    weight
        (K, d) a row per class; a single row scores class 1 of two.
    bias
        (K,)

    Examples
    --------
    >>> head = ss.LinearHead(np.array([[-1.0, 0.0], [1.0, 0.0]]), np.zeros(2))
    >>> head.logits(np.array([[2.0, 5.0]]))
    array([[-2.,  2.]])
    >>> head.require_fit(2, np.array([0, 1]), "ours")
    """

    weight: Floats
    bias: Floats

    @classmethod
    def of(cls, source: object) -> Self:
        """Read a head.

        Parameters
        ----------
        source
            A pair (weight, bias), a mapping or an npz file with ``weight`` and ``bias``, an ``nn.Linear``, or
            a fitted scikit-learn classifier with ``coef_`` and ``intercept_``.

        Raises
        ------
        InputError
            What is none of them, or holds NaN.

        Examples
        --------
        >>> LinearHead.of(([[1.0, -1.0]], [0.5])).logits(np.array([[2.0, 1.0]]))
        array([[1.5]])
        """
        if isinstance(source, cls):
            return source
        weight, bias = _parts(source)
        weight = np.atleast_2d(_numbers(weight, "weight"))
        bias = np.zeros(len(weight)) if bias is None else np.atleast_1d(_numbers(bias, "bias"))
        if weight.ndim != 2 or bias.shape != (len(weight),):
            raise InputError(
                f"head: weight {weight.shape} and bias {bias.shape}; needed are (K, d) and (K,), a row per "
                "class"
            )
        return cls(weight, bias)

    def logits(self, features: Floats) -> Floats:
        """Scores (N, K) of features (N, d)."""
        return np.asarray(features @ self.weight.T + self.bias, np.float64)

    def require_fit(self, d: int, labels: Ints, name: str) -> None:
        """Refuse features of another width, and labels that it has no score for.

        Raises
        ------
        InputError
            Names both.
        """
        k, width = self.weight.shape
        if width != d:
            turned = ", of which the transposed would fit: give weight.T" * (k == d)
            raise InputError(
                f"encoder {name!r} has {d} features and its head weights {self.weight.shape}{turned}; needed "
                f"are (K, {d})"
            )
        classes = max(2, k)
        if labels.max() >= classes:
            raise InputError(
                f"the head of encoder {name!r} scores {classes} classes, and there are labels up to "
                f"{labels.max()}; give the head of this task, with a row per class in label order"
            )


def _parts(source: Any) -> tuple[Any, Any]:
    if isinstance(source, str | Path):
        source = _arrays(Path(source))
    if isinstance(source, Mapping):
        weight = next((source[name] for name in WEIGHT_NAMES if name in source), None)
        if weight is None:
            raise InputError(f"head: no weights among {quoted(list(source), 20)}; call them weight and bias")
        return weight, next((source[name] for name in BIAS_NAMES if name in source), None)
    if hasattr(source, "coef_") and hasattr(source, "intercept_"):
        return source.coef_, source.intercept_
    if hasattr(source, "weight") and hasattr(source, "bias"):
        return source.weight, source.bias
    if isinstance(source, tuple | list) and len(source) == 2:
        return source[0], source[1]
    raise InputError(
        f"head: {type(source).__name__} is no linear head; give (weight, bias), an npz file with both, an "
        "nn.Linear, or a fitted scikit-learn classifier"
    )


def _arrays(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise InputError(f"head: no such file: {str(path)!r}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except Exception as error:  # a parser may raise anything
        raise InputError(
            f"head: {path.name!r} cannot be read ({error}); save it as npz: np.savez(file, weight=weight, "
            "bias=bias)"
        ) from error


def _numbers(values: Any, what: str) -> Floats:
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InputError(f"head: {what} holds NaN, infinities, or other things than numbers ({array.dtype})")
    return array.astype(np.float64)


@dataclass(frozen=True, eq=False)
class FoldHeads:
    """The head that scores each sample: one for all, or that of the sample's fold.

    Attributes
    ----------
    heads
        One per fold.
    folds
        (N,) which head scores a sample.
    penalty
        With which they were fitted here; None for one that was given.
    fitted_on
        ``"audited"`` or ``"training"`` samples, or ``""``.
    """

    heads: tuple[LinearHead, ...]
    folds: Ints
    penalty: float | None = None
    fitted_on: Literal["", "audited", "training"] = ""

    @property
    def origin(self) -> str:
        """Where they come from, in words."""
        how = {
            "": "given",
            "training": "a linear head fitted here, on the training samples",
            "audited": f"a linear head fitted here, in {len(self.heads)} folds by patient: each sample is "
            "scored by one that was fitted on other patients",
        }[self.fitted_on]
        return how if self.penalty is None else f"{how} (logistic regression, penalty {self.penalty:g})"

    def logits(self, features: Floats, rows: Ints | None = None) -> Floats:
        """Scores (n, K) of features (n, d) of some samples, by default of all."""
        folds = self.folds if rows is None else self.folds[rows]
        scores = np.empty((len(features), len(self.heads[0].bias)))
        for fold, head in enumerate(self.heads):
            inside = folds == fold
            scores[inside] = head.logits(features[inside])
        return scores


def given_head(head: LinearHead, n: int) -> FoldHeads:
    """The same head for all of N samples."""
    return FoldHeads((head,), np.zeros(n, np.int64))


#: Score of a class that a head has not seen.
NEVER = -1e6


def fit_heads(features: Floats, labels: Ints, folds: Ints) -> FoldHeads:
    """Logistic regression on standardised features, each sample scored by one fitted on the other folds.

    The penalty is that of the least log loss out of fold; it is the same in all folds, so that their scores
    are of one scale. It is chosen by the label alone: no concept has a part in it.

    Parameters
    ----------
    features
        (N, d)
    labels, folds
        (N,)

    Raises
    ------
    InputError
        When a class lies in one fold alone.
    """
    classes = np.unique(labels)
    numbers = np.unique(folds)
    for fold in numbers:
        lacking = sorted(set(classes.tolist()) - set(labels[folds != fold].tolist()))
        if lacking:
            raise InputError(
                f"class {lacking[0]} has too few patients to fit a head on the others: it is in one fold "
                "alone. Give a head, or samples of more patients"
            )
    best: tuple[float, FoldHeads] | None = None
    codes = np.searchsorted(classes, labels)
    for penalty in PENALTIES:
        heads = tuple(
            fit_head(features[folds != fold], labels[folds != fold], penalty, int(classes[-1]) + 1)
            for fold in numbers
        )
        result = FoldHeads(heads, np.searchsorted(numbers, folds), penalty, "audited")
        logits = result.logits(features)
        loss = log_loss(logits if logits.shape[1] == 1 else logits[:, classes], codes)
        if best is None or loss < best[0]:
            best = (loss, result)
    assert best is not None
    return best[1]


def head_of_training(features: Floats, labels: Ints, folds: Ints, n: int) -> FoldHeads:
    """One head for N samples, fitted on all training samples (M, d) with the penalty of `fit_heads`."""
    penalty = fit_heads(features, labels, folds).penalty
    assert penalty is not None
    head = fit_head(features, labels, penalty, int(labels.max()) + 1)
    return FoldHeads((head,), np.zeros(n, np.int64), penalty, "training")


def fit_head(features: Floats, labels: Ints, penalty: float, n_classes: int) -> LinearHead:
    """Logistic regression, in the features' own units.

    Parameters
    ----------
    features
        (n, d)
    labels
        (n,) class numbers.
    penalty
        Of the squared weights, per sample.
    n_classes
        One more than the largest label that there is.

    Returns
    -------
    LinearHead
        One row for classes 0 and 1; else a row for each class, those without samples with a score below all
        others.
    """
    scaler = StandardScaler().fit(features)
    scaler.scale_[~alive(scaler.scale_, size_of(features))] = 1.0
    logistic = LogisticRegression(C=1 / (penalty * len(labels)), max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is as good for a head
        logistic.fit(scaler.transform(features), labels)
    weight = logistic.coef_ / scaler.scale_
    bias = logistic.intercept_ - weight @ scaler.mean_
    classes = logistic.classes_
    if n_classes == 2:
        return LinearHead(weight, bias)
    if len(classes) == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    whole = LinearHead(np.zeros((n_classes, features.shape[1])), np.full(n_classes, NEVER))
    whole.weight[classes], whole.bias[classes] = weight, bias
    return whole


def log_loss(logits: Floats, codes: Ints) -> float:
    """Mean negative log likelihood of class codes; a single column of logits is that of code 1."""
    if logits.shape[1] == 1:
        logits = np.column_stack([np.zeros(len(logits)), logits])
    return float(-log_softmax(logits, axis=1)[np.arange(len(codes)), codes].mean())
