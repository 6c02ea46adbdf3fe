"""A small biased network and its samples, shared by the tests of debiasing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.training.fit import Training
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.planting.thin import ThinResNet


def _small_network(seed: int) -> nn.Module:
    with seeded(seed):
        return ThinResNet(width=8, blocks=(1, 1))


@pytest.fixture(scope="session")
def small_network() -> Callable[[int], nn.Module]:
    """From a seed to a network of two blocks, with eight and sixteen channels."""
    return _small_network


@pytest.fixture(scope="session")
def tables() -> dict[str, ImageTable]:
    """Biased, clean and held-out phantoms of different patients, with a tag."""
    pool = radiographs(220, size=32, seed=50, patients=False)
    tag, half = get_artifact("tag"), {0: 0.5, 1: 0.5}
    return {
        "train": plant(pool.take(np.arange(96)), tag, correlation=0.9, seed=1),
        "clean": plant(pool.take(np.arange(96, 128)), tag, prevalence=half, seed=2),
        "held_out": plant(pool.take(np.arange(128, 220)), tag, prevalence=half, seed=3),
    }


@pytest.fixture
def problem(tables: dict[str, ImageTable]) -> DebiasProblem:
    """With everything a recipe may need, and two steps to spend."""
    train, clean = tables["train"], tables["clean"]
    return DebiasProblem(
        model=_small_network(7).eval(),
        train=train,
        clean=clean,
        carries=train.frame["tag"].to_numpy(float),
        clean_carries=clean.frame["tag"].to_numpy(float),
        layers={"blocks.0": 0.25, "blocks.1": 0.75},
        training=Training(steps=2, batch_size=16, augmentation="none", precision="fp32"),
        initial=_small_network,
        progress=False,
    )
