"""Public annotations of artifacts, joined onto a table by the names of its images.

Three forms are published:

* a CSV with a column of image names and a column 0/1 for each artifact: Bissoto et al. 2020 ("Debiasing skin
  lesion datasets and models? Not so fast", ``isic_bias.csv``, with semicolons, and the trap sets, with
  commas), and Weng et al. 2024 ("Fast diffusion-based counterfactuals for shortcut removal and generation",
  ``che_pm_shortcut_labels.csv`` with pacemakers in CheXpert and ``isic_ruler_shortcut_labels.csv``);
* a JSON file that lists the image names, or paths, of each artifact: Pahde et al. 2025 ("Ensuring medical AI
  safety", ``artifacts_isic.json`` and ``artifact_samples_*.json``; their ``artifacts_hyperkvasir.json`` has
  row numbers of their own listing, which mean nothing elsewhere);
* a split made of three such CSVs, a trap set.

Names are compared without folder, suffix and ``_downsampled``, because the annotations name ``.png`` files
where the published images are ``.jpg``. Images of CheXpert are compared by patient, study and view.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from shortcutscope.data.manifests.columns import quoted, require_columns
from shortcutscope.data.readers.image import is_image_name
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.types import Ints

__all__ = [
    "image_key",
    "read_annotations",
    "with_annotations",
    "with_artifact_lists",
    "with_artifacts",
    "with_pacemakers",
    "with_trap_set",
]

Unmatched = Literal["raise", "ignore"]
Unlisted = Literal["absent", "unknown"]

_NAME_COLUMNS = ("image", "img_name", "image_id", "image_name")
_LABEL_COLUMNS = ("label", "label_string", "split")
_STUDY = re.compile(r"(patient\d+)[/_](study\d+)[/_](view\d+_[a-z]+)", re.IGNORECASE)


def image_key(name: str) -> str:
    """What an image is compared by: its name without folder, suffix and ``_downsampled``.

    Of a path or name of CheXpert it is ``patient00001_study1_view1_frontal``.
    """
    name = name.strip().replace("\\", "/")
    study = _STUDY.search(name)
    if study:
        return "_".join(study.groups())
    path = Path(name)
    return (path.stem if is_image_name(path) else path.name).removesuffix("_downsampled")


def read_annotations(path: str | Path) -> pd.DataFrame:
    """A CSV of annotations, with commas or semicolons, by the keys of its images (:func:`image_key`).

    Raises
    ------
    InputError
        When it cannot be read, has no column of image names, or an image twice with different values.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file of annotations: {str(path)!r}")
    try:
        with path.open(encoding="utf-8-sig") as file:
            separator = ";" if ";" in file.readline() else ","
        frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the annotations {str(path)!r}: {error}") from error
    frame.columns = [str(column).strip() for column in frame.columns]
    name = next((column for column in _NAME_COLUMNS if column in frame.columns), None)
    if name is None or frame.empty:
        raise InputError(
            f"{str(path)!r} has no {'rows' if name else 'column of image names'}; expected is a table with a "
            f"column {' or '.join(map(repr, _NAME_COLUMNS))} and a column 0/1 for each artifact, as in "
            "isic_bias.csv"
        )
    rows = [column for column in frame.columns if column.startswith("Unnamed:")]  # numbers of the rows
    frame[name] = [image_key(str(value)) for value in frame[name]]
    frame = frame.drop(columns=rows).drop_duplicates().rename(columns={name: "image"}).set_index("image")
    if not frame.index.is_unique:
        twice = frame.index[frame.index.duplicated()].unique().tolist()
        raise InputError(
            f"{str(path)!r} has {len(twice)} image(s) twice with different values: {quoted(twice)}"
        )
    return frame


def with_artifacts(
    table: ImageTable,
    path: str | Path,
    *,
    columns: Sequence[str] | Mapping[str, str] | None = None,
    unmatched: Unmatched = "raise",
) -> ImageTable:
    """Table with a column 0/1 for each artifact of a CSV; images that it does not name are unknown.

    Parameters
    ----------
    table
        Its images are known by their files, or else by their sample ids.
    path
        Such as ``isic_bias.csv``.
    columns
        Which artifacts, and where a mapping, the names they get. None takes each column that holds only 0
        and 1, except the label.
    unmatched
        What to do with annotated names that are no image of the table: ``"raise"``, or ``"ignore"`` them
        where the table is meant to be a part.

    Raises
    ------
    InputError
        For a CSV that cannot be used, a column that is not 0/1 or that the table has already, and names
        that are no image of the table; always when that is all of them.
    """
    frame = read_annotations(path)
    if columns is None:
        columns = artifact_columns(frame)
        if not columns:
            raise InputError(
                f"{str(path)!r} has no column of only 0 and 1; it has {quoted(list(frame.columns))}"
            )
    names = dict(columns) if isinstance(columns, Mapping) else {column: column for column in columns}
    require_columns(frame, list(names))
    odd = [column for column in names if not _is_binary(frame[column])]
    if odd:
        raise InputError(f"the column(s) {quoted(odd)} of {str(path)!r} hold more than 0 and 1")
    return _with_matched(table, frame[list(names)].rename(columns=names), path, unmatched)


def with_pacemakers(table: ImageTable, path: str | Path, *, unmatched: Unmatched = "raise") -> ImageTable:
    """Table of CheXpert with a column ``pacemaker`` of 0 and 1, unknown where an image is not listed.

    Parameters
    ----------
    table
        Of :func:`shortcutscope.data.medical.chexpert.chexpert`.
    path
        ``che_pm_shortcut_labels.csv`` of Weng et al.: img_name, Cardiomegaly, PM, split.
    unmatched
        As in :func:`with_artifacts`.

    Raises
    ------
    InputError
        As :func:`with_artifacts`.
    """
    return with_artifacts(table, path, columns={"PM": "pacemaker"}, unmatched=unmatched)


def with_artifact_lists(
    table: ImageTable,
    path: str | Path,
    *,
    unlisted: Unlisted = "absent",
    unmatched: Unmatched = "raise",
) -> ImageTable:
    """Table with a column 0/1 for each artifact of a JSON file ``{artifact: [image names]}``.

    Parameters
    ----------
    table
        Its images are known by their files, or else by their sample ids.
    path
        Such as ``artifacts_isic.json``. Names may be paths.
    unlisted
        What an image is that an artifact does not list: ``"absent"`` (0), as those who published the lists
        use them, or ``"unknown"``: the lists are what a search found, not a reading of every image.
    unmatched
        As in :func:`with_artifacts`.

    Raises
    ------
    InputError
        For a file of another form, a column that the table has already, and names that are no image of it.
    """
    if unlisted not in get_args(Unlisted):
        raise InputError(f'unlisted must be "absent" or "unknown", not {unlisted!r}')
    lists = _read_lists(path)
    keys = {artifact: {image_key(name) for name in names} for artifact, names in lists.items()}
    every = sorted(set().union(*keys.values()))
    frame = pd.DataFrame(
        {artifact: np.isin(every, sorted(listing)).astype(np.float64) for artifact, listing in keys.items()},
        index=every,
    )
    if unlisted == "unknown":
        frame = frame.where(frame == 1)
    return _with_matched(table, frame, path, unmatched, fill=0.0 if unlisted == "absent" else None)


def with_annotations(table: ImageTable, path: str | Path, *, unmatched: Unmatched = "raise") -> ImageTable:
    """:func:`with_artifact_lists` of a ``.json`` file, :func:`with_artifacts` of any other."""
    if Path(path).suffix.lower() == ".json":
        return with_artifact_lists(table, path, unmatched=unmatched)
    return with_artifacts(table, path, unmatched=unmatched)


def with_trap_set(table: ImageTable, folder: str | Path, number: int = 1) -> ImageTable:
    """The images of a trap set, with its split, its labels and a column 0/1 for each artifact.

    In a trap set (Bissoto et al. 2020) artifacts and label are associated in one way in training and
    validation and in the opposite way in the test set. The published files for training hold the images
    for validation, too (259 of 1822); here those are in the split val only.

    Parameters
    ----------
    table
        With all images of the set. Artifact columns that it has already are replaced.
    folder
        With ``isic_annotated_{train,val,test}<number>.csv``.
    number
        1 to 5.

    Returns
    -------
    ImageTable
        Only the images of the set. Label: 0 benign, 1 malignant.

    Raises
    ------
    InputError
        For missing files, images of the test set in another one, or names that are no image of the table.
    """
    parts = {
        split: read_annotations(Path(folder) / f"isic_annotated_{split}{number}.csv").assign(split=split)
        for split in ("train", "val", "test")
    }
    for part in parts.values():
        require_columns(part, ["label"])
    parts["train"] = parts["train"][~parts["train"].index.isin(parts["val"].index)]
    frame = pd.concat(parts.values())
    torn = frame.index[frame.index.duplicated()].tolist()
    if torn:
        raise InputError(
            f"{len(torn)} image(s) of the test set of trap set {number} are in another set, too: "
            f"{quoted(torn)}; take the files as they are published"
        )
    artifacts = artifact_columns(frame)
    positions = _positions(table, frame.index, f"{folder} (trap set {number})", "raise")
    subset = table.take(positions >= 0)
    rows = frame.iloc[positions[positions >= 0]]
    metadata = subset.frame.drop(columns=[name for name in artifacts if name in subset.frame.columns])
    added = {name: rows[name].to_numpy() for name in artifacts}
    roles = {"label": rows["label"].to_numpy(dtype=np.int64), "split": rows["split"].to_numpy()}
    return subset.replaced(frame=metadata.assign(**roles, **added), classes=("benign", "malignant"))


def artifact_columns(frame: pd.DataFrame) -> list[str]:
    """Columns that hold only 0 and 1, without the label's."""
    return [name for name in frame.columns if name not in _LABEL_COLUMNS and _is_binary(frame[name])]


def _is_binary(values: pd.Series) -> bool:
    present = values.dropna()
    numeric = pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)
    return bool(numeric and len(present) and present.isin([0, 1]).all())


def _read_lists(path: str | Path) -> dict[str, list[str]]:
    try:
        lists: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"no such file of annotations: {str(path)!r}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the annotations {str(path)!r}: {error}") from error
    fine = isinstance(lists, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists.values()
    )
    if not fine or not any(lists.values()):
        raise InputError(
            f"{str(path)!r} does not list images by artifact; expected is "
            '{"ruler": ["ISIC_0000469", ...], "band_aid": [...]}; row numbers cannot be joined'
        )
    carriers: dict[str, list[str]] = lists
    return carriers


def _with_matched(
    table: ImageTable,
    frame: pd.DataFrame,
    path: str | Path,
    unmatched: Unmatched,
    fill: float | None = None,
) -> ImageTable:
    """Table with the columns of a frame that is indexed by keys; `fill` is for images that it lacks."""
    repeated = [name for name in frame.columns if name in table.frame.columns]
    if repeated:
        raise InputError(
            f"the table has a column {quoted(repeated)} already; give the artifact another name with "
            "columns={name: other name}"
        )
    positions = _positions(table, frame.index, path, unmatched)
    columns = {}
    for name in frame.columns:
        values = frame[name].to_numpy(dtype=np.float64)[positions]
        values[positions < 0] = np.nan if fill is None else fill
        columns[str(name)] = values if np.isnan(values).any() else values.astype(np.int64)
    return table.with_columns(**columns)


def _positions(table: ImageTable, keys: pd.Index, path: str | Path, unmatched: Unmatched) -> Ints:
    """Row of the annotations for each image, -1 where there is none."""
    if unmatched not in get_args(Unmatched):
        raise InputError(f'unmatched must be "raise" or "ignore", not {unmatched!r}')
    files = table.files
    images = [image_key(files.get(name, name)) for name in table.frame["sample_id"]]
    strange = keys[~keys.isin(images)]
    if len(strange) == len(keys) or (len(strange) and unmatched == "raise"):
        hint = (
            "are these annotations of this data set?"
            if len(strange) == len(keys)
            else 'read the whole data set, or pass over them with unmatched="ignore"'
        )
        raise InputError(
            f"{len(strange)} of the {len(keys)} image names in {str(path)!r} are none of the table's "
            f"{len(table)} images: {quoted(strange.tolist())}; {hint}"
        )
    return np.asarray(keys.get_indexer(pd.Index(images)), dtype=np.int64)
