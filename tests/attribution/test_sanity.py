"""Completeness and determinism, on models where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shortcutscope.attribution.attribute import attribute
from shortcutscope.attribution.sanity import completeness, determinism
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import model_state
from shortcutscope.planting.thin import thin_resnet18


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_integrated_gradients_are_complete(x):
    model = thin_resnet18(width=4)
    before = model_state(model)
    baseline = torch.full((1, 16, 16), 0.5)
    found = attribute(model, x, method="integrated_gradients", steps=64, baseline=baseline)

    result = completeness(model, x, found, baseline=baseline)

    model.eval()
    with torch.no_grad():
        difference = model(x) - model(baseline[None])
    expected = difference.gather(1, found.target[:, None])[:, 0]
    assert result.table["difference"].to_numpy() == pytest.approx(expected.numpy(), rel=1e-4)
    assert result.error < 0.05
    assert result.passed
    assert model_state(model.train()) == before


def test_half_of_the_relevance_is_incomplete(x):
    model = thin_resnet18(width=4)
    found = attribute(model, x, method="integrated_gradients")

    result = completeness(model, x, replace(found, relevance=found.relevance / 2))

    assert result.error == pytest.approx(0.5, abs=0.01)
    assert not result.passed
    assert "take more steps" in result.reason


def test_completeness_is_a_matter_of_the_input(x):
    model = thin_resnet18(width=4)
    found = attribute(model, x, method="gradient_x_activation", layer="blocks.0")
    with pytest.raises(InputError, match="at the input"):
        completeness(model, x, found)


def test_two_runs_are_equal(x):
    assert determinism(thin_resnet18(width=4), x, "lrp").difference == 0


def test_random_numbers_in_the_model_are_found(x):
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = thin_resnet18(width=4)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(functional.dropout(x, 0.5, True))

    with torch.random.fork_rng():
        result = determinism(Noisy(), x, "gradient_x_input", target=0)

    assert result.difference > 0
    assert not result.passed
    assert "random numbers" in result.reason
