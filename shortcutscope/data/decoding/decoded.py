"""Images that are decoded once: kept as they are stored, behind the sources that tables read.

A :class:`KeptSource` lies directly over the source that decodes, below artifacts that are planted, so that
all tables that are derived from one another read the same images. What a worker process decoded it hands over
to the process that asked for it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakSet, WeakValueDictionary

from torch.utils.data import get_worker_info

from shortcutscope.data.decoding.decoded_files import DecodedFiles
from shortcutscope.data.sources import (
    ArraySource,
    DatasetSource,
    DerivedSource,
    ImageSource,
    NpzSource,
    PathSource,
    as_array,
)
from shortcutscope.errors import InputError
from shortcutscope.machine import available_memory
from shortcutscope.types import Array, Record

#: Memory for decoded images: this many bytes, or this share of what is available where that is less.
MEMORY, SHARE = 2 * 2**30, 1 / 4


class DecodedImages:
    """Where decoded images are kept: in memory as far as they fit, and on disk where asked for.

    The first that are read stay; what fits neither in memory nor on disk is decoded again.

    Parameters
    ----------
    folder
        Folder on disk, see :class:`shortcutscope.data.decoding.decoded_files.DecodedFiles`.
    gigabytes
        Most that it may hold.
    memory
        Bytes of memory; by default 2 GiB, or a quarter of what is available where that is less.
    """

    def __init__(
        self, folder: str | Path | None = None, gigabytes: float = 50.0, *, memory: int | None = None
    ) -> None:
        available = available_memory()
        by_default = MEMORY if available is None else min(MEMORY, int(SHARE * available))
        self.room = by_default if memory is None else memory
        self.files = None if folder is None else DecodedFiles(folder, gigabytes)
        # Weak, so that images go with the last table that reads them.
        self._kept: WeakSet[KeptSource] = WeakSet()

    def __getstate__(self) -> Record:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}

    def __setstate__(self, state: Record) -> None:
        self.__dict__.update(state, _kept=WeakSet())

    def spare(self, needed: int) -> None:
        """Take no memory that is needed for something else, in bytes."""
        available = available_memory()
        if available is not None:
            self.room = max(0, min(self.room, available - needed))

    def over(self, source: ImageSource) -> ImageSource:
        """The same images, kept here unless they are kept already or lie in memory as they are.

        Raises
        ------
        InputError
            When images whose identity does not tell their content are to be kept on disk.
        """
        if isinstance(source, KeptSource):
            return source if self._keeps_no_more_than(source.images) else self.over(source.base)
        if isinstance(source, DerivedSource):
            return source.over(self.over)
        if is_in_memory(source):
            return source
        if self.files is not None and isinstance(source, DatasetSource):
            raise InputError(
                f"the items of {type(source.dataset).__name__} cannot be kept in {self.files.folder}: "
                "nothing but reading an item of a Dataset tells whether it has changed. Leave cache= out, "
                "or make the table from files"
            )
        known = next((kept for kept in self._kept if kept.base is source), None)
        if known is None:
            known = KeptSource(source, self)
            self._kept.add(known)
        return known

    def _keeps_no_more_than(self, other: DecodedImages) -> bool:
        return self.files is None or (other.files is not None and other.files.folder == self.files.folder)


@dataclass(frozen=True)
class Decoded:
    """An image that a worker process decoded: number `i` of the source with that token.

    Attributes
    ----------
    key
        Under which it is to be written to the disk; empty where it is not.
    """

    token: str
    i: int
    image: Array
    key: str


@dataclass(frozen=True, eq=False)
class KeptSource:
    """Images of another source, decoded once as far as there is room.

    Attributes
    ----------
    base
        The source that decodes.
    images
        Where its images are kept.
    token
        Tells it from others in all processes.
    """

    base: ImageSource
    images: DecodedImages
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    _held: dict[int, Array] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _SOURCES[self.token] = self

    def __getstate__(self) -> Record:
        return {**self.__dict__, "_held": {}}

    def __len__(self) -> int:
        return len(self.base)

    def origin(self, i: int) -> tuple[ImageSource, int]:
        """The source that decodes image `i`."""
        return self.base, i

    def over(self, change: Callable[[ImageSource], ImageSource]) -> ImageSource:
        """The changed source that decodes, whose images are not kept."""
        return change(self.base)

    def identity(self, i: int) -> str:
        """As the source that decodes says."""
        if isinstance(self.base, DatasetSource):  # looks at some of its images
            return self.base.identity(i, self.read)
        return self.base.identity(i)

    def holds(self, i: int) -> bool:
        """Whether image `i` is in memory."""
        return i in self._held

    def read(self, i: int) -> Array:
        """Image `i` in its stored type, not to be written to."""
        if i in self._held:
            return self._held[i]
        files = self.images.files
        key = "" if files is None else _key(self.base, i)
        image = None if files is None else files.read(key)
        if image is not None:
            key = ""
        else:
            image = as_array(self.base.read(i))
            # Neither a view of something larger, nor an array of the user's that becomes read-only.
            image = (image if image.base is None else image.copy()).view()
        image.flags.writeable = False
        self._hand(Decoded(self.token, i, image, key))
        return image

    def keep(self, decoded: Decoded) -> None:
        """Take in an image of this source."""
        if decoded.key and self.images.files is not None:
            self.images.files.write(decoded.key, decoded.image)
        if decoded.i not in self._held and decoded.image.nbytes <= self.images.room:
            self.images.room -= decoded.image.nbytes
            self._held[decoded.i] = decoded.image

    def _hand(self, decoded: Decoded) -> None:
        if get_worker_info() is None:
            self.keep(decoded)
        elif decoded.key or decoded.image.nbytes <= self.images.room:
            if decoded.image.nbytes <= self.images.room:
                self.images.room -= decoded.image.nbytes
            _HANDED.append(decoded)


#: By token, those of this process that are in use.
_SOURCES: WeakValueDictionary[str, KeptSource] = WeakValueDictionary()
#: Of a worker process: what it has decoded and not handed over.
_HANDED: list[Decoded] = []


def handed_over() -> list[Decoded]:
    """What this worker process has decoded since it was last asked."""
    decoded = list(_HANDED)
    _HANDED.clear()
    return decoded


def take_in(decoded: Iterable[Decoded]) -> None:
    """Keep what worker processes have decoded."""
    for one in decoded:
        source = _SOURCES.get(one.token)
        if source is not None:
            source.keep(one)


def as_decoded(source: ImageSource) -> ImageSource:
    """The same source without anything that is kept."""
    if isinstance(source, KeptSource):
        return as_decoded(source.base)
    return source.over(as_decoded) if isinstance(source, DerivedSource) else source


def is_held(source: ImageSource, i: int) -> bool:
    """Whether image `i` is read from memory alone."""
    while isinstance(source, DerivedSource):
        if isinstance(source, KeptSource) and source.holds(i):
            return True
        source, i = source.origin(i)
    return is_in_memory(source)


def is_in_memory(source: ImageSource) -> bool:
    """Whether a source's images lie in memory as they are read."""
    return isinstance(source, ArraySource | NpzSource) and source.reading.size is None


def _key(source: ImageSource, i: int) -> str:
    """Digest of what image `i` is decoded from, and how."""
    identity = source.identity(i)
    if isinstance(source, PathSource):  # of a long file its identity tells only both ends
        identity += f"|{source.path(i).stat().st_mtime_ns}"
    return hashlib.sha256(identity.encode()).hexdigest()
