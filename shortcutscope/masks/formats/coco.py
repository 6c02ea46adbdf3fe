"""COCO's JSON: run-length encoded masks or polygons, by pycocotools."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.extras import require
from shortcutscope.files import write_json
from shortcutscope.masks.formats import MaskFormat
from shortcutscope.masks.formats.collect import Returned, collect
from shortcutscope.masks.formats.layout import as_given, provenance_of, require_kinds
from shortcutscope.masks.formats.polygons import Points, outlines
from shortcutscope.masks.formats.shapes import corners, from_coco_runs, united
from shortcutscope.masks.manifest import coco_header
from shortcutscope.masks.mask_files import Mask, MaskEntry
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.types import JSON, Record

_PURPOSE = "COCO's run-length encoding"


def export_coco(masks: MaskSet, path: str | Path, *, polygons: bool = False, tolerance: float = 0.0) -> Path:
    """Write a COCO file: all images, and one annotation for each mask that is not empty.

    Parameters
    ----------
    masks
        Of images.
    path
        The JSON file.
    polygons
        Polygons instead of run lengths, for tools that edit no others. They run along the edges of pixels
        and give the same pixels in pycocotools; since a polygon has no hole, a part with one is cut up.
        Other tools may rasterize the edge in another way.
    tolerance
        Leave out corners that matter less than so many pixels; then the pixels are no longer the same.

    Raises
    ------
    InputError
        For masks that are not of images, or when pycocotools is missing.
    """
    require_kinds(masks, "COCO", ["image"])
    coder = require("pycocotools.mask", "masks", _PURPOSE)
    images, annotations = [], []
    for number, entry in enumerate(masks.entries, 1):
        mask = masks.mask(entry.sample_id)
        height, width = mask.shape
        images.append({"id": number, **as_given(masks, entry, mask).to_dict()})
        if entry.empty:
            continue
        encoded = coder.encode(np.asfortranarray(mask.astype(np.uint8)))
        if polygons:
            shape: Any = [points.ravel().tolist() for points in outlines(mask, tolerance)]
        else:
            shape = {"size": [height, width], "counts": encoded["counts"].decode()}
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "area": entry.area,
                "bbox": [float(side) for side in coder.toBbox(encoded)],
                "iscrowd": 0,  # crowds are left out of training and scoring
                "segmentation": shape,
                "score": entry.confidence,
            }
        )
    file = Path(path)
    write_json(
        file, {**coco_header(masks.name, provenance_of(masks)), "images": images, "annotations": annotations}
    )
    return file


def import_coco(
    path: str | Path,
    out: str | Path,
    *,
    like: MaskSet | None = None,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> MaskSet:
    """Read a COCO file into a set in the folder `out`.

    Run lengths, compressed or not, polygons, and boxes without either are read; annotations of one image are
    joined. An image without annotations has an empty mask.

    Parameters
    ----------
    path, out, like
        As in :func:`shortcutscope.masks.formats.png.import_png`.
    name
        The category to take; None for that of `like`, or the only one.
    max_pixels
        Most pixels that the file may say an image has.

    Raises
    ------
    InputError
        For a broken file, a category that it lacks, or what `collect` refuses.
    """
    path = Path(path)
    coder = require("pycocotools.mask", "masks", _PURPOSE)
    content = _parsed(path)
    with intact(path, "a COCO file", "export it again"):
        category = _category(content["categories"], name or (like.name if like else None), path)
        by_image = _by_image(content, category, path)
        provenance = dict(content.get("info", {}).get("shortcutscope", {}))

    def returned() -> Iterator[Returned]:
        for image in content["images"]:
            file_name = str(image.get("file_name", image["id"]))
            try:
                rows, columns = check_size((int(image["height"]), int(image["width"])), max_pixels)
                mask = _joined(by_image[image["id"]], (rows, columns), coder)
            except Exception as error:  # pycocotools raises anything on malformed shapes
                raise InputError(f"the masks of {file_name!r} in {path} cannot be read: {error}") from error
            yield Returned(file_name, mask, _base(image))

    return collect(
        returned(),
        out,
        source=path,
        format="coco",
        like=like,
        name=str(category["name"]),
        provenance=provenance,
    )


def _by_image(content: JSON, category: JSON, path: Path) -> dict[Any, list[JSON]]:
    """Image's id to its annotations of a category."""
    by_image: dict[Any, list[JSON]] = {image["id"]: [] for image in content["images"]}
    if len(by_image) != len(content["images"]):
        raise InputError(f"{path} gives several images one id")
    for annotation in content["annotations"]:
        if annotation["category_id"] == category["id"]:
            if annotation["image_id"] not in by_image:
                raise InputError(
                    f"{path} has annotation {annotation.get('id')!r} of the image "
                    f"{annotation['image_id']!r}, which it does not list"
                )
            by_image[annotation["image_id"]].append(annotation)
    return by_image


def _parsed(path: Path) -> Record:
    with intact(path, "a COCO file", "export it again"):
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    keys = ("images", "annotations", "categories")
    missing = [key for key in keys if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise InputError(f"{path} is no COCO file: it lacks {', '.join(missing)}")
    return dict(content)


def _category(categories: list[Record], name: str | None, path: Path) -> Record:
    names = [str(category["name"]) for category in categories]
    if name is None and len(categories) == 1:
        return categories[0]
    if name not in names:
        raise InputError(f"{path} has no category {name!r}; it has {', '.join(names) or 'none'}")
    return categories[names.index(name)]


def _joined(annotations: list[JSON], size: tuple[int, int], coder: Any) -> Mask:
    return united(
        (
            (f"annotation {annotation.get('id')!r}", mask)
            for annotation in annotations
            for mask in _filled(annotation, size, coder)
        ),
        size,
    )


def _filled(annotation: JSON, size: tuple[int, int], coder: Any) -> Iterator[Mask]:
    """Masks of an annotation's polygons, of its run lengths, or of its box where it has neither."""
    shape = annotation.get("segmentation")
    if shape:
        if isinstance(shape, Mapping):
            yield from_coco_runs(shape, size)
        else:
            for points in shape:
                yield _polygon(corners(points, size), size, coder)
    elif annotation.get("keypoints") or annotation.get("bbox") is None:
        raise ValueError(
            f"annotation {annotation.get('id')!r} has no segmentation and no box; draw its outline"
        )
    else:
        left, top, width, height = (float(side) for side in annotation["bbox"])
        around = [left, top, left + width, top, left + width, top + height, left, top + height]
        yield _polygon(corners(around, size), size, coder)


def _polygon(points: Points, size: tuple[int, int], coder: Any) -> Mask:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its arrays, under NumPy 2
        encoded = coder.frPyObjects([points.ravel().tolist()], *size)
        return np.asarray(coder.decode(encoded)[..., 0], dtype=np.bool_)


def _base(image: JSON) -> MaskEntry | None:
    """What this package told of the mask, where the tool kept it."""
    try:
        return MaskEntry.from_dict(image)
    except InputError:
        return None


FORMAT = MaskFormat(export_coco, import_coco)
