"""Where images and masks come from: lazy, indexable, cheap to send to a worker process."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from shortcutscope.data.manifests.image_names import portable_name
from shortcutscope.data.readers.array_files import BROKEN_ARCHIVE, npz_header
from shortcutscope.data.readers.dicom_window import Window, checked_window
from shortcutscope.data.readers.image import (
    Mode,
    Size,
    UnreadableImageError,
    channels_first,
    read_image,
    resize,
    to_mode,
)
from shortcutscope.data.readers.pillow import from_pillow
from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size, checked_limit
from shortcutscope.errors import InputError
from shortcutscope.types import Array, Record

_EDGE_BYTES = 32 * 1024
_PROBED_ITEMS = 64
_FEWEST_AXES = 2  # N signals of one lead


class ImageSource(Protocol):
    """Images by number. `read` gives an array or tensor (C, *spatial) in the stored dtype."""

    def __len__(self) -> int: ...

    def read(self, i: int) -> Array | Tensor:
        """Image `i`; UnreadableImageError where it cannot be decoded."""
        ...

    def identity(self, i: int) -> str:
        """Text that changes with the content of image `i`, the same on every machine, without decoding it."""
        ...


@runtime_checkable
class DerivedSource(Protocol):
    """Images that are made of those of other sources."""

    def origin(self, i: int) -> tuple[ImageSource, int]:
        """The source that image `i` is from, and its number there."""
        ...

    def over(self, change: Callable[[ImageSource], ImageSource]) -> ImageSource:
        """The same made of other sources: what `change` gives for each of those that it is made of."""
        ...


def origin_of(source: ImageSource, i: int) -> tuple[ImageSource, int]:
    """The source that image `i` was read from in the end, and its number there."""
    while isinstance(source, DerivedSource):
        source, i = source.origin(i)
    return source, i


class MaskSource(Protocol):
    """Annotation masks by number, parallel to an ImageSource."""

    def read(self, i: int) -> Array | None:
        """Boolean array (*spatial), or None where image `i` has no mask."""
        ...


@dataclass(frozen=True)
class ImageReading:
    """How stored samples become arrays (C, *spatial); see `shortcutscope.data.readers.image.read_image`."""

    mode: Mode | None = None
    size: Size | None = None
    dims: int | None = None
    channels_last: bool = False
    window: Window = "file"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        checked_window(self.window)
        checked_limit(self.max_pixels)
        if self.mode not in (None, "L", "RGB"):
            raise InputError(f'mode must be "L", "RGB" or None, not {self.mode!r}')
        sides = () if self.size is None else (self.size,) if isinstance(self.size, int) else self.size
        if any(side < 1 for side in sides):
            raise InputError(f"size must be a positive length, or one per spatial axis, not {self.size!r}")

    def __repr__(self) -> str:
        """What the reading of any file depends on, which the limit does not: part of an image's identity."""
        # The text says "Reading" since the identities in run folders do.
        shape_text = f"mode={self.mode!r}, size={self.size!r}, dims={self.dims!r}"
        window = "" if self.window == "file" else f", window={self.window!r}"
        return f"Reading({shape_text}, channels_last={self.channels_last!r}{window})"

    def apply(self, array: Array) -> Array:
        """Array (C, *spatial) of one stored sample."""
        return resize(
            to_mode(channels_first(array, self.dims, channels_last=self.channels_last), self.mode), self.size
        )


@dataclass(frozen=True)
class PathSource:
    """Image files; only their names are held in memory."""

    names: Sequence[str]
    root: str
    reading: ImageReading = ImageReading()

    def __len__(self) -> int:
        return len(self.names)

    def path(self, i: int) -> Path:
        """Full path of image `i`; an absolute name stands for itself."""
        return Path(self.root, self.names[i])

    def read(self, i: int) -> Array:
        """Image `i`."""
        how = self.reading
        return read_image(
            self.path(i),
            how.mode,
            how.size,
            dims=how.dims,
            channels_last=how.channels_last,
            window=how.window,
            max_pixels=how.max_pixels,
        )

    def identity(self, i: int) -> str:
        """Name below the root, length, and SHA-256 of the first and last 32 KiB.

        A change that keeps the length and both ends is not seen; compressed images up to 64 KiB are covered
        whole. Of an absolute name outside the root only the last part counts, so that a moved data set
        keeps its identity.
        """
        path = self.path(i)
        try:
            length, digest = _edges(path)
        except OSError as error:
            raise UnreadableImageError(
                f"cannot read the image {str(path)!r}: {error.strerror or error}"
            ) from error
        return f"{portable_name(self.names[i], self.root)}|{length}|{digest}|{self.reading}"

    def missing(self) -> list[str]:
        """Names of the files that do not exist."""
        return [name for i, name in enumerate(self.names) if not self.path(i).is_file()]


def _edges(path: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(0)
        digest.update(file.read(_EDGE_BYTES))
        file.seek(max(_EDGE_BYTES, length - _EDGE_BYTES))
        digest.update(file.read(_EDGE_BYTES))
    return length, digest.hexdigest()


def _digest(array: Array) -> str:
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images in memory: (N, ...) array, not copied."""

    images: Array
    reading: ImageReading = ImageReading()

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int) -> Array:
        """Image `i`."""
        return self.reading.apply(self.images[i])

    def identity(self, i: int) -> str:
        """SHA-256 of the stored values."""
        return f"{_digest(self.images[i])}|{self.reading}"


class NpzSource:
    """Members of an npz file, laid end to end; each is loaded on first use and never pickled.

    A worker process that is forked after the first use shares the loaded images.
    """

    def __init__(self, path: str | Path, members: Sequence[str], reading: ImageReading) -> None:
        self.path = str(path)
        self.members = tuple(members)
        self.reading = reading
        shapes = [npz_shape(path, member) for member in members]
        for member, shape in zip(members, shapes, strict=True):
            if len(shape) < _FEWEST_AXES:
                raise InputError(f"{member!r} of {self.path!r} has the shape {shape}; images are (N, H, W)")
            check_size(shape[1:], reading.max_pixels)
        self._offsets = np.cumsum([0, *(shape[0] for shape in shapes)])
        self._loaded: dict[str, Array] = {}

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def __getstate__(self) -> Record:
        return {**self.__dict__, "_loaded": {}}

    def reread(self, reading: ImageReading) -> NpzSource:
        """The same images, read in another way; what is loaded is shared."""
        other = NpzSource(self.path, self.members, reading)
        other._loaded = self._loaded
        return other

    def _stored(self, i: int) -> Array:
        k = int(np.searchsorted(self._offsets, i, side="right")) - 1
        member = self.members[k]
        if member not in self._loaded:
            self._loaded[member] = read_npz(self.path, member)
        image: Array = self._loaded[member][i - int(self._offsets[k])]
        return image

    def read(self, i: int) -> Array:
        """Image `i`, counted over all members."""
        return self.reading.apply(self._stored(i))

    def identity(self, i: int) -> str:
        """SHA-256 of the stored values."""
        return f"{_digest(self._stored(i))}|{self.reading}"


def read_npz(path: str | Path, member: str) -> Array:
    """One member of an npz file; UnreadableImageError naming the file where it is broken."""
    npz_shape(path, member)
    try:
        with np.load(path, allow_pickle=False) as file:
            array: Array = file[member]
            return array
    except BROKEN_ARCHIVE as error:
        raise UnreadableImageError(f"cannot read {member!r} of {str(path)!r}: {error}") from error


def npz_shape(path: str | Path, member: str) -> tuple[int, ...]:
    """Shape of a member from its header, without loading it.

    Raises
    ------
    InputError
        When the file is not an npz file or has no such member (the members it has are named), or the member
        is no array of numbers or is larger than its bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return npz_header(archive, member)[0]
    except BROKEN_ARCHIVE as error:
        if isinstance(error, InputError):
            raise InputError(f"{str(path)!r}: {error}") from error
        raise UnreadableImageError(f"cannot read {str(path)!r} as an npz file: {error}") from error


class DatasetSource:
    """Items of a map-style torch Dataset: an image, (image, ...), or a mapping with the key "image"."""

    def __init__(self, dataset: Any, reading: ImageReading) -> None:
        self.dataset = dataset
        self.reading = reading

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, i: int) -> Array:
        """Image of item `i`."""
        try:
            item = self.dataset[i]
        except (
            Exception
        ) as error:  # the data set is the user's: whatever it raises means that item is unreadable
            raise UnreadableImageError(
                f"item {i} of {type(self.dataset).__name__} cannot be read: {type(error).__name__}: {error}"
            ) from error
        return self.reading.apply(_image_of(item, i))

    def identity(self, i: int, read: Callable[[int], Array] | None = None) -> str:
        """Class and number; every k-th item (64 in all) also with the SHA-256 of its image.

        The image is what `read` gives where it is given, in place of :meth:`read`.

        Hashing each item would mean decoding the whole data set; a change to all of it, such as another
        transform inside, is seen, one to a single item may not be.
        """
        kind = type(self.dataset)
        name = f"{kind.__module__}.{kind.__qualname__}|{len(self)}|{i}|{self.reading}"
        if i % max(1, len(self) // _PROBED_ITEMS):
            return name
        return f"{name}|{_digest((read or self.read)(i))}"


def _image_of(item: object, i: int) -> Array:
    image = item
    if isinstance(item, Mapping) and "image" in item:
        image = item["image"]
    elif isinstance(item, tuple | list) and item:
        image = item[0]
    if isinstance(image, Image.Image):
        return from_pillow(image)
    if isinstance(image, Tensor):
        return image.detach().cpu().numpy()
    if isinstance(image, np.ndarray):
        return image
    raise InputError(
        f"item {i} of the data set is {type(image).__name__}; allowed are a tensor, an array or a PIL image, "
        'alone, first in a tuple, or under the key "image"'
    )


@dataclass(frozen=True)
class PathMasks:
    """Mask files; an empty name means that there is no mask.

    A pixel is inside where it is above zero, in a JPEG (which has ringing) above half of full scale.
    """

    names: Sequence[str]
    root: str
    size: Size | None = None
    max_pixels: int = MAX_PIXELS

    def read(self, i: int) -> Array | None:
        """Mask `i`, boolean (*spatial), resized to the nearest pixel."""
        if not self.names[i]:
            return None
        path = Path(self.root, self.names[i])
        threshold = 127 if path.suffix.lower() in (".jpg", ".jpeg") else 0
        return resize_mask(
            np.any(read_image(path, max_pixels=self.max_pixels) > threshold, axis=0), self.size
        )

    def missing(self) -> list[str]:
        """Names of the files that do not exist."""
        return [name for name in self.names if name and not Path(self.root, name).is_file()]


@dataclass(frozen=True, eq=False)
class ArrayMasks:
    """Masks in memory: (N, *spatial), inside where not zero."""

    masks: Array
    size: Size | None = None

    def read(self, i: int) -> Array | None:
        """Mask `i`, boolean (*spatial), resized to the nearest pixel."""
        return resize_mask(np.asarray(self.masks[i]).astype(np.bool_), self.size)


def resize_mask(mask: Array, size: Size | None) -> Array:
    """Nearest-pixel resampling of a boolean mask (*spatial)."""
    if size is None:
        return mask
    target = (size,) * mask.ndim if isinstance(size, int) else tuple(size)
    centres = [
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(target, mask.shape, strict=True)
    ]
    return mask[np.ix_(*centres)]


def as_array(images: object) -> Array:
    """Array that shares its memory with a tensor or array."""
    return images.detach().cpu().numpy() if isinstance(images, torch.Tensor) else np.asarray(images)
