"""What the years of the ISIC challenge share: parts with images, diagnoses and further columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from shortcutscope.data.manifests.columns import quoted
from shortcutscope.data.medical.annotations import with_annotations
from shortcutscope.data.medical.layout import DatasetLayout
from shortcutscope.data.table import ImageTable, TableOptions
from shortcutscope.errors import InputError

__all__ = ["SOURCE", "Year", "YearPart", "diagnosed_table", "joined", "part_images"]

SOURCE = "https://challenge.isic-archive.com/data"


@dataclass(frozen=True)
class YearPart:
    """One published part of a year's data.

    Attributes
    ----------
    split
        What it is in the table: train, val or test.
    images
        Folder of its images ``<name>.jpg``.
    truth
        Table of its diagnoses; it may also lie in the folder that its archive unpacks to.
    extra
        Table with further columns, or None.
    masks
        Folder of the segmentations ``<name>_segmentation.png``, which may be absent, or None.
    """

    split: str
    images: str
    truth: str
    extra: str | None = None
    masks: str | None = None

    @property
    def truth_places(self) -> tuple[str, str]:
        """Where the table of diagnoses may lie."""
        return self.truth, f"{Path(self.truth).stem}/{self.truth}"


@dataclass(frozen=True)
class Year:
    """A year's data as published.

    Attributes
    ----------
    layout
        What is expected.
    parts
        Of which some may be absent.
    read_part
        Gives the columns sample_id, image, split, those of `diagnoses`, and further ones; lesion_id
        becomes the group.
    diagnoses, neither
        As in `diagnosed`.
    """

    layout: DatasetLayout
    parts: Sequence[YearPart]
    read_part: Callable[[str | Path, YearPart], pd.DataFrame]
    diagnoses: Sequence[str]
    neither: str | None = None


def diagnosed_table(
    year: Year,
    root: str | Path,
    *,
    target: str | None,
    annotations: str | Path | None,
    options: TableOptions,
) -> ImageTable:
    """A year's table of diagnoses, from the parts that are there.

    Parameters
    ----------
    year, root
        What is expected, and the folder with the parts.
    target
        As in `diagnosed`.
    annotations
        A file of artifacts, see :func:`shortcutscope.data.medical.annotations.with_annotations`, or None.
    options
        Of the table; images are read with three channels where `mode` is not given.

    Raises
    ------
    LayoutError
        When no part is there, or one is incomplete or odd.
    InputError
        For an unknown target or option, and annotations that cannot be used.
    """
    frame = pd.concat(
        [year.read_part(root, part) for part in parts_present(year.layout, root, year.parts)],
        ignore_index=True,
    )
    frame, classes = diagnosed(year.layout, root, frame, year.diagnoses, target, year.neither)
    options.setdefault("mode", "RGB")
    options.setdefault("classes", classes)
    table = ImageTable.from_frame(grouped_by_lesion(frame), root=root, **options)
    return table if annotations is None else with_annotations(table, annotations)


def parts_present(layout: DatasetLayout, root: str | Path, parts: Sequence[YearPart]) -> list[YearPart]:
    """The parts of which there is the folder of images or the table of diagnoses.

    A part of which only one is there is taken for present, so that reading it names what is missing.

    Raises
    ------
    LayoutError
        When there is none.
    """
    base = layout.folder(root)
    present = [
        part
        for part in parts
        if (base / part.images).is_dir() or any((base / place).is_file() for place in part.truth_places)
    ]
    if not present:
        folders = " or ".join(repr(part.images) for part in parts)
        raise layout.error(root, f"there is no folder {folders}")
    return present


def part_images(layout: DatasetLayout, root: str | Path, part: YearPart, names: pd.Series) -> pd.DataFrame:
    """The columns sample_id, image, mask and split for images by name.

    Raises
    ------
    LayoutError
        When an image is named twice or its file is missing.
    """
    folder = layout.folder(root, part.images)
    repeated = names[names.duplicated()].unique().tolist()
    if repeated:
        raise layout.error(root, f"{len(repeated)} image(s) are named more than once: {quoted(repeated)}")
    files = _file_names(folder)
    missing = [f"{name}.jpg" for name in names if f"{name}.jpg" not in files]
    if missing:
        raise layout.error(root, f"{len(missing)} image(s) are missing in {part.images}: {quoted(missing)}")
    columns = {"sample_id": names.tolist(), "image": [f"{part.images}/{name}.jpg" for name in names]}
    if part.masks is not None:
        masks = _file_names(Path(root) / part.masks)
        mask_names = [f"{name}_segmentation.png" for name in names]
        columns["mask"] = [f"{part.masks}/{mask}" if mask in masks else None for mask in mask_names]
    return pd.DataFrame(columns).assign(split=part.split)


def joined(
    layout: DatasetLayout,
    root: str | Path,
    frame: pd.DataFrame,
    extra: pd.DataFrame,
    key: str,
    name: str,
    *,
    complete: bool = True,
) -> pd.DataFrame:
    """Further columns by image name.

    Parameters
    ----------
    layout, root
        For errors.
    frame
        With a column sample_id.
    extra
        The further columns; its column `key` has the image names.
    key
        Becomes the index and no column.
    name
        Of the further table, for errors.
    complete
        Whether every image must be in the further table.

    Raises
    ------
    LayoutError
        When an image of the frame is not in a further table that is to be complete, or is there twice.
    """
    extra = extra.set_index(key)
    if not extra.index.is_unique:
        twice = extra.index[extra.index.duplicated()].unique().tolist()
        raise layout.error(root, f"{len(twice)} image(s) are in {name} more than once: {quoted(twice)}")
    lost = frame.loc[~frame["sample_id"].isin(extra.index), "sample_id"].tolist()
    if lost and complete:
        raise layout.error(root, f"{len(lost)} image(s) are not in {name}: {quoted(lost)}")
    return frame.join(extra, on="sample_id")


def diagnosed(
    layout: DatasetLayout,
    root: str | Path,
    frame: pd.DataFrame,
    diagnoses: Sequence[str],
    target: str | None,
    neither: str | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Labels from columns of 0 and 1, one for each diagnosis.

    Parameters
    ----------
    layout, root
        For errors.
    frame
        With a column for each diagnosis.
    diagnoses
        Those columns.
    target
        The diagnosis against all others; its column becomes the label and the others stay. None tells all
        apart, and none of the columns stays.
    neither
        What an image is that has no diagnosis of these; None where each must have one.

    Returns
    -------
    frame
        With the column label.
    classes
        In label order.

    Raises
    ------
    InputError
        For an unknown target.
    LayoutError
        When a value is not 0 or 1, or an image has several diagnoses or, without `neither`, none.
    """
    if target is not None and target not in diagnoses:
        raise InputError(f"target must be one of {', '.join(map(repr, diagnoses))} or None, not {target!r}")
    values = frame[list(diagnoses)]
    count = values.sum(axis=1)
    odd = ~values.isin([0, 1]).all(axis=1) | (count > 1) | ((count < 1) & (neither is None))
    if odd.any():
        names = quoted(frame.loc[odd, "sample_id"].tolist())
        raise layout.error(root, f"{odd.sum()} image(s) do not have one diagnosis of value 1: {names}")
    if target is not None:
        label = values[target].astype("int64")
        return frame.drop(columns=target).assign(label=label), ("other", target)
    classes = (*([neither] if neither else []), *diagnoses)
    number = values.to_numpy(dtype="float64").argmax(axis=1) + (neither is not None)
    label = pd.Series(number, index=frame.index).where(count == 1, 0)
    return frame.drop(columns=list(diagnoses)).assign(label=label), classes


def grouped_by_lesion(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the column lesion_id as group; an image without one is its own group.

    Where no image has one there is no group.
    """
    lesions = (
        frame["lesion_id"] if "lesion_id" in frame.columns else pd.Series(index=frame.index, dtype=object)
    )
    frame = frame.drop(columns="lesion_id", errors="ignore")
    return frame.assign(group=lesions.fillna(frame["sample_id"])) if lesions.notna().any() else frame


def _file_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
