"""What runs, reports and exports may say of where files lie: nothing but a name, unless asked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

__all__ = ["redacted_command", "redacted_line", "without_folders"]

#: An absolute path of any system, in quotes or up to a blank; also ~/..., \\server\..., file:///...
_START = r"(?:file://|[A-Za-z]:(?=[\\/])|~(?=[\\/]))?[\\/]{1,2}"
_QUOTED = re.compile(rf"(?P<quote>['\"])(?P<path>{_START}[^'\"\n]*)(?P=quote)")
_BARE = re.compile(rf"(?<![\w.:/\\-])(?P<path>{_START}(?:[^\s'\",;:()\[\]\\/]+[\\/])+[^\s'\",;:()\[\]\\/]*)")


def without_folders(text: str) -> str:
    """A text in which each absolute path is only the type of file that it leads to.

    Examples
    --------
    >>> without_folders("cannot read '/data/patient 7/a.png': truncated")
    "cannot read '*.png': truncated"
    """
    text = _QUOTED.sub(lambda m: f"{m['quote']}{_kind(m['path'])}{m['quote']}", text)
    return _BARE.sub(lambda m: _kind(m["path"]), text)


def _kind(path: str) -> str:
    name = PureWindowsPath(path).name
    dot = name.find(".", 1)
    return f"*{name[dot:]}" if dot > 0 else "*"


def redacted_command(words: Sequence[str]) -> list[str]:
    """The words of a command line with the names of files and folders in the place of their paths.

    A word, or what follows ``=`` or a data set's ``NAME:`` in it, counts as a path when it is absolute,
    starts from ``~`` or a dot, or has folders and exists.

    Examples
    --------
    >>> redacted_command(["audit", "--out=/home/me/runs/a", "hf:microsoft/resnet-50", "chexpert:/data/x"])
    ['audit', '--out=a', 'hf:microsoft/resnet-50', 'chexpert:x']
    """
    return [_redacted(word) for word in words]


def redacted_line(command: str) -> str:
    """A command line, as a shell takes it, with the names of files and folders in the place of paths."""
    try:
        return shlex.join(redacted_command(shlex.split(command)))
    except ValueError:  # no shell's line
        return without_folders(command)


def _redacted(word: str) -> str:
    if _is_path(word):
        return PureWindowsPath(word).name or word[:1]
    for sign in ("=", ":"):
        head, separator, tail = word.partition(sign)
        if separator and tail and (_is_path(tail) or _is_path(head)):
            return f"{_redacted(head)}{sign}{_redacted(tail)}"
    return without_folders(word)


def _is_path(word: str) -> bool:
    if re.match(rf"{_START}|\.{{1,2}}[\\/]", word):
        return "\n" not in word
    return ("/" in word or "\\" in word) and len(word) < 1000 and Path(word).exists()
