"""Narrow networks that train in seconds on one core, for demos, benchmarks and tests.

Every factory can be named on the command line, for example ``shortcutscope.models.thin:thin_resnet18``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from shortcutscope.errors import InputError

__all__ = ["BasicBlock", "ThinResNet", "seeded", "thin_cnn1d", "thin_cnn3d", "thin_resnet18"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block from a known state of torch's generators and put their former state back.

    Torch initialises weights and draws dropout masks from the global generators only; this keeps such code
    reproducible without changing what the caller draws next.

    Parameters
    ----------
    seed
        State inside the block.
    """
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        yield


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection (He et al. 2016, figure 5 left).

    Each ReLU is a module of its own, so that hooks on it see one call per forward pass.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and the output.
    stride
        Stride of the first convolution and of the projection on the shortcut path.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        h = self.relu1(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(h)) + self.downsample(x))
        return out


class ThinResNet(nn.Module):
    """A ResNet for small images: 3x3 stem of stride 2, basic blocks, average pooling, one linear layer.

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
    ) -> None:
        super().__init__()
        if min(width, in_channels, num_classes, len(blocks), *blocks) < 1:
            raise InputError(
                f"width={width}, blocks={tuple(blocks)}, in_channels={in_channels}, "
                f"num_classes={num_classes}: all must be 1 or more, with at least one stage"
            )
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential()
        channels = width
        for stage, count in enumerate(blocks):
            for position in range(count):
                stride = 2 if stage > 0 and position == 0 else 1
                self.blocks.append(BasicBlock(channels, width * 2**stage, stride))
                channels = width * 2**stage
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
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


def _conv_net(
    conv: type[nn.Conv1d | nn.Conv3d],
    norm: type[nn.BatchNorm1d | nn.BatchNorm3d],
    pool: type[nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool3d],
    channels: Sequence[int],
    num_classes: int,
) -> nn.Sequential:
    """Stack strided convolution, batch norm and ReLU, then pool globally and classify."""
    net = nn.Sequential()
    for depth, (before, after) in enumerate(pairwise(channels)):
        block = nn.Sequential(conv(before, after, 3, 2, 1, bias=False), norm(after), nn.ReLU())
        net.add_module(f"block{depth + 1}", block)
    net.add_module("pool", pool(1))
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
        return _conv_net(nn.Conv1d, nn.BatchNorm1d, nn.AdaptiveAvgPool1d, channels, num_classes)


def thin_cnn3d(num_classes: int = 2, in_channels: int = 1, width: int = 8, seed: int = 0) -> nn.Sequential:
    """Three strided 3-D convolutions for volumes: (N, in_channels, D, H, W) to logits.

    Parameters
    ----------
    num_classes, in_channels, width, seed
        As in :func:`thin_cnn1d`.
    """
    channels = (in_channels, width, 2 * width, 4 * width)
    with seeded(seed):
        return _conv_net(nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d, channels, num_classes)
