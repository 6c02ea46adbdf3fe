"""ISIC 2017: dermatoscopy with melanoma and seborrheic keratosis, and segmentations (Codella et al. 2018)."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import pandas as pd

from shortcutscope.data.manifests.columns import quoted
from shortcutscope.data.medical.isic import SOURCE, Year, YearPart, diagnosed_table, joined, part_images
from shortcutscope.data.medical.layout import DatasetLayout
from shortcutscope.data.table import ImageTable, TableOptions

__all__ = ["DIAGNOSES", "LAYOUT", "isic2017"]

DIAGNOSES = ("melanoma", "seborrheic_keratosis")

LAYOUT = DatasetLayout(
    name="ISIC 2017",
    tree=(
        "ISIC-2017_{Training,Validation,Test_v2}_Data/ISIC_0000000.jpg",
        "ISIC-2017_{...}_Data/ISIC-2017_{...}_Data_metadata.csv: image_id, age_approximate, sex",
        "ISIC-2017_{...}_Part3_GroundTruth.csv: image_id, melanoma, seborrheic_keratosis",
        "ISIC-2017_{...}_Part1_GroundTruth/ISIC_0000000_segmentation.png (optional)",
    ),
    source=SOURCE,
)

_PARTS = tuple(
    YearPart(
        split,
        images=f"ISIC-2017_{name}_Data",
        truth=f"ISIC-2017_{name}_Part3_GroundTruth.csv",
        extra=f"ISIC-2017_{name}_Data/ISIC-2017_{name}_Data_metadata.csv",
        masks=f"ISIC-2017_{name}_Part1_GroundTruth",
    )
    for split, name in (("train", "Training"), ("val", "Validation"), ("test", "Test_v2"))
)


def isic2017(
    root: str | Path,
    *,
    target: str | None = "melanoma",
    annotations: str | Path | None = None,
    **options: Unpack[TableOptions],
) -> ImageTable:
    """Table of ISIC 2017 with the official splits and the lesions' segmentations as masks.

    A part of which neither the folder of images nor the table of diagnoses is there is left out; a part of
    which one is there must be complete but for the segmentations. No lesion or patient ids are published,
    so that there are no groups. Superpixels are passed over.

    Parameters
    ----------
    root
        The folder with the parts.
    target
        ``"melanoma"`` or ``"seborrheic_keratosis"`` against the rest (the other one stays a column), or
        None for three classes: nevus, melanoma, seborrheic_keratosis.
    annotations
        A CSV or JSON file of artifacts, see
        :func:`shortcutscope.data.medical.annotations.with_annotations`.
    **options
        See :class:`shortcutscope.data.table.TableOptions`; images are read with three channels unless `mode`
        is given.

    Raises
    ------
    LayoutError
        When no part is there, or one is incomplete or odd.
    InputError
        For an unknown target or option, and annotations that cannot be used.
    """
    return diagnosed_table(
        Year(LAYOUT, _PARTS, _read_part, DIAGNOSES, "nevus"),
        root,
        target=target,
        annotations=annotations,
        options=options,
    )


def _read_part(root: str | Path, part: YearPart) -> pd.DataFrame:
    LAYOUT.folder(root, part.images)
    columns = ["image_id", *DIAGNOSES]
    truth = LAYOUT.table(root, LAYOUT.file(root, *part.truth_places), columns, text=["image_id"])
    path = LAYOUT.file(root, str(part.extra))
    extra = LAYOUT.table(root, path, ["image_id", "age_approximate", "sex"], text=["image_id"])
    images = part_images(LAYOUT, root, part, truth["image_id"])
    frame = pd.concat([images, truth.drop(columns="image_id")], axis=1)
    return joined(LAYOUT, root, frame, _known(root, extra, path.name), "image_id", path.name)


def _known(root: str | Path, extra: pd.DataFrame, name: str) -> pd.DataFrame:
    """The same columns, missing where the table says unknown."""
    text = extra.map(lambda value: value.strip() if isinstance(value, str) else value)
    extra = text.where(~text.isin(["unknown", ""]))
    age = pd.to_numeric(extra["age_approximate"], errors="coerce")
    odd = extra.loc[age.isna() & extra["age_approximate"].notna(), "age_approximate"].unique().tolist()
    if odd:
        raise LAYOUT.error(root, f"{name} has ages that are no numbers: {quoted(odd)}")
    return extra.assign(age_approximate=age)
