"""Public medical data sets in the layouts that they are published in, one file each.

None of them is downloaded: each function takes the folder where the data lies and gives an
:class:`~shortcutscope.data.table.ImageTable` with the official splits, the patients as groups, the masks and
every column of metadata. Images are opened when they are needed.
"""

import importlib
import inspect
from pathlib import Path
from typing import Any

from shortcutscope.data.table import ImageTable, Options
from shortcutscope.errors import InputError

__all__ = ["DATASETS", "open_dataset"]

#: Name of a data set (and of its module and function) and what it is.
DATASETS: dict[str, str] = {
    "chexpert": "chest radiographs, Stanford",
    "hyperkvasir": "gastrointestinal endoscopy, Bærum",
    "isic2017": "dermatoscopy, the challenge of 2017",
    "isic2018": "dermatoscopy, the challenge of 2018",
    "isic2019": "dermatoscopy, the challenge of 2019",
    "medmnist": "the MedMNIST collection",
    "ptbxl": "12-lead electrocardiograms, PTB",
    "siim": "chest radiographs with masks of pneumothorax, SIIM-ACR",
    "simba": "synthetic head volumes with known biases, SimBA",
    "spurbreast": "breast MRI with controlled shortcuts, SpurBreast",
}


def open_dataset(name: str, root: str | Path, **options: Any) -> ImageTable:
    """Open a data set by its name.

    Parameters
    ----------
    name
        A key of `DATASETS`.
    root
        Its folder (of MedMNIST, the file).
    **options
        Those of the data set's function, and how images are read.

    Raises
    ------
    InputError
        For an unknown name or option, and when the folder is not laid out as expected.
    """
    if name not in DATASETS:
        raise InputError(f"no data set {name!r}; there are {', '.join(DATASETS)}")
    opening = getattr(importlib.import_module(f"{__name__}.{name}"), name)
    own = [p.name for p in inspect.signature(opening).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options) - {*own, *Options.__annotations__})
    if unknown:
        allowed = ", ".join([*own, *Options.__annotations__])
        raise InputError(f"{name} has no option {unknown[0]!r}; it has {allowed}")
    table: ImageTable = opening(root, **options)
    return table
