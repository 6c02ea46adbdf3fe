"""Decoded images in a folder: what one run decoded, the next one reads.

An image lies under a digest of what it was decoded from (its source's identity and how it is read), so that
one folder serves any tables, and an image that changed is decoded anew. Nothing in it names a file or a
patient; the pixels are as private as the images themselves.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shortcutscope.disk import explained, require_writable
from shortcutscope.errors import InputError
from shortcutscope.files import read_object, write_json
from shortcutscope.locking import remove_leftovers, temporary_beside
from shortcutscope.types import Array
from shortcutscope.versions import DECODED

MARKER = "decoded_images.json"
_FACTS = {"format": "decoded images", "version": DECODED}
_ENDING = ".safetensors"


class DecodedFiles:
    """Decoded images on disk. Only one process writes: workers hand theirs over.

    Parameters
    ----------
    folder
        A new or empty folder, or one that holds decoded images.
    gigabytes
        Most that the folder may hold; what does not fit is not kept, with a warning.

    Raises
    ------
    InputError
        A folder of something else or of another version, or one that cannot be written to.
    """

    def __init__(self, folder: str | Path, gigabytes: float) -> None:
        self.folder = Path(folder).absolute()
        self.gigabytes = gigabytes
        self._held: int | None = None
        self._stopped = False
        require_writable(self.folder)
        _refuse_other(self.folder)

    def read(self, key: str) -> Array | None:
        """The image under a key; None where there is none, or it is damaged."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                told = file.metadata() or {}
                image: Array = file.get_tensor("image")
        except (OSError, KeyError, ValueError, SafetensorError):
            return None
        return image if told.get("digest") == _digest(key, image) else None

    def write(self, key: str, image: Array) -> None:
        """Keep an image; a process that is killed leaves it whole or not at all."""
        if self._stopped:
            return
        image = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
        payload = save({"image": image}, metadata={"digest": _digest(key, image)})
        try:
            self._held = self._begun() if self._held is None else self._held
            if self._held + len(payload) > self.gigabytes * 1e9:
                self._stop(f"it is full (cache_gb={self.gigabytes:g}); give it more, or another folder")
                return
            self._put(self._path(key), payload)
        except OSError as error:
            self._stop(explained(error))
            return
        self._held += len(payload)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{_ENDING}"

    def _begun(self) -> int:
        """Make the folder ready; bytes that it holds."""
        if not (self.folder / MARKER).exists():
            write_json(self.folder / MARKER, _FACTS)
        remove_leftovers(self.folder)
        return sum(
            (Path(where) / name).stat().st_size for where, _, names in os.walk(self.folder) for name in names
        )

    @staticmethod
    def _put(path: Path, payload: bytes) -> None:
        # Not flushed to the disk, which takes longer than decoding: what a power failure spoils is found out
        # by its digest and decoded anew.
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            temporary.write_bytes(payload)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _stop(self, why: str) -> None:
        self._stopped = True
        warnings.warn(
            f"no more decoded images are kept in {self.folder}, so that the others are decoded again: {why}",
            stacklevel=2,
        )


def _refuse_other(folder: Path) -> None:
    mend = "give a new or empty folder"
    if (folder / MARKER).exists():
        told = read_object(folder / MARKER)
        if told != _FACTS:
            raise InputError(
                f"{folder} holds decoded images of version {told.get('version')}, and version {DECODED} is "
                f"read: delete it, or {mend}"
            )
    elif folder.exists():
        names = [path.name for path in folder.iterdir() if not path.name.endswith(".tmp")]
        if names:
            raise InputError(
                f"{folder} is no folder of decoded images: it holds {names[0]!r}, and no {MARKER}; {mend}"
            )


def _digest(key: str, image: Array) -> str:
    digest = hashlib.blake2b(f"{key}{image.dtype.name}{image.shape}".encode(), digest_size=16)
    digest.update(image)
    return digest.hexdigest()
