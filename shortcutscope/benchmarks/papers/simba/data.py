"""Heads for SimBA's protocol: phantoms, or an experiment of the authors' generator."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from shortcutscope.data.medical.simba import LAYOUT, simba
from shortcutscope.data.table import ImageTable
from shortcutscope.planting.artifacts.artifact import Artifact, draw_result
from shortcutscope.planting.phantoms.heads import BIAS_GAIN, Bias, HeadRecipe, counterfactual, heads
from shortcutscope.planting.planting import clean_twin, everywhere, plant
from shortcutscope.types import Array, Floats, Record

__all__ = ["NO_BIAS", "Cohort", "Scenario", "check", "generated", "phantoms"]

Scenario = Literal["morphology", "intensity", "both"]

#: P(disease | bias), as published; of the others it is one minus that.
P_DISEASE_GIVEN_BIAS = 0.7
#: Folder inside an experiment that holds the same subjects without the bias.
NO_BIAS = "no_bias"
#: Side to which generated volumes are resampled, where the full size is not asked for.
SIDE = 64
#: Volumes that are looked at for the range of their grey values.
N_LOOKED_AT = 8
_SUBJECT = re.compile(r"^(.*_D)(?:_[^_]+_B)?\.nii(?:\.gz)?$")


@dataclass(frozen=True)
class Cohort:
    """The samples that all networks of a cohort are trained and judged on.

    Attributes
    ----------
    train, test
        Heads with their biases.
    biases
        Column of each bias, 0 or 1, the first of which the remedies are told.
    train_without, test_without
        The same heads, in the same order, without any bias; None where they are not to be had.
    twins
        Of each bias, test heads without it and the same heads with it; absent where they are not to be had.
    """

    train: ImageTable
    test: ImageTable
    biases: tuple[str, ...]
    train_without: ImageTable | None
    test_without: ImageTable | None
    twins: Mapping[str, tuple[ImageTable, ImageTable]]

    @property
    def bias(self) -> str:
        """The first bias."""
        return self.biases[0]

    def carries(self, part: Literal["train", "test"], bias: str | None = None) -> Floats:
        """(N,) which heads have the bias."""
        table = self.train if part == "train" else self.test
        return table.frame[bias or self.bias].to_numpy(float)


def phantoms(scenario: Scenario, dims: int, seed: int, n_train: int, n_test: int) -> Cohort:
    """Head phantoms of 32 pixels a side with one bias, or with two that are independent within a class.

    Parameters
    ----------
    scenario
        ``"both"`` has the morphology bias, and the intensity bias in heads of its own choice, each in the
        same shares of the classes.
    dims
        2 or 3.
    seed
        Of the subjects.
    n_train, n_test
        Number of heads.
    """
    n = n_train + n_test
    bias = cast(Bias, "morphology" if scenario == "both" else scenario)
    table = heads(
        n,
        HeadRecipe(dims=dims, bias=bias, seed=seed),
        p_disease_given_bias=P_DISEASE_GIVEN_BIAS,
        splits={"train": n_train / n, "test": n_test / n},
    )
    if scenario == "both":
        return _with_two(table, seed)
    train, test = (table.where(split=split) for split in ("train", "test"))
    without, with_ = counterfactual(test, False), counterfactual(test, True)
    return Cohort(train, test, ("bias",), counterfactual(train, False), without, {"bias": (without, with_)})


def _with_two(table: ImageTable, seed: int) -> Cohort:
    shares = {0: 1 - P_DISEASE_GIVEN_BIAS, 1: P_DISEASE_GIVEN_BIAS}
    table = plant(table, Artifact("intensity", "diffuse", draw=_gain), prevalence=shares, seed=seed)
    train, test = (table.where(split=split) for split in ("train", "test"))
    twins = {
        "bias": (counterfactual(test, False), counterfactual(test, True)),
        "intensity": (clean_twin(test, "intensity"), everywhere(test, "intensity")),
    }
    train_without, test_without = (counterfactual(clean_twin(part), False) for part in (train, test))
    return Cohort(train, test, ("bias", "intensity"), train_without, test_without, twins)


def _gain(image: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Draw the phantoms' intensity bias as an artifact."""
    return draw_result(image, (1 + (BIAS_GAIN - 1) * strength) * (image - 0.5) + 0.5)


@dataclass(frozen=True)
class Rescaled:
    """Each volume from its own lowest and highest value to -.5 and .5, as in the authors' code."""

    def __call__(self, volume: Tensor) -> Tensor:
        """Map (C, D, H, W) to the same shape."""
        low, high = volume.min(), volume.max()
        return (volume - low) / (high - low).clamp(min=torch.finfo(volume.dtype).tiny) - 0.5


def generated(root: Path, *, full_size: bool = False) -> Cohort:
    """An experiment of the generator; without the bias, too, where `NO_BIAS` has the same subjects.

    Flips are then measured in the test heads that have the bias.

    Raises
    ------
    InputError
        When the folder is not laid out as expected, or the subjects differ.
    """
    side = None if full_size else SIDE
    options: Record = {"size": side, "transform": Rescaled(), "classes": ("healthy", "diseased")}
    options["value_range"] = _value_range(root, side)
    parts = {split: simba(root, splits=[split], **options) for split in ("train", "test")}
    if not (root / NO_BIAS).is_dir():
        return Cohort(parts["train"], parts["test"], ("bias_label",), None, None, {})
    without = {
        split: _paired(root, table, simba(root / NO_BIAS, splits=[split], **options))
        for split, table in parts.items()
    }
    carriers = np.flatnonzero(parts["test"].frame["bias_label"].to_numpy() == 1)
    twins = (without["test"].take(carriers), parts["test"].take(carriers))
    return Cohort(
        parts["train"],
        parts["test"],
        ("bias_label",),
        without["train"],
        without["test"],
        {"bias_label": twins},
    )


def _value_range(root: Path, side: int | None) -> tuple[float, float]:
    """A range that holds all volumes, from the first few: warps of one template have its grey values."""
    table = simba(root, splits=["train"], size=side)
    looked_at = [table.image(i) for i in range(min(N_LOOKED_AT, len(table)))]
    low = min(float(volume.min()) for volume in looked_at)
    high = max(float(volume.max()) for volume in looked_at)
    return low - (high - low), high + (high - low)


def _paired(root: Path, table: ImageTable, without: ImageTable) -> ImageTable:
    """The heads of `without` in the order of `table`, matched by the effects in their names."""
    rows = {subject: row for row, subject in enumerate(_subjects(without))}
    subjects = _subjects(table)
    missing = [name for name in subjects if name not in rows]
    if missing:
        raise LAYOUT.error(
            root, f"{NO_BIAS} lacks {len(missing)} of the {len(subjects)} subjects, for example {missing[0]}"
        )
    return without.take([rows[name] for name in subjects])


def _subjects(table: ImageTable) -> list[str]:
    """Each head by its file, or its id where it has none, without the bias."""
    files = table.files
    names = [files.get(sample_id, sample_id) for sample_id in table.frame["sample_id"]]
    return [match[1] if (match := _SUBJECT.match(name)) else name for name in names]


def check(root: Path) -> None:
    """Refuse a folder that is no experiment of the generator.

    Raises
    ------
    InputError
        Naming what is missing.
    """
    tables = [simba(root)] + ([simba(root / NO_BIAS)] if (root / NO_BIAS).is_dir() else [])
    for split in ("train", "test"):
        frame = tables[0].where(split=split).frame
        if len(frame[["label", "bias_label"]].drop_duplicates()) < 4:
            raise LAYOUT.error(root, f"{split} lacks one of the four groups of class_label and bias_label")
