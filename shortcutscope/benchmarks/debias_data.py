"""The samples of the debiasing benchmarks: biased ones, a small clean subset, and what is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone reads)

from shortcutscope.benchmarks.models import SIDE, sample_pool, split_pool
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.data.medical import DATASETS, open_dataset
from shortcutscope.data.readers.image import Mode
from shortcutscope.data.splits import holdout
from shortcutscope.data.table import ImageTable, Normalize
from shortcutscope.debias.pixel_masks import InputMasks, planted_masks
from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.planting import clean_twin, everywhere, plant
from shortcutscope.types import Ints, Record

#: Share of the held-out samples that the audit and the gate see, and that nothing is judged on.
AUDITED = 0.3
#: The largest clean subset. The biased samples are what is left beside it, so that they are the same at
#: every clean fraction.
MOST_CLEAN = 0.1


@dataclass(frozen=True)
class CohortSize:
    """How many images of which size a cohort has.

    Attributes
    ----------
    side
        Of the images, in pixels.
    n_train
        Samples with a label that training draws on, of which the clean subset is a part.
    n_held_out
        Held-out samples.
    mode
        ``"RGB"`` gives the grey images three channels; None leaves them one.
    """

    side: int
    n_train: int
    n_held_out: int
    mode: Mode | None = None


#: Of the thin networks: hundreds of them are trained, and PneumoniaMNIST has 28 pixels.
THIN = CohortSize(side=32, n_train=1600, n_held_out=1000)


@dataclass(frozen=True)
class Cohort:
    """What was planted where.

    Attributes
    ----------
    kind
        The artifact, and the column that says who carries it.
    biased
        Training samples in which the artifact goes with the label.
    clean
        The clean subset: the artifact in half of either class.
    unbiased
        The images of `biased` with the artifact in half of either class, for the oracle.
    audited
        Held-out samples for the audit and the gate.
    test
        Held-out samples for the verdict, the artifact in half of either class.
    without, with_
        The test images without the artifact, and with it on all of them.
    masks
        Exactly the artifact's visible pixels on the biased samples.
    """

    kind: str
    biased: ImageTable
    clean: ImageTable
    unbiased: ImageTable
    audited: ImageTable
    test: ImageTable
    without: ImageTable
    with_: ImageTable
    masks: InputMasks


@lru_cache(maxsize=2)
def make_cohort(
    task: str,
    kind: str,
    seed: int,
    correlation: float,
    clean_fraction: float,
    settings: Settings,
    size: CohortSize = THIN,
) -> Cohort:
    """Draw the samples of a case and plant the artifact in them.

    The images and their parts follow from the task and the seed alone, so that kinds, correlations and
    clean fractions are compared on the same ones.
    """
    pool = _pool(task, settings, size.side)
    train, held_out = split_pool(pool, seed, size.n_train, size.n_held_out)
    parts = clean_and_biased(train.frame["label"].to_numpy(), seed, clean_fraction)
    clean, rest = (train.take(rows) for rows in parts)
    artifact, half = get_artifact(kind), {0: 0.5, 1: 0.5}
    frame = held_out.frame
    is_test = holdout(frame["group"].to_numpy(), frame["label"].to_numpy(), 1 - AUDITED, seed)
    audit_part = plant(held_out.take(np.flatnonzero(~is_test)), artifact, prevalence=half, seed=seed + 2)
    test = plant(held_out.take(np.flatnonzero(is_test)), artifact, prevalence=half, seed=seed + 3)
    in_memory = partial(_in_memory, mode=size.mode)
    return Cohort(
        kind=kind,
        biased=in_memory(plant(rest, artifact, correlation=correlation, seed=seed)),
        clean=in_memory(plant(clean, artifact, prevalence=half, seed=seed + 1)),
        unbiased=in_memory(plant(rest, artifact, prevalence=half, seed=seed + 4)),
        audited=in_memory(audit_part),
        test=in_memory(test),
        without=in_memory(clean_twin(test, kind)),
        with_=in_memory(everywhere(test, kind)),
        masks=planted_masks(plant(rest, artifact, correlation=correlation, seed=seed), kind),
    )


def clean_and_biased(labels: Ints, seed: int, clean_fraction: float) -> tuple[Ints, Ints]:
    """Rows of the clean subset, half of either class, and of the biased samples beside the largest one."""
    order = np.random.default_rng([seed, 13]).permutation(len(labels))
    by_class = [order[labels[order] == value] for value in (0, 1)]
    most = round(MOST_CLEAN * len(labels)) // 2
    n_per_class = round(clean_fraction * len(labels)) // 2
    clean = np.sort(np.concatenate([rows[:n_per_class] for rows in by_class]))
    return clean, np.sort(np.concatenate([rows[most:] for rows in by_class]))


@lru_cache(maxsize=2)
def _pool(task: str, settings: Settings, side: int) -> ImageTable:
    """All samples of a task; those of the other suites averaged down, or drawn at a larger side."""
    if task in DATASETS:
        if settings.data is None:
            raise InputError(f"task {task!r} needs the folder of the data set's folder")
        options: Record = {"size": side, "mode": "L", "transform": Normalize(0.45, 0.25)}
        return open_dataset(task, settings.data / task, **options)
    if side >= SIDE:
        return sample_pool(task, settings, side)
    pool = sample_pool(task, settings)
    images = torch.stack([pool.image(i) for i in range(len(pool))])
    small = F.adaptive_avg_pool2d(images, side).numpy()
    return ImageTable.from_arrays(small, pool.frame, value_range=pool.value_range, transform=pool.transform)


def _in_memory(table: ImageTable, mode: Mode | None) -> ImageTable:
    """The same samples, drawn once instead of at every reading."""
    images = np.stack([table.image(i).numpy() for i in range(len(table))])
    return ImageTable.from_arrays(
        images, table.frame, value_range=table.value_range, transform=table.transform, mode=mode
    )
