"""A small task with a shortcut: what recipes are tried on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.training.settings import Training
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import ThinResNet

#: Two steps to spend.
TRAINING = Training(steps=2, batch_size=16, augmentation="none", precision="fp32")
#: Options of recipes that have to be told what a tag cannot tell them.
OPTIONS = {"counterfactual-augmentation": {"transfer": "offset"}}


def network(seed: int) -> ThinResNet:
    with seeded(seed):
        return ThinResNet(width=4, blocks=(1, 1))


def tagged(n: int, agree: float, seed: int, side: int) -> tuple[ImageTable, np.ndarray]:
    """Noise with a square in the middle for the label, and one in the corner for the shortcut."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    carries = np.where(generator.random(n) < agree, labels, 1 - labels)
    carries[:8] = [0, 1, 1, 0] * 2  # every group has a few
    middle, corner = slice(3 * side // 8, 5 * side // 8), slice(side // 4)
    images = generator.uniform(0, 0.5, (n, 1, side, side)).astype(np.float32)
    images[labels == 1, :, middle, middle] += 0.4
    images[carries == 1, :, corner, corner] = 1
    annotations = np.zeros((n, side, side), dtype=bool)
    annotations[labels == 1, middle, middle] = True
    frame = pd.DataFrame({"sample_id": [f"{seed}-{k}" for k in range(n)], "label": labels, "tag": carries})
    return ImageTable.from_arrays(images, frame, value_range=(0, 1), masks=annotations), carries.astype(float)


def small_problem(n: int, n_clean: int, side: int) -> DebiasProblem:
    """Everything that a recipe may need, and two steps to spend."""
    train, carries = tagged(n, 0.9, 0, side)
    clean, clean_carries = tagged(n_clean, 0.5, 1, side)
    corner = torch.zeros(side, side, dtype=torch.bool)
    corner[: side // 4, : side // 4] = True
    return DebiasProblem(
        model=network(7).eval(),
        train=train,
        clean=clean,
        carries=carries,
        clean_carries=clean_carries,
        masks=lambda row: corner if carries[row] else None,
        layers={"blocks.0": 0.25, "blocks.1": 0.75},
        training=TRAINING,
        initial=network,
        progress=False,
    )
