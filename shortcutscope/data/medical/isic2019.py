"""ISIC 2019: dermatoscopy with eight diagnoses from three sources (Combalia et al. 2019)."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import pandas as pd

from shortcutscope.data.medical.isic import (
    SOURCE,
    Year,
    YearPart,
    diagnosed_table,
    joined,
    part_images,
)
from shortcutscope.data.medical.layout import DatasetLayout
from shortcutscope.data.table import ImageTable, TableOptions

__all__ = ["DIAGNOSES", "LAYOUT", "isic2019"]

#: UNK, none of the others, has no image in the training part.
DIAGNOSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")

LAYOUT = DatasetLayout(
    name="ISIC 2019",
    tree=(
        "ISIC_2019_Training_Input/ISIC_0000000.jpg, ISIC_0000030_downsampled.jpg",
        f"ISIC_2019_Training_GroundTruth.csv: image, {', '.join(DIAGNOSES)}",
        "ISIC_2019_Training_Metadata.csv: image, age_approx, anatom_site_general, lesion_id, sex",
        "ISIC_2019_Test_{Input,GroundTruth.csv,Metadata.csv} (without lesion_id)",
    ),
    source=SOURCE,
)

_PARTS = tuple(
    YearPart(
        split,
        images=f"ISIC_2019_{name}_Input",
        truth=f"ISIC_2019_{name}_GroundTruth.csv",
        extra=f"ISIC_2019_{name}_Metadata.csv",
    )
    for split, name in (("train", "Training"), ("test", "Test"))
)


def isic2019(
    root: str | Path,
    *,
    target: str | None = "MEL",
    annotations: str | Path | None = None,
    **options: Unpack[TableOptions],
) -> ImageTable:
    """Table of ISIC 2019 with lesions as groups; an image without a lesion id is its own group.

    A part of which neither the folder of images nor the table of diagnoses is there is left out; one of
    which either is there must be complete.

    Parameters
    ----------
    root
        The folder with the parts.
    target
        One of `DIAGNOSES` against the rest (the others stay columns), or None for all.
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
        Year(LAYOUT, _PARTS, _read_part, DIAGNOSES),
        root,
        target=target,
        annotations=annotations,
        options=options,
    )


def _read_part(root: str | Path, part: YearPart) -> pd.DataFrame:
    LAYOUT.folder(root, part.images)
    path = LAYOUT.file(root, *part.truth_places)
    truth = LAYOUT.table(root, path, ["image", *DIAGNOSES], text=["image"])
    path = LAYOUT.file(root, str(part.extra))
    expected = ["image", "age_approx", "anatom_site_general", "sex"]
    lesions = ["lesion_id"] if part.split == "train" else []
    extra = LAYOUT.table(root, path, [*expected, *lesions], text=["image", "lesion_id"])
    images = part_images(LAYOUT, root, part, truth["image"])
    frame = pd.concat([images, truth.drop(columns="image")], axis=1)
    return joined(LAYOUT, root, frame, extra, "image", path.name)
