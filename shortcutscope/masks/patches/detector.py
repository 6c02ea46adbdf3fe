"""A small network that learns what one place of every carrier has and no place of the others.

Filters pooled over an image tell what is in one place, or what fills the image; of something small that may
be anywhere they see little beside anatomy. Here nothing is pooled before it is decided: each position is
scored by what lies within a dozen pixels of it, an image by its highest positions, and only the image's value
is known (multiple-instance learning, Maron & Lozano-Perez 1998; by a network, Oquab et al. 2015).

A hundred carriers teach that little. So the network first learns to find made-up drawings on the same images,
pixel by pixel (:mod:`shortcutscope.masks.patches.made_up`), and goes on doing so while it learns the real
thing: it says which pixels were drawn over, and which of these drawings carriers have and others lack.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from torch import Tensor, nn
from torch.nn import functional

from shortcutscope.masks.mask_files import Maps
from shortcutscope.masks.patches.made_up import MadeUp
from shortcutscope.models.seeding import seeded
from shortcutscope.probes.extent.cells import local_mean
from shortcutscope.progress import progress_bar
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Array, Floats, Ints

#: Channels of the first layer, and of the later ones.
WIDTH, WIDE = 16, 16
#: Steps and images in each of what is learnt from made-up drawings alone, and the highest learning rate.
START_STEPS, START_BATCH, START_RATE = 250, 8, 5e-3
#: Most steps of learning the real thing, its learning rate, and the steps in which that falls to nothing.
STEPS, RATE, LAST = 400, 3e-3, 80
#: Images in each step: with made-up drawings, carriers, others.
DRAWN, CARRIERS, OTHERS = 4, 6, 6
#: Decay of weights; what a pixel's loss counts beside an image's, and an image with drawings beside another.
DECAY, PIXELS_COUNT, DRAWN_COUNT = 1e-2, 4.0, 0.5
#: Mean loss of so many steps below which there is nothing left to learn.
LEARNT, LOOKED_BACK = 0.02, 40
#: Loss above which nothing was learnt, and how often it is tried then.
FLAT, TRIES = 0.5, 2
#: Positions that an image is scored by.
HIGHEST = 4
#: Side of the neighbourhood whose mean and spread pixels are compared with.
AROUND = 9
#: Spread of a neighbourhood, as a share of the images' own, beside which contrast is not enlarged.
FLOOR = 0.4
#: Pixels by which a thing may reach beyond the position that shows it; more of what was drawn over.
REACH, DRAWN_REACH = 3, 6
#: Of its bars.
DESCRIPTION = "learning places"
#: Logit of a drawn pixel before anything is learnt: few are.
RARE = -3.0


class PatchNetwork(nn.Module):
    """Logits of drawn pixels (N, H, W) and of what carriers have (N, H/2, W/2), of planes (N, P, H, W)."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.fine = _layer(planes, WIDTH)
        self.near = nn.Sequential(_layer(WIDTH, WIDE, stride=2), _layer(WIDE, WIDE))
        self.far = nn.Sequential(_layer(WIDE, WIDE, dilation=2), _layer(WIDE, WIDE))
        self.narrow = nn.Conv2d(2 * WIDE, WIDTH, 1, bias=False)
        last = nn.Conv2d(WIDTH, 1, 1)
        nn.init.constant_(last.bias, RARE)  # type: ignore[arg-type]
        self.pixels = nn.Sequential(nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True), _layer(WIDTH, WIDTH), last)
        self.kind = nn.Sequential(
            nn.Conv2d(2 * WIDE, WIDE, 1, bias=False),
            nn.BatchNorm2d(WIDE),
            nn.ReLU(inplace=True),
            nn.Conv2d(WIDE, 1, 1),
        )
        self.to(memory_format=torch.channels_last)  # a fourth faster to learn on CPUs

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Both logits of each image."""
        fine = self.fine(planes.contiguous(memory_format=torch.channels_last))
        near = self.near(fine)
        both = torch.cat([near, self.far(near)], 1)
        up = _resized(self.narrow(both), fine.shape[2:])
        return self.pixels(fine + up)[:, 0], self.kind(both)[:, 0]


@dataclass(frozen=True, eq=False)
class PatchStart:
    """A network that finds made-up drawings on some images; no concept took part.

    Attributes
    ----------
    network
        See :class:`PatchNetwork`.
    made_up
        The drawings.
    unit
        Spread of the images.
    """

    network: PatchNetwork
    made_up: MadeUp
    unit: float

    @classmethod
    def fit(cls, images: Tensor, seed: int, *, progress: bool = True) -> PatchStart:
        """From images (N, C, H, W) at the working size."""
        unit = float(images.std()) + 1e-9
        generator = np.random.default_rng([seed, 31])
        made_up = MadeUp.of(images, generator)
        with seeded(seed), torch.enable_grad():
            network = PatchNetwork(3 * images.shape[1])
            network.train()
            optimizer = torch.optim.AdamW(network.parameters(), START_RATE, weight_decay=DECAY)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, START_RATE, total_steps=START_STEPS)
            for _ in progress_bar(range(START_STEPS), desc=DESCRIPTION, progress=progress, leave=False):
                drawn, pixels = made_up.over(images[torch.randint(len(images), (START_BATCH,))], generator)
                logits, _ = network(compared_planes(drawn / unit))
                _step(optimizer, functional.binary_cross_entropy_with_logits(logits, pixels))
                schedule.step()
        return cls(network, made_up, unit)


@dataclass(frozen=True, eq=False)
class PatchDetector:
    """What scores each position of an image.

    Attributes
    ----------
    network
        See :class:`PatchNetwork`.
    unit
        Spread of the images that it was taught by.
    """

    network: PatchNetwork
    unit: float

    @classmethod
    def fit(
        cls,
        images: Tensor,
        concept: Floats,
        seed: int,
        start: PatchStart | None = None,
        *,
        progress: bool = True,
    ) -> PatchDetector:
        """From images (N, C, H, W) at the working size whose concept (N,) is 0 or 1.

        `start` is what was learnt from made-up drawings; None learns it from these images.
        """
        started = PatchStart.fit(images, seed, progress=progress) if start is None else start
        taught: list[tuple[float, PatchNetwork]] = []
        while len(taught) < TRIES and (not taught or taught[-1][0] > FLAT):
            network, again = deepcopy(started.network), seed + len(taught)
            bar = progress_bar(total=STEPS, desc=DESCRIPTION, progress=progress, leave=False)
            with seeded(again), torch.enable_grad(), bar:
                generator = np.random.default_rng([again, 37])
                loss = _teach(network, images, np.asarray(concept), started, generator, bar.update)
            taught.append((loss, network))
        _, best = min(taught, key=lambda one: one[0])
        return cls(best.eval().requires_grad_(False), started.unit)

    def looked(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of drawn pixels (N, H, W), and of what carriers have (N, h, w), of images (N, C, H, W)."""
        pixels, kind = self.network(compared_planes(images / self.unit))
        return pixels, kind

    def scores(self, images: Tensor) -> Floats:
        """(N,) logit that an image carries it."""
        return np.asarray(_highest(self.looked(images)[1]).numpy(), np.float64)

    def maps(self, images: Tensor) -> tuple[Maps, Maps]:
        """Where it is, and which pixels were drawn over by it.

        Returns
        -------
        tuple of (N, H, W)
            The probability, from 0 to 1, of the best position within reach of each pixel; and that the pixel
            was drawn over by what carriers have, if the image's best position is one.
        """
        pixels, kind = self.looked(images)
        size = (int(images.shape[2]), int(images.shape[3]))
        near = _within_reach(kind, size, DRAWN_REACH)
        top = near.reshape(len(near), -1).max(1)[:, None, None]
        drawn = np.asarray(torch.sigmoid(pixels).numpy() * near / np.maximum(top, 1e-9), np.float32)
        return _within_reach(kind, size, REACH), drawn


@dataclass(frozen=True, eq=False)
class TaughtDetector:
    """A detector, and the AUROC within a class of such detectors on samples that did not teach them."""

    detector: PatchDetector
    auroc: float

    @classmethod
    def of_folds(
        cls,
        images: Tensor,
        concept: Floats,
        labels: Array,
        folds: Ints,
        n_folds: int,
        seed: int,
        *,
        progress: bool = True,
    ) -> tuple[TaughtDetector, ...]:
        """For each fold a detector that the others taught; all start from the same made-up drawings.

        Its AUROC is of samples of the other folds, each scored by the detector of its own; or that of the
        detector itself on the samples that taught it, if even that is lower.
        """
        start = PatchStart.fit(images, seed, progress=progress)
        detectors = tuple(
            PatchDetector.fit(images[folds != fold], concept[folds != fold], seed, start, progress=progress)
            for fold in range(n_folds)
        )
        scores = np.zeros(len(folds))
        for fold, detector in enumerate(detectors):
            scores[folds == fold] = detector.scores(images[folds == fold])
        aurocs = []
        for fold, detector in enumerate(detectors):
            rest = folds != fold
            own = detector.scores(images[rest])
            both = [within_class_auroc(concept[rest], of, labels[rest]) for of in (scores[rest], own)]
            aurocs.append(min(np.nan_to_num(both, nan=0.5).tolist()))
        return tuple(cls(*of) for of in zip(detectors, aurocs, strict=True))


def compared_planes(images: Tensor) -> Tensor:
    """Images (N, C, H, W), how they differ from their neighbourhood, and that in units of its spread."""
    around = local_mean(images, AROUND)
    spread = (local_mean(images**2, AROUND) - around**2).clamp_min(0).sqrt()
    difference = images - around
    return torch.cat([images, difference, difference / (spread + FLOOR)], 1)


def _layer(before: int, after: int, *, stride: int = 1, dilation: int = 1) -> nn.Module:
    convolution = nn.Conv2d(before, after, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _teach(
    network: PatchNetwork,
    images: Tensor,
    concept: Floats,
    start: PatchStart,
    generator: np.random.Generator,
    step: Callable[[], object],
) -> float:
    """Which drawings carriers have, while made-up ones go on being found, and are others'; the last loss."""
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, LAST)
    with_it, without = (torch.from_numpy(np.flatnonzero(concept == value)) for value in (1, 0))
    carries = torch.tensor([0.0] * DRAWN + [1.0] * CARRIERS + [0.0] * OTHERS)
    counts = torch.tensor([DRAWN_COUNT] * DRAWN + [1.0] * (CARRIERS + OTHERS))
    losses: list[float] = []
    left = STEPS
    network.train()
    while left:
        drawn, pixels = start.made_up.over(images[_some(without, DRAWN)], generator)
        batch = torch.cat([drawn, images[_some(with_it, CARRIERS)], images[_some(without, OTHERS)]])
        mirrored = [axis for axis in (-1, -2) if torch.rand(()) < 0.5]
        found, kind = network(compared_planes(batch.flip(mirrored) / start.unit))
        loss = functional.binary_cross_entropy_with_logits(_highest(kind), carries, counts)
        made_up = functional.binary_cross_entropy_with_logits(found[:DRAWN], pixels.flip(mirrored))
        _step(optimizer, loss + PIXELS_COUNT * made_up)
        losses.append(float(loss.detach()))
        step()
        if len(losses) >= LOOKED_BACK and np.mean(losses[-LOOKED_BACK:]) < LEARNT:
            left = min(left, LAST + 1)
        left -= 1
        if left < LAST:
            fall.step()
    return float(np.mean(losses[-LOOKED_BACK:]))


def _some(rows: Tensor, count: int) -> Tensor:
    return rows[torch.randint(len(rows), (count,))]


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def _resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def _within_reach(logits: Tensor, size: tuple[int, ...], reach: int) -> Maps:
    """(N, *size) probability of the best position within so many pixels."""
    probabilities = torch.sigmoid(_resized(logits[:, None], size)[:, 0]).numpy()
    window = (1, 2 * reach + 1, 2 * reach + 1)
    return np.asarray(maximum_filter(probabilities, window), np.float32)


def _highest(logits: Tensor) -> Tensor:
    """Mean (N,) of the highest positions."""
    return logits.flatten(1).topk(min(HIGHEST, logits[0].numel()), 1).values.mean(1)
