"""Masks that come back from another tool become a set of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shortcutscope.data.sample_names import SampleNames
from shortcutscope.errors import InputError
from shortcutscope.masks.formats.staging import staged
from shortcutscope.masks.mask_files import Assessment, Mask, MaskEntry, describe
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.types import Record


@dataclass(frozen=True)
class Returned:
    """A mask as another tool has it.

    Attributes
    ----------
    name
        Of the sample or of its image.
    mask
        In the frame in which it was exported.
    base
        What the file itself still tells of the mask as it was exported.
    """

    name: str
    mask: Mask
    base: MaskEntry | None = None


def collect(
    returned: Iterable[Returned],
    out: str | Path,
    *,
    source: Path,
    format: str,
    like: MaskSet | None,
    name: str,
    provenance: Record | None = None,
) -> MaskSet:
    """Write returned masks as a new set.

    Parameters
    ----------
    returned
        One mask a sample.
    out
        Folder of the new set.
    source, format
        Where the masks come from.
    like
        The set that was exported: names go by it, sizes must be those of it, and it tells confidence,
        orientation and what was changed. A mask that a person changed counts as accepted.
    name
        Of the finding, where `like` is None.
    provenance
        What the file tells of what made the masks, where `like` is None.

    Raises
    ------
    InputError
        For masks of unknown samples, two of one sample, of another size than the image, or none at all, and
        for a folder that is not empty. Nothing is written then.
    """
    provenance = provenance if isinstance(provenance, dict) else {}
    frame = provenance.get("frame")
    if like is not None and frame not in (None, like.frame):
        raise InputError(
            f"{source} was exported in the {frame} frame: give like=masks.in_frame({frame!r}) to read it"
        )
    history = {**(like.provenance if like is not None else provenance)}
    history["imported"] = {"format": format, "file": source.name}
    names = None if like is None else names_of(like)
    with (
        staged(Path(out), new=True) as folder,
        MaskWriter(folder, like.name if like is not None else name, history) as writer,
    ):
        for one in returned:
            base = one.base
            sample_id = base.sample_id if base is not None else one.name
            if like is not None and names is not None:
                sample_id = names(sample_id)
                base = like.entry(sample_id)
            if writer.done(sample_id):
                raise InputError(f"{source} has two masks of sample {sample_id!r}; leave one")
            _append(writer, one, sample_id, base, like, source)
        if not len(writer):
            raise InputError(f"{source} holds no masks")
    return MaskSet.open(out)


def names_of(like: MaskSet) -> SampleNames:
    """What other tools may call the samples of a set."""
    return SampleNames(like.sample_ids, "masks", {entry.sample_id: entry.image for entry in like.entries})


def _append(
    writer: MaskWriter,
    one: Returned,
    sample_id: str,
    base: MaskEntry | None,
    like: MaskSet | None,
    source: Path,
) -> None:
    mask = one.mask
    if base is None:
        writer.append(sample_id, mask, image=one.name)
        return
    if like is not None and like.frame == "stored" and base.orientation is not None:
        mask = base.orientation.apply(mask)
    if mask.shape != base.size:
        raise InputError(
            f"the mask of {sample_id!r} in {source} has the size {mask.shape}, its image {base.size}; "
            "edit it in the size of the image"
        )
    changed = describe(mask)["digest"] != base.digest
    writer.append(
        sample_id,
        mask,
        image=base.image,
        kind=base.kind,
        orientation=base.orientation,
        assessment=Assessment(
            base.confidence,
            flagged=base.flagged and not changed,
            accepted=True if changed else base.accepted,
            edited=changed or base.edited,
        ),
    )
