from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.heads.targets import (
    class_count,
    find_logits,
    margin,
    predicted_class,
    require_finite,
    resolve_task,
    select_target,
)

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [4.0, -1.0, 0.5]])
SINGLE = torch.tensor([[2.0], [-3.0], [0.5]])


@dataclass
class Result:
    loss: Tensor | None
    logits: Tensor


class ModelOutput(OrderedDict):
    """As in transformers: a mapping whose entries are attributes, too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


Pair = namedtuple("Pair", ["hidden", "logits"])
Both = namedtuple("Both", ["first", "second"])


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS, torch.zeros(2, 5, 4, 4)),
        (torch.zeros(2, 5, 4, 4), LOGITS),
        (LOGITS,),
        (torch.tensor(0.3), LOGITS),
        [torch.tensor([1, 2]), LOGITS],
        {"logits": LOGITS, "features": torch.zeros(2, 5)},
        {"features": torch.zeros(2, 5), "out": LOGITS},
        {"whatever": LOGITS, "ids": torch.tensor([1, 2])},
        Result(None, LOGITS),
        ModelOutput(loss=torch.tensor(1.0), logits=LOGITS),
        Pair(torch.zeros(2, 9), LOGITS),
        LOGITS[:, :, None, None],
    ],
)
def test_logits_are_found(output):
    assert torch.equal(find_logits(output), LOGITS)


@pytest.mark.parametrize("kind", [tuple, list, lambda parts: {"hidden": parts[0], "cls": parts[1]}])
def test_m4_features_and_logits_are_refused(kind):
    features = torch.zeros(2, 16)
    with pytest.raises(ModelError, match=r"of shape \(2, 16\), .* of shape \(2, 3\).*output=") as refused:
        find_logits(kind([features, LOGITS]))
    assert "--output" in str(refused.value)


@pytest.mark.parametrize("other", [torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 7, 1, 1)])
def test_m4_whatever_can_be_scores_is_refused_beside_others(other):
    for output in ((LOGITS, other), [other, LOGITS], Both(LOGITS, other)):
        with pytest.raises(ModelError, match="several tensors"):
            find_logits(output)


def test_m4_a_lost_batch_dimension_is_named():
    with pytest.raises(ModelError, match=r"squeeze\(1\)"):
        find_logits(torch.tensor(0.3))


def test_one_score_per_sample_becomes_a_column():
    assert find_logits(torch.zeros(5)).shape == (5, 1)


def test_a_key_chooses_among_several():
    output = {"a": torch.zeros(2, 3), "b": LOGITS}
    assert torch.equal(find_logits(output, "b"), LOGITS)
    assert torch.equal(find_logits((torch.zeros(2, 1), LOGITS), 1), LOGITS)
    with pytest.raises(InputError, match=r"'c'.*allowed: 'a' of shape \(2, 3\), 'b'"):
        find_logits(output, "c")
    with pytest.raises(ModelError, match=r"several tensors.*'a' of shape \(2, 3\), 'b'.*output="):
        find_logits(output)


@pytest.mark.parametrize(
    "output", [torch.zeros(2, 3, 8, 8), torch.tensor([1, 2]), {"n": 3}, None, torch.tensor(1.0)]
)
def test_outputs_without_scores_are_refused(output):
    with pytest.raises(ModelError):
        find_logits(output)


def test_tasks_follow_from_the_number_of_scores():
    assert resolve_task(LOGITS) == "multiclass"
    assert resolve_task(SINGLE) == "binary"
    assert resolve_task(LOGITS[:, :2], "binary") == "multiclass"
    assert resolve_task(LOGITS, "multilabel") == "multilabel"
    assert class_count(SINGLE) == 2
    for logits, task in ((LOGITS, "binary"), (SINGLE, "multiclass"), (LOGITS, "regression")):
        with pytest.raises(InputError, match=task):
            resolve_task(logits, task)


def test_multiclass_targets():
    assert predicted_class(LOGITS).tolist() == [1, 0]
    for target in ("predicted", torch.tensor([1, 0]), np.array([1, 0]), [1, 0]):
        scores, ids = select_target(LOGITS, target)
        assert scores.tolist() == [3.0, 4.0]
        assert ids.tolist() == [1, 0]
    scores, ids = select_target(LOGITS, "label", torch.tensor([2, 2]))
    assert scores.tolist() == [2.0, 0.5]
    scores, ids = select_target(LOGITS, 1)
    assert scores.tolist() == [3.0, -1.0]
    assert ids.tolist() == [1, 1]


def test_a_single_logit_speaks_for_both_classes():
    scores, ids = select_target(SINGLE)
    assert ids.tolist() == [1, 0, 1]
    assert scores.tolist() == [2.0, 3.0, 0.5]
    scores, _ = select_target(SINGLE, "label", torch.tensor([0, 0, 1]))
    assert scores.tolist() == [-2.0, 3.0, 0.5]
    assert select_target(SINGLE, 0)[0].tolist() == [-2.0, 3.0, -0.5]


def test_scores_carry_gradients_to_the_chosen_logits_only():
    logits = LOGITS.clone().requires_grad_()
    select_target(logits, [2, 0])[0].sum().backward()
    assert logits.grad.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_multilabel_needs_an_explicit_class_for_labels():
    assert select_target(LOGITS, 2, task="multilabel")[0].tolist() == [2.0, 0.5]
    with pytest.raises(InputError, match=r"multi-label.*int"):
        select_target(LOGITS, "label", torch.tensor([0, 1]), task="multilabel")


@given(st.integers(0, 6))
def test_a_wrong_number_of_targets_is_never_zipped(n):
    targets = torch.zeros(n, dtype=torch.long)
    if n == len(LOGITS):
        assert len(select_target(LOGITS, targets)[0]) == n
        return
    for target, labels in ((targets, None), ("label", targets)):
        with pytest.raises(InputError, match="2 samples"):
            select_target(LOGITS, target, labels)


@pytest.mark.parametrize(
    ("target", "labels", "text"),
    [
        (3, None, "target 3 lies outside the model's 3 classes"),
        (-1, None, "target -1"),
        ("label", torch.tensor([0, 7]), "label 7 lies outside"),
        ("label", None, "needs the labels"),
        ("truth", None, "'truth'"),
        (torch.tensor([0.0, 1.0]), None, "integers"),
        (torch.tensor([[0], [1]]), None, "shape"),
        (True, None, "shape"),
    ],
)
def test_bad_targets_are_refused(target, labels, text):
    with pytest.raises(InputError, match=text):
        select_target(LOGITS, target, labels)


def test_margins():
    assert margin(LOGITS[:, :2]).tolist() == [2.0, -5.0]
    assert margin(LOGITS, positive=2).tolist() == [-1.0, -3.5]
    assert margin(SINGLE).tolist() == [2.0, -3.0, 0.5]
    assert margin(SINGLE, positive=0).tolist() == [-2.0, 3.0, -0.5]
    assert margin(LOGITS, "multilabel", positive=1).tolist() == [3.0, -1.0]
    with pytest.raises(InputError, match="positive class 3"):
        margin(LOGITS, positive=3)


def test_a_positive_margin_means_predicted():
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    for positive in range(4):
        assert torch.equal(margin(logits, positive=positive) > 0, predicted_class(logits) == positive)


def test_nan_scores_are_refused():
    require_finite(LOGITS)
    bad = LOGITS.clone()
    bad[1, 2] = float("nan")
    with pytest.raises(ModelError, match="1 of 2 samples"):
        require_finite(bad)
