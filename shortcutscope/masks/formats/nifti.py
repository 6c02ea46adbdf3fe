"""One NIfTI file a mask, in the space of its image where that is NIfTI too."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shortcutscope.data.readers.nifti import is_nifti, nifti_frame, read_nifti
from shortcutscope.data.readers.size_limit import MAX_PIXELS
from shortcutscope.errors import InputError
from shortcutscope.extras import require
from shortcutscope.files import write_atomically
from shortcutscope.masks.formats import MaskFormat
from shortcutscope.masks.formats.collect import Returned, collect, names_of
from shortcutscope.masks.formats.layout import file_names, provenance_of, require_kinds, source_files, story
from shortcutscope.masks.formats.staging import staged
from shortcutscope.masks.manifest import MANIFEST, read_manifest, write_manifest
from shortcutscope.masks.mask_files import Mask, MaskEntry
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.types import Array

if TYPE_CHECKING:
    from shortcutscope.data.samples import SampleTable

_PURPOSE = "NIfTI masks"
_COMMENT = 6  # code of a header extension that holds text
#: Of images that are not NIfTI: columns run to the patient's left, rows to the back, as in DICOM.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def export_nifti(
    masks: MaskSet, path: str | Path, *, sources: Mapping[str, str | Path] | SampleTable | None = None
) -> Path:
    """Write one ``.nii.gz`` a mask, of 0 and 1.

    A mask of a NIfTI image has the image's own affine and axes, so that both lie on each other in any
    viewer. Of other images, which have no space of their own, the columns are the first axis and the rows
    the second, one millimetre each. Provenance stands in a header extension and in ``masks.json``.

    Parameters
    ----------
    masks
        Of images or volumes.
    path
        Folder.
    sources
        Sample ids to the files of the images, or their table; needed for images that are NIfTI.

    Raises
    ------
    InputError
        For signals, a missing or unfitting source, or when nibabel is missing.
    """
    require_kinds(masks, "NIfTI", ["image", "volume"])
    nibabel = require("nibabel", "medical", _PURPOSE)
    masks = masks.in_frame("displayed")  # the header says how the axes lie
    names, files = file_names(masks, ".nii.gz"), source_files(sources, masks)
    entries = []
    with staged(Path(path)) as folder:
        for entry in masks.entries:
            values, affine = _placed(masks.mask(entry.sample_id), entry, files.get(entry.sample_id), nibabel)
            image = nibabel.Nifti1Image(values.astype(np.uint8), affine)
            image.header["descrip"] = f"shortcutscope {masks.provenance.get('version', '')}"[:79].encode()
            comment = story(masks, entry).encode()
            image.header.extensions.append(nibabel.nifti1.Nifti1Extension(_COMMENT, comment))
            _write(folder / names[entry.sample_id], image)
            entries.append(replace(entry, file=names[entry.sample_id]))
        write_manifest(folder / MANIFEST, masks.name, entries, provenance_of(masks))
    return Path(path)


def _write(path: Path, image: Any) -> None:
    packed = gzip.compress(image.to_bytes(), mtime=0)  # no time, so that the same mask is the same file
    write_atomically(path, lambda file: file.write(packed))


def _placed(mask: Mask, entry: MaskEntry, source: Path | None, nibabel: Any) -> tuple[Mask, Array]:
    """Mask with the axes of its NIfTI file, and its affine."""
    if source is None or not is_nifti(source):
        if is_nifti(Path(entry.image)):
            raise InputError(
                f"the image of {entry.sample_id!r} is NIfTI: give its file in sources=, so that the mask "
                "gets its affine"
            )
        return (mask.T if mask.ndim == 3 else mask.T[..., None]), _LPS
    try:
        size, orientation = nifti_frame(source, mask.ndim)
        header = nibabel.load(source)
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"the source of {entry.sample_id!r}, {source}, cannot be read: {error}") from error
    if size != mask.shape:
        raise InputError(f"the mask of {entry.sample_id!r} has the size {mask.shape}, {source} has {size}")
    whole = (*header.shape[:3], *(1,) * (3 - len(header.shape)))
    return orientation.undo(mask).reshape(whole), header.affine


def import_nifti(
    path: str | Path,
    out: str | Path,
    *,
    like: MaskSet | None = None,
    name: str = "imported",
    max_pixels: int = MAX_PIXELS,
) -> MaskSet:
    """Read a folder of NIfTI masks into a set in the folder `out`; a voxel above 0.5 is inside.

    A file that another program saved with other axes comes back right: the header says how they lie.

    Parameters
    ----------
    path
        Folder, with sub-folders, or one file.
    out, like, name, max_pixels
        As in :func:`shortcutscope.masks.formats.png.import_png`.

    Raises
    ------
    InputError
        For broken files or what `collect` refuses.
    """
    path = Path(path)
    require("nibabel", "medical", _PURPOSE)
    folder = path if path.is_dir() else path.parent
    files = sorted(file for file in folder.rglob("*") if is_nifti(file)) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(f"there is no NIfTI file at {path}")
    manifest = read_manifest(folder / MANIFEST) if (folder / MANIFEST).exists() else None
    by_file = {entry.file: entry for entry in (manifest.entries if manifest else ())}
    names = None if like is None else names_of(like)

    def returned() -> Iterator[Returned]:
        for file in files:
            place = file.relative_to(folder).as_posix()
            base = by_file.get(place)
            key = base.sample_id if base else _sample_id(file) or place
            known_as = like.entry(names(key)) if like is not None and names is not None else base
            yield Returned(key, _mask(file, known_as, max_pixels), base)

    # Sizes and axes are those of the displayed frame, whatever frame `like` gives its masks in.
    return collect(
        returned(),
        out,
        source=path,
        format="nifti",
        like=None if like is None else like.in_frame("displayed"),
        name=manifest.name if manifest else name,
        provenance=manifest.provenance if manifest else None,
    )


def _mask(file: Path, base: MaskEntry | None, max_pixels: int) -> Mask:
    try:
        values, _, channels = read_nifti(file, max_pixels=max_pixels)
    except Exception as error:  # nibabel and gzip raise anything on broken bytes
        raise InputError(f"{file} is no NIfTI mask: {error}") from error
    if channels:
        raise InputError(f"{file} has a fourth axis; a mask has three")
    mask: Mask = values > 0.5
    if base is None or is_nifti(Path(base.image)):
        return mask.reshape(base.size) if base is not None and mask.size == np.prod(base.size) else mask
    mask = mask[::-1, ::-1].T  # from right and front to DICOM's left and back
    return np.ascontiguousarray(mask[0] if base.kind == "image" and len(mask) == 1 else mask)


def _sample_id(file: Path) -> str | None:
    """Sample id from the header extension, where it survived."""
    nibabel = require("nibabel", "medical", _PURPOSE)
    try:
        for extension in nibabel.load(file).header.extensions:
            record = json.loads(extension.text if hasattr(extension, "text") else extension.get_content())
            return str(record["sample_id"])
    except Exception:  # without it the file's name tells
        return None
    return None


FORMAT = MaskFormat(export_nifti, import_nifti)
