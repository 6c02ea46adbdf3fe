"""The size of an image in its own file, before a table resamples it, and how it lies there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shortcutscope.data.manifests.image_names import file_key, portable_name
from shortcutscope.data.readers.dicom import dicom_size, is_dicom
from shortcutscope.data.readers.image import UnreadableImageError
from shortcutscope.data.readers.nifti import is_nifti, nifti_frame
from shortcutscope.data.readers.orientation import Orientation
from shortcutscope.data.readers.picture_files import EXIF_TAG, opened_picture
from shortcutscope.data.readers.waveforms import is_waveform, waveform_length
from shortcutscope.data.sources import (
    ArraySource,
    DatasetSource,
    ImageReading,
    ImageSource,
    NpzSource,
    PathSource,
    origin_of,
)
from shortcutscope.extras import MissingExtraError

#: Size in the displayed frame, and orientation of the stored one.
StoredFrame = tuple[tuple[int, ...], Orientation]
_AS_STORED = ImageReading()
_TIFF_COLUMNS, _TIFF_ROWS = 256, 257


def stored_frame(source: ImageSource, i: int) -> StoredFrame:
    """Displayed size and orientation of image `i` of a source, before the table's ``size=``.

    Of a source of an unknown class, what it reads is the image's own frame.

    Raises
    ------
    UnreadableImageError
        When the image cannot be read.
    """
    base, k = origin_of(source, i)
    header = _from_header(base.path(k), base.reading) if isinstance(base, PathSource) else None
    if header is not None:
        return header
    if getattr(base, "reading", _AS_STORED).size is None:
        return _in_memory(source, i)
    return _in_memory(unresampled(base), k)


def file_source(source: ImageSource) -> PathSource | None:
    """The files that a source reads, also through planted artifacts; None where images are no files."""
    while (base := getattr(source, "base", None)) is not None:
        source = base
    return source if isinstance(source, PathSource) else None


def file_name(source: ImageSource, i: int) -> str | None:
    """Name of the file of image `i`, below its source's root; None where it is no file."""
    source, i = origin_of(source, i)
    return portable_name(source.names[i], source.root) if isinstance(source, PathSource) else None


def file_key_of(source: ImageSource, i: int) -> str | None:
    """Full path of the file of image `i`, the same for all ways to write it; None where it is no file."""
    source, i = origin_of(source, i)
    return file_key(source.names[i], source.root) if isinstance(source, PathSource) else None


def unresampled(source: ImageSource) -> ImageSource:
    """The same images in their own size."""
    if isinstance(source, ArraySource | PathSource):
        return replace(source, reading=replace(source.reading, mode=None, size=None))
    if isinstance(source, DatasetSource):
        return DatasetSource(source.dataset, replace(source.reading, mode=None, size=None))
    if isinstance(source, NpzSource):
        return source.reread(replace(source.reading, mode=None, size=None))
    return source


def _in_memory(source: ImageSource, i: int) -> StoredFrame:
    size = tuple(int(side) for side in source.read(i).shape[1:])
    return size, Orientation.identity(len(size))


def _from_header(path: Path, reading: ImageReading) -> StoredFrame | None:
    """Frame from a file's header alone; None where the pixels must be read to know it."""
    try:
        if is_nifti(path):
            return nifti_frame(path, reading.dims)
        if is_dicom(path):
            size = dicom_size(path)
            return size, Orientation.identity(len(size))
        if is_waveform(path):
            length = waveform_length(path)
            return None if length is None else ((length,), Orientation.identity(1))
        return None if path.suffix.lower() == ".npy" else _from_pillow_header(path, reading.max_pixels)
    except (MemoryError, MissingExtraError):
        raise
    except Exception as error:  # decoders raise anything on broken bytes
        raise UnreadableImageError(f"cannot read the image {str(path)!r}: {error}") from error


def _from_pillow_header(path: Path, max_pixels: int) -> StoredFrame | None:
    with path.open("rb") as file:
        image = opened_picture(file, max_pixels)
        if image is None or getattr(image, "n_frames", 1) > 1:
            return None
        orientation = Orientation.from_exif(int(image.getexif().get(EXIF_TAG, 1)))
        stored = (image.height, image.width)
        if image.format == "TIFF":  # Pillow gives the size of the turned image
            tags = image.tag_v2  # type: ignore[attr-defined]
            stored = (int(tags[_TIFF_ROWS]), int(tags[_TIFF_COLUMNS]))
        return orientation.shown_size(stored), orientation
