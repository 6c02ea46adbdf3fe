"""Heat maps beside the masks, where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import write_atomically
from shortcutscope.masks.mask_files import mask_file
from shortcutscope.masks.maskset import MaskSet


def heat_map(masks: MaskSet, sample_id: str) -> npt.NDArray[np.float32]:
    """Heat map of a sample, 0 to 1, in its image's own size.

    Raises
    ------
    InputError
        When none was kept.
    """
    path = _heat_file(masks.folder, sample_id)
    if not path.exists():
        raise InputError(f"no heat map of {sample_id!r} was kept in {masks.folder}; annotate with heat=True")
    damaged = intact(path, "a heat map", "delete it and annotate again")
    with damaged, np.load(path, allow_pickle=False) as kept:
        return np.asarray(kept["heat"], np.float32)


def keep_heat(folder: Path, sample_id: str, heat: npt.NDArray[Any]) -> None:
    """Write a heat map in its image's own size."""
    path = _heat_file(folder, sample_id)
    path.parent.mkdir(exist_ok=True)
    coded = heat.astype(np.float16)
    write_atomically(path, lambda file: np.savez_compressed(file, heat=coded))


def _heat_file(folder: Path, sample_id: str) -> Path:
    return folder / "heat" / mask_file(sample_id, "volume")
