"""Public medical data sets in the layouts that they are published in, one file each.

None of them is downloaded: each function takes the folder where the data lies and gives an
:class:`~shortcutscope.data.table.ImageTable` with the official splits, the patients as groups, the masks and
every column of metadata. Images are opened when they are needed.
"""

import inspect
from collections.abc import Callable
from pathlib import Path

from shortcutscope.data.table import ImageTable, TableOptions
from shortcutscope.errors import InputError
from shortcutscope.registry import Entry, Registry

__all__ = ["DATASETS", "open_dataset"]

_PACKAGE = "shortcutscope.data.medical"

#: Data sets by name: each a function of the folder and its own options.
DATASETS = Registry[Callable[..., ImageTable]](
    "data set",
    "shortcutscope.data_sets",
    {
        "chexpert": Entry(f"{_PACKAGE}.chexpert:chexpert", "chest radiographs, Stanford"),
        "hyperkvasir": Entry(f"{_PACKAGE}.hyperkvasir:hyperkvasir", "gastrointestinal endoscopy, Bærum"),
        "isic2017": Entry(f"{_PACKAGE}.isic2017:isic2017", "dermatoscopy, the challenge of 2017"),
        "isic2018": Entry(f"{_PACKAGE}.isic2018:isic2018", "dermatoscopy, the challenge of 2018"),
        "isic2019": Entry(f"{_PACKAGE}.isic2019:isic2019", "dermatoscopy, the challenge of 2019"),
        "medmnist": Entry(f"{_PACKAGE}.medmnist:medmnist", "the MedMNIST collection"),
        "ptbxl": Entry(f"{_PACKAGE}.ptbxl:ptbxl", "12-lead electrocardiograms, PTB"),
        "siim": Entry(f"{_PACKAGE}.siim:siim", "chest radiographs with masks of pneumothorax, SIIM-ACR"),
        "simba": Entry(f"{_PACKAGE}.simba:simba", "synthetic head volumes with known biases, SimBA"),
        "spurbreast": Entry(
            f"{_PACKAGE}.spurbreast:spurbreast", "breast MRI with controlled shortcuts, SpurBreast"
        ),
    },
)


def open_dataset(name: str, root: str | Path, **options: object) -> ImageTable:
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

    Examples
    --------
    >>> films = ss.open_dataset("chexpert", "/data/chexpert", label="Cardiomegaly")  # doctest: +SKIP
    """
    opening = DATASETS[name]
    options_of_set = [
        p.name for p in inspect.signature(opening).parameters.values() if p.kind is p.KEYWORD_ONLY
    ]
    unknown = sorted(set(options) - {*options_of_set, *TableOptions.__annotations__})
    if unknown:
        allowed = ", ".join([*options_of_set, *TableOptions.__annotations__])
        raise InputError(f"{name} has no option {unknown[0]!r}; it has {allowed}")
    return opening(root, **options)
