"""Marks of a file, for the commands that take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shortcutscope.errors import InputError

if TYPE_CHECKING:
    from shortcutscope.retrieval.marks import Marks


@dataclass(frozen=True)
class MarkReading:
    """How a file of marks is read: column of the answers, word of carriers, and what is kept with them."""

    column: str | None = None
    carrier: str | None = None
    who: str = ""
    when: str = ""


def marks_of(path: Path, run: Path, files: Mapping[str, str], reading: MarkReading) -> Marks:
    """Marks of a table of answers, or of shapes that were drawn, for samples of a run.

    Raises
    ------
    InputError
        For a run that is not finished, and a file that holds no marks of its samples.
    """
    from shortcutscope.masks.drawn_marks import drawing_format, read_drawn_marks
    from shortcutscope.retrieval.imports import read_marks

    samples = samples_of(run)
    shape_format = drawing_format(path)
    if shape_format is not None:
        return read_drawn_marks(path, samples, format=shape_format, name=reading.carrier, files=files)
    return read_marks(
        path,
        samples,
        column=reading.column,
        carrier=reading.carrier,
        who=reading.who,
        when=reading.when,
        files=files,
    )


def samples_of(run: Path) -> list[str]:
    """Ids of a finished audit's samples.

    Raises
    ------
    InputError
        For a run that is not finished.
    """
    from shortcutscope.files import read_frame

    kept = run / "concepts.parquet"
    if not kept.exists():
        raise InputError(f"{run} is no run directory of a finished audit: {kept.name} is missing")
    return list(read_frame(kept)["sample_id"].astype(str))
