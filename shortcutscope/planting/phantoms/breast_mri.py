"""SpurBreast-like phantoms: axial slices of breasts with a tumour or none, and a feature that goes with it.

Laid out as SpurBreast is: in training and validation each patient gives slices of one class, and the spurious
feature goes with the class; in the test split each patient gives as many slices of either class, so that
there the feature, which belongs to the patient, says nothing about it. The field strength acts on the whole
image: noise, contrast and a smooth shading; the orientation on the layout: upside down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform import Normalize
from shortcutscope.errors import InputError
from shortcutscope.planting.phantoms.breast_metadata import patient_metadata
from shortcutscope.planting.phantoms.people import stream
from shortcutscope.types import Array

__all__ = ["Feature", "breast_mri"]

Feature = Literal["field_strength", "orientation", "none"]

# Anatomy is described in pixels of a frame of this side and scaled to the size that is asked for.
REFERENCE_SIDE = 64
SMALLEST_SIDE = 32
PIXELS_AT_ONCE = 2**20
FEWEST_PATIENTS = 28
# Patients of SpurBreast: 400 in training, 150 in validation, 150 in test.
SHARES = {"train": 4 / 7, "val": 1.5 / 7, "test": 1.5 / 7}
# Strength that goes with the positive class, as in SpurBreast, and the other one, in tesla.
POSITIVE_FIELD, NEGATIVE_FIELD = 1.5, 3.0


def breast_mri(
    *,
    n_patients: int = 700,
    slices: int = 12,
    size: int = 64,
    feature: Feature = "field_strength",
    correlation: float = 1.0,
    difficulty: float = 1.0,
    seed: int = 0,
) -> ImageTable:
    """Make a table of breast MRI slices with splits, patients, tumour masks and over 100 columns.

    Parameters
    ----------
    n_patients
        At least 28; 4/7 of them train, 1.5/7 val, the rest test.
    slices
        Slices of each patient, an even number.
    size
        Side of the images in pixels, at least 32.
    feature
        What goes with the class in train and val: ``"field_strength"`` (1.5 T with tumours, 3 T without),
        ``"orientation"`` (with tumours upside down) or ``"none"``. The field strength differs between
        patients in any case, all images are upright where the orientation is not the feature.
    correlation
        r from .5 (unrelated) to 1: in train and val, of the patients with tumour slices the share r has the
        feature, of the others 1 - r. In test, half of the patients have it, and each of them gives slices of
        both classes.
    difficulty
        Divides the contrast of the tumours. At 1, without a feature, a thin ResNet of width 8 reaches an
        AUROC of about .86 in test from 171 patients (48 pixels, 8 epochs).
    seed
        Seed of everything.

    Returns
    -------
    table
        In memory, float32 in 0..1, shape (1, size, size), standardised by the transform; label 1 where the
        slice shows a tumour, groups are patients. Metadata: slice_position (-1 to 1), field_strength, with
        the orientation vertical_flip (0 or 1), and the columns of
        `shortcutscope.planting.phantoms.breast_metadata`, of which those in ``SCANNER`` go with the field
        strength and the others with nothing. Masks: the tumours.

    Raises
    ------
    InputError
        An option out of range.
    """
    _check(n_patients, slices, size, feature, correlation, difficulty)
    patients = _patients(n_patients, feature, correlation, seed)
    frame = _slices(patients, slices, seed)
    anatomies = [_Anatomy.draw(p, size, seed) for p in range(n_patients)]
    images, masks = _pictures(frame, anatomies, size, difficulty, seed)
    metadata = patient_metadata(patients["field_strength"].to_numpy(), seed).drop(columns="field_strength")
    frame = frame.join(metadata, on="patient").drop(columns=["patient", "slice"])
    if feature != "orientation":
        frame = frame.drop(columns="vertical_flip")
    return ImageTable.from_arrays(
        images, frame, masks=masks, value_range=(0.0, 1.0), transform=Normalize(0.2, 0.18)
    )


def _check(
    n_patients: int, slices: int, size: int, feature: str, correlation: float, difficulty: float
) -> None:
    if n_patients < FEWEST_PATIENTS or slices < 2 or slices % 2 or size < SMALLEST_SIDE:
        raise InputError(
            f"n_patients={n_patients}, slices={slices}, size={size}: allowed are n_patients >= "
            f"{FEWEST_PATIENTS}, an even number of slices and size >= {SMALLEST_SIDE}"
        )
    if feature not in get_args(Feature):
        raise InputError(f"feature is {feature!r}; allowed are {', '.join(map(repr, get_args(Feature)))}")
    if not 0.5 <= correlation <= 1 or not 0 < difficulty < np.inf:
        raise InputError(
            f"correlation={correlation}, difficulty={difficulty}: allowed are .5 (unrelated) to 1 and a "
            "positive, finite difficulty"
        )


def _patients(n: int, feature: Feature, correlation: float, seed: int) -> pd.DataFrame:
    """Split, class of the slices (-1 for both), field strength and orientation of each patient."""
    train, val = (round(SHARES[name] * n) for name in ("train", "val"))
    sizes = {"train": train, "val": val, "test": n - train - val}
    parts = []
    for number, (split, count) in enumerate(sizes.items()):
        generator = stream(seed, "patients", number)
        positive = generator.permutation(np.arange(count) % 2)
        aligned = np.zeros(count, np.int64)
        share = correlation if split != "test" and feature != "none" else 0.5
        for side in (0, 1):
            side_rows = generator.permutation(np.flatnonzero(positive == side))
            aligned[side_rows[: round((share if side else 1 - share) * len(side_rows))]] = 1
        # The one that is no feature takes turns among patients who are alike in all else.
        alike = np.lexsort((generator.random(count), aligned, positive))
        turns = np.empty(count, np.int64)
        turns[alike] = np.arange(count) % 2
        weak_field = turns if feature == "orientation" else aligned
        parts.append(
            pd.DataFrame(
                {
                    "split": split,
                    "side": positive if split != "test" else -1,
                    "field_strength": np.where(weak_field == 1, POSITIVE_FIELD, NEGATIVE_FIELD),
                    "vertical_flip": aligned if feature == "orientation" else 0,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _slices(patients: pd.DataFrame, slices: int, seed: int) -> pd.DataFrame:
    """Roles, and what differs between the slices of a patient."""
    patient = np.repeat(np.arange(len(patients)), slices)
    number = np.tile(np.arange(slices), len(patients))
    side = patients["side"].to_numpy()[patient]
    label = np.where(side < 0, number % 2, side)
    position = np.concatenate(
        [np.sort(stream(seed, "positions", p).uniform(-0.9, 0.9, slices)) for p in range(len(patients))]
    )
    return pd.DataFrame(
        {
            "sample_id": [f"breast-{p:04d}-{k:02d}" for p, k in zip(patient, number, strict=True)],
            "label": label,
            "group": [f"patient-{p:04d}" for p in patient],
            "split": patients["split"].to_numpy()[patient],
            "patient": patient,
            "slice": number,
            "slice_position": position.round(3),
            "field_strength": patients["field_strength"].to_numpy()[patient],
            "vertical_flip": patients["vertical_flip"].to_numpy()[patient],
        }
    )


@dataclass(frozen=True)
class _Anatomy:
    """What all slices of a patient share; lengths in pixels of the reference frame."""

    breasts: Array  # (4,) distance from the midline, half width, depth, height of the chest wall
    density: float  # share of glandular tissue, about 0 to 1
    lesion: Array  # (4,) side (-1 or 1), x and y as shares of the half axes, radius
    outline: Array  # (2, 4) amplitudes and phases of the lesion's edge
    contrast: float  # of the lesion
    coil: Array  # (3,) standard normal: noise, contrast and shading, on top of what the field gives
    tilt: float  # direction of the shading, radians
    texture: Array  # (2, size, size) white noise

    @classmethod
    def draw(cls, patient: int, size: int, seed: int) -> _Anatomy:
        person = stream(seed, "breasts", patient)
        radius, direction = 0.6 * np.sqrt(person.random()), person.uniform(0, 2 * np.pi)
        return cls(
            breasts=person.normal((14.5, 12.5, 28.0, 46.0), (0.5, 0.9, 3.0, 1.5)),
            density=person.uniform(0.15, 0.85),
            lesion=np.array(
                [
                    person.choice((-1.0, 1.0)),
                    radius * np.cos(direction),
                    -0.45 + 0.55 * radius * np.sin(direction),
                    person.uniform(2.4, 4.2),
                ]
            ),
            outline=np.stack([person.normal(0, 0.11, 4), person.uniform(0, 2 * np.pi, 4)]),
            contrast=person.uniform(0.20, 0.38),
            coil=person.standard_normal(3),
            tilt=person.normal(0.8, 0.5),
            texture=person.standard_normal((2, size, size), np.float32),
        )


def _pictures(
    frame: pd.DataFrame, anatomies: list[_Anatomy], size: int, difficulty: float, seed: int
) -> tuple[Array, Array]:
    """Slices and tumour masks ``(N, size, size)``, a few at a time."""
    images = np.empty((len(frame), size, size), np.float32)
    masks = np.empty((len(frame), size, size), bool)
    step = max(1, PIXELS_AT_ONCE // size**2)
    for start in range(0, len(frame), step):
        part = slice(start, start + step)
        images[part], masks[part] = _render(frame.iloc[part], anatomies, size, difficulty, seed)
    upside_down = np.flatnonzero(frame["vertical_flip"])
    images[upside_down], masks[upside_down] = images[upside_down, ::-1], masks[upside_down, ::-1]
    return images, masks


def _render(
    frame: pd.DataFrame, anatomies: list[_Anatomy], size: int, difficulty: float, seed: int
) -> tuple[Array, Array]:
    """Upright images in 0..1 and tumour masks, both (len(frame), size, size)."""
    people = [anatomies[p] for p in frame["patient"]]
    streams = [stream(seed, f"slice {k}", p) for p, k in zip(frame["patient"], frame["slice"], strict=True)]
    axis = ((np.arange(size) + 0.5) * REFERENCE_SIDE / size).astype(np.float32)
    x, y = axis[None, None, :] - REFERENCE_SIDE / 2, axis[None, :, None]
    fresh = np.stack([s.standard_normal((2, size, size), np.float32) for s in streams])
    white = 0.85 * np.stack([p.texture for p in people]) + np.float32(0.53) * fresh
    # A breast is widest in the middle and ends at both sides of it.
    cut = np.sqrt(1 - 0.55 * frame["slice_position"].to_numpy() ** 2)
    breasts = np.stack([p.breasts for p in people]) * np.stack([cut**0, cut**0.5, cut, cut**0], 1)
    images = _tissue(x, y, breasts, _each([p.density for p in people]), _clouds(white, size))
    images += _foci(x, y, breasts, streams)
    shape, masks = _lesions(x, y, breasts, people, streams)
    positive = _each(frame["label"]) == 1
    images += positive * _each([p.contrast for p in people]) / difficulty * shape
    images = _acquired(images, x / 32, y / 32 - 1, frame["field_strength"].to_numpy(), people, streams)
    return images, masks & positive


def _each(values: object) -> Array:
    """One number for each image, to be broadcast over its pixels."""
    return np.asarray(values, np.float32)[..., None, None]


def _tissue(x: Array, y: Array, breasts: Array, density: Array, clouds: Array) -> Array:
    """Chest and two breasts of fat and gland, with suppressed fat, as in a contrast-enhanced series."""
    distance, half_width, depth, chest = (_each(breasts[:, k]) for k in range(4))
    images = np.full(clouds.shape[:1] + clouds.shape[2:], 0.01, np.float32)
    gland = np.zeros_like(images)
    inside = np.zeros_like(images)
    for side in (-1.0, 1.0):
        u, v = (x - side * distance) / half_width, (y - chest) / depth
        q = np.abs(u) ** 2.2 + np.abs(v) ** 2.2
        within = expit(9.0 * (1 - q)) * (v < 0.08)
        inside = np.maximum(inside, within)
        # Gland lies in the middle of a breast and reaches towards the nipple.
        gland = np.maximum(gland, within * expit(4.0 * (0.55 - u**2 - 0.9 * (v + 0.5) ** 2)))
    amount = expit(3.5 * (0.7 * clouds[:, 0] + 0.6 * clouds[:, 1] + 2.4 * density - 1.5))
    images += inside * (0.15 + 0.02 * clouds[:, 0]) + gland * amount * 0.22
    wall = chest + 1.0 - 0.004 * x**2
    depth_in_chest = y - wall
    muscle = expit(2.0 * depth_in_chest) * expit(1.2 * (6.0 - depth_in_chest))
    images += muscle * (0.28 + 0.03 * clouds[:, 0] - images)
    heart = expit(5.0 * (1 - ((x - 6) / 11) ** 2 - ((y - chest - 18) / 9) ** 2))
    return np.asarray(images + 0.30 * heart * expit(depth_in_chest - 5), np.float32)


def _foci(x: Array, y: Array, breasts: Array, streams: list[np.random.Generator]) -> Array:
    """Vessels and benign foci of either class: one to three soft, round spots."""
    spots = np.zeros((len(streams), 3, 4))
    for spot, generator in zip(spots, streams, strict=True):
        spot[:, 0] = generator.choice((-1.0, 1.0), 3)
        spot[:, 1], spot[:, 2] = generator.uniform(-0.6, 0.6, 3), generator.uniform(-0.8, -0.1, 3)
        spot[:, 3] = generator.uniform(0.06, 0.18, 3) * (np.arange(3) < generator.integers(1, 4))
    total = np.zeros((len(streams), y.shape[1], x.shape[2]), np.float32)
    for k, sigma in enumerate((1.0, 1.6, 2.4)):
        side, u, v, height = (_each(spots[:, k, j]) for j in range(4))
        px = side * _each(breasts[:, 0]) + u * _each(breasts[:, 1])
        py = _each(breasts[:, 3]) + v * _each(breasts[:, 2])
        total += height * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
    return total


def _lesions(
    x: Array, y: Array, breasts: Array, people: list[_Anatomy], streams: list[np.random.Generator]
) -> tuple[Array, Array]:
    """Shape, 0 to 1, and mask of each patient's tumour in each slice, as large as the slice cuts it."""
    lesion = np.stack([p.lesion for p in people])
    radius = lesion[:, 3] * [generator.uniform(0.7, 1.0) for generator in streams]
    px = _each(lesion[:, 0] * breasts[:, 0] + lesion[:, 1] * breasts[:, 1])
    py = _each(breasts[:, 3] + lesion[:, 2] * breasts[:, 2])
    angle, distance = np.arctan2(y - py, x - px), np.hypot(x - px, y - py)
    edge = np.ones_like(distance)
    outline = np.stack([p.outline for p in people])
    for k in range(outline.shape[2]):
        edge += _each(outline[:, 0, k]) * np.cos((k + 2) * angle + _each(outline[:, 1, k]))
    edge *= _each(radius)
    return expit(2.5 * (edge - distance)), distance < edge


def _acquired(
    images: Array,
    x: Array,
    y: Array,
    field: Array,
    people: list[_Anatomy],
    streams: list[np.random.Generator],
) -> Array:
    """What the scanner makes of the tissue: shading, contrast and Rician noise; x and y from -1 to 1.

    At 3 tesla there is half the noise, more contrast, and the shading of a shorter wavelength.
    """
    high = field > 2
    coil = np.stack([p.coil for p in people])
    level = np.where(high, 0.018, 0.034) * np.exp(0.12 * coil[:, 0])
    gain = np.where(high, 1.12, 0.92) + 0.03 * coil[:, 1]
    shading = np.where(high, 0.28, 0.06) + 0.03 * coil[:, 2]
    tilt = _each([p.tilt for p in people])
    bend = np.cos(tilt) * x + np.sin(tilt) * y - 0.5 * (x**2 + y**2) + 0.3
    images = images * _each(gain) * (1 + _each(shading) * bend)
    noise = np.stack([s.standard_normal((2, *images.shape[1:]), np.float32) for s in streams])
    noise *= np.asarray(level, np.float32)[:, None, None, None]
    return np.asarray(np.clip(np.hypot(images + noise[:, 0], noise[:, 1]), 0, 1), np.float32)


def _clouds(white: Array, size: int) -> Array:
    """Filter white noise (N, 2, size, size) to fine and coarse structure of unit standard deviation."""
    smooth = np.empty_like(white)
    for k, sigma in enumerate((1.3, 3.5)):
        width = sigma * size / REFERENCE_SIDE
        smooth[:, k] = gaussian_filter(white[:, k], (0, width, width))
    return np.asarray(smooth / smooth.std((-2, -1), keepdims=True), np.float32)
