"""Small networks of every layout, in double precision so that oracles can be compared to the last digits."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vgg import make_layers
from torchvision.models.video.resnet import BasicBlock, BasicStem, Conv3DSimple, VideoResNet
from torchvision.models.vision_transformer import VisionTransformer

from shortcutscope.planting.thin import thin_resnet18


class Vgg(nn.Sequential):
    """Convolutions whose outputs are overwritten by an in-place ReLU."""

    def __init__(self):
        super().__init__(
            make_layers([6, "M", 8, 8, "M"]), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)
        )


class Joined(nn.Module):
    """A block that returns a tuple, inside a model that returns a dict with an auxiliary head."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return torch.tanh(self.conv(x)), x.mean()

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.block = self.Block()
        self.head = nn.Linear(4, 3)
        self.aux = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h, _ = self.block(self.stem(x))
        h = h.mean((2, 3))
        return {"aux": self.aux(h.detach()), "logits": self.head(h)}


class Residual(nn.Module):
    """Overwrites its layers' outputs by functional operations, which no flag can switch off, if asked to."""

    def __init__(self, inplace: bool = True):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)
        self.inplace_operations = inplace

    def forward(self, x: Tensor) -> Tensor:
        if self.inplace_operations:
            x.sub_(0.5)
        else:
            x = x - 0.5
        h = functional.relu(self.stem(x), inplace=self.inplace_operations)
        g = self.conv(h)
        if self.inplace_operations:
            g += h
        else:
            g = g + h
        return self.head(functional.relu(g, inplace=self.inplace_operations).mean((2, 3)))


def signal_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 5), nn.ReLU(inplace=True), nn.MaxPool1d(2), nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6),
        nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


def volume_net() -> nn.Module:
    model = VideoResNet(BasicBlock, [Conv3DSimple] * 4, [1, 1, 1, 1], BasicStem, num_classes=3)
    return nn.Sequential(model.stem, model.layer1, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(64, 3))


def vit() -> nn.Module:
    model = VisionTransformer(16, 4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3)
    nn.init.normal_(model.heads.head.weight)  # torchvision starts the head at zero
    return model


def swin() -> nn.Module:
    return SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=3)


@dataclass(frozen=True)
class Network:
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]

    def make(self) -> tuple[nn.Module, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.build().double().eval()
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 1.5)
            return model, torch.randn(5, *self.shape, dtype=torch.float64)


NETWORKS = {
    "resnet": Network(lambda: thin_resnet18(num_classes=3, in_channels=3, width=4), (3, 32, 32)),
    "vgg": Network(Vgg, (3, 16, 16)),
    "dict": Network(Joined, (3, 10, 10)),
    "vit": Network(vit, (3, 16, 16)),
    "swin": Network(swin, (3, 16, 16)),
    "signal": Network(signal_net, (2, 40)),
    "volume": Network(volume_net, (3, 4, 12, 12)),
}


@pytest.fixture(params=NETWORKS)
def network(request) -> tuple[nn.Module, Tensor]:
    """Each network with a batch of five."""
    return NETWORKS[request.param].make()


@pytest.fixture
def resnet() -> tuple[nn.Module, Tensor]:
    return NETWORKS["resnet"].make()


@pytest.fixture
def overwriting() -> tuple[nn.Module, nn.Module, Tensor]:
    """A network full of in-place operations, its out-of-place twin, and a batch."""
    model, x = Network(Residual, (3, 8, 8)).make()
    twin = Residual(inplace=False).double().eval()
    twin.load_state_dict(model.state_dict())
    return model, twin, x


@pytest.fixture
def make_network() -> Callable[[str], tuple[nn.Module, Tensor]]:
    return lambda name: NETWORKS[name].make()
