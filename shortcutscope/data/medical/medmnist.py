"""MedMNIST v2: small images and volumes of many kinds, of Yang et al. (Scientific Data 10, 41, 2023)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from shortcutscope.data.medical.layout import DatasetLayout
from shortcutscope.data.sources import npz_shape, read_npz
from shortcutscope.data.table import ImageTable, TableOptions
from shortcutscope.errors import InputError
from shortcutscope.extras import MissingExtraError, require
from shortcutscope.types import JSON

__all__ = ["LAYOUT", "medmnist"]

LAYOUT = DatasetLayout(
    "MedMNIST",
    (
        "<name>.npz or <name>_{64,128,224}.npz, with the arrays",
        "{train,val,test}_images",
        "{train,val,test}_labels",
    ),
    "https://medmnist.com",
)

_SMALLEST = 28
_PIXELS = re.compile(r"_(64|128|224)$")


def medmnist(
    root: str | Path,
    *,
    which: str | None = None,
    pixels: int = _SMALLEST,
    splits: Sequence[str] = ("train", "val", "test"),
    finding: int | str | None = None,
    download: bool = False,
    **options: Unpack[TableOptions],
) -> ImageTable:
    """A set of MedMNIST, from its file or by its name.

    Class names are those of the package ``medmnist`` where that is installed. In sets with several labels
    for each image (ChestMNIST) one is the label and the others are metadata. There are no patients.

    Parameters
    ----------
    root
        The file, a folder that has it, or the name of a set, such as ``"pneumoniamnist"``. A name needs the
        extra ``medmnist`` and is looked for where that package keeps its files.
    which
        Name of the set, where `root` is a folder.
    pixels
        Side length: 28, 64, 128 or 224, as far as the set has it. Of a name or folder; a file is what it is.
    splits
        Which to take, in this order.
    finding
        The label of a set with several: its number, or its name where the package is installed.
    download
        Let the package download a set that is given by its name.
    **options
        See :class:`shortcutscope.data.table.TableOptions`.

    Raises
    ------
    InputError
        For an unknown set, size, split or finding, a missing extra, and when the file is not as expected.
    """
    path = _located(Path(root), which, pixels, download)
    _refuse_other_layout(path, splits)
    names = _label_names(_PIXELS.sub("", path.stem))
    labels = read_npz(path, f"{splits[0]}_labels")
    several = labels.ndim > 1 and labels.shape[1] > 1
    number = _finding_number(finding, names)
    if not several:
        options.setdefault("classes", names)
        return ImageTable.from_medmnist(path, splits=splits, **options)
    if names and number is not None and 0 <= number < len(names):
        options.setdefault("classes", [f"no {names[number]}", names[number]])
    table = ImageTable.from_medmnist(path, splits=splits, finding=number, **options)
    others = np.concatenate([read_npz(path, f"{split}_labels") for split in splits])
    titles = names or [f"label_{k}" for k in range(others.shape[1])]
    return table.with_columns(
        **{title: others[:, k].astype(np.int64) for k, title in enumerate(titles) if k != number}
    )


def _located(root: Path, which: str | None, pixels: int, download: bool) -> Path:
    suffix = "" if pixels == _SMALLEST else f"_{pixels}"
    if root.is_file():
        return root
    if root.is_dir():
        if which is None:
            raise InputError(f"{str(root)!r} is a folder; say which set of it, such as which='chestmnist'")
        return LAYOUT.file(root, f"{which}{suffix}.npz")
    if root.suffix or len(root.parts) > 1:
        raise LAYOUT.error(root, "there is no such file or folder")
    return _kept_by_package(root.name.lower(), pixels, suffix, download)


def _kept_by_package(name: str, pixels: int, suffix: str, download: bool) -> Path:
    package = require("medmnist", "medmnist", "a set of MedMNIST by its name")
    information: JSON = package.INFO
    if name not in information:
        raise InputError(f"no set {name!r} in MedMNIST, nor such a file; there are {', '.join(information)}")
    if suffix and f"url{suffix}" not in information[name]:
        sizes = [key.removeprefix("url_") for key in information[name] if key.startswith("url_")]
        raise InputError(f"{name} has no images of {pixels} pixels; it has {', '.join(['28', *sizes])}")
    if download:
        getattr(package, information[name]["python_class"])(split="train", download=True, size=pixels)
    folder = require("medmnist.info", "medmnist", "a set of MedMNIST by its name").DEFAULT_ROOT
    path = Path(folder or ".", f"{name}{suffix}.npz")
    if not path.is_file():
        raise LAYOUT.error(path, "there is no such file; download=True lets the package medmnist get it")
    return path


def _refuse_other_layout(path: Path, splits: Sequence[str]) -> None:
    if not splits or isinstance(splits, str):
        raise InputError(f"splits must be a list of train, val and test, not {splits!r}")
    for split in splits:
        for part in ("images", "labels"):
            try:
                npz_shape(path, f"{split}_{part}")
            except InputError as error:
                raise LAYOUT.error(path, str(error)) from error


def _label_names(name: str) -> list[str] | None:
    """Label names of a set, in their order; None where the package is missing or does not know the set."""
    with contextlib.suppress(MissingExtraError):
        information = require("medmnist", "medmnist", "class names").INFO.get(name)
        if information is not None:
            return [information["label"][str(k)] for k in range(len(information["label"]))]
    return None


def _finding_number(finding: int | str | None, names: Sequence[str] | None) -> int | None:
    if not isinstance(finding, str):
        return finding
    if names is None:
        raise InputError(
            f"the finding {finding!r} is known by its name only where the package medmnist knows the set; "
            "give its number"
        )
    if finding not in names:
        raise InputError(f"no finding {finding!r}; there are {', '.join(names)}")
    return list(names).index(finding)
