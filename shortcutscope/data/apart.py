"""Whether two tables have samples, image files or patients in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shortcutscope.data.stored_frame import file_key_of
from shortcutscope.errors import InputError
from shortcutscope.types import Bools

if TYPE_CHECKING:
    from shortcutscope.data.samples import SampleTable

_SHOWN = 3


def assert_tables_apart(first: SampleTable, second: SampleTable, where: str, mend: str) -> None:
    """Refuse two tables that share a sample id, an image file or a patient.

    Parameters
    ----------
    first, second
        The tables; patients are compared where both have groups.
    where
        What they are: ``"in the training samples and in the audited ones"``.
    mend
        What to do.

    Raises
    ------
    InputError
        Naming what is shared.
    """
    ids = set(first.frame["sample_id"]) & set(second.frame["sample_id"])
    one, other = image_files(first), image_files(second)
    if ids and one and other:
        differ = sorted(i for i in ids if i in one and i in other and one[i] != other[i])
        if differ:
            i = differ[0]
            raise InputError(
                f"{len(differ)} samples {where} have one id but are different files, such as {one[i]!r} and "
                f"{other[i]!r}: ids are made of the names below the root, so give both tables one root, or a "
                "column of ids"
            )
    if ids:
        raise InputError(f"{len(ids)} samples are {where}, among them {_some(ids)}: {mend}")
    files = set(one.values()) & set(other.values())
    if files:
        raise InputError(f"{len(files)} image files are {where}, among them {_some(files)}: {mend}")
    if first.has_groups and second.has_groups:
        groups = set(first.frame["group"]) & set(second.frame["group"])
        if groups:
            raise InputError(f"{len(groups)} patients are {where}, among them {_some(groups)}: {mend}")


def shared_rows(first: SampleTable, second: SampleTable) -> Bools:
    """(N,) which samples of the first table are in the second one, too, by id or by image file."""
    ids = first.frame["sample_id"]
    shared = ids.isin(set(second.frame["sample_id"])).to_numpy()
    others = set(image_files(second).values())
    if others:
        files = image_files(first)
        shared = shared | np.array([files.get(name) in others for name in ids], dtype=bool)
    return np.asarray(shared, dtype=np.bool_)


def image_files(table: SampleTable) -> dict[str, str]:
    """Sample id to the full path of its image; empty where images are no files."""
    ids = table.frame["sample_id"].tolist()
    paths = ((name, file_key_of(table.source, int(row))) for name, row in zip(ids, table.rows, strict=True))
    return {name: path for name, path in paths if path is not None}


def _some(names: set[str]) -> str:
    return ", ".join(map(repr, sorted(names)[:_SHOWN]))
