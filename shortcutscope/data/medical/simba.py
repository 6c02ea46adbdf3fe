"""SimBA: synthetic head volumes with known biases, of Stanley et al. (MICCAI 2023; JAMIA 31, 2613, 2024)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Unpack

import pandas as pd

from shortcutscope.data.manifests.columns import quoted
from shortcutscope.data.medical.layout import DatasetLayout
from shortcutscope.data.table import ImageTable, TableOptions
from shortcutscope.errors import InputError

__all__ = ["LAYOUT", "simba"]

LAYOUT = DatasetLayout(
    "SimBA",
    (
        "{train,val,test}.csv (class_label, bias_label, isv_dst, effect_dst, filename or filepath, ...)",
        "train/00000_<subject effect>_S_<disease effect>_D[_<bias effect>_B].nii.gz",
        "val/...",
        "test/...",
    ),
    "the generator, https://github.com/estanley16/SimBA",
)

_SPLITS = ("train", "val", "test")
_NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
_BIAS = re.compile(rf"_({_NUMBER})_B\.nii(?:\.gz)?$")


def simba(
    root: str | Path,
    *,
    label: str = "class_label",
    splits: Sequence[str] = _SPLITS,
    **options: Unpack[TableOptions],
) -> ImageTable:
    """An experiment of SimBA: label 1 for the diseased, the bias in the column ``bias_label``.

    Volumes are looked up by name in the folder of their split, since the tables have the paths of the
    machine that they were made on. All columns are kept: the subject's effect ``isv_dst``, the disease's
    ``effect_dst``, their bins; ``bias_dst`` is the bias's effect, from the files' names, missing where there
    is no bias, and ``subject`` the number of the row in the generator's own table. Every volume is a subject
    of its own.

    Parameters
    ----------
    root
        Folder of the experiment.
    label
        Column of the label.
    splits
        Which to take, in this order.
    **options
        See :class:`shortcutscope.data.table.TableOptions`. The volumes have the grey values of the template,
        so that `value_range` must be given where that is not 0 to 1.

    Raises
    ------
    InputError
        For an unknown split, and when the folder is not laid out as expected.
    """
    if not splits or isinstance(splits, str) or not set(splits) <= set(_SPLITS):
        raise InputError(f"splits must be some of {', '.join(map(repr, _SPLITS))}, not {splits!r}")
    frame = pd.concat([_split(root, split, label) for split in splits], ignore_index=True)
    options.setdefault("dims", 3)
    return ImageTable.from_frame(frame, label=label, root=root, **options)


def _split(root: str | Path, split: str, label: str) -> pd.DataFrame:
    path = LAYOUT.file(root, f"{split}.csv")
    frame = LAYOUT.table(root, path, [label]).rename(columns={"Unnamed: 0": "subject"})
    column = next((name for name in ("filename", "filepath") if name in frame), None)
    if column is None or frame[column].isna().any():
        raise LAYOUT.error(root, f"{path.name} does not name a file in every row (filename or filepath)")
    # A Windows path splits at both kinds of slashes.
    names = [PureWindowsPath(str(name)).name for name in frame[column]]
    missing = [name for name in names if not Path(root, split, name).is_file()]
    if missing:
        raise LAYOUT.error(
            root, f"{len(missing)} of {len(names)} volumes of {path.name} are missing: {quoted(missing)}"
        )
    biases = [_BIAS.search(name) for name in names]
    if "bias_label" not in frame:
        frame["bias_label"] = [int(match is not None) for match in biases]
    return frame.drop(columns=[name for name in ("filename", "filepath") if name in frame]).assign(
        bias_dst=[float(match[1]) if match else float("nan") for match in biases],
        image=[f"{split}/{name}" for name in names],
        split=split,
    )
