"""One npz file with an array a sample, for images, volumes and signals alike."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from shortcutscope.data.readers.array_files import BROKEN_ARCHIVE, read_member
from shortcutscope.data.readers.size_limit import MAX_PIXELS
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import to_json, write_atomically
from shortcutscope.masks.formats import MaskFormat
from shortcutscope.masks.formats.collect import Returned, collect
from shortcutscope.masks.formats.layout import as_given, provenance_of, require_kinds
from shortcutscope.masks.mask_files import KINDS, MaskEntry, checked_mask
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.types import Array, Record

#: Member that tells what made the masks and what is known of each, as JSON.
STORY = "shortcutscope"
_LONGEST_STORY = 2**30


def export_npz(masks: MaskSet, path: str | Path) -> Path:
    """Write one npz: boolean arrays under the sample ids, and JSON under ``shortcutscope``.

    One mask at a time is in memory. ``numpy.load`` reads it without pickle.

    Raises
    ------
    InputError
        When a sample is called ``shortcutscope``.
    """
    require_kinds(masks, "npz", KINDS)
    if STORY in masks:
        raise InputError(f"the name {STORY!r} is taken in the npz file; a sample cannot have it")
    path = Path(path)

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            entries = []
            for sample_id, mask in masks:
                _add(archive, sample_id, mask)
                entries.append(as_given(masks, masks.entry(sample_id), mask).to_dict())
            record = {"name": masks.name, "provenance": provenance_of(masks), "masks": entries}
            _add(archive, STORY, np.array(json.dumps(to_json(record))))

    write_atomically(path, write)
    return path


def _add(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def import_npz(
    path: str | Path,
    out: str | Path,
    *,
    like: MaskSet | None = None,
    name: str = "imported",
    max_pixels: int = MAX_PIXELS,
) -> MaskSet:
    """Read an npz file of masks under sample ids into a set in the folder `out`.

    Parameters are those of :func:`shortcutscope.masks.formats.png.import_png`.

    Raises
    ------
    InputError
        For a broken file, arrays that are no masks, or what `collect` refuses.
    """
    path = Path(path)
    with intact(path, "an npz file of masks", "export it again"):
        archive = zipfile.ZipFile(path)
        record = _story(archive)
        by_sample = {entry["sample_id"]: MaskEntry.from_dict(entry) for entry in record.get("masks", [])}

    def returned() -> Iterator[Returned]:
        for key in (name.removesuffix(".npy") for name in archive.namelist()):
            if key == STORY:
                continue
            base = by_sample.get(key)
            try:
                mask, _ = checked_mask(read_member(archive, key, max_pixels), base.kind if base else None)
            except BROKEN_ARCHIVE as error:
                raise InputError(f"{path} holds no mask under {key!r}: {error}") from error
            yield Returned(key, mask, base)

    with archive:
        return collect(
            returned(),
            out,
            source=path,
            format="npz",
            like=like,
            name=str(record.get("name", name)),
            provenance=record.get("provenance"),
        )


def _story(archive: zipfile.ZipFile) -> Record:
    member = f"{STORY}.npy"
    if member not in archive.namelist():
        return {}
    if archive.getinfo(member).file_size > _LONGEST_STORY:
        raise ValueError(f"{STORY!r} has more than {_LONGEST_STORY:,} bytes")
    with archive.open(member) as file:
        text = np.lib.format.read_array(file, allow_pickle=False)
    record = json.loads(str(text))
    if not isinstance(record, dict):
        raise ValueError(f"{STORY!r} is no JSON object")
    return record


FORMAT = MaskFormat(export_npz, import_npz)
