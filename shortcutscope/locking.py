"""One process at a time in a folder, and what a killed process leaves there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from shortcutscope.errors import InputError

LOCK = ".lock"
_TEMPORARY = ".tmp"
#: Folders whose locks this process holds: the system's locks do not hold off the process that has them.
_HELD: set[Path] = set()
#: Far behind the text, since Windows lets nobody read what is locked.
_LOCKED_BYTE = 2**30


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, so that no other process writes into it, and clear away what a killed one left.

    The system gives the lock free when its process ends, however it ends. A folder that was made for the
    lock and stays empty is taken away again.

    Raises
    ------
    InputError
        Another process holds it; the text says which.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / LOCK
    if path in _HELD:
        raise InputError(f"{folder} is being written by this very process: wait until that is done")
    file = _acquired(path, folder)
    _HELD.add(path)
    try:
        remove_leftovers(folder)
        yield
    finally:
        _HELD.discard(path)
        with contextlib.suppress(OSError):  # Windows unlinks no open file: there it stays, and is taken over
            path.unlink()
        file.close()
        if is_new:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


def temporary_beside(path: Path) -> Path:
    """Name under which this process writes a file before it gets its own."""
    return path.with_name(f".{path.name[:100]}.{os.getpid()}{_TEMPORARY}")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of processes that are no more, also in the folders below.

    Folders that have a lock of their own are left to who holds that.
    """
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not (Path(where) / name / LOCK).exists()]
        for name in names:
            writer = name.removesuffix(_TEMPORARY).rpartition(".")[2]
            temporary = name.startswith(".") and name.endswith(_TEMPORARY) and writer.isdigit()
            if temporary and int(writer) != os.getpid() and not _is_running(int(writer)):
                (Path(where) / name).unlink(missing_ok=True)


def _acquired(path: Path, folder: Path) -> IO[str]:
    while True:
        file = path.open("a+", encoding="utf-8")
        if not _try_lock(file):
            holder = _holder(file)
            file.close()
            raise InputError(
                f"{folder} is being written by {holder}. Wait until that is done, or end it; the same "
                "command goes on from there"
            )
        # Whoever held it before may have deleted the file after it was opened here.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()
    file.truncate(0)
    json.dump({"pid": os.getpid(), "host": platform.node()}, file)
    file.flush()
    return file


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        holder = json.load(file)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):  # it has not written its name yet
        return "another process"


def _try_lock(file: IO[str]) -> bool:
    """Take the lock of a file; False where another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            # Of the process, not of the file: worker processes that are forked do not keep it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # Some network drives know no locks: two processes are not told apart there.
    return True


def _is_running(pid: int) -> bool:
    if sys.platform == "win32":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True
