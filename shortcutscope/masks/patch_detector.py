"""Two small networks for what is small and may be anywhere: where it is, and which pixels there lie over the image.

Filters pooled over an image tell what is in one place, or what fills the image; of something small that may
be anywhere they see little beside anatomy. Here nothing is pooled before it is decided: each position is
scored by what lies within a dozen pixels of it, an image by its highest positions, and only the image's value
is known (multiple-instance learning: Maron & Lozano-Perez 1998; as a network with a maximum: Oquab et al. 2015).

Such a network looks at the part of a thing that tells most. All of its pixels are shown by the other network,
which learns to tell what was drawn over images without the concept, made up at random; it begins first, and
hands on what it has learnt of edges.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from torch import Tensor, nn
from torch.nn import functional

from shortcutscope.masks.made_up import MadeUp
from shortcutscope.masks.mask_files import Maps
from shortcutscope.models.seeding import seeded
from shortcutscope.types import Floats

#: Channels of the first layers, and of the later ones.
WIDTH, WIDE = 16, 24
#: Steps, images in a step, and the highest learning rate: of pixels, and of places.
PIXEL_STEPS, PIXEL_BATCH, PIXEL_RATE = 300, 12, 5e-3
PLACE_STEPS, PLACE_BATCH, PLACE_RATE = 300, 16, 3e-3
WEIGHT_DECAY = 1e-2
#: Mean loss of so many steps below which there is nothing left to learn of places.
LEARNT, LOOKED_BACK = 0.02, 40
#: Positions that an image is scored by.
HIGHEST = 4
#: Side of the neighbourhood whose mean and spread pixels are compared with.
AROUND = 9
#: Spread of a neighbourhood, as a share of the images' own, beside which contrast is not enlarged.
FLOOR = 0.4
#: Pixels by which a thing may reach beyond the position that shows it.
REACH = 6
#: Share of pixels that lie over an image, to begin with.
FEW = 0.05


class PixelNetwork(nn.Module):
    """From planes (N, P, H, W) to a logit of each pixel (N, H, W): fine and half-fine layers side by side."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.fine = _layer(planes, WIDTH)
        self.middle = _layer(WIDTH, WIDTH, 2)
        self.coarse = nn.Sequential(_layer(WIDTH, WIDE), _layer(WIDE, WIDE))
        self.head = nn.Sequential(
            nn.Conv2d(WIDE + 2 * WIDTH, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, 1, 1),
        )  # fmt: skip
        self.head[-1].bias.data.fill_(float(np.log(FEW / (1 - FEW))))

    def forward(self, planes: Tensor) -> Tensor:
        """Logits (N, H, W)."""
        fine = self.fine(planes)
        middle = self.middle(fine)
        half = torch.cat([middle, self.coarse(middle)], 1)
        whole = functional.interpolate(half, size=fine.shape[2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.head(torch.cat([fine, whole], 1))[:, 0]
        return logits


def _layer(before: int, after: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )


@dataclass(frozen=True, eq=False)
class PatchDetector:
    """Where something is, and which pixels it is made of.

    Attributes
    ----------
    places
        From planes (N, P, H, W) to logits (N, 1, H / 2, W / 2).
    pixels
        See `PixelNetwork`.
    unit
        Spread of the images they were taught by.
    """

    places: nn.Module
    pixels: PixelNetwork
    unit: float

    @classmethod
    def fit(cls, images: Tensor, concept: Floats, seed: int) -> PatchDetector:
        """From images (N, C, H, W) at the working size whose concept (N,) is 0 or 1."""
        unit = float(images.std()) + 1e-9
        images, told = images / unit, torch.from_numpy(np.asarray(concept, np.float32))
        with seeded(seed), torch.enable_grad():
            pixels = PixelNetwork(3 * images.shape[1])
            _teach_pixels(pixels, images[told == 0], np.random.default_rng([seed, 53]))
            trunk = copy.deepcopy(nn.Sequential(pixels.fine, pixels.middle, pixels.coarse))
            places = nn.Sequential(trunk, nn.Conv2d(WIDE, 1, 1))
            _teach_places(places, images, told)
        return cls(places.eval().requires_grad_(False), pixels.eval().requires_grad_(False), unit)

    def logits(self, images: Tensor) -> Tensor:
        """Of each position (N, h, w) of images (N, C, H, W)."""
        logits: Tensor = self.places(compared_planes(images / self.unit))[:, 0]
        return logits

    def scores(self, images: Tensor) -> Floats:
        """(N,) logit that an image carries it."""
        return np.asarray(_highest(self.logits(images)).numpy(), np.float64)

    def maps(self, images: Tensor) -> Maps:
        """(N, H, W) from 0 to 1: which pixels lie over an image, near a position that shows it."""
        size = tuple(images.shape[2:])
        logits = functional.interpolate(self.logits(images)[:, None], size=size, mode="bilinear", align_corners=False)
        near = maximum_filter(torch.sigmoid(logits[:, 0]).numpy(), (1, 2 * REACH + 1, 2 * REACH + 1))
        over = torch.sigmoid(self.pixels(compared_planes(images / self.unit))).numpy()
        return np.asarray(near * over, np.float32)


def compared_planes(images: Tensor) -> Tensor:
    """Images (N, C, H, W), how they differ from their neighbourhood, and that in units of its spread."""

    def mean(x: Tensor) -> Tensor:
        padded = functional.pad(x, [AROUND // 2] * 4, mode="replicate")
        return functional.avg_pool2d(padded, AROUND, stride=1)

    around = mean(images)
    spread = (mean(images**2) - around**2).clamp_min(0).sqrt()
    difference = images - around
    return torch.cat([images, difference, difference / (spread + FLOOR)], 1)


def _teach_pixels(network: nn.Module, images: Tensor, generator: np.random.Generator) -> None:
    """By things made up and drawn over images without the concept."""
    made_up = MadeUp.like(images, generator)

    def loss() -> Tensor:
        changed, truth = made_up.over(images[generator.integers(0, len(images), PIXEL_BATCH)], generator)
        return functional.binary_cross_entropy_with_logits(network(compared_planes(changed)), truth)

    _learn(network, loss, PIXEL_STEPS, PIXEL_RATE)


def _teach_places(network: nn.Module, images: Tensor, concept: Tensor) -> None:
    """By images of which it is known whether they carry it; mirrored ones show it as well."""
    planes = compared_planes(images)
    sides = [torch.nonzero(concept == value)[:, 0] for value in (0, 1)]

    def loss() -> Tensor:
        rows = torch.cat([side[torch.randint(len(side), (PLACE_BATCH // 2,))] for side in sides])
        mirrored = [axis for axis in (-1, -2) if torch.rand(()) < 0.5]
        logits = network(planes[rows].flip(mirrored))[:, 0]
        return functional.binary_cross_entropy_with_logits(_highest(logits), concept[rows])

    _learn(network, loss, PLACE_STEPS, PLACE_RATE)


def _learn(network: nn.Module, loss_of: Callable[[], Tensor], steps: int, rate: float) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    losses: list[float] = []
    network.train()
    while len(losses) < steps and (len(losses) < LOOKED_BACK or np.mean(losses[-LOOKED_BACK:]) > LEARNT):
        loss = loss_of()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))


def _highest(logits: Tensor) -> Tensor:
    """Mean (N,) of the highest positions."""
    return logits.flatten(1).topk(min(HIGHEST, logits[0].numel()), 1).values.mean(1)
