"""A data set of FiftyOne's: a detection with its mask an image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shortcutscope.data.fiftyone import Sample, detection, detections, unpacked, write_dataset
from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import to_json
from shortcutscope.masks.formats import MaskFormat
from shortcutscope.masks.formats.collect import Returned, collect
from shortcutscope.masks.formats.layout import as_given, provenance_of, require_kinds
from shortcutscope.masks.formats.shapes import check_label, united
from shortcutscope.masks.mask_files import Mask, MaskEntry
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.types import JSON, Record

FIELD = "masks"


def export_fiftyone(masks: MaskSet, path: str | Path) -> Path:
    """Write a folder with ``metadata.json`` and ``samples.json``.

    Images are named as the set names them, relative to a folder that FiftyOne is told:
    ``Dataset.from_dir(path, dataset_type=fiftyone.types.FiftyOneDataset, rel_dir=FOLDER)``. The field
    ``masks`` has a detection an image, with confidence, ``accepted`` and ``flagged``; images without the
    artifact have none.

    Raises
    ------
    InputError
        For masks that are not of images.
    """
    require_kinds(masks, "FiftyOne", ["image"])
    samples = []
    for entry in masks.entries:
        mask = masks.mask(entry.sample_id)
        known = as_given(masks, entry, mask)
        found = [] if entry.empty else [_detection(masks.name, mask, entry)]
        samples.append(
            Sample(
                entry.sample_id,
                entry.image or entry.sample_id,
                {FIELD: detections(found)},
                (mask.shape[0], mask.shape[1]),
                to_json(known.to_dict()),
            )
        )
    info = {"shortcutscope": to_json(provenance_of(masks)), "finding": masks.name}
    return write_dataset(Path(path), f"masks of {masks.name}", samples, info)


def _detection(name: str, mask: Mask, entry: MaskEntry) -> Record:
    confidence: Record = {} if entry.confidence is None else {"confidence": float(entry.confidence)}
    return detection(
        name, entry.sample_id, mask, accepted=entry.accepted, flagged=entry.flagged, **confidence
    )


def import_fiftyone(
    path: str | Path,
    out: str | Path,
    *,
    like: MaskSet | None = None,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> MaskSet:
    """Read a data set that FiftyOne exported (without media) into a set in the folder `out`.

    Detections of the label are joined, of whichever field; one without a mask is its box.

    Parameters
    ----------
    path, out, like
        As in :func:`shortcutscope.masks.formats.png.import_png`.
    name
        The label to take; None for that of `like`, or what the data set tells, or the only one.
    max_pixels
        Most pixels that the file may say an image has.

    Raises
    ------
    InputError
        For broken files, images without a size, masks in files of their own, or what `collect` refuses.
    """
    folder = Path(path)
    samples, info = _parsed(folder)
    labels = {str(one.get("label")) for sample in samples for one in _of(sample)}
    label = str(name or (like.name if like else None) or info.get("finding") or _only(labels, folder))
    try:
        check_label(label, labels, str(folder))
    except ValueError as error:
        raise InputError(str(error)) from error

    def returned() -> Iterator[Returned]:
        for sample in samples:
            place = str(sample.get("filepath"))
            try:
                mask = _joined(sample, label, max_pixels)
            except Exception as error:  # of packed arrays, NumPy raises anything
                raise InputError(f"the masks of {place!r} in {folder} cannot be read: {error}") from error
            base = _base(sample)
            yield Returned(base.sample_id if base else str(sample.get("sample_id") or place), mask, base)

    return collect(
        returned(),
        out,
        source=folder,
        format="fiftyone",
        like=like,
        name=label,
        provenance=info.get("shortcutscope"),
    )


def _parsed(folder: Path) -> tuple[list[Record], Record]:
    """Samples, and what the data set tells of itself."""
    with intact(folder, "a FiftyOne data set with samples.json", "export it again"):
        samples = json.loads((folder / "samples.json").read_text(encoding="utf-8-sig"))["samples"]
        told = folder / "metadata.json"
        info = json.loads(told.read_text(encoding="utf-8-sig")).get("info") if told.is_file() else None
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise InputError(f"{folder} has no list of samples: export it again as FiftyOneDataset")
    return samples, info if isinstance(info, dict) else {}


def _of(sample: JSON) -> list[Record]:
    """The detections of a sample, of all its fields."""
    fields = [value for value in sample.values() if isinstance(value, dict)]
    return [one for value in fields for one in value.get("detections") or () if isinstance(one, dict)]


def _only(labels: set[str], folder: Path) -> str:
    if len(labels) != 1:
        raise InputError(f"{folder} has the labels {sorted(labels)}; say which with name=")
    return next(iter(labels))


def _joined(sample: JSON, label: str, max_pixels: int) -> Mask:
    metadata = sample.get("metadata") or {}
    if not metadata.get("width") or not metadata.get("height"):
        raise ValueError("its size is not known: call dataset.compute_metadata() and export again")
    rows, columns = check_size((int(metadata["height"]), int(metadata["width"])), max_pixels)
    found = [one for one in _of(sample) if one.get("label") == label]
    return united((("a detection", _filled(one, (rows, columns))) for one in found), (rows, columns))


def _filled(one: JSON, size: tuple[int, int]) -> Mask:
    rows, columns = size
    if one.get("mask_path"):
        raise ValueError(f"its mask lies in {one['mask_path']!r}; keep masks in the samples, or export png")
    x, y, width, height = (float(value) for value in one["bounding_box"])
    if not np.isfinite([x, y, width, height]).all() or min(width, height) <= 0:
        raise ValueError(f"it has the box {one['bounding_box']}")
    left, top = round(x * columns), round(y * rows)
    right, bottom = round((x + width) * columns), round((y + height) * rows)
    if min(left, top) < 0 or right > columns or bottom > rows or left >= right or top >= bottom:
        raise ValueError(f"its box {one['bounding_box']} lies outside the image")
    mask = np.zeros(size, np.bool_)
    inside = np.ones((1, 1), np.bool_) if one.get("mask") is None else unpacked(one["mask"], rows * columns)
    if not inside.size:
        raise ValueError("it has an empty mask")
    # A mask is stretched over its box, whose edges a person may have moved.
    across = np.arange(right - left) * inside.shape[1] // (right - left)
    down = np.arange(bottom - top) * inside.shape[0] // (bottom - top)
    mask[top:bottom, left:right] = inside[np.ix_(down, across)]
    return mask


def _base(sample: JSON) -> MaskEntry | None:
    """What this package told of the mask, where FiftyOne kept it."""
    try:
        return MaskEntry.from_dict(sample["shortcutscope"])
    except (InputError, KeyError, TypeError):
        return None


FORMAT = MaskFormat(export_fiftyone, import_fiftyone)
