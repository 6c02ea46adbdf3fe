from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from shortcutscope.debias.baselines.adversarial import (
    Adversarial,
    Reversal,
    adversarial,
    confusion,
    last_block,
    reversal_strength,
)
from shortcutscope.debias.groups import group_by
from shortcutscope.debias.objective import Batch
from shortcutscope.errors import InputError
from shortcutscope.models.layers import find_layers
from shortcutscope.planting.thin import thin_cnn1d


@pytest.fixture
def labels(problem) -> np.ndarray:
    return problem.train.frame["label"].to_numpy()


def test_schedule_and_reversal() -> None:
    assert reversal_strength(0) == 0
    assert reversal_strength(0.3) == pytest.approx(2 / (1 + math.exp(-3)) - 1)
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = Reversal.apply(x, 0.5)
    assert torch.equal(y, x)
    y.sum().backward()
    assert x.grad.tolist() == [-0.5, -0.5]


def test_confusion_is_least_where_the_adversary_cannot_tell() -> None:
    z = torch.tensor([-3.0, 0.0, 2.0])
    p = torch.sigmoid(z)
    assert torch.allclose(confusion(z), -(p.log() + (1 - p).log()) / 2)
    assert float(confusion(z)[1]) == pytest.approx(math.log(2))
    assert int(confusion(z).argmin()) == 1


def _case(method: str, **options) -> tuple[nn.Module, Adversarial, Batch, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 2))
    images = torch.randn(6, 1, 6, 6)
    labels = np.array([0, 1, 0, 1, 0, 1])
    carries = np.array([0, 1, 1, 0, np.nan, 1])
    layer = find_layers(model, images, ["1"])[0]
    objective = Adversarial(layer, group_by(labels, carries), method=method, **options)
    rows = torch.tensor([0, 1, 2, 3, 4])
    return model, objective, Batch(images[rows], torch.from_numpy(labels)[rows], rows, 0.4), images[rows]


@pytest.mark.parametrize("method", ["reversal", "confusion"])
def test_gradients_are_those_of_the_two_players(method: str) -> None:
    model, objective, batch, images = _case(method, weight=0.7)
    sum(objective(model, batch).values()).backward()
    found = [p.grad.clone() for p in model[0].parameters()]
    players = [p.grad.clone() for p in objective.adversary.parameters()]

    known, carries = torch.tensor([0, 1, 2, 3]), torch.tensor([0.0, 1, 1, 0])
    features = model[:2](images).mean((2, 3))
    answers = objective.adversary(features[known])[:, 0]
    adversary = F.binary_cross_entropy_with_logits(answers, carries)
    if method == "reversal":
        against = -0.7 * reversal_strength(0.4) * adversary
    else:
        against = 0.7 * confusion(answers).mean()
    task = F.cross_entropy(model(images), batch.labels)
    expected = torch.autograd.grad(task + against, list(model[0].parameters()), retain_graph=True)
    own = torch.autograd.grad(adversary, list(objective.adversary.parameters()))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected, strict=True))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(players, own, strict=True))


def test_balanced_weighs_groups_and_a_batch_of_unknown_does_nothing() -> None:
    _, objective, batch, _ = _case("reversal", balanced=True)
    # Groups (0, 0), (0, 1), (1, 0) hold one sample each and (1, 1) two of the five known.
    assert objective._weights.tolist() == pytest.approx([1.25, 0.625, 1.25, 1.25, 0, 0.625])
    model, objective, batch, images = _case("confusion")
    rows = torch.tensor([4, 4])
    terms = objective(model, Batch(images[[4, 4]], batch.labels[[4, 4]], rows))
    assert float(terms["adversary"].detach()) == 0 == float(terms["confusion"].detach())


def test_the_adversary_sees_the_last_block(problem) -> None:
    assert last_block(problem).name == "blocks.1"
    assert last_block(problem, "stem.2").name == "stem.2"
    signals = replace(problem, model=thin_cnn1d(in_channels=1), train=_Signals())
    assert last_block(signals).name == "block3.2"


class _Signals:
    def __getitem__(self, i: int) -> tuple[torch.Tensor, int, int]:
        return torch.zeros(1, 64), 0, i


@pytest.mark.parametrize("method", ["reversal", "confusion"])
def test_recipe(method: str, problem) -> None:
    outcome = adversarial(problem, method=method)
    assert outcome.steps == 2
    assert outcome.details == {"layer": "blocks.1"}
    assert {"ce", "adversary"} <= set(outcome.history[-1])


def test_refuses(problem, labels) -> None:
    with pytest.raises(InputError, match="carries is None"):
        adversarial(replace(problem, carries=None))
    with pytest.raises(InputError, match="96 with it and 0 without"):
        adversarial(replace(problem, carries=np.ones(96)))
    with pytest.raises(InputError, match="'label 0 with the concept'"):
        adversarial(replace(problem, carries=labels.astype(float)), balanced=True)


def test_rebalanced_draws_every_group_alike_and_weighs_none(problem) -> None:
    layer = last_block(problem)
    groups = group_by(problem.train.frame["label"].to_numpy(), problem.carries)
    objective = Adversarial(layer, groups, balanced=True, rebalanced=True)
    draws = objective.draws()
    shares = [float(draws[groups.index == k].sum() / draws.sum()) for k in range(4)]
    assert shares == pytest.approx([0.25] * 4)
    assert objective._weights.unique().tolist() == [1.0]
    assert Adversarial(layer, groups).draws() is None
