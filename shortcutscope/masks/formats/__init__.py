"""Masks for other tools, and back from them after a person edited them: one file a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from shortcutscope.data.samples import SampleTable
from shortcutscope.registry import Entry, Registry


class ExportOptions(TypedDict, total=False):
    """Options of the formats; a format takes its own."""

    polygons: bool
    tolerance: float
    sources: Mapping[str, str | Path] | SampleTable | None
    rate: float | None
    leads: Sequence[str] | None


@dataclass(frozen=True)
class MaskFormat:
    """How masks are written for another tool, and read back.

    Attributes
    ----------
    write
        Called with a `MaskSet`, the path and the format's options; gives the path.
    read
        Called with what was written, the folder of the new set, and the format's options; gives a `MaskSet`.
    """

    write: Callable[..., Path]
    read: Callable[..., Any]


_HERE = "shortcutscope.masks.formats"

#: Formats by name.
FORMATS = Registry[MaskFormat](
    "format",
    "shortcutscope.mask_formats",
    {
        "png": Entry(f"{_HERE}.png:FORMAT", "a folder of PNG files, named as the images"),
        "coco": Entry(f"{_HERE}.coco:FORMAT", "COCO's JSON", "masks"),
        "cvat": Entry(f"{_HERE}.cvat:FORMAT", 'XML of "CVAT for images 1.1"'),
        "labelme": Entry(f"{_HERE}.labelme:FORMAT", "LabelMe's JSON, a file an image"),
        "fiftyone": Entry(f"{_HERE}.fiftyone:FORMAT", "a folder as FiftyOne imports it"),
        "nifti": Entry(f"{_HERE}.nifti:FORMAT", "a NIfTI file a mask", "medical"),
        "dicom-seg": Entry(f"{_HERE}.dicom_seg:FORMAT", "DICOM Segmentation objects", "medical"),
        "npz": Entry(f"{_HERE}.npz:FORMAT", "one file with an array a sample"),
        "csv": Entry(f"{_HERE}.intervals:FORMAT", "the masked intervals of signals' leads"),
    },
)
