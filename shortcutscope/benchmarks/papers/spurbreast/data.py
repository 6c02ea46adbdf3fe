"""The slices of the protocol `spurbreast`: phantoms of breast MRI, or the data set itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from shortcutscope.benchmarks.runner import Case, Settings
from shortcutscope.data.medical.spurbreast import LAYOUT, spurbreast
from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform import Normalize
from shortcutscope.planting.phantoms.breast_metadata import SCANNER
from shortcutscope.planting.phantoms.breast_mri import breast_mri
from shortcutscope.types import Floats

__all__ = ["FEATURES", "PATIENTS", "Cohort", "Feature", "available", "check", "has_patients"]

Feature = Literal["field_strength", "orientation", "none"]
FEATURES: tuple[Feature, ...] = ("field_strength", "orientation", "none")
#: The published data sets with each feature; that without one is a random split of patients.
FOLDERS = {"field_strength": "field_strength", "orientation": "vertical_flip", "none": "baseline_high"}
#: Metadata column of each feature; without one, the field strength is there all the same.
COLUMNS = {"field_strength": "field_strength", "orientation": "vertical_flip", "none": "field_strength"}
#: Beside the folders: a row for each patient, with whatever is known of patients and scans.
PATIENTS = "patients.csv"

#: Tesla; tumours go with 1.5, the rest with 3. Some scanners write 1.494 and 2.89.
WEAK_FIELD = 2.0

N_PATIENTS, SLICES, QUICK_PATIENTS, ALL_PATIENTS = 350, 8, 210, 700
#: Side of the images that narrow networks see, and networks of full width, in pixels.
THIN_SIDE, FULL_SIDE = 48, 96
THIN_SIDE_READ, FULL_SIDE_READ = 64, 224


@dataclass(frozen=True)
class Cohort:
    """What the networks of a case are trained and judged on.

    Attributes
    ----------
    feature
        What goes with the label in training and validation, and not in test.
    correlation
        Share of the patients with tumour slices who have it, and of the others who have not; .5 without one.
    seed
        Of phantoms; the published splits are what they are.
    full
        Whether the images are of the size for networks of full width.
    """

    feature: Feature
    correlation: float
    seed: int
    full: bool = False

    @classmethod
    def of(cls, case: Case) -> Cohort:
        """The one that a case names."""
        return cls(**{field.name: case[field.name] for field in fields(cls)})

    @property
    def column(self) -> str:
        """Metadata column of the feature."""
        return COLUMNS[self.feature]

    def table(self, settings: Settings) -> ImageTable:
        """All slices, with the splits train, val and test."""
        if settings.data is not None:
            side = FULL_SIDE_READ if self.full else THIN_SIDE_READ
            return _published(Path(settings.data), self.feature, side)
        patients = QUICK_PATIENTS if settings.quick else ALL_PATIENTS if self.full else N_PATIENTS
        return breast_mri(
            n_patients=patients,
            slices=SLICES,
            size=FULL_SIDE if self.full else THIN_SIDE,
            feature=self.feature,
            correlation=self.correlation,
            seed=self.seed,
        )

    def carries(self, table: ImageTable) -> Floats | None:
        """(N,) 1 for slices with the value that goes with tumours, NaN unknown; None without the column."""
        if self.column not in table.frame:
            return None
        values = table.frame[self.column].to_numpy(float)
        carries = values < WEAK_FIELD if self.column == "field_strength" else values == 1
        return np.where(np.isnan(values), np.nan, carries)

    def proxies(self, columns: Sequence[str]) -> list[str]:
        """Those of the columns that go with the label because they go with the feature of phantoms."""
        return [name for name in columns if self.feature == "field_strength" and name in SCANNER]


def _published(root: Path, feature: Feature, side: int) -> ImageTable:
    patients = root / PATIENTS
    table = spurbreast(
        root,
        feature=FOLDERS[feature],
        patients=patients if patients.is_file() else None,
        size=side,
        mode="L",
        transform=Normalize(0.2, 0.2),
    )
    # Read once instead of at every use; the numbers in the files' names are no metadata.
    images = np.stack([table.image(row).numpy() for row in range(len(table))])
    frame = table.frame.drop(columns=["prefix", "slice"])
    return ImageTable.from_arrays(
        images, frame, value_range=table.value_range, transform=table.transform, classes=table.classes
    )


def available(root: Path | None) -> tuple[Feature, ...]:
    """The features that phantoms have, or that folders of the data set are there for."""
    return tuple(name for name in FEATURES if root is None or (root / FOLDERS[name]).is_dir())


def has_patients(root: Path | None) -> bool:
    """Whether there are metadata to screen, and a field strength of the test images to audit."""
    return root is None or (root / PATIENTS).is_file()


def check(root: Path) -> None:
    """Refuse a folder that holds neither of the two data sets with a strong shortcut.

    Raises
    ------
    LayoutError
        With the expected layout, and where the data is to be had.
    """
    if not set(available(root)) - {"none"}:
        raise LAYOUT.error(root, "there is neither a folder 'field_strength' nor 'vertical_flip'")
    for name in available(root):
        spurbreast(root, feature=FOLDERS[name])
