"""DICOM images: values as a viewer shows them, or in their physical unit."""

from __future__ import annotations

import contextlib
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shortcutscope.data.readers.dicom_values import GreyValues, grey_values, shown_values
from shortcutscope.data.readers.dicom_window import NeedsWindowError, Window, checked_window
from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.errors import InputError
from shortcutscope.extras import MissingExtraError, require
from shortcutscope.types import Array

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "DICOM_SUFFIXES",
    "NeedsWindowError",
    "Window",
    "checked_window",
    "dicom_grey_values",
    "dicom_header",
    "dicom_size",
    "is_dicom",
    "read_dicom",
]


DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
_PREAMBLE = 128
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PIECE = 2**20
#: Bytes of a deflated file beside its pixels, which have up to eight bytes.
_HEADER = 2**26
#: JPEG's markers that begin a frame: all of FFC0 to FFCF but DHT, JPG and DAC; and that of JPEG-LS.
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its ending, or, where the ending does not tell, by its first bytes."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if path.suffix and not any(letter.isdigit() for letter in path.suffix):
        return False  # names are often UIDs, 1.2.840.113619, and some end in .dcm30
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def read_dicom(
    path: str | Path, window: Window = "file", max_pixels: int = MAX_PIXELS
) -> tuple[Array, int, bool]:
    """Pixels of a DICOM file.

    Grey images: the modality's rescale (or lookup table) gives physical values, the window (or VOI lookup
    table) what a viewer shows of them; enhanced objects tell both in functional groups, for all frames or for
    each. MONOCHROME1, where low values are bright, is inverted. Colour images become RGB. Several frames make
    a volume. A missing slope counts as 1, a missing intercept as 0, and what is empty as missing.

    Parameters
    ----------
    path
        The file.
    window
        ``"file"``: the first window that the file names, else the full range of its bits: uint16, of which
        0 is black and 65535 white, and which a table scales to its value range. ``"bits"``: the full range of
        the bits, whatever window the file names. ``(centre, width)``: that window instead, in physical
        values. None: physical values (Hounsfield units, say) as float32.
    max_pixels
        Most pixels that a file may have.

    Returns
    -------
    array : (H, W), (frames, H, W), (H, W, 3) or (frames, H, W, 3)
    dims : int
        Number of spatial axes.
    channels_last : bool
        Whether there is a colour axis, at the end.

    Raises
    ------
    NeedsWindowError
        When it is not known what is black and what is white: frames with different windows, a window without
        width, floating-point pixels without a window.
    MissingExtraError
        When pydicom, or the decoder of compressed pixels, is missing.
    InputError
        When the window is none of these, or the file says what cannot be. Broken files raise what pydicom
        raises.
    """
    pixels = require("pydicom.pixels", "medical", "reading DICOM files")
    window = checked_window(window)
    with _quiet():
        data = _opened(Path(path), max_pixels)
        _refuse_without_pixels(data)
        colour = int(data.get("SamplesPerPixel") or 1) > 1
        size = _size(data)
        check_size((*size, int(data.get("SamplesPerPixel") or 1)), max_pixels)
        _refuse_without_decoder(data, pixels)
        _refuse_other_frames(data, size)
        array: Array = pixels.pixel_array(data)
        if data.PhotometricInterpretation == "PALETTE COLOR":
            array, colour = pixels.apply_color_lut(array, data), True
            array = array[..., :3]
        elif colour:
            array = _full_scale(array, int(data.BitsStored))
        else:
            array = shown_values(array, grey_values(data, window), window)
    return array, array.ndim - colour, colour


def dicom_grey_values(path: Path) -> list[GreyValues] | None:
    """How the frames of a grey file are to be read, from the header alone; None for a colour image.

    Raises
    ------
    InputError
        As :func:`read_dicom`.
    """
    with _quiet():
        data = _opened(path, MAX_PIXELS, stop_before_pixels=True)
        if int(data.get("SamplesPerPixel") or 1) > 1 or data.PhotometricInterpretation == "PALETTE COLOR":
            return None
        return grey_values(data)


def dicom_header(path: Path) -> Dataset:
    """All that a file says beside its pixels. Broken files raise what pydicom raises."""
    with _quiet():
        header: Dataset = _opened(path, MAX_PIXELS, stop_before_pixels=True)
        return header


def dicom_size(path: Path) -> tuple[int, ...]:
    """Size of an image from the header alone: (H, W), or (frames, H, W).

    Broken files raise what pydicom raises.
    """
    with _quiet():
        return _size(dicom_header(path))


def _size(data: Dataset) -> tuple[int, ...]:
    missing = [name for name in ("Rows", "Columns") if data.get(name) is None]
    if missing:
        raise InputError(f"it lacks {' and '.join(missing)}, the size of its image")
    frames = int(data.get("NumberOfFrames") or 1)
    size = (int(data.Rows), int(data.Columns))
    return (frames, *size) if frames != 1 else size


def _opened(path: Path, max_pixels: int, **options: Any) -> Any:
    pydicom = require("pydicom", "medical", "reading DICOM files")
    errors = require("pydicom.errors", "medical", "reading DICOM files")
    try:
        _refuse_inflated(path, pydicom, max_pixels)
        return pydicom.dcmread(path, **options)
    except errors.InvalidDicomError as error:
        raise InputError(
            "it is no DICOM file: the mark 'DICM' is missing behind its first 128 bytes. Where an old device "
            "wrote it without, write it anew with a DICOM tool (dcmconv, gdcmconv)"
        ) from error


def _refuse_inflated(path: Path, pydicom: Any, max_pixels: int) -> None:
    """Deflated files are unpacked whole as they are read, however large they become."""
    meta = pydicom.filereader.read_file_meta_info(path)
    if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        return
    most = _HEADER + 8 * max_pixels
    unpacker, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(_PREAMBLE + len(b"DICM") + 12 + int(meta.FileMetaInformationGroupLength))
        while piece := file.read(_PIECE):
            while piece:
                count += len(unpacker.decompress(piece, _PIECE))
                piece = unpacker.unconsumed_tail
                if count > most:
                    raise InputError(f"it unpacks to more than {most:,} bytes")


def _refuse_without_pixels(data: Dataset) -> None:
    if "PixelData" not in data and "FloatPixelData" not in data and "DoubleFloatPixelData" not in data:
        kind = data.get("Modality", "") or "DICOM"
        raise InputError(f"a {kind} object without pixels is no image")


def _refuse_without_decoder(data: Dataset, pixels: Any) -> None:
    """Name the package that a compression needs, where it is missing."""
    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        decoder = pixels.get_decoder(syntax)
    except NotImplementedError as error:
        raise InputError(f"its pixels are compressed by {syntax.name}, which is not read") from error
    deep = syntax.name.startswith("JPEG Extended") and int(data.get("BitsStored") or 8) > 8
    plugins = set(decoder.available_plugins) - ({"pillow", "gdcm"} if deep else set())
    if not plugins:
        needed = "jpeg" if any("pylibjpeg" in text for text in decoder.missing_dependencies) else "medical"
        raise MissingExtraError(
            f"its pixels are compressed by {syntax.name}, which takes another package: "
            f'pip install "shortcutscope[{needed}]"'
        )


def _refuse_other_frames(data: Dataset, size: tuple[int, ...]) -> None:
    """Refuse JPEG streams of another size than the header's, which decoders take memory for."""
    if (
        not data.file_meta.TransferSyntaxUID.is_compressed
        or "JPEG" not in data.file_meta.TransferSyntaxUID.name
    ):
        return
    stream = data.PixelData
    start = stream.find(b"\xff\xd8\xff")
    place = start + 2
    while start >= 0 and place + 9 <= len(stream) and stream[place] == 0xFF:
        marker, length = stream[place + 1], int.from_bytes(stream[place + 2 : place + 4], "big")
        if marker in _FRAME_MARKERS:
            frame_size = tuple(int.from_bytes(stream[place + k : place + k + 2], "big") for k in (5, 7))
            if frame_size != size[-2:]:
                raise InputError(f"its header says that its size is {size[-2:]}, its pixels say {frame_size}")
            return
        place += 2 + length


def _full_scale(colours: Array, bits: int) -> Array:
    """Colours of, say, 12 bits in 16 on the full scale of 16."""
    if colours.dtype.kind != "u" or bits == 8 * colours.dtype.itemsize:
        return colours
    white = np.iinfo(colours.dtype).max
    share = np.clip(colours.astype(np.float64) / (2**bits - 1), 0, 1)
    return np.asarray(np.rint(share * white), dtype=colours.dtype)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Files in use break the standard in many small ways, of which pydicom warns one by one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
