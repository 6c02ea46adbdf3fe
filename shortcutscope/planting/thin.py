"""Narrow networks that train in seconds on one core, for demos, benchmarks and tests.

Every factory can be named on the command line, for example ``shortcutscope.planting.thin:thin_resnet18``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from shortcutscope.errors import InputError
from shortcutscope.models.seeding import seeded

__all__ = [
    "BasicBlock",
    "ThinResNet",
    "simba_cnn3d",
    "thin_cnn1d",
    "thin_cnn3d",
    "thin_resnet1d",
    "thin_resnet18",
]

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MEANS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class BasicBlock(nn.Module):
    """Two convolutions of width 3 with a residual connection (He et al. 2016, figure 5 left).

    Each ReLU is a module of its own, so that hooks on it see one call per forward pass.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and the output.
    stride
        Stride of the first convolution and of the projection on the shortcut path.
    dims
        Spatial axes: 1 for signals, 2 for images, 3 for volumes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dims: int = 2) -> None:
        super().__init__()
        conv, norm = _CONVOLUTIONS[dims], _NORMS[dims]
        self.conv1 = conv(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = norm(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = conv(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = norm(out_channels)
        self.relu2 = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                conv(in_channels, out_channels, 1, stride, bias=False), norm(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, *spatial) to (N, out_channels, *spatial / stride)."""
        h = self.relu1(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(h)) + self.downsample(x))
        return out


class ThinResNet(nn.Module):
    """A ResNet for small images, volumes and signals: stem, basic blocks, average pooling, one linear layer.

    The stem is a convolution of width 3 and stride 2.

    Parameters
    ----------
    width
        Channels of the stem and of the first stage; each further stage doubles them.
    blocks
        Basic blocks per stage; every stage but the first halves the resolution.
    in_channels
        Channels of the input image.
    num_classes
        Number of logits.
    dims
        Spatial axes: 1 for signals, 2 for images, 3 for volumes.

    Raises
    ------
    InputError
        If a size is not positive.
    """

    def __init__(
        self,
        width: int = 16,
        blocks: Sequence[int] = (2, 2, 2, 2),
        in_channels: int = 1,
        num_classes: int = 2,
        dims: int = 2,
    ) -> None:
        super().__init__()
        if min(width, in_channels, num_classes, len(blocks), *blocks) < 1:
            raise InputError(
                f"width={width}, blocks={tuple(blocks)}, in_channels={in_channels}, "
                f"num_classes={num_classes}: all must be 1 or more, with at least one stage"
            )
        if dims not in _CONVOLUTIONS:
            raise InputError(f"dims={dims}; allowed are 1 (signals), 2 (images) and 3 (volumes)")
        self.stem = nn.Sequential(
            _CONVOLUTIONS[dims](in_channels, width, 3, 2, 1, bias=False), _NORMS[dims](width), nn.ReLU()
        )
        self.blocks = nn.Sequential()
        channels = width
        for stage, count in enumerate(blocks):
            for position in range(count):
                stride = 2 if stage > 0 and position == 0 else 1
                self.blocks.append(BasicBlock(channels, width * 2**stage, stride, dims))
                channels = width * 2**stage
        self.pool = _MEANS[dims](1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map samples (N, in_channels, *spatial) to logits (N, num_classes)."""
        logits: Tensor = self.fc(self.pool(self.blocks(self.stem(x))).flatten(1))
        return logits


def thin_resnet18(num_classes: int = 2, in_channels: int = 1, width: int = 16, seed: int = 0) -> ThinResNet:
    """ResNet-18's four stages of two blocks at a quarter (``width=16``) of its width.

    Parameters
    ----------
    num_classes, in_channels, width
        As in :class:`ThinResNet`.
    seed
        Seed of the initial weights.
    """
    with seeded(seed):
        return ThinResNet(width, (2, 2, 2, 2), in_channels, num_classes)


def thin_resnet1d(num_classes: int = 2, in_channels: int = 12, width: int = 16, seed: int = 0) -> ThinResNet:
    """The same network of 1-D convolutions, for signals such as a 12-lead ECG: (N, in_channels, L) to logits.

    Parameters
    ----------
    num_classes, in_channels, width
        As in :class:`ThinResNet`.
    seed
        Seed of the initial weights.
    """
    with seeded(seed):
        return ThinResNet(width, (2, 2, 2, 2), in_channels, num_classes, dims=1)


def simba_cnn3d(
    num_classes: int = 2,
    in_channels: int = 1,
    width: int = 32,
    blocks: int = 5,
    activation: str = "sigmoid",
    seed: int = 0,
) -> nn.Sequential:
    """The 3-D CNN of SimBA (Stanley et al. 2023): blocks of convolution, batch norm, sigmoid, max pooling.

    The shape is that of the authors' code (github.com/estanley16/SimBA): five blocks of 32 to 512 channels,
    average pooling, dropout of .2, one linear layer, Glorot's uniform weights. There the pooling halves what
    is left of 173 x 211 x 155 voxels; here it averages over all of it, so that volumes of any size fit, and
    32 voxels a side are the fewest for five blocks.

    Parameters
    ----------
    num_classes, in_channels
        Number of logits and of channels of the volume.
    width
        Channels of the first block; each further block doubles them.
    blocks
        Number of blocks; each halves the sides.
    activation
        ``"sigmoid"`` as published, or ``"relu"``, which trains in fewer steps.
    seed
        Seed of the initial weights.

    Raises
    ------
    InputError
        If a size is not positive, or for another activation.
    """
    if min(num_classes, in_channels, width, blocks) < 1 or activation not in ("sigmoid", "relu"):
        raise InputError(
            f"num_classes={num_classes}, in_channels={in_channels}, width={width}, blocks={blocks}, "
            f"activation={activation!r}: sizes must be 1 or more, the activation 'sigmoid' or 'relu'"
        )
    net, channels = nn.Sequential(), in_channels
    with seeded(seed):
        for depth in range(blocks):
            conv = nn.Conv3d(channels, width * 2**depth, 3, padding=1)
            channels = width * 2**depth
            act = nn.Sigmoid() if activation == "sigmoid" else nn.ReLU()
            block = nn.Sequential(conv, nn.BatchNorm3d(channels), act, nn.MaxPool3d(2))
            net.add_module(f"block{depth + 1}", block)
        net.add_module("pool", nn.AdaptiveAvgPool3d(1))
        net.add_module("dropout", nn.Dropout(0.2))
        net.add_module("flatten", nn.Flatten())
        net.add_module("fc", nn.Linear(channels, num_classes))
        for module in net.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return net


def _conv_net(dims: int, channels: Sequence[int], num_classes: int) -> nn.Sequential:
    """Stack strided convolution, batch norm and ReLU, then pool globally and classify."""
    net, conv, norm = nn.Sequential(), _CONVOLUTIONS[dims], _NORMS[dims]
    for depth, (before, after) in enumerate(pairwise(channels)):
        block = nn.Sequential(conv(before, after, 3, 2, 1, bias=False), norm(after), nn.ReLU())
        net.add_module(f"block{depth + 1}", block)
    net.add_module("pool", _MEANS[dims](1))
    net.add_module("flatten", nn.Flatten())
    net.add_module("fc", nn.Linear(channels[-1], num_classes))
    return net


def thin_cnn1d(num_classes: int = 2, in_channels: int = 12, width: int = 16, seed: int = 0) -> nn.Sequential:
    """Three strided 1-D convolutions for signals such as a 12-lead ECG: (N, in_channels, L) to logits.

    Parameters
    ----------
    num_classes, in_channels
        Number of logits and of leads.
    width
        Channels of the first block; each further block doubles them.
    seed
        Seed of the initial weights.
    """
    channels = (in_channels, width, 2 * width, 4 * width)
    with seeded(seed):
        return _conv_net(1, channels, num_classes)


def thin_cnn3d(num_classes: int = 2, in_channels: int = 1, width: int = 8, seed: int = 0) -> nn.Sequential:
    """Three strided 3-D convolutions for volumes: (N, in_channels, D, H, W) to logits.

    Parameters
    ----------
    num_classes, in_channels, width, seed
        As in :func:`thin_cnn1d`.
    """
    channels = (in_channels, width, 2 * width, 4 * width)
    with seeded(seed):
        return _conv_net(3, channels, num_classes)
