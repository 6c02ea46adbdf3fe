"""What a file says of itself in its header: size, codec, device, view; no pixel is decoded."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, JpegImagePlugin

from shortcutscope.data.readers.dicom import dicom_header, is_dicom
from shortcutscope.data.readers.nifti import is_nifti
from shortcutscope.data.readers.picture_files import opened_picture
from shortcutscope.types import Floats

Value = float | str

#: Column to the element of a DICOM header.
_WORDS = {
    "file_colour_mode": "PhotometricInterpretation",
    "file_modality": "Modality",
    "file_manufacturer": "Manufacturer",
    "file_model": "ManufacturerModelName",
    "file_site": "InstitutionName",
    "file_view": "ViewPosition",
    "file_burned_in": "BurnedInAnnotation",
}
_NUMBERS = {"file_width": "Columns", "file_height": "Rows", "file_bit_depth": "BitsStored", "file_kvp": "KVP"}
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")
_DATES = ("AcquisitionDate", "ContentDate", "StudyDate")
_YEAR = re.compile(r"(?:19|20)\d\d")
#: Tags of EXIF and TIFF.
_MAKE, _MODEL, _SOFTWARE, _DATE, _BITS = 0x010F, 0x0110, 0x0131, 0x0132, 0x0102
_LONGEST = 60

#: Luminance table of the JPEG standard (ITU-T T.81, K.1), which libjpeg scales by the quality.
_LUMINANCE = np.array(
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
        14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
        18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ],
    np.float64,
)  # fmt: skip
_QUALITY = np.arange(1, 101)
_SCALE = np.where(_QUALITY < 50, 5000 // _QUALITY, 200 - 2 * _QUALITY)
_TABLES: Floats = np.clip(np.floor((_LUMINANCE * _SCALE[:, None] + 50) / 100), 1, 255)


def file_properties(path: Path) -> dict[str, Value]:
    """The columns of `shortcutscope.data.properties.names.OF_FILES` that a file tells of.

    A header that cannot be read says nothing: what is wrong with the file is said where its pixels are read.
    Nothing that belongs to a patient is read, and of dates only the year.
    """
    values: dict[str, Value] = {}
    with contextlib.suppress(Exception):
        values["file_bytes"] = float(path.stat().st_size)
        if is_dicom(path):
            values |= _of_dicom(path)
        elif is_nifti(path):
            values |= {"file_format": "NIfTI", "file_codec": "gzip" if path.suffix == ".gz" else "NIfTI"}
        elif path.suffix.lower() == ".npy":
            values["file_format"] = "NPY"
        else:
            values |= _of_picture(path)
    width, height = values.get("file_width"), values.get("file_height")
    if isinstance(width, float) and isinstance(height, float) and width * height > 0:
        values["file_aspect"] = round(width / height, 3)
        values["file_bytes_per_pixel"] = round(float(values["file_bytes"]) / (width * height), 8)
    return values


def jpeg_quality(table: Any) -> float:
    """Quality, 1 to 100, whose luminance table by libjpeg is nearest to one of 64 entries, as stored.

    Examples
    --------
    >>> jpeg_quality(_TABLES[74])
    75.0
    """
    return float(_QUALITY[np.abs(_TABLES - np.asarray(table, np.float64)).sum(1).argmin()])


def _of_picture(path: Path) -> dict[str, Value]:
    with path.open("rb") as file:
        image = opened_picture(file)
        if image is None:
            return {"file_format": "TIFF"}
        exif = _exif(image, file)
        values: dict[str, Value] = {
            "file_width": float(image.width),
            "file_height": float(image.height),
            "file_format": str(image.format),
            "file_codec": _codec(image),
            "file_bit_depth": float(_depth(image, file)),
            "file_colour_mode": image.mode,
        }
        tables = getattr(image, "quantization", None)
        if tables:
            values["file_jpeg_quality"] = jpeg_quality(tables[min(tables)])
    values |= _texts(
        {
            "file_manufacturer": exif.get(_MAKE),
            "file_model": exif.get(_MODEL),
            "file_software": exif.get(_SOFTWARE),
        }
    )
    return values | _year([exif.get(_DATE)])


def _exif(image: Image.Image, file: IO[bytes]) -> Mapping[int, Any]:
    """EXIF tags; Pillow decodes a PNG without any, to see whether they are written behind the pixels."""
    if image.format == "PNG" and "exif" not in image.info and not _goes_on_behind_pixels(file):
        return Image.Image.getexif(image)
    return image.getexif()


def _goes_on_behind_pixels(file: IO[bytes]) -> bool:
    """Whether a PNG has anything between its last pixels and its end."""
    place, pixels, more = file.tell(), False, False
    file.seek(8)
    while not more and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        more = pixels and kind not in (b"IDAT", b"IEND")
        pixels |= kind == b"IDAT"
        file.seek(length + 4, 1)
    file.seek(place)
    return more


def _codec(image: Image.Image) -> str:
    """How the pixels are compressed, as far as the header says it."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        sampling = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}.get(JpegImagePlugin.get_sampling(image), "")
        words = ("JPEG", "progressive" if image.info.get("progressive") else "", sampling)
        return " ".join(filter(None, words))
    detail = image.info.get("compression") or ("interlaced" if image.info.get("interlace") else "")
    return " ".join(filter(None, (str(image.format), str(detail))))


def _depth(image: Image.Image, file: Any) -> int:
    if image.format == "PNG":
        file.seek(24)
        return int(file.read(1)[0])
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS, 1)  # type: ignore[attr-defined]
        return int(bits[0] if isinstance(bits, tuple) else bits)
    return {"1": 1, "I": 32, "F": 32}.get(image.mode, 16 if image.mode.startswith("I;16") else 8)


def _of_dicom(path: Path) -> dict[str, Value]:
    header = dicom_header(path)
    numbers = {column: _number(header.get(element)) for column, element in _NUMBERS.items()}
    spacing = next(filter(None, (header.get(element) for element in _SPACINGS)), [None])
    numbers["file_pixel_spacing"] = _number(spacing[0])
    words = {column: header.get(element) for column, element in _WORDS.items()}
    codec = getattr(header.file_meta.TransferSyntaxUID, "name", None)
    return {
        "file_format": "DICOM",
        **{column: value for column, value in numbers.items() if value is not None},
        **_texts({**words, "file_codec": codec}),
        **_year([header.get(element) for element in _DATES]),
    }


def _number(value: Any) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        number = float(value)
        return number if np.isfinite(number) else None
    return None


def _texts(values: Mapping[str, Any]) -> dict[str, Value]:
    plain = {name: " ".join(str(value or "").replace("\0", " ").split()) for name, value in values.items()}
    return {name: text[:_LONGEST] for name, text in plain.items() if text}


def _year(dates: list[Any]) -> dict[str, Value]:
    """The year alone of the first date that there is."""
    years = (_YEAR.match(str(date or "").strip()) for date in dates)
    return next(({"file_year": float(year[0])} for year in years if year), {})
