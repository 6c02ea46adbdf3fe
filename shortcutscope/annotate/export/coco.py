"""COCO's JSON: run-length encoded masks or polygons, by pycocotools."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shortcutscope.annotate.export.collect import Returned, collect
from shortcutscope.annotate.export.layout import as_given, provenance_of, require_kinds
from shortcutscope.annotate.export.polygons import outlines
from shortcutscope.annotate.mask_files import Mask, MaskEntry
from shortcutscope.annotate.mask_manifest import coco_header
from shortcutscope.annotate.maskset import MaskSet
from shortcutscope.errors import InputError
from shortcutscope.extras import require
from shortcutscope.rundir import write_json

_PURPOSE = "COCO's run-length encoding"
_FEWEST_NUMBERS = 6


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
) -> MaskSet:
    """Read a COCO file into a set in the folder `out`.

    Run lengths, compressed or not, and polygons are read; annotations of one image are joined. An image
    without annotations has an empty mask.

    Parameters
    ----------
    path, out, like
        As in :func:`shortcutscope.annotate.export.png.import_png`.
    name
        The category to take; None for that of `like`, or the only one.

    Raises
    ------
    InputError
        For a broken file, a category that it lacks, or what `collect` refuses.
    """
    path = Path(path)
    coder = require("pycocotools.mask", "masks", _PURPOSE)
    told = _parsed(path)
    try:
        category = _category(told["categories"], name or (like.name if like else None), path)
        by_image: dict[Any, list[Mapping[str, Any]]] = {image["id"]: [] for image in told["images"]}
        for annotation in told["annotations"]:
            if annotation["category_id"] == category["id"]:
                by_image[annotation["image_id"]].append(annotation)
        provenance = dict(told.get("info", {}).get("shortcutscope", {}))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no COCO file: {error!r} is missing or malformed") from error

    def returned() -> Iterator[Returned]:
        for image in told["images"]:
            file_name = str(image.get("file_name", image["id"]))
            try:
                size = (int(image["height"]), int(image["width"]))
                mask = _joined(by_image[image["id"]], size, coder)
            except Exception as error:  # pycocotools raises anything on malformed shapes
                raise InputError(f"the masks of {file_name!r} in {path} cannot be read: {error!r}") from error
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


def _parsed(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no COCO file: {error}") from error
    missing = [key for key in ("images", "annotations", "categories") if key not in told]
    if not isinstance(told, dict) or missing:
        raise InputError(f"{path} is no COCO file: it lacks {', '.join(missing)}")
    return told


def _category(categories: list[dict[str, Any]], name: str | None, path: Path) -> dict[str, Any]:
    names = [str(category["name"]) for category in categories]
    if name is None and len(categories) == 1:
        return categories[0]
    if name not in names:
        raise InputError(f"{path} has no category {name!r}; it has {', '.join(names) or 'none'}")
    return categories[names.index(name)]


def _joined(annotations: list[Mapping[str, Any]], size: tuple[int, int], coder: Any) -> Mask:
    mask = np.zeros(size, dtype=np.bool_)
    for annotation in annotations:
        shape = annotation["segmentation"]
        if isinstance(shape, list):
            shapes = [points for points in shape if len(points) >= _FEWEST_NUMBERS]
            encoded = coder.merge(coder.frPyObjects(shapes, *size)) if shapes else None
        elif isinstance(shape["counts"], list):
            encoded = coder.frPyObjects(shape, *size)
        else:
            encoded = {"size": list(shape["size"]), "counts": shape["counts"]}
        if encoded is None:
            continue
        if tuple(encoded["size"]) != size:
            raise ValueError(f"a mask of size {encoded['size']} on an image of size {size}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of its arrays, under NumPy 2
            mask |= coder.decode(encoded).astype(np.bool_)
    return mask


def _base(image: Mapping[str, Any]) -> MaskEntry | None:
    """What this package told of the mask, where the tool kept it."""
    try:
        return MaskEntry.from_dict(image)
    except InputError:
        return None
