"""Small networks of every layout, in double precision so that oracles can be compared to the last digits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

import pytest
import torch
from model_states import model_state
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer


class Overwriting(nn.Module):
    """Writes into its input and its layers' outputs, and returns a dict with an auxiliary head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)
        self.aux = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x.sub_(0.5)
        h = torch.tanh_(self.stem(x))
        g = self.conv(h)
        g += h
        g = functional.relu_(g).mean((2, 3))
        return {"aux": self.aux(g.detach()), "logits": self.head(g)}


def resnet() -> nn.Module:
    shortcut = nn.Sequential(nn.Conv2d(4, 6, 1, stride=2, bias=False), nn.BatchNorm2d(6))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 4, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(4),
            relu=nn.ReLU(inplace=True),
            layer1=BasicBlock(4, 4),
            layer2=BasicBlock(4, 6, stride=2, downsample=shortcut),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(6, 3),
        )
    )


def vit() -> nn.Module:
    model = VisionTransformer(16, 4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3)
    nn.init.normal_(model.heads.head.weight)  # torchvision starts the head at zero
    return model


def swin() -> nn.Module:
    return SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=3)


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 3),
    )  # fmt: skip


def signal() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 5), nn.ReLU(), nn.Conv1d(4, 6, 3), nn.Tanh(), nn.AdaptiveAvgPool1d(1),
        nn.Flatten(), nn.Linear(6, 1),
    )  # fmt: skip


def volume() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 3, 3, padding=1), nn.GELU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 2)
    )


#: Name -> builder, shape of a sample, a layer with a grid.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "overwriting": (Overwriting, (3, 6, 6), "conv"),
    "vit": (vit, (3, 16, 16), "encoder.layers.encoder_layer_0"),
    "swin": (swin, (3, 16, 16), "features.1"),
    "signal": (signal, (2, 20), "2"),
    "volume": (volume, (1, 4, 6, 6), "1"),
}
#: Those that zennit knows.
REFERENCED = {"vgg": (vgg, (3, 12, 12), "4"), "resnet": (resnet, (3, 12, 12), "layer2")}


def _make(name: str) -> tuple[nn.Module, Tensor, str]:
    build, shape, layer = (NETWORKS | REFERENCED)[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().double()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        return model, torch.randn(3, *shape, dtype=torch.float64), layer


@pytest.fixture
def make_network() -> Callable[[str], tuple[nn.Module, Tensor, str]]:
    """A network by name, in training mode, with a batch of three and the name of a layer with a grid."""
    return _make


@pytest.fixture(params=NETWORKS)
def network(request) -> tuple[nn.Module, Tensor, str]:
    """Each network, in training mode, with a batch of three and the name of a layer with a grid."""
    return _make(request.param)


@pytest.fixture
def unchanged() -> Iterator[Callable[[nn.Module], None]]:
    """Name a model that has to be what it was when the test ends, as the global generator has to."""
    states = []
    generator = torch.get_rng_state()
    yield lambda model: states.append((model, model_state(model)))
    assert torch.equal(torch.get_rng_state(), generator)
    for model, state in states:
        assert model_state(model) == state
