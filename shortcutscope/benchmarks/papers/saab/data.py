"""The phantoms of the protocol `saab`: where lesions lie, and which spurious feature goes with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from shortcutscope.benchmarks.models import split_pool
from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform import Normalize
from shortcutscope.files import write_atomically
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import artifact_mask, plant
from shortcutscope.types import Bools, Record

VERSION = 1
#: Share of carriers among the positive training samples, and of the others among the negative ones.
CORRELATION = 0.95
#: Side of the phantoms in pixels; they are made in parts of so many, and so many parts at most.
SIDE, PART, PARTS = 64, 2000, 20


@dataclass(frozen=True)
class Place:
    """Where the lesions of a cohort lie.

    Attributes
    ----------
    rows, columns
        Shares of the image's height and width between which every pixel of every lesion lies.
    """

    rows: tuple[float, float] = (0.0, 1.0)
    columns: tuple[float, float] = (0.0, 1.0)

    def holds(self, masks: Bools) -> Bools:
        """(N,) whether nothing of a mask (N, H, W) lies elsewhere."""
        height, width = masks.shape[1:]
        inside = np.zeros((height, width), bool)
        top, bottom = (round(share * height) for share in self.rows)
        left, right = (round(share * width) for share in self.columns)
        inside[top:bottom, left:right] = True
        return np.asarray(~(masks & ~inside).any(axis=(1, 2)))


PLACES = {"anywhere": Place(), "one quadrant": Place(rows=(0.5, 1), columns=(0.5, 1))}


@dataclass(frozen=True, eq=False)
class Cohort:
    """What networks are taught and judged on.

    Attributes
    ----------
    kind
        The spurious feature, and the column that says who carries it.
    train
        Here it goes with the label. The masks are those of the finding.
    test
        Other patients. A planted feature is as frequent in both classes here.
    spurious
        (N, H, W) pixels of the spurious feature in the training samples; None where nobody drew them.
    """

    kind: str
    train: ImageTable
    test: ImageTable
    spurious: Bools | None


@lru_cache(maxsize=2)
def phantoms(place: str, kind: str, seed: int, n_train: int, n_test: int, cache: Path) -> Cohort:
    """Phantom radiographs with a planted spurious feature.

    Lesions that lie in one place are chosen from many phantoms. The kinds of a place share their images.

    Parameters
    ----------
    place
        One of `PLACES`.
    kind
        A localized artifact of :mod:`shortcutscope.planting.artifacts`.
    seed
        Of the images, the parts, and the carriers.
    n_train, n_test
        Numbers of samples, half of them positive.
    cache
        Where the images are kept.
    """
    pool = _kept_pool(place, seed, n_train + n_test, cache)
    train, test = split_pool(pool, seed, n_train, n_test)
    return planted(kind, train, test, seed)


def planted(kind: str, train: ImageTable, test: ImageTable, seed: int) -> Cohort:
    """Plant a feature that goes with the label in training, and with neither class in the test."""
    artifact = get_artifact(kind)
    train = plant(train, artifact, correlation=CORRELATION, seed=seed)
    test = plant(test, artifact, prevalence={0: 0.5, 1: 0.5}, seed=seed + 1)
    spurious = np.stack([artifact_mask(train, row, kind).numpy() for row in range(len(train))])
    return Cohort(kind, in_memory(train), in_memory(test), spurious)


def in_memory(table: ImageTable) -> ImageTable:
    """The same samples and masks as arrays, read and drawn once instead of at every use."""
    images = np.stack([table.image(row).numpy() for row in range(len(table))])
    return ImageTable.from_arrays(
        images, table.frame, masks=masks_of(table), value_range=table.value_range, transform=table.transform
    )


def masks_of(table: ImageTable) -> Bools:
    """(N, H, W) pixels of the finding; none of a sample without a mask."""
    blank = torch.zeros(table.image(0).shape[1:], dtype=torch.bool)
    masks = [table.mask(row) for row in range(len(table))]
    return torch.stack([blank if mask is None else mask for mask in masks]).numpy()


def _kept_pool(place: str, seed: int, count: int, cache: Path) -> ImageTable:
    """The phantoms of a place, made once and kept as npz."""
    path = cache / "reproduce" / "saab" / f"{place.replace(' ', '-')}-{seed}-{count}-{VERSION}.npz"
    if not path.exists():
        images, masks, frame = _pool(PLACES[place], seed, count)
        coded: Record = {name: frame[name].to_numpy().astype(str) for name in ("sample_id", "group")}
        coded |= {"images": (images * 65535).round().astype(np.uint16), "masks": np.packbits(masks, axis=-1)}
        labels = frame["label"].to_numpy()
        write_atomically(path, lambda file: np.savez(file, label=labels, **coded))
    with np.load(path, allow_pickle=False) as archive:
        frame = pd.DataFrame({name: archive[name] for name in ("sample_id", "label", "group")})
        images = archive["images"].astype(np.float32) / 65535
        masks = np.unpackbits(archive["masks"], axis=-1, count=images.shape[-1]).astype(bool)
    return ImageTable.from_arrays(
        images, frame, masks=masks, value_range=(0, 1), transform=Normalize(0.45, 0.25)
    )


def _pool(place: Place, seed: int, count: int) -> tuple[npt.NDArray[np.float32], Bools, pd.DataFrame]:
    """Images, masks and table; some more than is wanted, since patients are not divided."""
    need = round(0.58 * count) + 10
    images, masks, frames = [], [], []
    counts = np.zeros(2, int)
    for part in range(PARTS):
        table = radiographs(PART, size=SIDE, seed=1000 * seed + part)
        findings, labels = masks_of(table), table.frame["label"].to_numpy()
        rows = np.flatnonzero(np.where(labels == 1, place.holds(findings), counts[0] < need))
        images.append(np.stack([table.image(int(row)).numpy() for row in rows]))
        masks.append(findings[rows])
        names = {name: f"{part}-" + table.frame[name].iloc[rows] for name in ("sample_id", "group")}
        frames.append(pd.DataFrame({**names, "label": labels[rows]}))
        counts += np.bincount(labels[rows], minlength=2)
        if counts.min() >= need:
            break
    return np.concatenate(images), np.concatenate(masks), pd.concat(frames, ignore_index=True)


def box(mask: Tensor) -> Tensor:
    """One filled box around all that is marked in an image, as in the paper's code."""
    filled = torch.zeros_like(mask, dtype=torch.bool)
    if mask.any():
        places = mask.nonzero(as_tuple=True)
        filled[tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in places)] = True
    return filled


def taught_pixels(table: ImageTable, supervision: str) -> Bools:
    """(N, H, W) pixels that are called positive: all of a positive image, a box, or the finding's own."""
    masks = masks_of(table)
    if supervision == "binary":
        masks[table.frame["label"].to_numpy() == 1] = True
    if supervision == "box":
        masks = np.stack([box(torch.from_numpy(mask)).numpy() for mask in masks])
    return masks


def some_masks(
    table: ImageTable, number: int | None, supervision: str, seed: int
) -> Callable[[int], Tensor | None]:
    """The masks of so many positive samples, drawn by the seed; the larger numbers include the smaller.

    Parameters
    ----------
    table
        With masks of the finding.
    number
        How many have a mask; None: all that the table has.
    supervision
        ``"box"`` gives a box around the mask instead.
    seed
        Of the draw.
    """
    positive = np.flatnonzero(table.frame["label"].to_numpy() == 1)
    order = np.random.default_rng([seed, 17]).permutation(positive)
    rows = set(order[:number].tolist())

    def mask_of(row: int) -> Tensor | None:
        mask = table.mask(row) if row in rows else None
        return box(mask) if mask is not None and supervision == "box" else mask

    return mask_of
