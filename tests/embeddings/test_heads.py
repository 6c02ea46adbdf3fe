"""Linear heads: from wherever they come, and fitted out of fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from shortcutscope.embeddings.heads import LinearHead, fit_head, fit_heads, head_of_training
from shortcutscope.errors import InputError

RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(3, 5)), RNG.normal(size=3)
X = RNG.normal(size=(60, 5))


def test_heads_of_every_kind_score_alike(tmp_path: Path) -> None:
    np.savez(tmp_path / "head.npz", weight=W, bias=B)
    layer = torch.nn.Linear(5, 3).double()
    layer.weight.data, layer.bias.data = torch.from_numpy(W), torch.from_numpy(B)
    fitted = LogisticRegression()
    fitted.coef_, fitted.intercept_ = W, B
    for source in ((W, B), {"weights": W, "bias": B}, tmp_path / "head.npz", layer, fitted):
        np.testing.assert_allclose(LinearHead.of(source).logits(X), X @ W.T + B)
    assert LinearHead.of((W[0], B[0])).logits(X).shape == (60, 1)
    np.testing.assert_array_equal(LinearHead.of(torch.nn.Linear(5, 2, bias=False)).bias, [0, 0])


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ((W, B[:2]), r"weight \(3, 5\) and bias \(2,\)"),
        ((np.full((2, 5), np.nan), B[:2]), "NaN"),
        ((W.astype(str), B), "other things than numbers"),
        ({"kernel": W}, "no weights among 'kernel'"),
        ("nowhere.npz", "no such file"),
        (3, "int is no linear head"),
    ],
)
def test_what_is_no_head_is_refused(source: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        LinearHead.of(source)


def test_a_head_of_other_features_or_classes_is_refused() -> None:
    head = LinearHead(W, B)
    with pytest.raises(InputError, match=r"3 features.*give weight\.T"):
        head.require_fit(3, np.array([0, 1]), "uni")
    with pytest.raises(InputError, match=r"7 features.*needed are \(K, 7\)"):
        head.require_fit(7, np.array([0, 1]), "uni")
    with pytest.raises(InputError, match="scores 3 classes, and there are labels up to 3"):
        head.require_fit(5, np.array([0, 3]), "uni")


def problem(n_classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.arange(120) % n_classes
    x = np.random.default_rng(1).normal(size=(120, 6)) * [1, 1, 1, 1, 100, 0] + 5
    x[:, 0] += 2 * labels
    return x, labels, np.arange(120) // n_classes % 4


def test_each_sample_is_scored_by_a_head_of_other_folds() -> None:
    x, labels, folds = problem()
    heads = fit_heads(x, labels, folds)
    scores = heads.logits(x)
    assert heads.penalty is not None
    for fold in range(4):
        own = fit_head(x[folds != fold], labels[folds != fold], heads.penalty, 2)
        np.testing.assert_allclose(scores[folds == fold], own.logits(x[folds == fold]))
    rows = np.array([3, 50, 7])
    np.testing.assert_allclose(heads.logits(x[rows], rows), scores[rows])
    moved = labels.copy()
    moved[folds == 0] = 1 - moved[folds == 0]  # a fold's own labels say nothing of its scores
    again = fit_head(x[folds != 0], moved[folds != 0], heads.penalty, 2)
    np.testing.assert_allclose(again.logits(x[folds == 0]), scores[folds == 0])


def test_a_head_is_logistic_regression_on_standardised_features() -> None:
    x, labels, _ = problem()
    spread = np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
    z = (x - x.mean(axis=0)) / spread
    plain = LogisticRegression(C=1 / (0.1 * 120), max_iter=500).fit(z, labels)
    head = fit_head(x, labels, 0.1, 2)
    np.testing.assert_allclose(head.logits(x)[:, 0], plain.decision_function(z), atol=1e-3)
    assert head.weight[0, 5] == 0


@pytest.mark.parametrize("classes", [(0, 1, 2), (1, 2), (0, 3)])
def test_labels_are_class_numbers_also_with_gaps(classes: tuple[int, ...]) -> None:
    x, codes, folds = problem(len(classes))
    labels = np.array(classes)[codes]
    heads = fit_heads(x, labels, folds)
    logits = heads.logits(x)
    assert logits.shape[1] == max(classes) + 1
    assert (logits.argmax(axis=1) == labels).mean() > 1.2 / len(classes)


def test_a_class_in_one_fold_alone_is_refused() -> None:
    x, labels, folds = problem()
    labels[folds == 2] = 2
    with pytest.raises(InputError, match="class 2 has too few patients"):
        fit_heads(x, labels, folds)


def test_where_a_head_comes_from_is_said() -> None:
    x, labels, folds = problem()
    assert "in 4 folds by patient" in fit_heads(x, labels, folds).origin
    heads = head_of_training(x, labels, folds, 7)
    assert "on the training samples" in heads.origin
    assert heads.logits(x[:7]).shape == (7, 1)
