"""A small network that learns what one place of every carrier has and no place of the others.

Filters pooled over an image tell what is in one place, or what fills the image; of something small that may
be anywhere they see little beside anatomy. Here nothing is pooled before it is decided: each position is
scored by what lies within a dozen pixels of it, an image by its highest positions, and only the image's value
is known (multiple-instance learning, Maron & Lozano-Perez 1998; by a network, Oquab et al. 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from torch import Tensor, nn
from torch.nn import functional

from shortcutscope.masks.mask_files import Maps
from shortcutscope.models.seeding import seeded
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Array, Floats, Ints

#: Channels of the first layers, and of the later ones.
WIDTH, WIDE = 16, 24
#: Most steps, images in each (half of them carriers), the highest learning rate, and the decay of weights.
STEPS, BATCH, RATE, DECAY = 400, 16, 3e-3, 1e-2
#: Mean loss of so many steps below which there is nothing left to learn.
LEARNT, LOOKED_BACK = 0.02, 40
#: Positions that an image is scored by.
HIGHEST = 4
#: Side of the neighbourhood whose mean and spread pixels are compared with.
AROUND = 9
#: Spread of a neighbourhood, as a share of the images' own, beside which contrast is not enlarged.
FLOOR = 0.4
#: Pixels by which a thing may reach beyond the position that shows it.
REACH = 3


@dataclass(frozen=True, eq=False)
class PatchDetector:
    """What scores each position of an image.

    Attributes
    ----------
    network
        From planes (N, P, H, W) to logits (N, 1, H / 2, W / 2).
    unit
        Spread of the images that it was taught by.
    """

    network: nn.Module
    unit: float

    @classmethod
    def fit(cls, images: Tensor, concept: Floats, seed: int) -> PatchDetector:
        """From images (N, C, H, W) at the working size whose concept (N,) is 0 or 1."""
        unit = float(images.std()) + 1e-9
        planes = compared_planes(images / unit)
        with seeded(seed), torch.enable_grad():
            network = _network(planes.shape[1])
            _teach(network, planes, torch.from_numpy(np.asarray(concept, np.float32)))
        return cls(network.eval().requires_grad_(False), unit)

    def logits(self, images: Tensor) -> Tensor:
        """Of each position (N, h, w) of images (N, C, H, W)."""
        logits: Tensor = self.network(compared_planes(images / self.unit))[:, 0]
        return logits

    def scores(self, images: Tensor) -> Floats:
        """(N,) logit that an image carries it."""
        return np.asarray(_highest(self.logits(images)).numpy(), np.float64)

    def maps(self, images: Tensor) -> Maps:
        """(N, H, W) probability, from 0 to 1, of the best position within reach of each pixel."""
        size = tuple(images.shape[2:])
        logits = functional.interpolate(
            self.logits(images)[:, None], size=size, mode="bilinear", align_corners=False
        )
        window = (1, 2 * REACH + 1, 2 * REACH + 1)
        return np.asarray(maximum_filter(torch.sigmoid(logits[:, 0]).numpy(), window), np.float32)


@dataclass(frozen=True, eq=False)
class TaughtDetector:
    """A detector, and the AUROC within a class of such detectors on samples that did not teach them."""

    detector: PatchDetector
    auroc: float

    @classmethod
    def of_folds(
        cls, images: Tensor, concept: Floats, labels: Array, folds: Ints, n_folds: int, seed: int
    ) -> tuple[TaughtDetector, ...]:
        """For each fold a detector that the others taught.

        Its AUROC is of samples of the other folds, each scored by the detector of its own.
        """
        detectors = tuple(
            PatchDetector.fit(images[folds != fold], concept[folds != fold], seed) for fold in range(n_folds)
        )
        scores = np.zeros(len(folds))
        for fold, detector in enumerate(detectors):
            scores[folds == fold] = detector.scores(images[folds == fold])
        aurocs = [
            within_class_auroc(concept[rest], scores[rest], labels[rest])
            for rest in (folds != fold for fold in range(n_folds))
        ]
        return tuple(cls(*of) for of in zip(detectors, np.nan_to_num(aurocs, nan=0.5).tolist(), strict=True))


def compared_planes(images: Tensor) -> Tensor:
    """Images (N, C, H, W), how they differ from their neighbourhood, and that in units of its spread."""

    def mean(x: Tensor) -> Tensor:
        padded = functional.pad(x, [AROUND // 2] * 4, mode="replicate")
        return functional.avg_pool2d(padded, AROUND, stride=1)

    around = mean(images)
    spread = (mean(images**2) - around**2).clamp_min(0).sqrt()
    difference = images - around
    return torch.cat([images, difference, difference / (spread + FLOOR)], 1)


def _network(planes: int) -> nn.Module:
    return nn.Sequential(
        _layer(planes, WIDTH), _layer(WIDTH, WIDTH, 2), _layer(WIDTH, WIDE), _layer(WIDE, WIDE),
        nn.Conv2d(WIDE, 1, 1),
    )  # fmt: skip


def _layer(before: int, after: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def _teach(network: nn.Module, planes: Tensor, concept: Tensor) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    sides = [torch.nonzero(concept == value)[:, 0] for value in (0, 1)]
    losses: list[float] = []
    network.train()
    while len(losses) < STEPS and (len(losses) < LOOKED_BACK or np.mean(losses[-LOOKED_BACK:]) > LEARNT):
        rows = torch.cat([side[torch.randint(len(side), (BATCH // 2,))] for side in sides])
        mirrored = [axis for axis in (-1, -2) if torch.rand(()) < 0.5]
        logits = network(planes[rows].flip(mirrored))[:, 0]
        loss = functional.binary_cross_entropy_with_logits(_highest(logits), concept[rows])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))


def _highest(logits: Tensor) -> Tensor:
    """Mean (N,) of the highest positions."""
    return logits.flatten(1).topk(min(HIGHEST, logits[0].numel()), 1).values.mean(1)
