"""What the tests of LRP share: one run of the rules, and the architectures with all that adds a constant set
to zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import pytest
import timm
import torch
import torchvision.models as tv
from timm.models.resnet import BasicBlock as TimmBasicBlock
from timm.models.resnet import Bottleneck as TimmBottleneck
from timm.models.resnet import ResNet as TimmResNet
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import _efficientnet_conf
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.video.resnet import BasicBlock as VideoBlock
from torchvision.models.video.resnet import BasicStem, Conv3DSimple, VideoResNet

from shortcutscope.attribution.lrp import Composite, propagation

EPSILON = 1e-6


@pytest.fixture
def compose() -> Callable[..., Composite]:
    """A composite with one rule for all layers."""

    def composed(rule, first=None, *, attention="cp", epsilon=EPSILON):
        return Composite("test", rule, rule, first=first, attention=attention, epsilon=epsilon)

    return composed


@pytest.fixture
def gradients() -> Callable[..., tuple[Tensor, tuple[Tensor, ...]]]:
    """Gradients of sum(weight * function(*inputs)) under a composite: relevance is gradient x tensor.

    An input that receives nothing has a gradient of zeros.
    """

    def run(composite, function, *inputs: Tensor, weight: Tensor | None = None):
        inputs = tuple(tensor.detach().clone().requires_grad_() for tensor in inputs)
        with propagation(composite):
            result = function(*inputs)
        weight = torch.ones_like(result) if weight is None else weight
        found = torch.autograd.grad(result, inputs, weight, allow_unused=True)
        filled = tuple(torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True))
        return result.detach(), filled

    return run


@pytest.fixture
def input_relevance() -> Callable[..., tuple[Tensor, Tensor]]:
    """Output and relevance at the input, also of rules that deliver it directly (flat, box)."""

    def run(composite, function, x: Tensor, weight: Tensor | Callable[[Tensor], Tensor]):
        x = x.detach().clone().requires_grad_()
        with propagation(composite) as rules:
            result = function(x)
        weight = weight(result.detach()) if callable(weight) else weight
        # None arrives where a rule of the first layer has taken all of it.
        (g,) = torch.autograd.grad(result, x, weight, allow_unused=True)
        return result.detach(), rules.input_relevance(x, g).detach()

    return run


@dataclass(frozen=True)
class Architecture:
    """A network family: a thin build for every run, the one that people use for the slow run."""

    name: str
    thin: Callable[[], nn.Module]
    shape: tuple[int, ...]
    full: Callable[[], nn.Module] | None = None
    full_shape: tuple[int, ...] | None = None
    attention: bool = False


class ResidualBlock1d(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv1d(width_in, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm1d(width)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = None
        if stride > 1 or width_in != width:
            self.shortcut = nn.Sequential(
                nn.Conv1d(width_in, width, 1, stride, bias=False), nn.BatchNorm1d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        h += x if self.shortcut is None else self.shortcut(x)
        return self.relu(h)


def resnet1d() -> nn.Module:
    """Wide enough that z+ finds a positive contribution for every output that has relevance."""
    return nn.Sequential(
        nn.Conv1d(12, 32, 7, 2, 3, bias=False), nn.BatchNorm1d(32), nn.ReLU(inplace=True),
        ResidualBlock1d(32, 32), ResidualBlock1d(32, 48, 2), ResidualBlock1d(48, 64, 2),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip


class SqueezeExcite(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.reduce = nn.Conv2d(width, 4, 1)
        self.expand = nn.Conv2d(4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = F.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.expand(scale))


class OwnNetwork(nn.Module):
    """What users write: an inline +, functional relu, one ReLU for all, in-place sums, an SE gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.mix = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.gate = SqueezeExcite(8)
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        h = self.act(self.norm(self.mix(h))) + h
        k = self.gate(self.act(self.mix(h)))
        k += h
        k = k.relu_()
        h = F.max_pool2d(torch.cat([k, 0.5 * h], 1)[:, :8], 2)
        return self.head(F.adaptive_avg_pool2d(F.relu(self.down(h), inplace=True), 1).flatten(1))


def _vgg(batch_norm: bool) -> nn.Module:
    layers = tv.vgg.make_layers([8, "M", 12, "M", 16, 16, "M"], batch_norm=batch_norm)
    # The library's classifier has 4096 units whatever the convolutions give.
    head = nn.Sequential(nn.Linear(16 * 4, 24), nn.ReLU(True), nn.Dropout(), nn.Linear(24, 5))
    return nn.Sequential(layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), head)


def _alexnet() -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(3, 8, 11, stride=4, padding=2), nn.ReLU(True), nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 12, 5, padding=2), nn.ReLU(True), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(True),
        nn.MaxPool2d(3, 2),
    )  # fmt: skip
    head = nn.Sequential(nn.Dropout(), nn.Linear(12 * 4, 24), nn.ReLU(True), nn.Linear(24, 5))
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(2), nn.Flatten(), head)


def _resnet(block: type[nn.Module], layers: Sequence[int]) -> nn.Module:
    model = tv.ResNet(block, list(layers), num_classes=5, width_per_group=64)
    return model


def _efficientnet() -> nn.Module:
    setting, last = _efficientnet_conf("efficientnet_b0", width_mult=0.25, depth_mult=0.3)
    return tv.EfficientNet(setting, dropout=0.2, last_channel=last, num_classes=5)


def _mobilenet_v3() -> nn.Module:
    setting, last = tv.mobilenetv3._mobilenet_v3_conf("mobilenet_v3_small", width_mult=0.5)
    return tv.MobileNetV3(setting, last, num_classes=5)


def _convnext() -> nn.Module:
    blocks = [CNBlockConfig(12, 24, 1), CNBlockConfig(24, 32, 2), CNBlockConfig(32, None, 1)]
    return tv.ConvNeXt(blocks, num_classes=5)


def _swin() -> nn.Module:
    return tv.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=5)


def _video() -> nn.Module:
    model = VideoResNet(VideoBlock, [Conv3DSimple] * 4, [1, 1, 1, 1], BasicStem, num_classes=5)
    return model


def _timm(name: str, **options: object) -> nn.Module:
    return timm.create_model(name, num_classes=5, **options)


THIN_VIT = {"img_size": 32, "embed_dim": 24, "depth": 3, "num_heads": 3}
IMAGE = (3, 32, 32)
LARGE = (3, 64, 64)
ARCHITECTURES = [
    Architecture("alexnet", _alexnet, (3, 80, 80), tv.alexnet, (3, 96, 96)),
    Architecture("vgg16", partial(_vgg, False), IMAGE, tv.vgg16),
    Architecture("vgg16_bn", partial(_vgg, True), IMAGE, tv.vgg16_bn),
    Architecture("resnet18", partial(_resnet, BasicBlock, [1, 1, 1, 1]), IMAGE, tv.resnet18),
    Architecture("resnet50", partial(_resnet, Bottleneck, [1, 2, 1, 1]), IMAGE, tv.resnet50),
    Architecture(
        "densenet121", lambda: tv.DenseNet(8, (2, 3, 2, 2), 16, num_classes=5), IMAGE, tv.densenet121
    ),
    Architecture(
        "mobilenet_v2", lambda: tv.mobilenet_v2(num_classes=5, width_mult=0.25), IMAGE, tv.mobilenet_v2
    ),
    Architecture("mobilenet_v3_small", _mobilenet_v3, IMAGE, tv.mobilenet_v3_small),
    Architecture("efficientnet_b0", _efficientnet, IMAGE, tv.efficientnet_b0),
    Architecture("convnext_tiny", _convnext, LARGE, tv.convnext_tiny),
    Architecture(
        "vit_b_16",
        lambda: tv.VisionTransformer(32, 8, 2, 3, 24, 48, num_classes=5),
        IMAGE,
        partial(tv.vit_b_16, image_size=64),
        LARGE,
        attention=True,
    ),
    Architecture("swin_t", _swin, IMAGE, tv.swin_t, LARGE, attention=True),
    Architecture("r3d_18", _video, (3, 4, 16, 16), tv.video.r3d_18, (3, 4, 32, 32)),
    Architecture(
        "timm_resnet18",
        lambda: TimmResNet(
            TimmBasicBlock, (1, 1, 1, 1), num_classes=5, channels=(32, 48, 64, 64), stem_width=32
        ),
        IMAGE,
        partial(_timm, "resnet18"),
    ),
    Architecture(
        "timm_resnet50d",
        lambda: TimmResNet(
            TimmBottleneck,
            (1, 1, 1, 1),
            num_classes=5,
            channels=(24, 32, 48, 48),
            stem_width=8,
            stem_type="deep",
            avg_down=True,
        ),
        LARGE,
        partial(_timm, "resnet50d"),
    ),
    Architecture(
        "timm_vit_tiny",
        partial(_timm, "vit_tiny_patch16_224", **THIN_VIT, patch_size=8),
        IMAGE,
        partial(_timm, "vit_tiny_patch16_224", img_size=64),
        LARGE,
        attention=True,
    ),
    Architecture(
        "timm_vit_small_registers",
        partial(_timm, "vit_small_patch16_224", **THIN_VIT, patch_size=8, reg_tokens=2, qk_norm=True),
        IMAGE,
        partial(_timm, "vit_small_patch16_224", img_size=64),
        LARGE,
        attention=True,
    ),
    Architecture(
        "timm_deit_tiny_distilled",
        partial(_timm, "deit_tiny_distilled_patch16_224", **THIN_VIT, patch_size=8),
        IMAGE,
        partial(_timm, "deit_tiny_patch16_224", img_size=64),
        LARGE,
        attention=True,
    ),
    Architecture("resnet1d", resnet1d, (12, 64)),
    Architecture("own_network", OwnNetwork, (3, 16, 16)),
]
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
CONSTANTS = (
    "pos_embed",
    "pos_embedding",
    "cls_token",
    "class_token",
    "dist_token",
    "reg_token",
    "relative_position",
)


def give_weights(model: nn.Module, *, biases: bool) -> nn.Module:
    """Weights as training leaves them, none of them zero; whatever adds a constant random or zero."""

    def constant(tensor: Tensor) -> None:
        if biases:
            tensor.normal_(0, 0.1)
        else:
            tensor.zero_()

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                constant(module.running_mean)
            if isinstance(module, nn.Linear) and not module.weight.any():
                module.weight.normal_(0, 0.05)
        for name, parameter in model.named_parameters():
            if name.endswith("layer_scale"):
                parameter.uniform_(0.2, 1.0)
            if name.endswith("bias") or any(part in name for part in CONSTANTS):
                constant(parameter)
    return model.double().eval()


@cache
def _built(name: str, full: bool, biases: bool) -> nn.Module:
    architecture = BY_NAME[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        build = architecture.full if full else architecture.thin
        assert build is not None
        return give_weights(build(), biases=biases)


@pytest.fixture
def build() -> Callable[..., tuple[nn.Module, Tensor]]:
    """A model of the list in float64 with a batch of two for it; one object per session: leave it alone."""

    def built(name: str, *, full: bool = False, biases: bool = False) -> tuple[nn.Module, Tensor]:
        architecture = BY_NAME[name]
        shape = (architecture.full_shape or architecture.shape) if full else architecture.shape
        generator = torch.Generator().manual_seed(1)
        # Signed, as normalised images are.
        return _built(name, full, biases), torch.randn(2, *shape, generator=generator, dtype=torch.float64)

    return built


@pytest.fixture
def attention_models() -> frozenset[str]:
    return frozenset(a.name for a in ARCHITECTURES if a.attention)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "architecture" in metafunc.fixturenames:
        metafunc.parametrize("architecture", list(BY_NAME))
    if "full_architecture" in metafunc.fixturenames:
        metafunc.parametrize("full_architecture", [a.name for a in ARCHITECTURES if a.full])
