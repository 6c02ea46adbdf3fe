"""What the disk answers, and files that are damaged, in words that say how to go on."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from shortcutscope.errors import InputError, ShortcutscopeError

_MENDS = {
    errno.ENOSPC: "the disk is full. Nothing before it is lost; free some space and run the same command "
    "again, it goes on from there",
    errno.EACCES: "access is denied: check the rights of the file and its folder, or give another place",
    errno.EROFS: "the disk is read-only: give a place that can be written to",
    errno.ENOENT: "there is no such file or folder",
    errno.EISDIR: "this is a folder where a file is needed",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EEXIST: "this is a file where a folder is needed, or exists already: give another place",
    errno.ENAMETOOLONG: "the name is too long for this disk: give a shorter one",
    errno.EMFILE: "too many files are open: use fewer workers, or raise the limit (ulimit -n)",
    errno.EIO: "the disk reports an error of its own: copy the files to another disk",
    errno.ENOTEMPTY: "the folder is not empty: give another one",
}
_MENDS[errno.EDQUOT] = _MENDS[errno.ENOSPC]
_MENDS[errno.EPERM] = _MENDS[errno.EACCES]


def explained(error: OSError) -> str:
    """What an error of the operating system means, with the file and what to do.

    Parameters
    ----------
    error
        As Python raised it; without a number (a library's own) its text is kept.

    Examples
    --------
    >>> explained(OSError(errno.ENOENT, "No such file or directory", "images.csv"))
    'images.csv: there is no such file or folder'
    """
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in _MENDS:
        return where + _MENDS[error.errno]
    return f"{where}{error.strerror or error}"


def require_writable(folder: Path) -> None:
    """Refuse a folder that could not be made, or not be written to; nothing is made.

    Raises
    ------
    InputError
        Says why.
    """
    try:
        existing = folder.absolute()
        while not _exists(existing):
            existing = existing.parent
    except OSError as error:  # a name that is too long, say
        raise InputError(f"{folder} cannot be made: {explained(error)}") from error
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be made: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written to: access to {existing} is denied, or it is read-only")


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def checksum(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def intact(path: Path | str, what: str, mend: str) -> Iterator[None]:
    """Read a file that this package wrote: whatever a parser raises on it is said to be damage.

    Parameters
    ----------
    path
        The file.
    what
        What it should be, with its article: ``"a table"``.
    mend
        What to do, as a whole clause.

    Raises
    ------
    InputError
        In place of anything raised inside; the package's own errors pass.
    """
    try:
        yield
    except ShortcutscopeError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: {mend}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read as {what} ({explained(error)}): {mend}") from error
    except Exception as error:  # a parser may raise anything on damaged bytes
        raise InputError(
            f"{path} is damaged, or not {what} ({type(error).__name__}: {error}): {mend}"
        ) from error


def inside(folder: Path, name: str) -> Path:
    """Path of a file that a manifest names: in the manifest's folder or below it, and nowhere else.

    Parameters
    ----------
    folder
        That the manifest lies in.
    name
        As the manifest has it, with ``/`` between folders.

    Raises
    ------
    InputError
        For an absolute name, one with ``..``, and a link that leads out of the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    strange = (
        not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name
    )
    if not strange:
        target = folder.joinpath(*path.parts)
        if target.resolve().is_relative_to(folder.resolve()):
            return target
    raise InputError(
        f"{folder} names the file {name!r}, which lies outside of it; it is not read. Copy the file into the "
        "folder, or make the folder again"
    )
