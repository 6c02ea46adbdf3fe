"""LabelMe's JSON, one file an image."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from shortcutscope.annotate.export.collect import Returned, collect
from shortcutscope.annotate.export.layout import as_given, file_names, provenance_of, require_kinds
from shortcutscope.annotate.export.polygons import fill
from shortcutscope.annotate.mask_files import Mask, MaskEntry, describe
from shortcutscope.annotate.maskset import MaskSet
from shortcutscope.errors import InputError
from shortcutscope.rundir import to_json, write_json

#: Of the format: the first series that has masks beside polygons.
VERSION = "5.2.1"
_CIRCLE_CORNERS = 256


def export_labelme(masks: MaskSet, path: str | Path) -> Path:
    """Write one JSON file an image, to be laid beside the images.

    The mask is a shape of type ``mask``, cut out to its box, as a PNG in base 64; an empty mask is a file
    without shapes. Provenance stands under ``shortcutscope``, which LabelMe keeps.

    Raises
    ------
    InputError
        For masks that are not of images.
    """
    require_kinds(masks, "LabelMe", ["image"])
    folder, names = Path(path), file_names(masks, ".json")
    for entry in masks.entries:
        mask = masks.mask(entry.sample_id)
        height, width = mask.shape
        told = as_given(masks, entry, mask).to_dict()
        content = {
            "version": VERSION,
            "flags": {},
            "shapes": [] if entry.empty else [_shape(mask, masks.name)],
            "imagePath": PurePosixPath(entry.image.replace("\\", "/")).name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
            "shortcutscope": {
                "finding": masks.name,
                "provenance": to_json(provenance_of(masks)),
                "mask": told,
            },
        }
        write_json(folder / names[entry.sample_id], content)
    return folder


def _shape(mask: Mask, label: str) -> dict[str, Any]:
    (top, left), (rows, columns) = describe(mask)["box"]
    inside = mask[top : top + rows, left : left + columns]
    buffer = io.BytesIO()
    Image.fromarray(inside.astype(np.uint8)).save(buffer, "PNG")
    return {
        "label": label,
        # The last row and column are inside.
        "points": [[float(left), float(top)], [float(left + columns - 1), float(top + rows - 1)]],
        "group_id": None,
        "description": "",
        "shape_type": "mask",
        "flags": {},
        "mask": base64.b64encode(buffer.getvalue()).decode(),
    }


def import_labelme(
    path: str | Path, out: str | Path, *, like: MaskSet | None = None, name: str | None = None
) -> MaskSet:
    """Read a folder of LabelMe's files into a set in the folder `out`.

    Masks, polygons, rectangles and circles of the label are joined.

    Parameters
    ----------
    path, out, like
        As in :func:`shortcutscope.annotate.export.png.import_png`.
    name
        The label to take; None for that of `like`, or what the files tell, or the only one.

    Raises
    ------
    InputError
        For broken files, lines and points, which have no area, or what `collect` refuses.
    """
    folder = Path(path)
    files = sorted(folder.rglob("*.json")) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder} is no folder with JSON files of LabelMe")
    first = _parsed(files[0]).get("shortcutscope") or {}
    label = name or (like.name if like else None) or first.get("finding") or _only_label(files, folder)

    def returned() -> Iterator[Returned]:
        for file in files:
            told = _parsed(file)
            try:
                mask = _joined(told, str(label))
            except (KeyError, ValueError, TypeError, IndexError, OSError) as error:
                raise InputError(f"the shapes in {file} cannot be read: {error}") from error
            base = _base(told)
            place = file.relative_to(folder).parent / str(told.get("imagePath") or file.stem)
            yield Returned(base.sample_id if base else place.as_posix(), mask, base)

    return collect(
        returned(),
        out,
        source=folder,
        format="labelme",
        like=like,
        name=str(label),
        provenance=first.get("provenance"),
    )


def _parsed(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is no JSON file of LabelMe: {error}") from error
    if not isinstance(told, dict) or not isinstance(told.get("shapes"), list):
        raise InputError(f"{file} is no JSON file of LabelMe: it has no list of shapes")
    return told


def _only_label(files: list[Path], folder: Path) -> str:
    labels = {str(shape.get("label")) for file in files for shape in _parsed(file)["shapes"]}
    if len(labels) != 1:
        raise InputError(f"{folder} has the labels {sorted(labels)}; say which with name=")
    return labels.pop()


def _joined(told: Mapping[str, Any], label: str) -> Mask:
    size = (int(told["imageHeight"]), int(told["imageWidth"]))
    mask = np.zeros(size, dtype=np.bool_)
    for shape in told["shapes"]:
        if shape["label"] == label:
            mask |= _filled(shape, size)
    return mask


def _filled(shape: Mapping[str, Any], size: tuple[int, int]) -> Mask:
    kind, points = shape.get("shape_type", "polygon"), np.asarray(shape["points"], dtype=np.float64)
    if kind == "mask":
        left, top = points[0].round().astype(int)
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as picture:
            inside = np.asarray(picture.convert("L")) > 0
        rows, columns = inside.shape
        if min(left, top) < 0 or top + rows > size[0] or left + columns > size[1]:
            raise ValueError(f"a mask lies outside the image: {rows} x {columns} at {left}, {top}")
        mask = np.zeros(size, dtype=np.bool_)
        mask[top : top + rows, left : left + columns] = inside
        return mask
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points
        points = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    elif kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        turn = np.linspace(0, 2 * np.pi, _CIRCLE_CORNERS, endpoint=False)
        points = points[0] + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    elif kind != "polygon":
        raise ValueError(f"a shape of type {kind!r} has no area; draw a polygon or a mask")
    return fill([points], size)


def _base(told: Mapping[str, Any]) -> MaskEntry | None:
    try:
        return MaskEntry.from_dict(told["shortcutscope"]["mask"])
    except (InputError, KeyError, TypeError):
        return None
