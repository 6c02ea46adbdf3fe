"""SpurBreast: slices of breast MRI with a planted shortcut, of Ozbulak et al. (MICCAI 2025)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Unpack

import pandas as pd

from shortcutscope.data.manifests.columns import quoted
from shortcutscope.data.medical.layout import DatasetLayout
from shortcutscope.data.table import ImageTable, TableOptions
from shortcutscope.errors import InputError

__all__ = ["FEATURES", "LAYOUT", "spurbreast"]

LAYOUT = DatasetLayout(
    "SpurBreast",
    (
        "<feature>/training/{0,1}/<prefix>-<slice>-<patient>.png",
        "<feature>/validation/{0,1}/<prefix>-<slice>-<patient>.png",
        "<feature>/test/{0,1}/<prefix>-<slice>-<patient>.png",
    ),
    "https://zenodo.org/records/17128791",
)

#: What goes with the label in training and validation; the baselines have no such feature.
FEATURES = (
    "field_strength",
    "menopause",
    "race_and_ethnicity",
    "surgery_type",
    "vertical_flip",
    "baseline_high",
    "baseline_mid",
    "baseline_low",
)

_SPLITS = {"training": "train", "validation": "val", "test": "test"}
_NAME = re.compile(r"(?P<prefix>.+)-(?P<slice>[^-]+)-(?P<patient>[^-]+)\.png")
_TESLA = {0: 3.0, 1: 1.5}  # of the training and validation images without and with a tumour
_PATIENT_COLUMNS = ("Patient ID", "patient_id", "patient")


def spurbreast(
    root: str | Path,
    *,
    feature: str = "field_strength",
    patients: str | Path | None = None,
    **options: Unpack[TableOptions],
) -> ImageTable:
    """One of SpurBreast's data sets: label 1 for slices with a tumour, groups are the patients.

    The splits are train, val and test. ``prefix`` and ``slice`` are from the files' names. In training and
    validation the feature goes with the label in every image, in the test images it does not; their names
    do not tell it. Of ``field_strength`` the column of that name is 3 and 1.5 (tesla) in training and
    validation and missing in the test images, of the other features there is none, unless `patients` is
    given.

    Parameters
    ----------
    root
        Folder with a folder for each feature.
    feature
        Which of `FEATURES`.
    patients
        CSV or Parquet table with a row for each patient (``Breast_MRI_001`` or the number, in the column
        "Patient ID", "patient_id" or "patient"), such as the clinical features of Duke-Breast-Cancer-MRI,
        which SpurBreast is made of. Its columns become metadata; one that is named as the feature replaces
        what is known of it.
    **options
        See :class:`shortcutscope.data.table.TableOptions`.

    Raises
    ------
    InputError
        For an unknown feature, and when the folder is not laid out as expected.
    """
    if feature not in FEATURES:
        raise InputError(f"no feature {feature!r}; SpurBreast has {', '.join(FEATURES)}")
    base = LAYOUT.folder(root, feature)
    frame = pd.DataFrame(
        [
            _row(root, base, split, label, name)
            for split in _SPLITS
            for label in (0, 1)
            for name in _names(root, base, f"{split}/{label}")
        ]
    )
    if feature == "field_strength":
        has_labels = frame["split"] != "test"
        frame["field_strength"] = frame["label"].map(_TESLA).where(has_labels)
    if patients is not None:
        frame = _with_patients(frame, Path(patients))
    options.setdefault("classes", ["no tumour", "tumour"])
    return ImageTable.from_frame(frame, root=base, **options)


def _names(root: str | Path, base: Path, folder: str) -> list[str]:
    names = sorted(path.name for path in LAYOUT.folder(base, folder).glob("*.png"))
    if not names:
        raise LAYOUT.error(root, f"the folder {str(base / folder)!r} has no images")
    return names


def _row(root: str | Path, base: Path, split: str, label: int, name: str) -> dict[str, object]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise LAYOUT.error(root, f"the name {name!r} in {str(base)!r} is not <prefix>-<slice>-<patient>.png")
    number = match["slice"]
    return {
        "image": f"{split}/{label}/{name}",
        "label": label,
        "group": _patient(match["patient"]),
        "split": _SPLITS[split],
        "prefix": match["prefix"],
        "slice": int(number) if number.isdecimal() else number,
    }


def _patient(name: object) -> str:
    """Id as Duke-Breast-Cancer-MRI writes it: ``Breast_MRI_001`` from 1, ``001`` or the id itself."""
    number = str(name).strip().removesuffix(".0").rpartition("_")[2]
    return f"Breast_MRI_{int(number):03d}" if number.isdecimal() else str(name)


def _with_patients(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    table = LAYOUT.table(path.parent, path, [], text=list(_PATIENT_COLUMNS))
    key = next((name for name in _PATIENT_COLUMNS if name in table), None)
    if key is None:
        raise InputError(f"{path.name} has none of the columns {quoted(_PATIENT_COLUMNS)}")
    table.index = pd.Index([_patient(name) for name in table.pop(key)], name=None)
    if table.index.has_duplicates:
        raise InputError(
            f"{path.name} has several rows for {quoted(table.index[table.index.duplicated()].tolist())}"
        )
    if not set(frame["group"]) & set(table.index):
        raise InputError(f"{path.name} names none of the patients, such as {frame['group'].iloc[0]!r}")
    reserved = [
        name for name in ("image", "label", "group", "split", "sample_id", "prefix", "slice") if name in table
    ]
    if reserved:
        raise InputError(
            f"rename the columns {quoted(reserved)} of {path.name}, which the data set has itself"
        )
    extra = frame.drop(columns=[name for name in table if name in frame])
    return pd.concat([extra, table.loc[:].reindex(frame["group"]).reset_index(drop=True)], axis=1)
