"""The architectures that every promise about models is tested on, at the smallest inputs they take."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import pytest
import timm
import torch
import torchvision.models as tv
from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


class ConvNet1d(nn.Module):
    """A signal classifier without repeated classes."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(12, 8, 5), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.MaxPool1d(2),
            nn.Conv1d(8, 16, 5), nn.ReLU(inplace=True), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.features(x))


class ReusedReLU(nn.Module):
    """One ReLU for all layers, works in place, returns a dict with an auxiliary head."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 4)
        self.aux = nn.Linear(6, 2)

    def forward(self, x):
        x.sub_(0.5)
        h = self.relu(self.norm1(self.conv1(x)))
        g = self.conv2(h)
        g += h
        g = self.relu(g).mean((2, 3))
        return {"features": g, "logits": self.head(g), "aux": self.aux(g)}


class Cell(nn.Module):
    """A block that returns a tuple and overwrites its convolution's output."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, state):
        x, count = state
        return torch.relu_(self.conv(x)) + x, count + 1


class TupleNet(nn.Module):
    """Blocks and the model return tuples."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3)
        self.cells = nn.ModuleList([Cell(5), Cell(5)])
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        state = self.stem(x), torch.tensor(0)
        for cell in self.cells:
            state = cell(state)
        return state[1], self.head(state[0].mean((2, 3))).squeeze(1)


IMAGE = (3, 32, 32)
ARCHITECTURES = [
    Architecture("resnet18", tv.resnet18, IMAGE),
    Architecture("resnet50", tv.resnet50, IMAGE),
    Architecture("vgg16", tv.vgg16, IMAGE),
    Architecture("vgg16_bn", tv.vgg16_bn, IMAGE),
    Architecture("alexnet", tv.alexnet, (3, 64, 64)),
    Architecture("densenet121", tv.densenet121, IMAGE),
    Architecture("mobilenet_v2", tv.mobilenet_v2, IMAGE),
    Architecture("efficientnet_b0", tv.efficientnet_b0, IMAGE),
    Architecture("convnext_tiny", tv.convnext_tiny, IMAGE),
    Architecture("vit_b_16", lambda: tv.vit_b_16(image_size=32), IMAGE),
    Architecture("swin_t", tv.swin_t, IMAGE),
    Architecture("r3d_18", tv.video.r3d_18, (3, 4, 32, 32)),
    Architecture("timm_resnet18", lambda: timm.create_model("resnet18"), IMAGE),
    Architecture("timm_vit_tiny", lambda: timm.create_model("vit_tiny_patch16_224", img_size=32), IMAGE),
    Architecture("conv1d", ConvNet1d, (12, 60)),
    Architecture("reused_relu", ReusedReLU, (3, 16, 16)),
    Architecture("tuple", TupleNet, (3, 16, 16)),
]
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}


@lru_cache(maxsize=1)
def _built(name: str) -> nn.Module:
    # Large models are mostly initialisation time and memory: the tests of a file that take one follow each
    # other, and compare states before and after instead of trusting that they get a fresh one.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BY_NAME[name].build()


@pytest.fixture
def build() -> Callable[[str], tuple[nn.Module, Tensor]]:
    """A model of the list, one object for all tests in a row, with a batch of two for it."""

    def built(name: str) -> tuple[nn.Module, Tensor]:
        generator = torch.Generator().manual_seed(1)
        return _built(name), torch.rand(2, *BY_NAME[name].shape, generator=generator)

    return built


def pytest_generate_tests(metafunc):
    if "architecture" in metafunc.fixturenames:
        names = [architecture.name for architecture in ARCHITECTURES]
        metafunc.parametrize("architecture", names, scope="module")  # one network after the other
