"""LabelMe's JSON, one file an image."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from shortcutscope.data.readers.picture_files import opened_picture
from shortcutscope.data.readers.pillow import from_pillow
from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import to_json, write_json
from shortcutscope.masks.formats import MaskFormat
from shortcutscope.masks.formats.collect import Returned, collect
from shortcutscope.masks.formats.layout import as_given, file_names, provenance_of, require_kinds
from shortcutscope.masks.formats.shapes import check_label, corners, ellipse, polygon, rectangle, united
from shortcutscope.masks.formats.staging import staged
from shortcutscope.masks.mask_files import Mask, MaskEntry, describe
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.types import JSON, Record

#: Of the format: the first series that has masks beside polygons.
VERSION = "5.2.1"


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
    names = file_names(masks, ".json")
    with staged(Path(path)) as folder:
        for entry in masks.entries:
            mask = masks.mask(entry.sample_id)
            height, width = mask.shape
            record = as_given(masks, entry, mask).to_dict()
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
                    "mask": record,
                },
            }
            write_json(folder / names[entry.sample_id], content)
    return Path(path)


def _shape(mask: Mask, label: str) -> Record:
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
    path: str | Path,
    out: str | Path,
    *,
    like: MaskSet | None = None,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> MaskSet:
    """Read a folder of LabelMe's files into a set in the folder `out`.

    Masks, polygons, rectangles and circles of the label are joined.

    Parameters
    ----------
    path, out, like
        As in :func:`shortcutscope.masks.formats.png.import_png`.
    name
        The label to take; None for that of `like`, or what the files tell, or the only one.
    max_pixels
        Most pixels that a file may say an image has.

    Raises
    ------
    InputError
        For broken files, lines and points, which have no area, a label in several spellings, or what
        `collect` refuses.
    """
    folder = Path(path)
    files = sorted(folder.rglob("*.json")) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder} is no folder with JSON files of LabelMe")
    first = _parsed(files[0]).get("shortcutscope")
    first = first if isinstance(first, dict) else {}
    labels = _labels(files)
    label = str(name or (like.name if like else None) or first.get("finding") or _only_label(labels, folder))
    try:
        check_label(label, labels, str(folder))
    except ValueError as error:
        raise InputError(str(error)) from error

    def returned() -> Iterator[Returned]:
        for file in files:
            content = _parsed(file)
            try:
                mask = _joined(content, label, max_pixels)
            except Exception as error:  # of pictures in base 64, decoders raise anything
                raise InputError(f"the shapes in {file} cannot be read: {error}") from error
            base = _base(content)
            place = file.relative_to(folder).parent / str(content.get("imagePath") or file.stem)
            yield Returned(base.sample_id if base else place.as_posix(), mask, base)

    return collect(
        returned(),
        out,
        source=folder,
        format="labelme",
        like=like,
        name=label,
        provenance=first.get("provenance"),
    )


def _parsed(file: Path) -> Record:
    with intact(file, "a JSON file of LabelMe", "save it again, or take it out of the folder"):
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise InputError(f"{file} is no JSON file of LabelMe: it has no list of shapes")
    return dict(content)


def _labels(files: list[Path]) -> set[str]:
    return {str(shape.get("label")) for file in files for shape in _parsed(file)["shapes"]}


def _only_label(labels: set[str], folder: Path) -> str:
    if len(labels) != 1:
        raise InputError(f"{folder} has the labels {sorted(labels)}; say which with name=")
    return next(iter(labels))


def _joined(content: JSON, label: str, max_pixels: int) -> Mask:
    rows, columns = check_size((int(content["imageHeight"]), int(content["imageWidth"])), max_pixels)
    shapes = [shape for shape in content["shapes"] if shape.get("label") == label]
    return united(
        ((f"a {shape.get('shape_type', 'polygon')}", _filled(shape, (rows, columns))) for shape in shapes),
        (rows, columns),
    )


def _filled(shape: JSON, size: tuple[int, int]) -> Mask:
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind == "mask":
        left, top = corners(points, size, 1)[0].round().astype(int)
        picture = opened_picture(io.BytesIO(base64.b64decode(shape["mask"])), size[0] * size[1])
        inside = from_pillow(picture) > 0 if picture is not None else np.zeros((0, 0), np.bool_)
        rows, columns = inside.shape[-2:]
        if inside.ndim != 2 or min(left, top) < 0 or top + rows > size[0] or left + columns > size[1]:
            raise ValueError(f"a mask lies outside the image: {rows} x {columns} at {left}, {top}")
        mask = np.zeros(size, dtype=np.bool_)
        mask[top : top + rows, left : left + columns] = inside
        return mask
    if kind == "rectangle" and len(points) == 2:
        return rectangle(points[0], points[1], size)
    if kind == "circle":
        middle, edge = corners(points, size, 2)[:2]
        radius = float(np.hypot(*(edge - middle)))
        return ellipse((middle[0], middle[1]), (radius, radius), size)
    if kind in ("polygon", "rectangle", "oriented_rectangle"):  # of LabelMe 6, with four corners
        return polygon(points, size)
    raise ValueError(f"a shape of type {kind!r} has no area; draw a polygon or a mask")


def _base(content: JSON) -> MaskEntry | None:
    try:
        return MaskEntry.from_dict(content["shortcutscope"]["mask"])
    except (InputError, KeyError, TypeError):
        return None


FORMAT = MaskFormat(export_labelme, import_labelme)
