"""Radiograph-like phantoms with several labels a sample: each a faint sign at a place of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from shortcutscope.data.manifests.labels import Labels
from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform import Normalize
from shortcutscope.errors import InputError
from shortcutscope.planting.phantoms.people import stream
from shortcutscope.planting.phantoms.radiographs import REFERENCE_SIDE, radiographs
from shortcutscope.types import Array, Floats

__all__ = ["FINDINGS", "findings"]

#: The labels of ChestX-ray14, whose names alone are borrowed.
FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip

#: Where the signs are, in pixels of the reference frame from its middle, row by row.
_PLACES = [(x, y) for y in (-19.0, -7.0, 7.0, 19.0) for x in (-14.0, -4.5, 4.5, 14.0)]
#: Contrast of a sign, and deviations of its place and of its two axes.
CONTRAST, _SHIFT, _AXES = 0.2, 0.7, ((2.4, 2.4), (3.6, 1.4), (1.4, 3.6))


def findings(
    n: int,
    *,
    names: Sequence[str] = FINDINGS,
    size: int = 64,
    prevalence: float = 0.4,
    together: Mapping[str, tuple[str, float]] | None = None,
    contrast: Mapping[str, float] | None = None,
    open_: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
) -> ImageTable:
    """Make a table of phantoms with several labels a sample.

    Parameters
    ----------
    n
        Number of images, at least 2; the first ``k`` for a seed do not depend on it.
    names
        Of the labels, at most 16.
    size
        Side of the images in pixels, at least 28.
    prevalence
        Share of the samples that have each label, drawn independently.
    together
        Label to another one, and the share of the samples in which the two agree.
    contrast
        Of a label's sign, instead of `CONTRAST`; one with more is easier to see.
    open_
        Shares of the labels that are uncertain (-1), and that are missing; both are unknown in the table.
    seed
        Of everything.

    Returns
    -------
    table
        In memory, float32 in 0..1, shape (1, size, size), with the metadata of `radiographs`, patients as
        groups, and the labels. Signs are drawn by the truth, also of labels that are unknown.

    Raises
    ------
    InputError
        Too many labels, names among `together` or `contrast` that are none, or shares out of range.
    """
    together, contrast = together or {}, contrast or {}
    _check(names, prevalence, together, contrast, open_)
    base = radiographs(n, size=size, seed=seed)
    images = np.stack([base.image(row).numpy()[0] for row in range(n)])
    labels, strength = np.empty((n, len(names))), [contrast.get(name, CONTRAST) for name in names]
    for row in range(n):
        now = stream(seed, "findings", row)
        truth = _drawn(now, names, prevalence, together)
        labels[row] = _partly_open(now, truth, open_)
        images[row] = np.clip(images[row] + _signs(now, truth, strength, size), 0, 1)
    return ImageTable.from_arrays(
        images,
        _of_seed(base.frame.drop(columns="label"), seed),
        labels=labels,
        label=Labels(list(names)),
        value_range=(0, 1),
        transform=Normalize(0.45, 0.25),
    )


def _of_seed(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """With names such that tables of two seeds have no sample and no patient in common."""
    return frame.assign(**{role: frame[role].astype(str) + f"-{seed}" for role in ("sample_id", "group")})


def _partly_open(generator: np.random.Generator, truth: Floats, open_: tuple[float, float]) -> Floats:
    """The labels of a sample, some of them uncertain or missing."""
    chance = generator.random(len(truth))
    return np.select([chance < open_[0], chance < sum(open_)], [-1.0, np.nan], truth)


def _check(
    names: Sequence[str],
    prevalence: float,
    together: Mapping[str, tuple[str, float]],
    contrast: Mapping[str, float],
    open_: tuple[float, float],
) -> None:
    shares = [prevalence, *open_, sum(open_), *(share for _, share in together.values())]
    if not 1 <= len(names) <= len(_PLACES) or not all(0 <= share <= 1 for share in shares):
        raise InputError(
            f"{len(names)} labels and shares {shares}: allowed are 1 to {len(_PLACES)}, and 0 to 1"
        )
    strange = ({*together, *contrast} | {other for other, _ in together.values()}) - set(names)
    if strange:
        raise InputError(f"{sorted(strange)[0]!r} is none of the labels {', '.join(names)}")


def _drawn(
    generator: np.random.Generator,
    names: Sequence[str],
    prevalence: float,
    together: Mapping[str, tuple[str, float]],
) -> Floats:
    """Which labels an image has, (L,)."""
    own = dict(zip(names, generator.random(len(names)) < prevalence, strict=True))
    agrees = dict(zip(names, generator.random(len(names)), strict=True))
    for name, (other, share) in together.items():
        own[name] = own[other] if agrees[name] < share else not own[other]
    return np.array([own[name] for name in names], float)


def _signs(generator: np.random.Generator, labels: Floats, strength: Sequence[float], size: int) -> Array:
    """What the labels add to an image, (size, size): bright or dark spots, round or long."""
    axis = (np.arange(size) + 0.5) * REFERENCE_SIDE / size - REFERENCE_SIDE / 2
    x, y = axis[None, :], axis[:, None]
    shifts = generator.normal(0, _SHIFT, (len(labels), 2))
    factors = generator.uniform(0.7, 1.3, len(labels))
    total = np.zeros((size, size))
    for k in np.flatnonzero(labels).tolist():
        (px, py), (along, across) = _PLACES[k] + shifts[k], _AXES[k % len(_AXES)]
        shape = np.exp(-(((x - px) / along) ** 2 + ((y - py) / across) ** 2) / 2)
        total += (-1) ** k * factors[k] * strength[k] * shape
    return total
