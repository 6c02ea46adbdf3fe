"""SimBA-style phantoms: heads that differ by subject, by disease, and by a bias that goes with the disease.

After SimBA (Stanley et al. 2023, 2024), which deforms a template of the brain smoothly by three effects of
known laws. That template is a download; here it is a head of ellipsoids. Kept are the laws of the effects,
the strata, and that each subject can be rendered with and without the bias. All that is random about a
subject follows from the seed, so the two renderings differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm, truncnorm
from torch import Tensor

from shortcutscope.data.sources import ArrayMasks, ArraySource, ImageReading
from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform import Normalize
from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts.artifact import visible
from shortcutscope.planting.phantoms.deformation import Region, flow, places, upsampled, velocities
from shortcutscope.planting.phantoms.people import stream
from shortcutscope.planting.phantoms.strata import SPLITS, allotted, checked_shares, stratified_uniform
from shortcutscope.planting.planting import PlantedSource
from shortcutscope.types import Array

__all__ = ["Bias", "HeadRecipe", "bias_mask", "counterfactual", "heads"]

Bias = Literal["morphology", "intensity", "none"]

SMALLEST_SIDE = 24
# Root mean square of the subject's deformations, per unit of their coefficients; the first is the subject
# effect, the others vary as the smaller principal components of a population do.
SUBJECT_AMPLITUDES = (0.026, 0.016, 0.012, 0.010, 0.008)
SUBJECT_LIMIT = 3.5
BIAS_MEAN = 2.0
# Gain of the intensity effect around half of the range.
BIAS_GAIN = 1.2

# Places and lengths in x (to the right), y (to the back) and z (up), the head reaching from -1 to 1.
DISEASED = Region((-0.36, -0.24, 0.0), 0.42, 0.18)
BIASED = Region((0.36, 0.34, 0.0), 0.42, 0.18)

# Ellipsoids, later over earlier ones: centre, half axes, value.
_ANATOMY = (
    ((0.0, 0.0, 0.0), (0.80, 0.95, 0.90), 0.55),  # scalp
    ((0.0, 0.0, 0.0), (0.75, 0.90, 0.85), 0.12),  # skull
    ((0.0, 0.0, 0.0), (0.70, 0.85, 0.80), 0.22),  # fluid around the brain
    ((0.0, 0.0, 0.0), (0.66, 0.81, 0.76), 0.52),  # cortex
    ((-0.29, 0.0, 0.05), (0.26, 0.68, 0.60), 0.74),  # white matter, either side
    ((0.29, 0.0, 0.05), (0.26, 0.68, 0.60), 0.74),
    ((0.0, 0.0, 0.12), (0.30, 0.40, 0.30), 0.74),
    ((-0.10, -0.02, 0.10), (0.06, 0.30, 0.14), 0.16),  # ventricles
    ((0.10, -0.02, 0.10), (0.06, 0.30, 0.14), 0.16),
    ((-0.36, -0.24, 0.0), (0.16, 0.20, 0.19), 0.45),  # deep nuclei, of which the left one is diseased
    ((0.36, -0.24, 0.0), (0.16, 0.20, 0.19), 0.45),
    ((-0.36, 0.34, 0.0), (0.15, 0.18, 0.18), 0.40),  # further back, of which the right one is biased
    ((0.36, 0.34, 0.0), (0.15, 0.18, 0.18), 0.40),
    ((0.0, 0.45, -0.55), (0.38, 0.25, 0.18), 0.60),  # cerebellum
    ((0.0, 0.08, -0.50), (0.12, 0.12, 0.32), 0.66),  # brain stem
)


@dataclass(frozen=True)
class HeadRecipe:
    """What all heads of a table share.

    Attributes
    ----------
    size
        Side in pixels, at least 24.
    dims
        3 for volumes, 2 for an axial slice through the middle.
    bias
        ``"morphology"``: in biased heads another region than the disease's grows by an effect N(2, 1).
        ``"intensity"``: biased heads have a higher contrast, clip(1.2 (x - .5) + .5). ``"none"``: the column
        bias is drawn, but not seen.
    noise
        Standard deviation of the noise, in a value range of 1.
    seed
        Seed of the subjects.
    template_seed
        Seed of the directions in which subjects differ; fixed, so that tables of any seed are of one
        population.

    Raises
    ------
    InputError
        An option out of range.
    """

    size: int = 32
    dims: int = 3
    bias: Bias = "morphology"
    noise: float = 0.02
    seed: int = 0
    template_seed: int = 0

    def __post_init__(self) -> None:
        if self.size < SMALLEST_SIDE or self.dims not in (2, 3):
            raise InputError(
                f"size={self.size}, dims={self.dims}: allowed are size >= {SMALLEST_SIDE} and 2 or 3 dims"
            )
        if self.bias not in get_args(Bias):
            raise InputError(f"bias is {self.bias!r}; allowed are {', '.join(map(repr, get_args(Bias)))}")
        if not 0 <= self.noise <= 1:
            raise InputError(f"noise={self.noise}: allowed is 0 to 1")


@dataclass(frozen=True, eq=False)
class HeadSource(ArraySource):
    """Rendered heads, and what they were rendered from.

    Attributes
    ----------
    recipe
        What all share.
    subjects
        One row per head: subject, disease, bias_drawn (the bias effect it would have), bias.
    """

    recipe: HeadRecipe = field(kw_only=True)
    subjects: pd.DataFrame = field(kw_only=True, repr=False)


def heads(
    n: int,
    recipe: HeadRecipe | None = None,
    *,
    p_disease_given_bias: float = 0.7,
    splits: Mapping[str, float] = SPLITS,
) -> ImageTable:
    """Make a table of heads with a disease effect and a bias effect.

    Parameters
    ----------
    n
        Number of heads, at least 20; half of them (rounded down) are diseased.
    recipe
        What all of them share; by default volumes with a bias of morphology.
    p_disease_given_bias
        Share of diseased among the biased, .5 to 1; among the others it is one minus that.
    splits
        Share of each split.

    Returns
    -------
    table
        In memory, float32 in 0..1, shape (1, size, ...), standardised by the transform. Axes of a volume are
        up, back and right, of a slice back and right. Metadata:

        - subject: the subject effect, TruncNormal(0, 1) in -3.5..3.5, on the first of five deformations of
          the whole head; the coefficients of the others follow the same law
        - disease: the disease effect, N(1, 1) in the diseased and N(-1, 1) in the others, on the size of one
          region; the best accuracy that it allows is Phi(1) = .841
        - bias_latent: the bias effect, N(2, 1) in the biased and 0 in the others; for intensity 1 and 0
        - bias: 0 or 1

        In each class, each of the 10 x 10 bins of equal probability of (subject, disease) holds the same
        number of subjects but for one, and is divided among bias and split in the same shares as far as
        whole subjects allow. Masks: the region of the disease, in every head.

    Raises
    ------
    InputError
        An option out of range.
    """
    if n < 20 or not 0.5 <= p_disease_given_bias <= 1:
        raise InputError(
            f"n={n}, p_disease_given_bias={p_disease_given_bias}: allowed are n >= 20 and .5 (unrelated) to 1"
        )
    recipe = recipe or HeadRecipe()
    subjects = _subjects(n, p_disease_given_bias, checked_shares(splits), recipe.seed)
    images, masks = _render_all(recipe, subjects)
    source = HeadSource(images, ImageReading(dims=recipe.dims), recipe=recipe, subjects=subjects)
    return ImageTable(
        _frame(subjects, recipe),
        source,
        masks=ArrayMasks(masks),
        transform=Normalize(0.2, 0.25),
        classes=("healthy", "diseased"),
    )


def counterfactual(table: ImageTable, bias: bool) -> ImageTable:
    """The same subjects, all with the bias or all without it.

    A head that is as wanted keeps its image bit by bit; in the others nothing but the bias changes. What was
    planted over the heads stays.

    Parameters
    ----------
    table
        A table from :func:`heads`, or one taken from it.
    bias
        Whether all shall have the bias.

    Raises
    ------
    InputError
        When the table is of another origin.
    """
    source = _heads_of(table)
    subjects = source.subjects.copy()
    images = source.images.copy()
    for row in table.rows[subjects["bias"].to_numpy()[table.rows] != bias].tolist():
        images[row, 0] = _render(
            source.recipe, subjects, row, _subject_warp(source.recipe, subjects, row), bias
        )
    subjects.loc[table.rows, "bias"] = int(bias)
    changed = replace(source, images=images, subjects=subjects)
    new_source = replace(table.source, base=changed) if isinstance(table.source, PlantedSource) else changed
    columns = _frame(subjects.iloc[table.rows], source.recipe)[["bias", "bias_latent"]]
    return table.replaced(source=new_source).with_columns(
        bias=columns["bias"], bias_latent=columns["bias_latent"]
    )


def bias_mask(table: ImageTable, i: int) -> Tensor:
    """Exactly the pixels that the bias visibly changed in sample `i`, bool (*spatial).

    The head is rendered with and without the bias; pixels are marked where the two differ by more than one
    grey level of 255. Empty in a head without bias, and with ``bias="none"``.

    Parameters
    ----------
    table
        A table from :func:`heads`, or one taken from it, also with artifacts planted.
    i
        Row of the table.

    Raises
    ------
    InputError
        When the table is of another origin.
    """
    source = _heads_of(table)
    row = int(table.rows[i])
    with_bias = source.images[row, 0]
    if not source.subjects["bias"].iloc[row]:
        return torch.zeros(with_bias.shape, dtype=torch.bool)
    warp = _subject_warp(source.recipe, source.subjects, row)
    without = _render(source.recipe, source.subjects, row, warp, False)
    return torch.from_numpy(visible(without, with_bias))


def _heads_of(table: ImageTable) -> HeadSource:
    source = table.source.base if isinstance(table.source, PlantedSource) else table.source
    if not isinstance(source, HeadSource):
        raise InputError("the table holds no head phantoms; give one from heads(), or a part of it")
    return source


def _subjects(n: int, p: float, splits: Mapping[str, float], seed: int) -> pd.DataFrame:
    """Effects, class, bias and split of each subject, in random order."""
    parts = []
    for label, count in ((0, n - n // 2), (1, n // 2)):
        generator = stream(seed, "strata", label)
        uniform = stratified_uniform(count, generator)
        carriers = p if label else 1 - p
        cells = {(b, s): w * q for s, w in splits.items() for b, q in ((1, carriers), (0, 1 - carriers))}
        assignment = allotted(uniform, cells, generator)
        parts.append(
            pd.DataFrame(
                {
                    "label": label,
                    "subject": truncnorm.ppf(uniform[:, 0], -SUBJECT_LIMIT, SUBJECT_LIMIT),
                    "disease": norm.ppf(uniform[:, 1], 2 * label - 1, 1),
                    "bias": [b for b, _ in assignment],
                    "split": [s for _, s in assignment],
                }
            )
        )
    subjects = pd.concat(parts, ignore_index=True)
    order = stream(seed, "order", 0).permutation(n)
    subjects = subjects.iloc[order].reset_index(drop=True)
    subjects["bias_drawn"] = stream(seed, "bias", 0).normal(BIAS_MEAN, 1.0, n)
    return subjects


def _frame(subjects: pd.DataFrame, recipe: HeadRecipe) -> pd.DataFrame:
    """Roles and metadata; the bias effect is what is in the image."""
    effect = subjects["bias_drawn"] if recipe.bias == "morphology" else 1.0
    latent = np.where((subjects["bias"] == 1) & (recipe.bias != "none"), effect, 0.0)
    return pd.DataFrame(
        {
            "sample_id": [f"head-{i:05d}" for i in subjects.index],
            "label": subjects["label"],
            "split": subjects["split"],
            "subject": subjects["subject"],
            "disease": subjects["disease"],
            "bias_latent": latent,
            "bias": subjects["bias"],
        }
    ).reset_index(drop=True)


def _subject_warp(recipe: HeadRecipe, subjects: pd.DataFrame, i: int) -> Array:
    """Where a subject's own deformation takes each pixel, (dims, size, ...) in the template's frame."""
    others = truncnorm.ppf(
        stream(recipe.seed, "anatomy", i).random(len(SUBJECT_AMPLITUDES) - 1), -SUBJECT_LIMIT, SUBJECT_LIMIT
    )
    coefficients = np.array([subjects["subject"].iloc[i], *others]) * SUBJECT_AMPLITUDES
    fields = velocities(recipe.dims, len(SUBJECT_AMPLITUDES), recipe.template_seed)
    velocity = np.tensordot(coefficients.astype(np.float32), fields, 1)
    return places(recipe.size, recipe.dims) + upsampled(flow(velocity), recipe.size)


def _render_all(recipe: HeadRecipe, subjects: pd.DataFrame) -> tuple[Array, Array]:
    """All heads with the biases that they have, and the regions of the disease in them."""
    n, shape = len(subjects), [recipe.size] * recipe.dims
    images, masks = np.empty((n, 1, *shape), np.float32), np.empty((n, *shape), bool)
    for i in range(n):
        warp = _subject_warp(recipe, subjects, i)
        images[i, 0] = _render(recipe, subjects, i, warp, bool(subjects["bias"][i]))
        masks[i] = _region(DISEASED, recipe.dims).inside(warp)
    return images, masks


def _render(recipe: HeadRecipe, subjects: pd.DataFrame, i: int, warp: Array, biased: bool) -> Array:
    """Head `i`, float32 (size, ...), with or without the bias."""
    at = _region(DISEASED, recipe.dims).pulled(warp, float(subjects["disease"].iloc[i]))
    if biased and recipe.bias == "morphology":
        at = _region(BIASED, recipe.dims).pulled(at, float(subjects["bias_drawn"].iloc[i]))
    grain = stream(recipe.seed, "noise", i).standard_normal(at.shape[1:], np.float32)
    image = np.clip(_template(at, recipe.size) + recipe.noise * grain, 0, 1)
    if biased and recipe.bias == "intensity":
        image = np.clip(BIAS_GAIN * (image - 0.5) + 0.5, 0, 1)
    return np.asarray(image, np.float32)


def _region(region: Region, dims: int) -> Region:
    """The region in the order of the axes, of which a slice has no z."""
    return replace(region, centre=region.centre[::-1][3 - dims :])


def _template(at: Array, size: int) -> Array:
    """Value of the template at places (dims, ...), its edges about a pixel wide."""
    dims = len(at)
    image = np.full(at.shape[1:], 0.03, np.float32)
    for centre, axes, value in _ANATOMY:
        if dims == 2 and abs(centre[2]) >= axes[2]:
            continue  # does not reach the slice
        square = np.zeros(at.shape[1:], np.float32)
        for k in range(dims):
            # Axes of an array are in the order z, y, x.
            scale = np.float32(1 / axes[dims - 1 - k])
            square += ((at[k] - np.float32(centre[dims - 1 - k])) * scale) ** 2
        # Within a pixel of its surface an ellipsoid covers a pixel in part.
        steepness = np.float32(min(axes[:dims]) * size / 2)
        cover = np.clip((1 - np.sqrt(square)) * steepness + np.float32(0.5), 0, 1)
        image += cover * (np.float32(value) - image)
    return image
