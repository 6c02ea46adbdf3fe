"""The columns that are measured, by name, and where each comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

#: Where a measured column comes from: the file's own header, or its pixels.
Source = Literal["file", "picture"]

#: What a file says of itself; ``"none"`` where one is silent and others are not.
OF_FILES: Mapping[str, str] = {
    "file_width": "pixels from left to right, as stored",
    "file_height": "pixels from top to bottom, as stored",
    "file_aspect": "width by height",
    "file_bytes": "size of the file",
    "file_bytes_per_pixel": "size of the file by its pixels: how strongly it is compressed",
    "file_format": "JPEG, PNG, DICOM and so on",
    "file_codec": "how the pixels are compressed",
    "file_jpeg_quality": "1 to 100, estimated from the quantisation table",
    "file_bit_depth": "bits of a value",
    "file_colour_mode": "grey, colours, palette",
    "file_modality": "DICOM: CR, DX, MR and so on",
    "file_manufacturer": "of the device (DICOM, EXIF)",
    "file_model": "of the device (DICOM, EXIF)",
    "file_software": "that wrote the file (EXIF)",
    "file_site": "institution (DICOM)",
    "file_view": "view position (DICOM)",
    "file_kvp": "peak kilovoltage (DICOM)",
    "file_pixel_spacing": "millimetres between rows (DICOM)",
    "file_burned_in": "burnt-in annotation (DICOM)",
    "file_year": "in which the image was taken (DICOM, EXIF); no other part of a date is read",
}

#: Those that are words.
WORDS = (
    *("file_format", "file_codec", "file_colour_mode", "file_modality", "file_manufacturer", "file_model"),
    *("file_software", "file_site", "file_view", "file_burned_in"),
)

#: Those of a file that depend on what the picture shows, since what is busy compresses worse.
OF_BOTH = ("file_bytes", "file_bytes_per_pixel")

#: What a picture is like, in units of the table's value range.
OF_PICTURES: Mapping[str, str] = {
    "picture_border": "share of the picture that is a constant rim",
    "picture_mean_grey": "mean grey value inside the rim",
    "picture_contrast": "standard deviation of the grey values inside the rim",
    "picture_sharpness": "variance of the Laplacian by that of the grey values",
    "picture_noise": "standard deviation of the noise (Immerkaer 1996)",
    "picture_saturation": "mean saturation of the colours",
    "picture_warmth": "mean of red less that of blue",
}


def measured_source(column: str) -> Source | None:
    """Where a column was measured, by its name; None of any other column.

    The size of a file counts as a property of its picture, on which it depends as much as on the codec.

    Examples
    --------
    >>> measured_source("file_jpeg_quality"), measured_source("picture_noise"), measured_source("sex")
    ('file', 'picture', None)
    """
    if column in OF_PICTURES or column in OF_BOTH:
        return "picture"
    return "file" if column in OF_FILES else None
