"""Channels last where the network gives the same scores in it, contiguous elsewhere."""

import pytest
import torch
from model_states import model_state
from torch import nn
from torch.nn.functional import max_pool2d

from shortcutscope.errors import ModelError
from shortcutscope.models.memory_format import choose_memory_format

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, read):
        super().__init__()
        self.conv, self.fc, self.read = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 2), read

    def forward(self, x):
        return self.fc(self.read(self.conv(x).relu()))


def strided(maps):
    return maps.as_strided((len(maps), 256), (256, 1))


class Sign(torch.autograd.Function):
    """A gradient that is viewed as contiguous."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.view(len(gradient), -1).view(gradient.shape)


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda maps: maps.flatten(1), None),
        (lambda maps: maps.view(len(maps), -1), "fails: view size is not compatible"),
        (strided, "gives other scores"),
        (lambda maps: max_pool2d(Sign.apply(maps), 1).flatten(1), "fails: "),
    ],
    ids=["flatten", "view", "as_strided", "backward"],
)
def test_m2_channels_last_is_tried_once(read, reason):
    model = Net(read).train()
    before = model_state(model)
    generator = torch.get_rng_state()
    chosen = choose_memory_format(model, X)
    assert chosen.layout is (torch.channels_last if reason is None else torch.contiguous_format)
    assert chosen.reason is None if reason is None else reason in chosen.reason
    assert model_state(model) == before
    assert torch.equal(torch.get_rng_state(), generator)


def test_m2_another_network_that_sees_the_images_counts():
    plain, viewing = Net(lambda maps: maps.flatten(1)), Net(lambda maps: maps.view(len(maps), -1))
    assert choose_memory_format(plain, X).layout is torch.channels_last
    assert choose_memory_format(plain, X, viewing).layout is torch.contiguous_format


def test_m2_volumes_and_mixed_networks():
    volumes = torch.rand(2, 1, 4, 4, 4)
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(16, 2))
    assert choose_memory_format(model, volumes).layout is torch.contiguous_format
    assert choose_memory_format(model, volumes, training=True).layout is torch.channels_last_3d
    both = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    both.unused = nn.Conv3d(1, 1, 1)
    both.forward = lambda x: both[2](both[1](both[0](x)))
    assert choose_memory_format(both, X).layout is torch.contiguous_format


def test_m17_weights_whose_gradients_onednn_writes_past_its_memory_stay_contiguous():
    def network(width, stride):
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.Conv2d(width, 4, 1, stride), nn.Flatten())

    for width, stride, layout in (
        (8, 2, torch.contiguous_format),
        (8, 1, torch.channels_last),
        (16, 2, torch.channels_last),
    ):
        assert choose_memory_format(network(width, stride), X, training=True).layout is layout
        assert choose_memory_format(network(width, stride), X).layout is torch.channels_last


def test_m2_a_network_that_fails_in_any_format_is_refused():
    with pytest.raises(ModelError, match="the model fails on a batch of shape"):
        choose_memory_format(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), X)
