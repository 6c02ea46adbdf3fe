"""Narrow versions of well-known architectures for images of 32 to 96 pixels, as in `planting.thin`.

Each keeps what the architecture is known for (AlexNet's large first kernels and fully connected layers
without any normalisation, DenseNet's concatenations) and takes the resolution down more gently.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import DenseNet

from shortcutscope.errors import InputError
from shortcutscope.models.seeding import seeded

__all__ = ["ThinAlexNet", "thin_alexnet", "thin_densenet121"]


class ThinAlexNet(nn.Module):
    """Five convolutions, three poolings and three fully connected layers (Krizhevsky et al. 2012).

    Parameters
    ----------
    width
        Channels of the first convolution; the others are 3, 6, 4 and 4 times as wide, as in the paper.
    in_channels, num_classes
        Channels of the image and number of logits.
    hidden
        Width of the fully connected layers.
    dropout
        Before each of the first two of them.

    Raises
    ------
    InputError
        If a size is not positive.
    """

    def __init__(
        self,
        width: int = 16,
        in_channels: int = 1,
        num_classes: int = 2,
        hidden: int = 128,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if min(width, in_channels, num_classes, hidden) < 1:
            raise InputError(
                f"width={width}, in_channels={in_channels}, num_classes={num_classes}, hidden={hidden}: all "
                "must be 1 or more"
            )
        wide, wider = 3 * width, 6 * width
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, 5, 2, 2), nn.ReLU(),
            nn.Conv2d(width, wide, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(wide, wider, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(wider, 4 * width, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(4 * width, 4 * width, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(3)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(4 * width * 9, hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        # Without normalisation, the usual initial weights let the signal fade over eight layers.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
        return logits


def thin_alexnet(num_classes: int = 2, in_channels: int = 1, width: int = 16, seed: int = 0) -> ThinAlexNet:
    """AlexNet at a quarter (``width=16``) of its width.

    Parameters
    ----------
    num_classes, in_channels, width
        As in :class:`ThinAlexNet`.
    seed
        Seed of the initial weights.
    """
    with seeded(seed):
        return ThinAlexNet(width, in_channels, num_classes)


def thin_densenet121(num_classes: int = 2, in_channels: int = 1, growth: int = 6, seed: int = 0) -> DenseNet:
    """DenseNet-121 with a growth rate of 6 instead of 32 (Huang et al. 2017), torchvision's modules.

    The stem is one 3x3 convolution of stride 2.

    Parameters
    ----------
    num_classes, in_channels
        Number of logits and channels of the image.
    growth
        Channels that each layer adds.
    seed
        Seed of the initial weights.
    """
    with seeded(seed):
        net = DenseNet(
            growth, (6, 12, 24, 16), num_init_features=2 * growth, bn_size=4, num_classes=num_classes
        )
        net.features.conv0 = nn.Conv2d(in_channels, 2 * growth, 3, 2, 1, bias=False)
        nn.init.kaiming_normal_(net.features.conv0.weight)
        net.features.pool0 = nn.Identity()
        return net
