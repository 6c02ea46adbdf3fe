from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from shortcutscope.debias.baselines.early_readout import (
    EarlyReadout,
    dedier,
    distillation_losses,
    readout_weights,
)
from shortcutscope.debias.objective import Batch
from shortcutscope.errors import InputError
from shortcutscope.models.layers import find_layers
from shortcutscope.planting.thin import thin_resnet18


def test_confident_errors_weigh_more() -> None:
    early = torch.tensor([[0.1, 0.7, 0.2], [0.1, 0.7, 0.2], [0.4, 0.35, 0.25]]).log()
    weights = readout_weights(early, torch.tensor([0, 1, 1]), alpha=2.0, beta=3.0)
    assert weights.tolist() == pytest.approx([math.exp(3 * 0.5**2), 1, math.exp(3 * 0.05**2)], rel=1e-5)
    single = readout_weights(torch.tensor([[math.log(3)]] * 2), torch.tensor([0, 1]), 1.0, 2.0)
    assert single.tolist() == pytest.approx([math.exp(2 * 0.5), 1])


def test_distillation_is_the_divergence_from_the_teacher() -> None:
    z, t = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.0, 2.0]])
    p, q = (t / 4).softmax(1), (z / 4).softmax(1)
    assert float(distillation_losses(z, t, 4.0)) == pytest.approx(16 * float((p * (p / q).log()).sum()))
    one = distillation_losses(torch.tensor([[-2.0]]), torch.tensor([[2.0]]), 4.0)
    assert torch.allclose(one, distillation_losses(z, t, 4.0))


@pytest.mark.parametrize("taught", [False, True])
def test_weights_begin_after_the_warmup_and_the_readout_leaves_the_network_alone(taught: bool) -> None:
    torch.manual_seed(0)
    model = thin_resnet18(width=4).eval()
    teacher = thin_resnet18(width=4, seed=1).eval().requires_grad_(False) if taught else None
    images, labels = torch.randn(8, 1, 32, 32), torch.tensor([0, 1] * 4)
    layer = find_layers(model, images[:2], ["blocks.1"])[0]
    objective = EarlyReadout(layer, 2, beta=2.0, warmup=0.2, teacher=teacher)
    plain = objective(model, Batch(images, labels, torch.arange(8), 0.1))
    later = objective(model, Batch(images, labels, torch.arange(8), 0.3))
    names = {"ce", "readout", "distillation"} if taught else {"ce", "readout"}
    assert set(plain) == names
    for name in names - {"readout"}:
        assert float(later[name].detach()) > float(plain[name].detach())
    assert not any("teacher" in name for name, _ in objective.named_parameters())
    assert torch.autograd.grad(later["readout"], model.stem[0].weight, allow_unused=True) == (None,)


def test_recipe(problem) -> None:
    outcome = dedier(problem)
    assert outcome.steps == 2
    assert outcome.details == {"layer": "blocks.0"}
    teacher = thin_resnet18(width=8)
    distilled = dedier(problem, teacher=teacher, layer="stem.2")
    assert "distillation" in distilled.history[-1]
    assert teacher.training
    assert all(p.requires_grad for p in teacher.parameters())
    single = dedier(
        replace(problem, initial=lambda seed: thin_resnet18(1, width=4), model=thin_resnet18(1, width=4))
    )
    assert single.steps == 2


def test_refuses(problem) -> None:
    with pytest.raises(InputError, match="same classes"):
        dedier(problem, teacher=thin_resnet18(3, width=4))
    with pytest.raises(InputError, match="no clean samples"):
        dedier(replace(problem, clean=None), teacher="specialist")
