"""XML of "CVAT for images 1.1"."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import to_json, write_atomically
from shortcutscope.masks.formats import MaskFormat
from shortcutscope.masks.formats.collect import Returned, collect
from shortcutscope.masks.formats.layout import provenance_of, require_kinds, story
from shortcutscope.masks.formats.shapes import (
    check_label,
    ellipse,
    from_run_lengths,
    polygon,
    rectangle,
    united,
)
from shortcutscope.masks.mask_files import Mask, describe
from shortcutscope.masks.maskset import MaskSet

_TAG = "tag"  # says something of the whole image


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
        confidence = "" if entry.confidence is None else f"{entry.confidence:.4f}"
        _text(shape, "attribute", confidence).set("name", "confidence")
        image.append(ElementTree.Comment(story(masks, entry).replace("--", "- -")))
    ElementTree.indent(root)
    file = Path(path)
    document = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    write_atomically(file, lambda stream: stream.write(document))
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


def import_cvat(
    path: str | Path,
    out: str | Path,
    *,
    like: MaskSet | None = None,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> MaskSet:
    """Read an XML file of "CVAT for images 1.1" into a set in the folder `out`.

    Masks, polygons, boxes and ellipses of the label are joined, turned ones as they are turned; an image
    without any has an empty mask. Lines, points, cuboids and skeletons have no area and are refused.

    Parameters
    ----------
    path, out, like
        As in :func:`shortcutscope.masks.formats.png.import_png`.
    name
        The label to take; None for that of `like`, or the only one that is used.
    max_pixels
        Most pixels that the file may say an image has.

    Raises
    ------
    InputError
        For a broken file, a label that no shape has, or what `collect` refuses.
    """
    path = Path(path)
    root = _parsed(path)
    images = list(root.iter("image"))
    if not images and root.find("track") is not None:
        raise InputError(f'{path} is of "CVAT for video"; export it as "CVAT for images 1.1"')
    label = _label(images, name or (like.name if like else None), path)

    def returned() -> Iterator[Returned]:
        for image in images:
            file_name = str(image.get("name", ""))
            try:
                mask = _joined(image, label, max_pixels)
            except (KeyError, ValueError, TypeError, OverflowError) as error:
                raise InputError(f"the shapes of {file_name!r} in {path} cannot be read: {error}") from error
            yield Returned(file_name, mask)

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
    with intact(path, "a CVAT export", "export it again"):
        text = path.read_text(encoding="utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities can be made to fill the memory
            raise InputError(f"{path} declares a document type, which a CVAT export does not; it is not read")
        return ElementTree.fromstring(text)


def _label(images: Sequence[ElementTree.Element], name: str | None, path: Path) -> str:
    """The label to take: the one asked for, or the only one."""
    labels = {
        str(shape.get("label"))
        for image in images
        for shape in image
        if shape.tag != _TAG and shape.get("label") is not None
    }
    label = name or _only(labels, path)
    try:
        check_label(label, labels, str(path))
    except ValueError as error:
        raise InputError(str(error)) from error
    return label


def _only(labels: set[str], path: Path) -> str:
    if len(labels) != 1:
        raise InputError(f"{path} has the labels {sorted(labels)}; say which with name=")
    return next(iter(labels))


def _provenance(root: ElementTree.Element) -> dict[str, object] | None:
    try:
        provenance = json.loads(root.findtext("meta/shortcutscope") or "null")
    except ValueError:
        return None
    return provenance if isinstance(provenance, dict) else None


def _joined(image: ElementTree.Element, label: str, max_pixels: int) -> Mask:
    rows, columns = check_size((int(image.attrib["height"]), int(image.attrib["width"])), max_pixels)
    shapes = (shape for shape in image if shape.get("label") == label and shape.tag != _TAG)
    return united(
        ((f"the {shape.tag}", _filled(shape, (rows, columns))) for shape in shapes), (rows, columns)
    )


def _filled(shape: ElementTree.Element, size: tuple[int, int]) -> Mask:
    """The pixels of a shape.

    Raises
    ------
    ValueError
        For lines, points and what else has no area.
    """
    attributes = shape.attrib
    degrees = float(attributes.get("rotation", 0))
    if shape.tag == "mask":
        top, left, rows, columns = (int(attributes[key]) for key in ("top", "left", "height", "width"))
        if min(top, left) < 0 or min(rows, columns) < 1 or top + rows > size[0] or left + columns > size[1]:
            raise ValueError(f"a mask lies outside the image: {(top, left, rows, columns)} on {size}")
        mask = np.zeros(size, dtype=np.bool_)
        inside = from_run_lengths([int(run) for run in attributes["rle"].split(",")], (rows, columns))
        mask[top : top + rows, left : left + columns] = inside
        return mask
    if shape.tag == "polygon":
        points = [[float(value) for value in point.split(",")] for point in attributes["points"].split(";")]
        if any(len(point) != 2 for point in points):
            raise ValueError("a polygon has points that are not x and y")
        return polygon(points, size)
    if shape.tag == "box":
        x1, y1, x2, y2 = (float(attributes[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        return rectangle((x1, y1), (x2, y2), size, degrees)
    if shape.tag == "ellipse":
        x, y, across, down = (float(attributes[key]) for key in ("cx", "cy", "rx", "ry"))
        return ellipse((x, y), (across, down), size, degrees)
    raise ValueError(f"a {shape.tag} of the label has no area; draw a polygon, an ellipse, a box or a mask")


FORMAT = MaskFormat(export_cvat, import_cvat)
