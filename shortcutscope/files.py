"""Files of results: written whole or not at all, read with their checksums.

Every file is written under a temporary name, flushed to the disk and renamed, so that a reader never
sees half of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from shortcutscope.disk import explained, intact
from shortcutscope.errors import InputError, StaleRunError
from shortcutscope.locking import temporary_beside
from shortcutscope.types import JSON, Record

#: Characters of a name that may become a dash: that they differ makes no two names of one table.
_PLAIN = re.compile(r"[A-Za-z0-9 ._\-=/!(),:]*[A-Za-z0-9)]")
_LONGEST_NAME = 100


def slug(name: str) -> str:
    """File-system form of a finding's name.

    Where letters of other alphabets or signs are lost, or the name is long, a digest of it keeps the files of
    different names apart.

    Examples
    --------
    >>> slug("site=A / 3T")
    'site-A-3T'
    >>> slug("站点=甲")
    'unnamed-828f9a93'
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "unnamed"
    if len(plain) <= _LONGEST_NAME and _PLAIN.fullmatch(name):
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[:_LONGEST_NAME]}-{digest}"


#: Types of values that JSON holds as they are.
_AS_IT_IS = {int, bool, str, type(None)}


def to_json(value: object) -> Any:
    """Plain JSON values: NumPy scalars and arrays unwrapped, NaN and infinities as ``None``."""
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        finite = value.dtype.kind in "biu" or (value.dtype.kind == "f" and np.isfinite(value).all())
        return value.tolist() if finite else to_json(value.tolist())
    if isinstance(value, list | tuple):  # of many numbers most often
        return [
            v if type(v) in _AS_IT_IS or (type(v) is float and math.isfinite(v)) else to_json(v)
            for v in value
        ]
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that it is there whole or not at all.

    Raises
    ------
    InputError
        When the disk is full, or does not allow it; what was there before is untouched.
    """
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder: give a file in it")
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except BaseException as error:  # an interruption, too, leaves nothing behind
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise InputError(f"{path} could not be written: {explained(error)}") from error


def _flush_folder(folder: Path) -> None:
    """Make a renaming survive a power failure."""
    if os.name == "posix":  # Windows cannot open folders, and keeps renames by itself
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically, NaN as null."""
    text = json.dumps(to_json(value), indent=1, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode()))


def json_file(path: str | Path, name: str) -> Path:
    """A JSON file that goes by its path, or by the folder that it has its usual name in."""
    goal = Path(path)
    return goal if goal.suffix == ".json" else goal / name


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        When the file is missing or is not JSON.
    """
    if not path.exists():
        raise InputError(f"{path} is missing: {path.parent} is no finished run directory")
    with intact(path, "JSON", "delete it and run the stage again"):
        return json.loads(path.read_text(encoding="utf-8"))


def read_object(path: Path) -> Record:
    """Read a JSON file that holds an object.

    Raises
    ------
    InputError
        As `read_json`, and for any other value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(
            f"{path} holds {type(value).__name__}, not an object: delete it and run the stage again"
        )
    return value


@contextlib.contextmanager
def stored_result(path: str | Path, name: str, *, format: int, what: str, mend: str) -> Iterator[Record]:
    """The content of a result's JSON file; whatever is raised while it is taken apart is said to be damage.

    Parameters
    ----------
    path, name
        The file, or its folder and its usual name.
    format
        That this version reads.
    what
        It should be, with its article: ``"a comparison"``.
    mend
        What to do where it is not, as a whole clause.

    Raises
    ------
    InputError
        When there is none, or it is another thing or of another version.
    """
    goal = json_file(path, name)
    content = read_json(goal)
    if not isinstance(content, dict) or content.get("format") != format:
        raise InputError(f"{goal} is not {what} of format {format}: {mend}")
    with intact(goal, what, mend):
        yield content


def read_frame(path: Path) -> pd.DataFrame:
    """Read a Parquet table that `write_frame` wrote, and compare it with its checksums.

    Raises
    ------
    InputError
        When it is missing or damaged.
    """
    with intact(path, "a table", "delete it and run the same command again, which makes it anew"):
        return pd.read_parquet(path, page_checksum_verification=True)


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as Parquet with checksums, atomically."""
    write_atomically(path, lambda file: frame.to_parquet(file, index=False, write_page_checksum=True))


def refuse_other_inputs(path: Path, stored: JSON, now: JSON) -> None:
    """Raise StaleRunError naming every input in which a kept run differs from the one asked for."""
    names = sorted(k for k in {*stored, *now} if stored.get(k) != now.get(k))
    if names:
        changes = "; ".join(f"{k}: {_short(stored.get(k))} there, {_short(now.get(k))} now" for k in names)
        raise StaleRunError(
            f"{path} holds a run with other inputs ({changes}). Give another folder, or delete this one"
        )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
