"""The networks of the protocol `saab`: one for each supervision, and how they are judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.benchmarks.papers.saab.data import Cohort, some_masks
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.segmentation import (
    Masks,
    PixelCrossEntropy,
    PixelTargets,
    Supervision,
    spatial_specificity,
)
from shortcutscope.debias.segmenter import Segmenter, enlarged
from shortcutscope.debias.training.augmentation import SHIFTS
from shortcutscope.debias.training.fit import Training, fit
from shortcutscope.extras import require
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.stats.metrics import aligned_auroc, balanced_auroc, robust_auroc
from shortcutscope.types import Bools

#: Of every network: six passes, each batch shifted by up to two pixels. With half of these steps the thin
#: network finds hardly any lesion by itself, whatever it is taught.
TRAINING = Training(epochs=6, batch_size=32, lr=3e-3)
#: Channels of the thin network's first stage, and of its decoder.
WIDTH, DECODER = 8, 16
#: Halvings of the U-Net's encoder, so that sides have to be multiples of 16.
UNET_DEPTH = 4


@dataclass(frozen=True)
class Arm:
    """How a network is taught.

    Attributes
    ----------
    supervision
        ``"classifier"``: an image's label from its pooled features. ``"binary"``: the same label at every
        pixel. ``"box"``: a box around the finding. ``"segmentation"``: the finding itself.
    masks
        How many positive samples have a mask or box; None: all.
    unmasked
        What becomes of the other positive samples: ``"leave"``, they are left out, or ``"pseudo"``, they are
        taught what a network that was trained without them sees in them (self-training).
    architecture
        ``"fpn"``: a thin ResNet with a decoder. ``"unet"``: U-Net of `segmentation-models-pytorch`.
    """

    supervision: str
    masks: int | None = None
    unmasked: str = "leave"
    architecture: str = "fpn"


def train(cohort: Cohort, arm: Arm, seed: int, *, training: Training = TRAINING) -> nn.Module:
    """A network that classifies images, after training from new weights."""
    training = training.but(seed=seed)
    if arm.supervision == "classifier":
        return fit(_thin(seed), cohort.train, CrossEntropy(), training, progress=False).model
    masks = some_masks(cohort.train, arm.masks, arm.supervision, seed)
    first = _fit_arm(cohort.train, masks, arm, seed, training)
    if arm.masks is None or arm.unmasked == "leave":
        return first
    masked = {
        row: mask for row in range(len(cohort.train)) if (mask := masks(row)) is not None and mask.any()
    }
    unknown = [row for row in np.flatnonzero(_positive(cohort.train)).tolist() if row not in masked]
    masked |= dict(zip(unknown, _predicted(first, cohort.train, unknown), strict=True))
    return _fit_arm(cohort.train, masked.get, arm, seed, training)


def _fit_arm(table: ImageTable, masks: Masks, arm: Arm, seed: int, training: Training) -> nn.Module:
    """A network from new weights, taught by these masks or boxes."""
    supervision: Supervision = arm.supervision  # type: ignore[assignment]
    if arm.architecture == "unet":
        targets = PixelTargets.of(table, supervision, masks=masks)
        objective = PixelCrossEntropy.of(targets, shifts=SHIFTS)
        network = UNet(len(table[0][0]), seed)
        return fit(network, table, objective, training.but(augmentation="none"), progress=False).model
    problem = DebiasProblem(
        model=_thin(seed),
        train=table,
        start="fresh",
        initial=_thin,
        training=training,
        seed=seed,
        progress=False,
    )
    return spatial_specificity(problem, supervision=supervision, masks=masks, width=DECODER).model


@torch.no_grad()
def _predicted(network: nn.Module, table: ImageTable, rows: Sequence[int]) -> list[Tensor]:
    """Where a network sees the finding in samples that have it: at least in the likeliest pixel."""
    assert isinstance(network, Segmenter)
    masks = []
    for row in rows:
        image = table[row][0][None]
        scores = enlarged(network.eval().maps(image), image.shape[2:])[0]
        margin = scores[1] - scores[0]
        masks.append((margin > 0) | (margin == margin.max()))
    return masks


def _positive(table: ImageTable) -> Bools:
    return np.asarray(table.frame["label"].to_numpy() == 1)


def judge(network: nn.Module, cohort: Cohort) -> dict[str, float]:
    """AUROC on the test samples: conflicting, aligned, and all four groups alike."""
    logits = predict_logits(network, cohort.test).numpy()
    margin = logits[:, 1] - logits[:, 0]
    y, a = cohort.test.frame["label"].to_numpy(), cohort.test.frame[cohort.kind].to_numpy()
    metrics = {"robust_auroc": robust_auroc, "aligned_auroc": aligned_auroc, "balanced_auroc": balanced_auroc}
    return {name: float(metric(y, a, margin)) for name, metric in metrics.items()}


def _thin(seed: int) -> nn.Module:
    return thin_resnet18(width=WIDTH, seed=seed)


def has_unet() -> bool:
    """Whether the package of the U-Net is installed."""
    return find_spec("segmentation_models_pytorch") is not None


class UNet(Segmenter):
    """The same score of an image from the pixels of a U-Net (Ronneberger et al. 2015) on a ResNet-18.

    The paper's encoder is an SE-ResNeXt-50 with weights of ImageNet; this one begins from new weights.
    """

    def __init__(self, channels: int, seed: int) -> None:
        nn.Module.__init__(self)  # a U-Net brings a decoder of its own
        package = require("segmentation_models_pytorch", "segmentation", "The U-Net")
        with seeded(seed):
            self.net = package.Unet(
                "resnet18",
                encoder_weights=None,
                encoder_depth=UNET_DEPTH,
                decoder_channels=(128, 64, 32, 16),
                in_channels=channels,
                classes=2,
            )
        self.layers, self.foreground = (), 1
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def maps(self, images: Tensor) -> Tensor:
        """Scores (N, 2, H, W) of background and foreground."""
        scores: Tensor = self.net(images)
        return scores
