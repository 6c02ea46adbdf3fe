"""Arrays of NumPy, alone in a file and in archives: what they say is checked before they are read."""

from __future__ import annotations

import lzma
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.errors import InputError
from shortcutscope.types import Array

#: Kinds of numbers; text, objects, dates and records are no images.
NUMBERS = "biuf"
#: Bytes to one packed byte, above which a large array is taken for a trap: images pack to a tenth at best.
_MOST_PACKED = 100
#: What a broken archive raises, of zipfile and of NumPy.
BROKEN_ARCHIVE = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, RuntimeError, NotImplementedError),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, zipfile.LargeZipFile),
)


def read_npy(path: Path, max_pixels: int = MAX_PIXELS) -> Array:
    """Array of a ``.npy`` file, without pickled objects.

    Raises
    ------
    InputError
        When it is no array of numbers, is larger than `max_pixels`, or the file is shorter than it says.
        Broken files raise what NumPy raises.
    """
    with path.open("rb") as file:
        shape, dtype = array_header(file)
        check_size(shape, max_pixels)
        length = path.stat().st_size - file.tell()
    if math.prod(shape) * dtype.itemsize > length:
        raise InputError(f"it says that it is an array {shape} of {dtype}, and holds {length} bytes of it")
    array: Array = np.load(path, allow_pickle=False)
    return array


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and kind of an array of numbers, from the beginning of its file.

    Raises
    ------
    InputError
        When it holds anything else than numbers. Broken files raise what NumPy raises.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"it is of version {version} of NumPy's format, that of records with odd names")
    read_header = (
        np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read_header(file)
    if dtype.kind not in NUMBERS:
        raise InputError(f"it is an array of {dtype}, not of numbers")
    return tuple(int(side) for side in shape), dtype


def npz_header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and kind of a member of an npz archive, once it is known that the archive can hold it.

    Raises
    ------
    InputError
        When there is no such array of numbers, or the archive holds less than it says, or far more than its
        bytes can be expected to. Broken archives raise one of :data:`BROKEN_ARCHIVE`.
    """
    try:
        info = archive.getinfo(f"{member}.npy")
    except KeyError as error:
        names = [name.removesuffix(".npy") for name in archive.namelist()[:20]]
        raise InputError(f"it has no array {member!r}; it has {', '.join(names) or 'none'}") from error
    with archive.open(info) as file:
        shape, dtype = array_header(file)
    count = math.prod(shape)
    if count * dtype.itemsize > info.file_size:
        raise InputError(
            f"{member!r} says that it is an array {shape} of {dtype}; it has {info.file_size} bytes"
        )
    if count > MAX_PIXELS and info.file_size > _MOST_PACKED * info.compress_size:
        raise InputError(
            f"{member!r} unpacks {info.compress_size:,} bytes to {info.file_size:,}, which no images do; "
            "where that is right, save it without compression (numpy.savez)"
        )
    return shape, dtype


def read_member(archive: zipfile.ZipFile, member: str, max_pixels: int = MAX_PIXELS) -> Array:
    """One array of an open npz archive, without pickled objects.

    Raises
    ------
    InputError
        As :func:`npz_header`, and for more than `max_pixels` values. Broken archives raise one of
        :data:`BROKEN_ARCHIVE`.
    """
    check_size(npz_header(archive, member)[0], max_pixels)
    with archive.open(f"{member}.npy") as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        return array
