"""The names of image files: as a manifest has them, as ids that say nothing, and where they are missing."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath

from shortcutscope.data.manifests.columns import quoted
from shortcutscope.data.readers.image import IMAGE_SUFFIXES
from shortcutscope.errors import InputError

__all__ = ["default_id", "file_key", "local_names", "portable_name", "refuse_missing"]

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def local_names(names: Sequence[str], root: str) -> list[str]:
    """Names with this machine's separators: backslashes part folders where no such file is there."""
    if os.sep == "\\":
        return list(names)
    return [
        name.replace("\\", "/") if "\\" in name and not Path(root, name).exists() else name for name in names
    ]


def portable_name(name: str, root: str) -> str:
    """A name below the root; of an absolute one outside it the last part, so that a data set can be moved."""
    path = PurePath(name)
    if not path.is_absolute():
        return path.as_posix()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def file_key(name: str, root: str) -> str:
    """What two names have in common that are one file, without looking at the disk."""
    return os.path.normpath(Path(root, name))


def default_id(name: str, root: str = "") -> str:
    """Id of an image that has no other: it does not show the name, and stays the same in any subset.

    A digest of the name below the root (or of an absolute name outside it). Whoever knows the names can
    compute the ids; they are no secret, they only show no one's name.

    Examples
    --------
    >>> default_id("patient00001/view1.jpg") == default_id("./patient00001//view1.jpg")
    True
    """
    path = PurePath(name)
    if root and path.is_absolute() and path.is_relative_to(root):
        path = path.relative_to(root)
    plain = PurePosixPath(os.path.normpath(path).replace(os.sep, "/")).as_posix()
    return f"img-{hashlib.sha256(plain.encode('utf-8', 'surrogateescape')).hexdigest()[:14]}"


def refuse_missing(names: Sequence[str], what: str, root: str) -> None:
    """Raise InputError for files that do not exist, with the likely reason."""
    if not names:
        return
    first = names[0]
    ending = next((e for e in (*sorted(IMAGE_SUFFIXES), ".nii.gz") if Path(root, first + e).is_file()), None)
    if ending is not None:
        mend = f"The names lack their ending: {first + ending!r} is there."
    elif _DRIVE.match(first) or PurePath(first).is_absolute():
        mend = "They start from a folder of another place or machine: give names below root=."
    else:
        mend = "Set root= to their folder."
    raise InputError(f"{len(names)} {what} file(s) do not exist below {root!r}: {quoted(names)}. {mend}")
