"""What formats share: which masks they can hold, what their files are called, where the images lie."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from shortcutscope.data.stored_frame import file_source
from shortcutscope.errors import InputError
from shortcutscope.masks.formats.collect import names_of
from shortcutscope.masks.mask_files import Kind, Mask, MaskEntry, describe
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.types import Record

if TYPE_CHECKING:
    from shortcutscope.data.samples import SampleTable


_INSTEAD = {"signal": ", or csv, which has the intervals of each lead"}


def require_kinds(masks: MaskSet, format: str, kinds: Iterable[Kind]) -> None:
    """Refuse masks that a format cannot hold, before anything is written.

    Raises
    ------
    InputError
        Naming the first sample; also when there are no masks.
    """
    allowed = tuple(kinds)
    if not len(masks):
        raise InputError(f"there are no masks of {masks.name!r} to export")
    for entry in masks.entries:
        if entry.kind not in allowed:
            raise InputError(
                f"{format} holds masks of kind {' and '.join(allowed)}; that of {entry.sample_id!r} is a "
                f"{entry.kind}. Use npz, which holds all{_INSTEAD.get(entry.kind, '')}"
            )


def file_names(masks: MaskSet, suffix: str) -> dict[str, str]:
    """Sample id to a file name below the export's folder: that of its image, with another ending.

    Images that differ only in their ending keep it in the name; names that would leave the folder become
    those of the set's own files.
    """
    short = {entry.sample_id: _inside(entry, suffix, keep=False) for entry in masks.entries}
    long = {entry.sample_id: _inside(entry, suffix, keep=True) for entry in masks.entries}
    plain = {entry.sample_id: PurePosixPath(entry.file).stem + suffix for entry in masks.entries}
    for names in (short, long):
        if max(Counter(name.casefold() for name in names.values()).values(), default=1) == 1:
            return names
    return plain


def _inside(entry: MaskEntry, suffix: str, *, keep: bool) -> str:
    path = PurePosixPath(entry.image.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.name or ":" in path.parts[0]:
        return PurePosixPath(entry.file).stem + suffix
    name = path.name
    if not keep:
        name = name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else path.stem
    return path.with_name(name + suffix).as_posix()


def as_given(masks: MaskSet, entry: MaskEntry, mask: Mask) -> MaskEntry:
    """What is known of a mask, in the frame in which the set gives it."""
    if masks.frame == "displayed":
        return entry
    return replace(entry, size=tuple(mask.shape), orientation=None, **describe(mask))


def provenance_of(masks: MaskSet) -> Record:
    """What made the masks, and the frame in which they are given, which decides how they are read back."""
    return {**masks.provenance, "frame": masks.frame}


def story(masks: MaskSet, entry: MaskEntry) -> str:
    """Provenance of one mask as JSON, for formats with room for a text."""
    record: Record = {
        **masks.provenance,
        "finding": masks.name,
        "sample_id": entry.sample_id,
        "confidence": entry.confidence,
        "accepted": entry.accepted,
    }
    return json.dumps(record, sort_keys=True)


def source_files(
    sources: Mapping[str, str | Path] | SampleTable | None, masks: MaskSet | None = None
) -> dict[str, Path]:
    """Sample id to the file of its image; of masks those that go by the images' names get theirs, too.

    Raises
    ------
    InputError
        For a table whose images are not files.
    """
    if sources is None:
        return {}
    if isinstance(sources, Mapping):
        files = {str(name): Path(path) for name, path in sources.items()}
        by_sample = {name: name for name in files}
    else:
        source = file_source(sources.source)
        if source is None:
            raise InputError("the table's images are no files; give a mapping of sample ids to files")
        ids = sources.frame["sample_id"].astype(str)
        files = {name: source.path(int(row)) for name, row in zip(ids, sources.rows, strict=True)}
        by_sample = sources.files
    if masks is not None:
        names = names_of(masks)
        for sample_id, name in by_sample.items():
            with contextlib.suppress(InputError):  # a source of no mask
                files.setdefault(names(name), files[sample_id])
    return files
