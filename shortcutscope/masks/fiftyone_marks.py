"""Boxes and polylines of a FiftyOne dataset export (``samples.json``), in pixels of the images' files.

FiftyOne keeps them as shares of the image's width and height, so that the sizes must have been exported, too.
"""

from __future__ import annotations

import json
from pathlib import Path

from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.types import JSON

#: A box (x0, y0, x1, y1).
Box = tuple[float, float, float, float]


def has_shapes(content: object) -> bool:
    """Whether a JSON file's content is a FiftyOne export in which anything is drawn."""
    samples = content.get("samples") if isinstance(content, dict) else None
    return isinstance(samples, list) and any(_shapes(s) for s in samples if isinstance(s, dict))


def fiftyone_boxes(path: Path, name: str | None) -> dict[str, list[Box]]:
    """File of each image with a shape to the boxes around its shapes.

    Parameters
    ----------
    path
        ``samples.json``.
    name
        The label to take; None for the only one.

    Raises
    ------
    InputError
        For several labels of which none is named, a name that is not among them, and samples without sizes.
    """
    with intact(path, "a FiftyOne export, which has a list 'samples'", "export it again"):
        samples = [s for s in json.loads(path.read_text(encoding="utf-8-sig"))["samples"] if _shapes(s)]
        labels = sorted({str(shape.get("label", "")) for s in samples for shape in _shapes(s)})
        if name is None and len(labels) > 1:
            raise InputError(f"{path} has shapes of {', '.join(labels)}; name one of them")
        if name is not None and name not in labels:
            raise InputError(f"{path} has no shape of {name!r}; there are {', '.join(labels) or 'none'}")
        boxes = {}
        for sample in samples:
            shapes = [s for s in _shapes(sample) if name in (None, str(s.get("label", "")))]
            if shapes:
                width, height = _size(sample, path)
                boxes[str(sample["filepath"])] = [
                    (x0 * width, y0 * height, x1 * width, y1 * height)
                    for x0, y0, x1, y1 in map(_share, shapes)
                ]
    return boxes


def _shapes(sample: JSON) -> list[JSON]:
    """Detections and polylines of any field."""
    fields = [field for field in sample.values() if isinstance(field, dict)]
    return [
        s for field in fields for s in [*(field.get("detections") or []), *(field.get("polylines") or [])]
    ]


def _share(shape: JSON) -> Box:
    if "bounding_box" in shape:
        x, y, width, height = map(float, shape["bounding_box"])
        return x, y, x + width, y + height
    points = [point for line in shape["points"] for point in line]
    across, down = [float(x) for x, _ in points], [float(y) for _, y in points]
    return min(across), min(down), max(across), max(down)


def _size(sample: JSON, path: Path) -> tuple[float, float]:
    metadata = sample.get("metadata") or {}
    if not metadata.get("width") or not metadata.get("height"):
        raise InputError(
            f"{path} does not say how large {sample['filepath']!r} is, and its boxes are shares of that: "
            "call dataset.compute_metadata() and export again"
        )
    return float(metadata["width"]), float(metadata["height"])
