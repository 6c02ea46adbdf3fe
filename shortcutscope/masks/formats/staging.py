"""All files of an export or import, or none: written beside their folder and moved there at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shortcutscope.disk import explained
from shortcutscope.errors import InputError


@contextmanager
def staged(folder: Path, *, new: bool = False) -> Iterator[Path]:
    """A folder to write to; what is in it moves to `folder` when nothing was raised, and vanishes else.

    Parameters
    ----------
    folder
        Where the files are to be; files of the same name that are there are replaced.
    new
        Refuse a folder that holds something.

    Raises
    ------
    InputError
        When `folder` is a file, holds something that it should not, or cannot be written to.
    """
    try:
        if folder.is_file() or (new and folder.is_dir() and any(folder.iterdir())):
            raise InputError(
                f"{folder} is {'a file' if folder.is_file() else 'not empty'}: give a new folder"
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {explained(error)}") from error
    try:
        yield stage
        try:
            for file in sorted(path for path in stage.rglob("*") if path.is_file()):
                place = folder / file.relative_to(stage)
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {explained(error)}") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
