"""ISIC 2018: dermatoscopy, seven diagnoses (task 3, HAM10000) and segmentations (task 1)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Unpack

import pandas as pd

from shortcutscope.data.manifests.columns import quoted, require_columns
from shortcutscope.data.medical.annotations import artifact_columns, read_annotations
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
from shortcutscope.errors import InputError

__all__ = ["DIAGNOSES", "LAYOUT", "isic2018"]

DIAGNOSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")

LAYOUT = DatasetLayout(
    name="ISIC 2018",
    tree=(
        "task 3:",
        "  ISIC2018_Task3_{Training,Validation,Test}_Input/ISIC_0024306.jpg",
        f"  ISIC2018_Task3_{{...}}_GroundTruth.csv: image, {', '.join(DIAGNOSES)}",
        "  ISIC2018_Task3_Training_LesionGroupings.csv: image, lesion_id",
        "task 1:",
        "  ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg",
        "  ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png",
    ),
    source=SOURCE,
)

_PARTS = tuple(
    YearPart(
        split,
        images=f"ISIC2018_Task3_{name}_Input",
        truth=f"ISIC2018_Task3_{name}_GroundTruth.csv",
        extra=f"ISIC2018_Task3_{name}_LesionGroupings.csv",
    )
    for split, name in (("train", "Training"), ("val", "Validation"), ("test", "Test"))
)
_SEGMENTED = YearPart(
    "train",
    images="ISIC2018_Task1-2_Training_Input",
    truth="",
    masks="ISIC2018_Task1_Training_GroundTruth",
)


def isic2018(
    root: str | Path,
    *,
    task: Literal[1, 3] = 3,
    target: str | None = "MEL",
    annotations: str | Path | None = None,
    **options: Unpack[TableOptions],
) -> ImageTable:
    """Table of ISIC 2018, task 3 with lesions as groups, or task 1 with segmentations as masks.

    Of task 3, a part of which neither the folder of images nor the table of diagnoses is there is left
    out; one of which either is there must be complete. The lesions of the training images must be there
    (nearly half of them are of a lesion with several images), those of the other parts may be.

    Task 1 publishes no diagnoses. Its labels are those of the annotations: the images of the training part
    that ``isic_bias.csv`` of Bissoto et al. names.
    :func:`shortcutscope.data.medical.annotations.with_trap_set` gives their trap sets from it.

    Parameters
    ----------
    root
        The folder with the parts.
    task
        3 or 1.
    target
        Of task 3, one of `DIAGNOSES` against the rest (the others stay columns), or None for all seven. Of
        task 1 the label is benign or malignant (melanoma), and `target` must be left as it is.
    annotations
        A CSV or JSON file of artifacts, see
        :func:`shortcutscope.data.medical.annotations.with_annotations`. Task 1 needs a CSV with a column
        label of 0 and 1.
    **options
        See :class:`shortcutscope.data.table.TableOptions`; images are read with three channels unless `mode`
        is given.

    Raises
    ------
    LayoutError
        When no part is there, or one is incomplete or odd.
    InputError
        For an unknown task, target or option, and annotations that cannot be used.
    """
    if task == 1:
        return _segmented(root, target, annotations, options)
    if task != 3:
        raise InputError(f"task must be 3 (diagnoses) or 1 (segmentations), not {task!r}")
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
    lesions = _lesions(root, part)
    images = part_images(LAYOUT, root, part, truth["image"])
    frame = pd.concat([images, truth.drop(columns="image")], axis=1)
    if lesions is None:
        return frame
    return joined(LAYOUT, root, frame, lesions, "image", str(part.extra), complete=part.split == "train")


def _lesions(root: str | Path, part: YearPart) -> pd.DataFrame | None:
    """The table of lesions; None where it is optional and absent."""
    name = str(part.extra)
    if part.split != "train" and not Path(root, name).is_file():
        return None
    path = LAYOUT.file(root, name)
    return LAYOUT.table(root, path, ["image", "lesion_id"], text=["image", "lesion_id"])


def _segmented(
    root: str | Path, target: str | None, annotations: str | Path | None, options: TableOptions
) -> ImageTable:
    if annotations is None:
        raise InputError(
            "task 1 of ISIC 2018 publishes no diagnoses; give annotations= with labels, such as "
            "isic_bias.csv of https://github.com/alceubissoto/debiasing-skin"
        )
    if target != "MEL":
        raise InputError(
            f"target={target!r} is for task 3; the labels of task 1 are those of the annotations"
        )
    LAYOUT.folder(root, _SEGMENTED.images)
    LAYOUT.folder(root, str(_SEGMENTED.masks))
    table = read_annotations(annotations)
    require_columns(table, ["label"])
    images = part_images(LAYOUT, root, _SEGMENTED, pd.Series(table.index))
    unsegmented = images.loc[images["mask"].isna(), "sample_id"].tolist()
    if unsegmented:
        raise LAYOUT.error(
            root,
            f"{len(unsegmented)} image(s) have no segmentation in {_SEGMENTED.masks}: {quoted(unsegmented)}",
        )
    columns = table[["label", *artifact_columns(table)]].reset_index(drop=True)
    options.setdefault("mode", "RGB")
    options.setdefault("classes", ["benign", "malignant"])
    return ImageTable.from_frame(pd.concat([images, columns], axis=1), root=root, **options)
