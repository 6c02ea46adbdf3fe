"""A folder of black and white PNG files, named as the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from shortcutscope.data.readers.size_limit import MAX_PIXELS
from shortcutscope.errors import InputError
from shortcutscope.masks.formats import MaskFormat
from shortcutscope.masks.formats.collect import Returned, collect
from shortcutscope.masks.formats.layout import as_given, file_names, provenance_of, require_kinds, story
from shortcutscope.masks.formats.staging import staged
from shortcutscope.masks.manifest import MANIFEST, read_manifest, write_manifest
from shortcutscope.masks.mask_files import read_mask, write_mask
from shortcutscope.masks.maskset import MaskSet


def export_png(masks: MaskSet, path: str | Path) -> Path:
    """Write one PNG a mask: 255 inside, 0 outside, of the size of the image.

    Provenance stands in each file (text chunk ``shortcutscope``) and in ``masks.json``. The folder is a set
    that :meth:`shortcutscope.masks.maskset.MaskSet.open` opens.

    Raises
    ------
    InputError
        For masks that are not of images.
    """
    require_kinds(masks, "PNG", ["image"])
    names = file_names(masks, ".png")
    entries = []
    with staged(Path(path)) as folder:
        for entry in masks.entries:
            mask = masks.mask(entry.sample_id)
            write_mask(folder / names[entry.sample_id], mask, {"shortcutscope": story(masks, entry)})
            entries.append(replace(as_given(masks, entry, mask), file=names[entry.sample_id]))
        write_manifest(folder / MANIFEST, masks.name, entries, provenance_of(masks))
    return Path(path)


def import_png(
    path: str | Path,
    out: str | Path,
    *,
    like: MaskSet | None = None,
    name: str = "imported",
    max_pixels: int = MAX_PIXELS,
) -> MaskSet:
    """Read a folder of PNG masks into a set in the folder `out`.

    Parameters
    ----------
    path
        Folder, with sub-folders. Files are matched to samples by ``masks.json`` where it lies in the
        folder, else by their names.
    out
        Folder of the new set, which does not exist or is empty. Of an import that is refused nothing is left.
    like
        The set that was exported, see :func:`shortcutscope.masks.formats.collect.collect`.
    name
        Of the finding, where neither `like` nor ``masks.json`` tells it.
    max_pixels
        Most pixels that a mask may have.

    Raises
    ------
    InputError
        For a missing folder, broken files, or what `collect` refuses.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    manifest = read_manifest(folder / MANIFEST) if (folder / MANIFEST).exists() else None
    by_file = {entry.file: entry for entry in (manifest.entries if manifest else ())}

    def returned() -> Iterator[Returned]:
        for file in sorted(folder.rglob("*.png")):
            place = file.relative_to(folder).as_posix()
            base = by_file.get(place)
            yield Returned(base.sample_id if base else place, read_mask(file, max_pixels), base)

    return collect(
        returned(),
        out,
        source=folder,
        format="png",
        like=like,
        name=manifest.name if manifest else name,
        provenance=manifest.provenance if manifest else None,
    )


FORMAT = MaskFormat(export_png, import_png)
