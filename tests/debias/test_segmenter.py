from __future__ import annotations

import pytest
import torch
from model_states import model_state
from torch import nn

from shortcutscope.debias.segmenter import Segmenter
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import find_layers
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import thin_cnn1d, thin_cnn3d, thin_resnet18
from shortcutscope.scan.capture import capture_batch


def images(*size: int) -> torch.Tensor:
    return torch.randn(3, 1, *size, generator=torch.Generator().manual_seed(0))


def made(backbone: nn.Module, x: torch.Tensor, foreground: int = 1) -> Segmenter:
    with seeded(1):
        return Segmenter.around(backbone, x, width=6, foreground=foreground)


def test_the_score_is_the_mean_over_pixels_of_the_positive_channel() -> None:
    x = images(32, 32)
    model = made(thin_resnet18(width=4), x).eval()
    by_hand = model.maps(x).softmax(dim=1)[:, 1].mean((1, 2))
    torch.testing.assert_close(model(x).softmax(dim=1)[:, 1], by_hand)
    model.slope.fill_(3.0)
    model.offset.fill_(-0.5)
    margin = model(x)[:, 1] - model(x)[:, 0]
    torch.testing.assert_close(margin, 3 * torch.logit(by_hand) - 0.5, atol=1e-5, rtol=1e-5)
    other = made(thin_resnet18(width=4), x, foreground=0)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.eval()(x), model(x).flip(1))


def test_one_layer_a_resolution_down_to_the_finest_and_no_classifier() -> None:
    x = images(32, 32)
    backbone = thin_resnet18(width=4)
    model = made(backbone, x)
    assert [layer.grid for layer in model.layers] == [(2, 2), (4, 4), (8, 8), (16, 16)]
    assert [layer.name for layer in model.layers] == ["blocks.7", "blocks.5", "blocks.3", "blocks.1"]
    assert model.maps(x).shape == (3, 2, 16, 16)
    unused = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert unused == {"backbone.fc.weight", "backbone.fc.bias"}


@pytest.mark.parametrize("size", [(64,), (16, 16, 16)])
def test_signals_and_volumes_are_segmented_too(size: tuple[int, ...]) -> None:
    x = images(*size)
    network = thin_cnn1d if len(size) == 1 else thin_cnn3d
    model = made(network(in_channels=1), x).eval()
    assert model.maps(x).dim() == 2 + len(size)
    assert model(x).shape == (3, 2)


def test_what_works_in_place_behind_a_layer_does_not_change_what_the_decoder_gets() -> None:
    backbone = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    x = images(8, 8)
    model = Segmenter(backbone, find_layers(backbone, x, "0"), width=3).eval()
    plain = model(x)
    with frozen(model):  # in which rectifiers are not in place
        torch.testing.assert_close(model(x), plain)


def test_it_is_audited_like_any_other_model() -> None:
    x = images(32, 32)
    model = made(thin_resnet18(width=4), x).eval()
    before = model_state(model)
    assert find_layers(model, x)
    layers = find_layers(model, x, ["backbone.blocks.*", "lateral.*"])
    with frozen(model):
        pools = capture_batch(model, x, layers)
    assert float(pools.relevances["backbone.blocks.7"]["sum"].abs().sum()) > 0
    assert model_state(model) == before


def test_what_cannot_be_segmented_is_refused() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(InputError, match="tells positions apart"):
        Segmenter.around(flat, images(8, 8))
    x = images(32, 32)
    with pytest.raises(InputError, match="width >= 1"):
        Segmenter.around(thin_resnet18(width=4), x, width=0)
    with pytest.raises(InputError, match="width >= 1"):
        Segmenter.around(thin_resnet18(width=4), x, foreground=2)
