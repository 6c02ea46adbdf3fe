"""Marks that were drawn in another tool: its shapes say where an artifact is, and so who carries it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import find_objects, label

from shortcutscope.data.sample_names import SampleNames
from shortcutscope.errors import InputError
from shortcutscope.masks.fiftyone_marks import fiftyone_boxes, has_shapes
from shortcutscope.masks.formats import FORMATS
from shortcutscope.masks.mask_files import Mask
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.retrieval.marks import Marks

#: Elements of a CVAT export that say where.
_SHAPES = ("box", "polygon", "mask", "ellipse")
_TOUCHING = np.ones((3, 3), bool)


def read_drawn_marks(
    path: str | Path,
    sample_ids: Sequence[str],
    *,
    format: str,
    name: str | None = None,
    files: Mapping[str, str] | None = None,
) -> Marks:
    """Read boxes, polygons and masks of another tool as marks with places.

    Every image with a shape is marked as a carrier. An image without one stays unmarked, since the file does
    not say whether a person looked at it. Shapes that touch are one place: the box around them.

    Parameters
    ----------
    path
        The file, or of LabelMe the folder.
    sample_ids
        Of the samples that can be marked.
    format
        ``"coco"``, ``"cvat"``, ``"labelme"`` or ``"fiftyone"`` (``samples.json``).
    name
        The category or label to take; None for the only one.
    files
        Sample id to the name of its image's file, where it is known.

    Raises
    ------
    InputError
        For a file that cannot be read, images that are no samples, and a file without shapes.

    Examples
    --------
    >>> marks = ss.read_drawn_marks("boxes.json", sample_ids, format="coco")  # doctest: +SKIP
    """
    if format not in ("coco", "cvat", "labelme", "fiftyone"):
        raise InputError(f'format={format!r}; marks are read from "coco", "cvat", "labelme" and "fiftyone"')
    match = SampleNames(sample_ids, files=files)
    if format == "fiftyone":
        boxes = {match(image): several for image, several in fiftyone_boxes(Path(path), name).items()}
        return Marks.of(list(boxes), boxes=boxes)
    with tempfile.TemporaryDirectory() as folder:
        masks: MaskSet = FORMATS[format].read(path, Path(folder) / "masks", name=name)
        boxes = {
            match(entry.image): boxes_of_mask(masks.mask(entry.sample_id))
            for entry in masks.entries
            if not entry.empty
        }
    if not boxes:
        raise InputError(
            f"{path} has no shape in any image; draw a box around what is looked for in about ten images"
        )
    return Marks.of(list(boxes), boxes=boxes)


def drawing_format(path: Path) -> str | None:
    """The format of a file of shapes, by what it holds; None for tables, tags and what cannot be read."""
    if path.is_dir():
        return "labelme"
    kind = path.suffix.lower()
    if kind not in (".json", ".xml") or not path.is_file():
        return None
    try:
        if kind == ".json":
            content = json.loads(path.read_text(encoding="utf-8-sig"))
            if has_shapes(content):
                return "fiftyone"
            return "coco" if isinstance(content, dict) and "annotations" in content else None
        text = path.read_text(encoding="utf-8-sig")
    except ValueError:
        return None
    return "cvat" if any(f"<{shape} " in text for shape in _SHAPES) else None


def boxes_of_mask(mask: Mask) -> list[tuple[float, float, float, float]]:
    """Boxes (x0, y0, x1, y1) around the connected parts of a mask ``(H, W)``."""
    parts, _ = label(mask, _TOUCHING)
    return [
        (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
        for rows, columns in filter(None, find_objects(parts))
    ]
