"""XML of "CVAT for images 1.1"."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from shortcutscope.annotate.export.collect import Returned, collect
from shortcutscope.annotate.export.layout import provenance_of, require_kinds, story
from shortcutscope.annotate.export.polygons import fill
from shortcutscope.annotate.mask_files import Mask, describe
from shortcutscope.annotate.maskset import MaskSet
from shortcutscope.errors import InputError
from shortcutscope.rundir import to_json, write_atomically

_SHAPES = ("mask", "polygon", "box")
_FEWEST_CORNERS = 3


def export_cvat(masks: MaskSet, path: str | Path) -> Path:
    """Write an XML file that CVAT takes under *Upload annotations*, "CVAT 1.1".

    Each image has its mask as run lengths within its box; an empty mask is an image without shapes. The
    label has a text attribute ``confidence``. Provenance stands in the head, which CVAT does not keep.

    Raises
    ------
    InputError
        For masks that are not of images.
    """
    require_kinds(masks, "CVAT", ["image"])
    root = ElementTree.Element("annotations")
    _text(root, "version", "1.1")
    _head(ElementTree.SubElement(root, "meta"), masks)
    for number, entry in enumerate(masks.entries):
        mask = masks.mask(entry.sample_id)
        height, width = mask.shape
        image = ElementTree.SubElement(
            root,
            "image",
            {"id": str(number), "name": entry.image, "width": str(width), "height": str(height)},
        )
        box = describe(mask)["box"]
        if box is None:
            continue
        (top, left), (rows, columns) = box
        inside = mask[top : top + rows, left : left + columns]
        shape = ElementTree.SubElement(
            image,
            "mask",
            {
                "label": masks.name,
                "source": "auto",
                "occluded": "0",
                "rle": ", ".join(map(str, run_lengths(inside))),
                "left": str(left),
                "top": str(top),
                "width": str(columns),
                "height": str(rows),
                "z_order": "0",
            },
        )
        told = "" if entry.confidence is None else f"{entry.confidence:.4f}"
        _text(shape, "attribute", told).set("name", "confidence")
        image.append(ElementTree.Comment(story(masks, entry).replace("--", "- -")))
    ElementTree.indent(root)
    file = Path(path)
    written = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    write_atomically(file, lambda stream: stream.write(written))
    return file


def _head(meta: ElementTree.Element, masks: MaskSet) -> None:
    task = ElementTree.SubElement(meta, "task")
    _text(task, "name", masks.name)
    _text(task, "size", str(len(masks)))
    _text(task, "mode", "annotation")
    label = ElementTree.SubElement(ElementTree.SubElement(task, "labels"), "label")
    _text(label, "name", masks.name)
    _text(label, "type", "mask")
    attribute = ElementTree.SubElement(ElementTree.SubElement(label, "attributes"), "attribute")
    for key, value in (
        ("name", "confidence"),
        ("mutable", "False"),
        ("input_type", "text"),
        ("default_value", ""),
        ("values", ""),
    ):
        _text(attribute, key, value)
    _text(meta, "shortcutscope", json.dumps(to_json(provenance_of(masks))))


def _text(parent: ElementTree.Element, tag: str, text: str) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag)
    child.text = text
    return child


def run_lengths(mask: Mask) -> list[int]:
    """Lengths of the runs of a mask row by row, the first of them outside (0 where it starts inside)."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths: list[int] = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def from_run_lengths(lengths: Sequence[int], size: tuple[int, int]) -> Mask:
    """The mask of run lengths; ValueError when they do not cover its size."""
    if min(lengths, default=0) < 0 or sum(lengths) != size[0] * size[1]:
        raise ValueError(f"run lengths cover {sum(lengths)} pixels, the box has {size[0] * size[1]}")
    values: npt.NDArray[np.bool_] = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(size)


def import_cvat(
    path: str | Path, out: str | Path, *, like: MaskSet | None = None, name: str | None = None
) -> MaskSet:
    """Read an XML file of "CVAT for images 1.1" into a set in the folder `out`.

    Masks, polygons and boxes of the label are joined; an image without any has an empty mask.

    Parameters
    ----------
    path, out, like
        As in :func:`shortcutscope.annotate.export.png.import_png`.
    name
        The label to take; None for that of `like`, or the only one that is used.

    Raises
    ------
    InputError
        For a broken file, a label that no shape has, or what `collect` refuses.
    """
    path = Path(path)
    root = _parsed(path)
    images = list(root.iter("image"))
    labels = {str(shape.get("label")) for image in images for shape in image if shape.tag in _SHAPES}
    label = name or (like.name if like else None) or _only(labels, path)
    if labels and label not in labels:
        raise InputError(f"{path} has no shapes of the label {label!r}; it has {', '.join(sorted(labels))}")

    def returned() -> Iterator[Returned]:
        for image in images:
            file_name = str(image.get("name", ""))
            try:
                yield Returned(file_name, _joined(image, label))
            except (KeyError, ValueError, TypeError, IndexError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"the shapes of {file_name!r} in {path} cannot be read: {error}") from error

    return collect(
        returned(),
        out,
        source=path,
        format="cvat",
        like=like,
        name=label,
        provenance=_provenance(root),
    )


def _parsed(path: Path) -> ElementTree.Element:
    try:
        text = path.read_text(encoding="utf-8")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities can be made to fill the memory
            raise InputError(f"{path} declares a document type, which a CVAT export does not; it is not read")
        return ElementTree.fromstring(text)
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise InputError(f"{path} is no CVAT export: {error}") from error


def _only(labels: set[str], path: Path) -> str:
    if len(labels) != 1:
        raise InputError(f"{path} has the labels {sorted(labels)}; say which with name=")
    return next(iter(labels))


def _provenance(root: ElementTree.Element) -> dict[str, object] | None:
    try:
        told = json.loads(root.findtext("meta/shortcutscope") or "null")
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _joined(image: ElementTree.Element, label: str) -> Mask:
    size = (int(image.attrib["height"]), int(image.attrib["width"]))
    mask = np.zeros(size, dtype=np.bool_)
    for shape in image:
        if shape.tag not in _SHAPES or shape.get("label") != label:
            continue
        told = shape.attrib
        if shape.tag == "mask":
            box = tuple(int(told[key]) for key in ("top", "left", "height", "width"))
            top, left, rows, columns = box
            if min(top, left) < 0 or top + rows > size[0] or left + columns > size[1]:
                raise ValueError(f"a mask lies outside the image: {box} on {size}")
            inside = from_run_lengths([int(run) for run in told["rle"].split(",")], (rows, columns))
            mask[top : top + rows, left : left + columns] |= inside
        elif shape.tag == "polygon":
            corners = [[float(value) for value in point.split(",")] for point in told["points"].split(";")]
            if len(corners) < _FEWEST_CORNERS or any(len(point) != 2 for point in corners):
                raise ValueError("a polygon needs three corners of x and y")
            mask |= fill([corners], size)
        else:
            x1, y1, x2, y2 = (float(told[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
            mask |= fill([[(x1, y1), (x2, y1), (x2, y2), (x1, y2)]], size)
    return mask
