"""A model is told from others by its weights, and within one piece of work without hashing them."""

import pytest
import torch
from torch import nn

from shortcutscope.models.fingerprint import Sighting, model_fingerprint
from shortcutscope.models.frozen import frozen
from shortcutscope.planting.thin import thin_resnet18


@pytest.fixture
def model() -> nn.Module:
    return thin_resnet18(width=4, seed=0)


def test_it_does_not_depend_on_layout_or_mode(model):
    before = model_fingerprint(model)
    assert model_fingerprint(model.to(memory_format=torch.channels_last).train()) == before


def test_a_model_is_recognised_through_a_loan_and_a_forward_pass(model):
    with frozen(model):
        seen = Sighting(model)
        model(torch.rand(2, 1, 32, 32))
    with frozen(model):
        model.to(memory_format=torch.channels_last)
        assert seen.is_of(model)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.fc.weight.mul_(2),
        lambda model: setattr(model.fc, "weight", nn.Parameter(model.fc.weight.clone())),
        lambda model: next(model.buffers()).add_(1),
        lambda model: model.train()(torch.rand(4, 1, 32, 32)),
    ],
)
@torch.no_grad()
def test_a_changed_model_is_not_the_one_that_was_seen(model, change):
    seen = Sighting(model)
    change(model)
    assert not seen.is_of(model)


def test_an_equal_model_is_another(model):
    assert not Sighting(model).is_of(thin_resnet18(width=4, seed=0))
