"""Planted-shortcut models for the benchmarks: made once, cached on disk, shared between suites.

A recipe says what was planted and how strongly it goes with the label in training; the model trained
on it and the tables it was trained and is audited on follow from the recipe alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from shortcutscope.benchmarks.kept import kept_network
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.data.table import ImageTable, Normalize
from shortcutscope.debias.training.classifier import train_classifier
from shortcutscope.files import write_atomically
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.types import Array, Record

VERSION = 1
SIDE = 64
POOL_SIZE = 3600


@dataclass(frozen=True)
class Recipe:
    """A trained model and how it came to be.

    Attributes
    ----------
    task : str
        ``pneumonia`` (PneumoniaMNIST), ``phantom``, or ``phantom-faint`` (a harder core feature).
    kinds : tuple of str
        Artifacts planted in the training images; none for a clean model.
    seed : int
        Chooses the samples, the carriers and the initial weights.
    correlation : float, optional
        Share of carriers among the positives, and of non-carriers among the negatives. None: the
        artifact is planted in 30 % of either class and tells nothing of the label.
    n_train, epochs : int
        Size of the training.
    """

    task: str
    kinds: tuple[str, ...] = ()
    seed: int = 0
    correlation: float | None = 0.95
    n_train: int = 1600
    epochs: int = 5


@dataclass(frozen=True)
class Case:
    """A trained model with the table it was trained on, and unplanted held-out samples."""

    model: nn.Module
    train: ImageTable
    held_out: ImageTable


def tasks(settings: Settings) -> tuple[str, str]:
    """The two tasks of the benchmarks: with the real one where the data are there."""
    real = settings.data is not None and (settings.data / "pneumoniamnist.npz").exists()
    return ("pneumonia" if real else "phantom-faint", "phantom")


def make_case(recipe: Recipe, settings: Settings, *, n_held_out: int = 800) -> Case:
    """Tables and model of a recipe; the model is trained unless the cache has it."""
    pool = sample_pool(recipe.task, settings)
    train, held_out = split_pool(pool, recipe.seed, recipe.n_train, n_held_out)
    for kind in recipe.kinds:
        prevalence = {0: 0.3, 1: 0.3} if recipe.correlation is None else None
        train = plant(
            train,
            get_artifact(kind),
            correlation=recipe.correlation or 0.5,
            prevalence=prevalence,
            seed=recipe.seed,
        )
    return Case(_trained(recipe, train, settings.cache), train, held_out)


def sample_pool(task: str, settings: Settings, side: int = SIDE) -> ImageTable:
    """All samples of a task, made once at each side of the images."""
    return _pool(task, settings.cache, settings.data, side)


def split_pool(pool: ImageTable, seed: int, n_train: int, n_held_out: int) -> tuple[ImageTable, ImageTable]:
    """Balanced training and held-out samples; no patient is in both."""
    generator = np.random.default_rng([seed, 11])
    groups = pool.frame["group"].to_numpy()
    order = generator.permutation(np.unique(groups))
    rank = pd.Series(np.arange(len(order)), index=order)[groups].to_numpy()
    rows = np.argsort(rank, kind="stable")
    labels = pool.frame["label"].to_numpy()[rows]
    parts: list[list[int]] = [[], []]
    patients: set[Any] = set()
    for part, size in enumerate((n_train, n_held_out)):
        for value in (0, 1):
            free = [r for r in rows[labels == value] if part == 0 or groups[r] not in patients]
            parts[part] += free[: size // 2]
        patients |= set(groups[parts[0]])
    train, held_out = (pool.take(generator.permutation(part)) for part in parts)
    return train, held_out


def _trained(recipe: Recipe, train: ImageTable, cache: Path) -> nn.Module:
    key = hashlib.sha256(json.dumps([VERSION, asdict(recipe), train.fingerprint()]).encode()).hexdigest()[:24]
    path = cache / "models" / f"{recipe.task}-{'-'.join(recipe.kinds) or 'clean'}-{key}.safetensors"
    model = thin_resnet18(seed=recipe.seed)

    def make() -> nn.Module:
        train_classifier(model, train, epochs=recipe.epochs, seed=recipe.seed, progress=False)
        return model

    return kept_network(path, model, make)


@lru_cache(maxsize=2)
def _pool(task: str, cache: Path, data: Path | None, side: int) -> ImageTable:
    """All samples of a task as an in-memory table, made once and kept as npz."""
    if task == "pneumonia" and data is None:
        raise ValueError("task 'pneumonia' needs the folder with pneumoniamnist.npz")
    makers: dict[str, Callable[[], ImageTable]] = {
        "phantom": lambda: radiographs(POOL_SIZE, size=side, seed=101),
        "phantom-faint": lambda: radiographs(POOL_SIZE, size=side, difficulty=1.5, seed=202),
    }
    name = task if side == SIDE else f"{task}-{side}"
    path = cache / "pools" / f"{name}-{VERSION}.npz"
    if not path.exists():
        if task == "pneumonia":
            assert data is not None
            images, frame = _pneumonia(data / "pneumoniamnist.npz", side)
        else:
            table = makers[task]()
            images = np.stack([table.image(i).numpy()[0] for i in range(len(table))])
            frame = table.frame
        arrays: Record = {c: frame[c].to_numpy().astype(str) for c in ("sample_id", "group")}
        coded = (images * 65535).round().astype(np.uint16)
        labels = frame["label"].to_numpy()
        write_atomically(path, lambda file: np.savez(file, images=coded, label=labels, **arrays))
    with np.load(path, allow_pickle=False) as archive:
        frame = pd.DataFrame({c: archive[c] for c in ("sample_id", "label", "group")})
        images = archive["images"].astype(np.float32) / 65535
    return ImageTable.from_arrays(images, frame, value_range=(0, 1), transform=Normalize(0.45, 0.25))


def _pneumonia(path: Path, side: int) -> tuple[Array, pd.DataFrame]:
    """PneumoniaMNIST's official training and validation images, enlarged and with acquisition noise.

    The official test split is shifted and is left out. Enlarged images are smooth beyond what any
    detector gives, so noise of a standard deviation between .01 and .022 is added.
    """
    table = ImageTable.from_medmnist(path, splits=("train", "val"), size=side)
    images = np.stack([table.image(i).numpy()[0] for i in range(len(table))])
    generator = np.random.default_rng(303)
    level = generator.uniform(0.01, 0.022, (len(images), 1, 1))
    noisy = np.clip(images + level * generator.standard_normal(images.shape), 0, 1)
    return noisy.astype(np.float32), table.frame
