"""CheXpert: chest radiographs with 14 observations labelled from the reports (Irvin et al. 2019)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Unpack, get_args

import pandas as pd

from shortcutscope.data.manifests.columns import quoted, require_columns
from shortcutscope.data.manifests.image_names import default_id
from shortcutscope.data.manifests.labels import LabelChoice
from shortcutscope.data.manifests.manifest import read_manifest
from shortcutscope.data.medical.annotations import with_pacemakers
from shortcutscope.data.medical.layout import DatasetLayout
from shortcutscope.data.sources import PathSource
from shortcutscope.data.table import ImageTable, TableOptions
from shortcutscope.errors import InputError
from shortcutscope.extras import require

__all__ = ["LAYOUT", "OBSERVATIONS", "chexpert"]

Uncertain = Literal["zeros", "ones", "ignore"]
Blank = Literal["zeros", "unknown"]
Views = Literal["all", "frontal", "lateral"]

#: The observations, each a column of 1, 0, -1 (uncertain) or blank (not mentioned).
OBSERVATIONS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)

LAYOUT = DatasetLayout(
    name="CheXpert",
    tree=(
        "CheXpert-v1.0-small/ (or CheXpert-v1.0/, or what is in it)",
        "  train.csv, valid.csv: Path, Sex, Age, Frontal/Lateral, AP/PA and the 14 observations",
        "  train/patient00001/study1/view1_frontal.jpg",
        "  valid/patient64541/study1/view1_frontal.jpg",
        "or the batches as they are downloaded:",
        "  CheXpert-v1.0 batch 1 (validate & csv)/train.csv, valid.csv, valid/patient64541/...",
        "  CheXpert-v1.0 batch 2 (train 1)/patient00001/study1/view1_frontal.jpg",
    ),
    source="https://stanfordmlgroup.github.io/competitions/chexpert (Stanford AIMI, after registration)",
)

_SPLITS = {"train": "train.csv", "val": "valid.csv"}
_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS)
_BATCH = re.compile(r"batch \d+ \((?P<what>train|validate?)\b", re.IGNORECASE)
# The root's own name comes first in the published paths, but folders get renamed.
_PATH = r"(?:^|/)(?P<image>(?:train|valid)/(?P<patient>patient\d+)/(?P<study>study\d+)/[^/]+)$"


def chexpert(
    root: str | Path,
    *,
    target: str | Sequence[str] = "Cardiomegaly",
    uncertain: Uncertain = "zeros",
    blank: Blank = "zeros",
    views: Views = "all",
    demographics: str | Path | None = None,
    pacemakers: str | Path | None = None,
    **options: Unpack[TableOptions],
) -> ImageTable:
    """Table of CheXpert with one observation as the label, or several, and patients as groups.

    The sets for training and validation are the splits train and val; one of them may be absent. A column
    ``uncertain`` says whose label the reports leave open, and ``study`` which study of the patient an image
    is from. All observations, the label and the others, which are concepts, are read in one way.

    Parameters
    ----------
    root
        The folder ``CheXpert-v1.0-small`` or ``CheXpert-v1.0``, or the one around it (where both are there,
        the small one is taken), or the one with the batches as they are downloaded.
    target
        One of `OBSERVATIONS`, or several of them, each a label of its own: images whose label is unknown are
        left out for that label alone then, and there is no column ``uncertain``.
    uncertain
        Uncertain observations (-1) become ``"zeros"`` or ``"ones"``, or ``"ignore"`` leaves images out whose
        label is uncertain; other observations are unknown then.
    blank
        Observations that a report does not mention become ``"zeros"``, or are ``"unknown"``: images whose
        label is blank are left out then.
    views
        ``"all"``, only ``"frontal"`` or only ``"lateral"`` images.
    demographics
        ``CHEXPERT DEMO.xlsx``, or the same as a CSV: PATIENT, PRIMARY_RACE and further columns, which are
        joined by patient. Where the rows of a patient differ, the value is unknown.
    pacemakers
        A CSV with the columns img_name and PM, see
        :func:`shortcutscope.data.medical.annotations.with_pacemakers`.
    **options
        See :class:`shortcutscope.data.table.TableOptions`; images are read with one channel unless `mode` is
        given.

    Raises
    ------
    LayoutError
        When a table, a column or an image is missing, a value is odd, or a patient is in both splits.
    InputError
        For an unknown option, and when `demographics` or `pacemakers` cannot be used.
    """
    targets = [target] if isinstance(target, str) else list(target)
    _check_options(targets, uncertain, blank, views)
    folder, tables = _folder(root)
    frame = _labelled(root, _images(root, tables, demographics), target, uncertain, blank)
    if views != "all":
        frame = frame[frame["Frontal/Lateral"].str.lower() == views]
    frame = _with_files(root, folder, frame, f"views={views!r}, uncertain={uncertain!r} and blank={blank!r}")
    table = _table(frame.reset_index(drop=True), folder, target, options)
    table = table.replaced(notes=(*table.notes, _CONVENTION.format(_BLANK[blank], _UNCERTAIN[uncertain])))
    # The CSV names images of every view and label, so that some match none of a selection.
    return table if pacemakers is None else with_pacemakers(table, pacemakers, unmatched="ignore")


def _table(
    frame: pd.DataFrame, folder: Path, target: str | Sequence[str], options: TableOptions
) -> ImageTable:
    options.setdefault("mode", "L")
    label: LabelChoice = list(target)
    if isinstance(target, str):
        label = "label"
        options.setdefault("classes", [f"no {target}" if target != "No Finding" else "Finding", target])
    return ImageTable.from_frame(frame, root=folder, label=label, **options)


def _images(root: str | Path, tables: Path, demographics: str | Path | None) -> pd.DataFrame:
    """The images of both splits with the observations of their reports."""
    frame = pd.concat(
        [_read_split(root, tables, split) for split, name in _SPLITS.items() if (tables / name).is_file()],
        ignore_index=True,
    )
    _refuse_torn_patients(root, frame)
    if demographics is not None:
        frame = _with_demographics(frame, demographics)
    return frame


def _with_files(root: str | Path, folder: Path, frame: pd.DataFrame, selection: str) -> pd.DataFrame:
    """The frame with ids, and with the files as they lie in the folder."""
    if frame.empty:
        raise LAYOUT.error(root, f"no image is left with {selection}")
    # The ids are those of the published paths, wherever the images lie.
    frame = frame.assign(sample_id=[default_id(name) for name in frame["image"]])
    frame = frame.assign(image=_in_batches(folder, frame["image"].tolist()))
    missing = PathSource(frame["image"].tolist(), str(folder)).missing()
    if missing:
        raise LAYOUT.error(root, f"{len(missing)} image(s) are missing in {folder.name}: {quoted(missing)}")
    return frame


_CONVENTION = "observations of CheXpert, the label and the others: 'not mentioned' {}, 'uncertain' {}"
_BLANK = {"zeros": "counts as absent", "unknown": "is unknown"}
_UNCERTAIN = {"zeros": "counts as absent", "ones": "counts as present", "ignore": "is unknown"}


def _check_options(targets: Sequence[str], uncertain: str, blank: str, views: str) -> None:
    given = [("target", OBSERVATIONS, name) for name in targets]
    given += [
        ("uncertain", get_args(Uncertain), uncertain),
        ("blank", get_args(Blank), blank),
        ("views", get_args(Views), views),
    ]
    for name, values, value in given:
        if value not in values:
            raise InputError(f"{name} must be one of {', '.join(map(repr, values))}, not {value!r}")


def _folder(root: str | Path) -> tuple[Path, Path]:
    """The folder that the images are below, and that of the tables: the root itself, or one in it."""
    names = list(_SPLITS.values())
    for folder in (Path(root), Path(root, "CheXpert-v1.0-small"), Path(root, "CheXpert-v1.0")):
        for tables in (folder, *_batches(folder, "validate")):
            if any((tables / name).is_file() for name in names):
                return folder, tables
    raise LAYOUT.error(
        root, f"there is neither {' nor '.join(names)} in it, in CheXpert-v1.0-small or in CheXpert-v1.0"
    )


def _batches(folder: Path, what: str) -> list[Path]:
    """Folders of a kind of batch, sorted."""
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    kinds = ((path, _BATCH.search(path.name)) for path in children if path.is_dir())
    return [path for path, kind in kinds if kind and kind["what"][:5].lower() == what[:5]]


def _in_batches(folder: Path, names: Sequence[str]) -> list[str]:
    """Names below the folder, of images that lie in batches below them; others as they are."""
    places: dict[tuple[str, str], list[str]] = {}
    for split, what in (("train", "train"), ("valid", "validate")):
        for batch in _batches(folder, what):
            for place in (batch / split, batch):
                for patient_folder in place.glob("patient*"):
                    where = places.setdefault((split, patient_folder.name), [])
                    where.append(patient_folder.relative_to(folder).as_posix())
    resolved = []
    for name in names:
        split, patient, rest = name.split("/", 2)
        places_of_patient = [f"{place}/{rest}" for place in places.get((split, patient), ())]
        # Where a patient is in several batches, that of the image.
        resolved.append(
            next(
                (n for n in places_of_patient if len(places_of_patient) == 1 or (folder / n).is_file()), name
            )
        )
    return resolved


def _read_split(root: str | Path, folder: Path, split: str) -> pd.DataFrame:
    """Rows of one table, with the columns image, group and study from the path instead of the path."""
    name = _SPLITS[split]
    frame = LAYOUT.table(root, folder / name, _COLUMNS, text=["Path"])
    parts = frame["Path"].str.extract(_PATH)
    odd = frame.loc[parts["image"].isna(), "Path"].tolist()
    if odd:
        raise LAYOUT.error(
            root, f"{len(odd)} path(s) of {name} do not end in split/patient/study/image: {quoted(odd)}"
        )
    repeated = parts.loc[parts["image"].duplicated(), "image"].tolist()
    if repeated:
        raise LAYOUT.error(root, f"{len(repeated)} image(s) are in {name} more than once: {quoted(repeated)}")
    roles = parts.rename(columns={"patient": "group"}).assign(split=split)
    return pd.concat([roles, frame.drop(columns="Path")], axis=1)


def _refuse_torn_patients(root: str | Path, frame: pd.DataFrame) -> None:
    splits = frame.groupby("group")["split"].nunique()
    torn = splits.index[splits > 1].tolist()
    if torn:
        raise LAYOUT.error(root, f"{len(torn)} patient(s) are in train.csv and in valid.csv: {quoted(torn)}")


def _labelled(
    root: str | Path, frame: pd.DataFrame, target: str | Sequence[str], uncertain: Uncertain, blank: Blank
) -> pd.DataFrame:
    """The frame with the observations as 0, 1 or missing; of one target with label and uncertain instead."""
    labels_by_name = {}
    for name in OBSERVATIONS:
        values = frame[name]
        odd = values[~(values.isna() | values.isin([1, 0, -1]))].unique().tolist()
        if odd:
            raise LAYOUT.error(root, f"{name!r} has values other than 1, 0, -1 and blank: {quoted(odd)}")
        values = values.astype("float64")
        filled = values.fillna(0.0) if blank == "zeros" else values
        labels_by_name[name] = filled.replace(
            -1.0, {"zeros": 0.0, "ones": 1.0, "ignore": float("nan")}[uncertain]
        )
    if not isinstance(target, str):
        return frame.assign(**labels_by_name)
    open_ = (frame[target] == -1).to_numpy()
    label = labels_by_name.pop(target)
    frame = frame.assign(label=label, **labels_by_name).drop(columns=target)
    if uncertain != "ignore":
        frame = frame.assign(uncertain=open_.astype(int))
    frame = frame[label.notna()]
    return frame.assign(label=frame["label"].astype("int64"))


def _with_demographics(frame: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    people = _read_demographics(Path(path))
    require_columns(people, ["PATIENT", "PRIMARY_RACE"])
    by_patient = people.groupby(people["PATIENT"].astype(str).str.strip())
    columns = [column for column in people.columns if column != "PATIENT"]
    clash = [column for column in columns if column in frame.columns]
    if clash:
        raise InputError(
            f"{str(path)!r} and CheXpert's own tables have the column {quoted(clash)}; rename it"
        )
    agreed = by_patient[columns].first().where(by_patient[columns].nunique() <= 1)
    if not agreed.index.isin(frame["group"]).any():
        raise InputError(
            f"none of the {len(agreed)} patients in {str(path)!r} is in CheXpert: "
            f"{quoted(list(agreed.index))}; PATIENT must be as in the paths, such as 'patient00001'"
        )
    return frame.join(agreed, on="group")


def _read_demographics(path: Path) -> pd.DataFrame:
    if path.suffix.lower() != ".xlsx":
        people = read_manifest(path, ["PATIENT"])
    elif not path.is_file():
        raise InputError(f"no such table: {str(path)!r}")
    else:
        require("openpyxl", "medical", "Reading an Excel table")
        try:
            people = pd.read_excel(path, engine="openpyxl")
        except Exception as error:  # openpyxl raises what the zip and XML readers do
            raise InputError(f"cannot read the table {str(path)!r}: {error}") from error
    people.columns = [str(column).strip() for column in people.columns]
    return people
