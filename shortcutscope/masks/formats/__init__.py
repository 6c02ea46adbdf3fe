"""Masks for other tools, and back from them after a person edited them: one file a format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shortcutscope.errors import InputError
from shortcutscope.masks.formats.coco import export_coco, import_coco
from shortcutscope.masks.formats.cvat import export_cvat, import_cvat
from shortcutscope.masks.formats.dicom_seg import export_dicom_seg, import_dicom_seg
from shortcutscope.masks.formats.intervals import export_csv, import_csv
from shortcutscope.masks.formats.labelme import export_labelme, import_labelme
from shortcutscope.masks.formats.nifti import export_nifti, import_nifti
from shortcutscope.masks.formats.npz import export_npz, import_npz
from shortcutscope.masks.formats.png import export_png, import_png
from shortcutscope.masks.maskset import MaskSet

__all__ = [
    "FORMATS",
    "export_coco",
    "export_csv",
    "export_cvat",
    "export_dicom_seg",
    "export_labelme",
    "export_nifti",
    "export_npz",
    "export_png",
    "exporter",
    "import_coco",
    "import_csv",
    "import_cvat",
    "import_dicom_seg",
    "import_labelme",
    "import_nifti",
    "import_npz",
    "import_png",
    "importer",
]

#: Name of a format to the functions that write and read it.
FORMATS: dict[str, tuple[Callable[..., Path], Callable[..., MaskSet]]] = {
    "png": (export_png, import_png),
    "coco": (export_coco, import_coco),
    "cvat": (export_cvat, import_cvat),
    "labelme": (export_labelme, import_labelme),
    "nifti": (export_nifti, import_nifti),
    "dicom-seg": (export_dicom_seg, import_dicom_seg),
    "npz": (export_npz, import_npz),
    "csv": (export_csv, import_csv),
}


def exporter(name: str) -> Callable[..., Path]:
    """Function that writes a format; InputError for an unknown name."""
    return _format(name)[0]


def importer(name: str) -> Callable[..., MaskSet]:
    """Function that reads a format; InputError for an unknown name."""
    return _format(name)[1]


def _format(name: str) -> tuple[Callable[..., Path], Callable[..., MaskSet]]:
    if name not in FORMATS:
        raise InputError(f"there is no format {name!r}; allowed are {', '.join(FORMATS)}")
    return FORMATS[name]
