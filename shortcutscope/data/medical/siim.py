"""SIIM-ACR Pneumothorax: chest radiographs with masks, of the challenge of 2019."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd

from shortcutscope.data.manifests.columns import quoted
from shortcutscope.data.medical.layout import DatasetLayout
from shortcutscope.data.readers.image import Size
from shortcutscope.data.sources import resize_mask
from shortcutscope.data.table import ImageTable, TableOptions
from shortcutscope.errors import InputError
from shortcutscope.extras import require
from shortcutscope.progress import progress_bar
from shortcutscope.types import Bools

__all__ = ["LAYOUT", "RunLengthMasks", "decode_runs", "siim"]

LAYOUT = DatasetLayout(
    "SIIM-ACR Pneumothorax",
    (
        "train-rle.csv or stage_2_train.csv (ImageId, EncodedPixels)",
        "dicom-images-train/<study>/<series>/<ImageId>.dcm",
        "dicom-images-test/<study>/<series>/<ImageId>.dcm (where stage_2_train.csv has them)",
    ),
    "https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation",
)

_SIDE = 1024  # all images of the challenge are 1024 x 1024
_NEGATIVE = "-1"
_FOLDERS = {"dicom-images-train": "train", "dicom-images-test": "test"}
_HEADERS = ("PatientID", "PatientSex", "PatientAge", "ViewPosition", "Modality")


def siim(
    root: str | Path, *, headers: bool = False, progress: bool = True, **options: Unpack[TableOptions]
) -> ImageTable:
    """SIIM-ACR Pneumothorax: label 1 where a pneumothorax is marked, with its mask.

    The masks of several rows of one image are united; a mask is decoded when it is asked for, and a negative
    image has none. The folder that an image lies in is its split: train, and, of ``stage_2_train.csv``, the
    test images of the challenge's first stage as test. The tables have neither patients nor other metadata:
    both stand in the headers of the DICOM files. Files that no row names have no label and are left out.

    Parameters
    ----------
    root
        Folder with the table and ``dicom-images-train``.
    headers
        Read the header of every file for the patient (the group), ``PatientSex``, ``PatientAge`` (years),
        ``ViewPosition`` and ``Modality``. Takes minutes for the whole set; needs the extra ``medical``.
    progress
        Show a bar while they are read.
    **options
        See :class:`shortcutscope.data.table.TableOptions`.

    Raises
    ------
    InputError
        When the folder is not laid out as expected.
    """
    path = LAYOUT.file(root, "train-rle.csv", "stage_2_train.csv")
    table = LAYOUT.table(root, path, ["ImageId"], text=["ImageId", "EncodedPixels", " EncodedPixels"])
    if "EncodedPixels" not in table:
        raise LAYOUT.error(root, f"{path.name} lacks the column 'EncodedPixels'")
    if table["EncodedPixels"].isna().any():
        raise LAYOUT.error(root, f"{path.name} has rows without EncodedPixels; an image without has -1")
    encoded = table["EncodedPixels"].str.strip()
    runs = {
        str(name): tuple(text for text in texts if text != _NEGATIVE)
        for name, texts in encoded.groupby(table["ImageId"].str.strip(), sort=False)
    }
    files = _files(root, runs)
    frame = pd.DataFrame(
        {
            "sample_id": list(runs),
            "image": [files[name] for name in runs],
            "label": [int(bool(texts)) for texts in runs.values()],
            "split": [_FOLDERS[files[name].split("/")[0]] for name in runs],
            "annotations": [len(texts) for texts in runs.values()],
        }
    )
    if headers:
        frame = pd.concat([frame, _headers(Path(root), frame["image"].tolist(), progress)], axis=1)
    options.setdefault("classes", ["no pneumothorax", "pneumothorax"])
    images = ImageTable.from_frame(frame, group="PatientID" if headers else None, root=root, **options)
    return images.replaced(masks=RunLengthMasks(list(runs.values()), (_SIDE, _SIDE), options.get("size")))


def _files(root: str | Path, runs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Image to its file, as its path below the root."""
    LAYOUT.folder(root, *_FOLDERS)
    files = {
        path.stem: path.relative_to(root).as_posix()
        for folder in _FOLDERS
        for path in Path(root, folder).rglob("*.dcm")
    }
    missing = [name for name in runs if name not in files]
    if missing:
        raise LAYOUT.error(root, f"{len(missing)} of {len(runs)} images have no file: {quoted(missing)}")
    return files


def _headers(root: Path, names: Sequence[str], progress: bool) -> pd.DataFrame:
    pydicom = require("pydicom", "medical", "reading DICOM headers")
    rows = []
    for name in progress_bar(names, desc="headers", unit="file", progress=progress):
        try:
            data = pydicom.dcmread(root / name, specific_tags=list(_HEADERS), stop_before_pixels=True)
        except Exception as error:  # pydicom raises anything on broken bytes
            raise LAYOUT.error(root, f"the header of {name!r} cannot be read: {error}") from error
        rows.append({tag: _value(data.get(tag)) for tag in _HEADERS})
    frame = pd.DataFrame(rows)
    # The challenge's files have the bare number of years, the standard's form is 061Y.
    years = frame["PatientAge"].astype("string").str.rstrip("Yy").astype(object)
    return frame.assign(PatientAge=pd.to_numeric(years, errors="coerce").astype(float))


def _value(value: object) -> str | None:
    return None if value is None or str(value) == "" else str(value)


@dataclass(frozen=True)
class RunLengthMasks:
    """Masks as run lengths, decoded when they are read; several of one image are united.

    Attributes
    ----------
    runs
        Of each image the texts of its masks; none where it has no mask.
    stored_size
        Height and width that the runs are of.
    size
        That masks are resampled to, as the images are.
    """

    runs: Sequence[Sequence[str]]
    stored_size: tuple[int, int]
    size: Size | None = None

    def read(self, i: int) -> Bools | None:
        """Mask `i`, bool (H, W), or None."""
        if not self.runs[i]:
            return None
        inside = np.zeros(self.stored_size, dtype=np.bool_)
        for text in self.runs[i]:
            inside |= decode_runs(text, self.stored_size)
        return resize_mask(inside, self.size)


def decode_runs(text: str, size: tuple[int, int]) -> Bools:
    """Mask of a text of run lengths.

    The text has pairs of numbers: how many pixels outside follow the end of the run before, and how many
    inside follow them. Pixels are counted down the first column, then down the second, and so on.

    Parameters
    ----------
    text
        Such as ``"5 2 3 1"``.
    size
        Height and width of the image.

    Returns
    -------
    bool (H, W)

    Raises
    ------
    InputError
        When the text is not pairs of numbers that are not negative, or runs over the end of the image.
    """
    height, width = size
    try:
        counts = np.array(text.split(), dtype=np.int64)
    except ValueError:
        counts = np.array([-1])
    if len(counts) % 2 or (counts < 0).any():
        raise InputError(f"run lengths must be pairs of whole numbers from 0, not {text[:60]!r}")
    if counts.max(initial=0) > height * width or counts.sum() > height * width:
        raise InputError(f"the runs {text[:60]!r} go on beyond the {height} x {width} pixels of the image")
    inside = np.arange(len(counts) + 1) % 2 == 1
    rest = height * width - counts.sum()
    return np.repeat(inside, np.append(counts, rest)).reshape(width, height).T
