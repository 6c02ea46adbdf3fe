"""The samples of the protocol `pahde`: phantoms or the paper's data, an artifact in one class of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.data.medical import open_dataset
from shortcutscope.data.splits import holdout
from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform import Normalize
from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.phantoms.ecgs import ecgs
from shortcutscope.planting.planting import artifact_mask, clean_twin, everywhere, plant
from shortcutscope.types import Array

#: Samples for training, validation and test; of phantoms, and at most of a real data set.
SIZES, QUICK_SIZES = (1000, 300, 400), (600, 200, 300)
#: Sides of the phantom radiographs and of their middle, which is taken; samples of the phantom ECGs;
#: difficulty of either task.
WHOLE, SIDE, LENGTH, DIFFICULTY = 80, 48, 200, {"image": 0.7, "signal": 1.4}
#: Shares of a real data set for validation and test, where it has no such splits; and sides of its images.
SHARES, REAL_SIDE, REAL_QUICK_SIDE = (0.1, 0.2), 224, 48


@dataclass(frozen=True)
class Controlled:
    """An artifact that the paper inserts, and where.

    Attributes
    ----------
    name
        In the catalogue of artifacts, and the column that says who carries it.
    published
        What the paper calls it.
    dataset, options
        Its data set here, and how that is opened.
    published_share, published_share_vit
        Of the attacked class that carries it in the paper.
    share, share_vit
        That of the phantoms. The paper's shares teach thin networks no shortcut from few images; and of more
        than a tenth with a white tint a thin ViT learns the tint and nothing else.
    """

    name: str
    published: str
    dataset: str
    options: tuple[tuple[str, Any], ...]
    published_share: float
    published_share_vit: float
    share: float
    share_vit: float

    def of(self, architecture: str, *, phantoms: bool) -> float:
        """Share of the attacked class that carries it."""
        if architecture == "vit":
            return self.share_vit if phantoms else self.published_share_vit
        return self.share if phantoms else self.published_share

    @property
    def localized(self) -> bool:
        """Whether it is confined to a part of the sample, so that it can have a mask."""
        return get_artifact(self.name).extent == "localized"

    @property
    def of_signals(self) -> bool:
        """Whether it is one of signals."""
        return get_artifact(self.name).dims == 1


ARTIFACTS: dict[str, Controlled] = {
    one.name: one
    for one in (
        Controlled("dark_circle", "microscope", "isic2019", (("target", "MEL"),), 0.2, 0.2, 0.3, 0.3),
        Controlled("timestamp", "timestamp", "hyperkvasir", (("by", "Classification"),
                   ("target", "pathological-findings")), 0.1, 0.5, 0.5, 0.5),
        Controlled("white_tint", "white tint", "chexpert", (("target", "Cardiomegaly"),), 0.1, 0.1, 0.4, 0.1),
        Controlled("defective_lead", "defective lead", "ptbxl", (("target", "LVH"),), 0.5, 0.5, 0.7, 0.7),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Cohort:
    """Samples with the artifact in a share of class 1 and nowhere else.

    Attributes
    ----------
    artifact
        What was planted.
    train, validation, test
        As they come, planted alike.
    drawn
        The training samples once more, the artifact drawn once instead of at every reading.
    """

    artifact: Controlled
    train: ImageTable
    validation: ImageTable
    test: ImageTable
    drawn: ImageTable

    def clean(self, part: str) -> ImageTable:
        """The validation or test samples without the artifact."""
        return clean_twin(getattr(self, part), self.artifact.name)

    def attacked(self, part: str) -> ImageTable:
        """The same samples, all with the artifact."""
        return everywhere(getattr(self, part), self.artifact.name)

    def half(self) -> ImageTable:
        """The test samples with the artifact in half of either class, to judge masks on."""
        name = self.artifact.name
        bare = clean_twin(self.test, name)
        bare = bare.replaced(frame=bare.frame.drop(columns=name))
        return plant(bare, get_artifact(name), prevalence={0: 0.5, 1: 0.5}, seed=17)


def make_cohort(artifact: str, architecture: str, seed: int, settings: Settings) -> Cohort:
    """Draw the samples, split them by patient, and plant the artifact.

    The samples follow from the seed and the kind of data, so that artifacts and architectures are compared
    on the same ones.
    """
    artifact_setup = ARTIFACTS[artifact]
    sizes = QUICK_SIZES if settings.quick else SIZES
    if settings.data is None:
        parts = _phantoms(artifact_setup, sizes, seed)
    else:
        parts = _real(artifact_setup, settings.data, seed, sizes if settings.quick else None, settings.quick)
    shares = {0: 0.0, 1: artifact_setup.of(architecture, phantoms=settings.data is None)}
    train, validation, test = (
        plant(part, get_artifact(artifact), prevalence=shares, seed=seed + k) for k, part in enumerate(parts)
    )
    train_in_memory = in_memory(train) if settings.data is None or settings.quick else train
    return Cohort(artifact_setup, train, validation, test, train_in_memory)


def masks_of(table: ImageTable, column: str) -> Callable[[int], Tensor | None]:
    """From a row to exactly what the artifact visibly changed of the model's input; None where nothing."""

    def mask(row: int) -> Tensor | None:
        pixels = artifact_mask(table, row, column)
        return pixels if bool(pixels.any()) else None

    return mask


def in_memory(table: ImageTable) -> ImageTable:
    """The same samples, drawn once instead of at every reading."""
    images = torch.stack([table.image(i) for i in range(len(table))]).numpy()
    dims = 1 if images.ndim == 3 else None
    return ImageTable.from_arrays(
        images, table.frame, dims=dims, value_range=table.value_range, transform=table.transform
    )


def check(root: Path) -> None:
    """Refuse a folder in which none of the four data sets lies."""
    if not datasets(root):
        names = ", ".join(f"{one.dataset}/" for one in ARTIFACTS.values())
        raise InputError(
            f"{str(root)!r} holds none of the data sets; expected is at least one of the folders {names}, "
            "each in the layout in which the data set is published"
        )
    for one in datasets(root):
        open_dataset(one.dataset, root / one.dataset, **dict(one.options))


def datasets(root: Path) -> list[Controlled]:
    """The artifacts whose data set is there."""
    return [one for one in ARTIFACTS.values() if (root / one.dataset).is_dir()]


def _phantoms(artifact: Controlled, sizes: tuple[int, ...], seed: int) -> list[ImageTable]:
    if artifact.of_signals:
        pool = ecgs(sum(sizes), length=LENGTH, difficulty=DIFFICULTY["signal"], seed=seed + 7000)
    else:
        pool = _middle(radiographs(sum(sizes), size=WHOLE, difficulty=DIFFICULTY["image"], seed=seed + 7000))
    patients = pool.frame["group"].to_numpy()
    order = np.random.default_rng([seed, 5]).permutation(np.unique(patients))
    rank = {name: k for k, name in enumerate(order)}
    rows = np.argsort([rank[name] for name in patients], kind="stable")
    ends = np.cumsum(sizes)[:-1]
    cuts = [_next_patient(patients[rows], int(end)) for end in ends]
    return [pool.take(part) for part in np.split(rows, cuts)]


def _middle(table: ImageTable) -> ImageTable:
    """The middle of the phantoms: their corners are dark, where a microscope's circle would not be seen."""
    start = (WHOLE - SIDE) // 2
    part = slice(start, start + SIDE)
    images = torch.stack([table.image(i)[:, part, part] for i in range(len(table))]).numpy()
    return ImageTable.from_arrays(
        images, table.frame, value_range=table.value_range, transform=table.transform
    )


def _next_patient(patients: Array, end: int) -> int:
    """The first position from `end` on at which another patient begins."""
    while end < len(patients) and patients[end] == patients[end - 1]:
        end += 1
    return end


def _real(
    artifact: Controlled, root: Path, seed: int, sizes: tuple[int, ...] | None, quick: bool
) -> list[ImageTable]:
    """The three parts of a data set; its own splits where it has all of them."""
    options = dict(artifact.options)
    if artifact.of_signals:
        options["transform"] = Normalize(0.0, 0.3)
    else:
        side = REAL_QUICK_SIDE if quick else REAL_SIDE
        options |= {"mode": "RGB", "size": (side, side)}
        options["transform"] = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    table = open_dataset(artifact.dataset, root / artifact.dataset, **options)
    splits = table.frame["split"].to_numpy()
    if {"train", "val", "test"} <= set(splits):
        parts = [table.take(np.flatnonzero(splits == name)) for name in ("train", "val", "test")]
    else:
        parts = _split(table, seed)
    if sizes is None:
        return parts
    generator = np.random.default_rng([seed, 6])
    return [
        part.take(np.sort(generator.permutation(len(part))[:size]))
        for part, size in zip(parts, sizes, strict=True)
    ]


def _split(table: ImageTable, seed: int) -> list[ImageTable]:
    """Parts of whole patients, with the shares `SHARES` for validation and test."""
    validation, test = SHARES
    labels, groups = table.frame["label"].to_numpy(), table.frame["group"].to_numpy()
    is_test = holdout(groups, labels, test, seed)
    rest = np.flatnonzero(~is_test)
    is_validation = holdout(groups[rest], labels[rest], validation / (1 - test), seed + 1)
    rows = (rest[~is_validation], rest[is_validation], np.flatnonzero(is_test))
    return [table.take(part) for part in rows]
