"""The masks of any number of samples: on the disk, one in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from shortcutscope.data.geometry import Frame, Geometry
from shortcutscope.data.readers.orientation import Orientation
from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.data.sample_names import as_ids
from shortcutscope.disk import inside
from shortcutscope.errors import InputError
from shortcutscope.masks.formats import FORMATS, ExportOptions
from shortcutscope.masks.manifest import JOURNAL, MANIFEST, read_journal, read_manifest, write_manifest
from shortcutscope.masks.mask_files import Mask, MaskEntry, read_mask
from shortcutscope.masks.silhouettes import silhouette
from shortcutscope.show import parts
from shortcutscope.show.isolation import sheet
from shortcutscope.types import JSON, Array, Floats, Ints

__all__ = ["MaskEntry", "MaskSet"]

_SHOWN = 8
#: Masks whose mean is shown.
_AVERAGED = 64
_MEAN_SIDE = 64


@dataclass(frozen=True, eq=False, repr=False)
class MaskSet:
    """Masks of samples, each in the geometry of its own image.

    A photograph that EXIF turns, and a NIfTI volume, have their mask in the *displayed* frame, as COCO, CVAT
    and every viewer show the image; :meth:`in_frame` gives that of the stored array.

    Attributes
    ----------
    folder
        With ``masks.json`` (COCO's form) and one file per mask.
    name
        Of the finding.
    entries
        What is known of each mask, see :class:`shortcutscope.masks.mask_files.MaskEntry`.
    provenance
        What made the masks: fingerprint of the model, layers, concept, method, threshold, version.
    complete
        False while the masks are being made, or when that was interrupted.
    frame
        ``"displayed"`` or ``"stored"``: in which the masks are given.
    max_pixels
        Most pixels that a mask may have.

    Examples
    --------
    >>> masks = ss.MaskSet.open("masks")
    >>> masks.sample_ids, masks.size("a"), masks.entry("a").area
    (['a', 'b'], (6, 8), 4)
    >>> int(masks.mask("a").sum()), masks.areas().shape, masks.mean_mask(size=(6, 8)).shape
    (4, (2,), (6, 8))
    >>> carriers = masks.where(lambda entry: not entry.empty).take(["a"])
    >>> counts, edges = masks.area_histogram(bins=4)
    >>> upright, rows, facts = masks.in_frame("displayed"), masks.to_frame(), masks.facts()
    >>> pictures = masks.silhouettes()
    >>> folder = masks.export("png", format="png")
    >>> edited = masks.corrected("png", "edited", format="png")
    >>> accepted = masks.reviewed({"a": True})
    """

    folder: Path
    name: str
    entries: tuple[MaskEntry, ...]
    provenance: JSON = field(default_factory=dict)
    complete: bool = True
    frame: Frame = "displayed"
    max_pixels: int = MAX_PIXELS

    @classmethod
    def open(cls, folder: str | Path, *, max_pixels: int = MAX_PIXELS) -> MaskSet:
        """Open a folder of masks, also an unfinished one.

        Files are read from the folder only, whatever its list says.

        Parameters
        ----------
        folder
            That a :class:`MaskWriter` made.
        max_pixels
            Most pixels that a mask may have.

        Raises
        ------
        InputError
            When the folder holds no masks, or names files outside of it or masks that are too large.
        """
        folder = Path(folder)
        complete = not (folder / JOURNAL).exists()
        if complete and not (folder / MANIFEST).exists():
            raise InputError(f"{folder} holds no masks: it has no {MANIFEST}")
        manifest = read_manifest(folder / MANIFEST) if complete else read_journal(folder / JOURNAL)
        for entry in manifest.entries:
            inside(folder, entry.file)
            try:
                check_size(entry.size, max_pixels)
            except InputError as error:
                raise InputError(f"the mask of {entry.sample_id!r} in {folder}: {error}") from error
        return cls(
            folder,
            manifest.name,
            tuple(manifest.entries),
            manifest.provenance,
            complete=complete,
            max_pixels=max_pixels,
        )

    # Reading

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[tuple[str, Mask]]:
        """Sample id and mask, one at a time."""
        for entry in self.entries:
            yield entry.sample_id, self._read(entry)

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self._positions

    @property
    def sample_ids(self) -> list[str]:
        """In the order in which the masks were made."""
        return [entry.sample_id for entry in self.entries]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {entry.sample_id: k for k, entry in enumerate(self.entries)}

    def entry(self, sample_id: str) -> MaskEntry:
        """What is known of a sample's mask; the sample may be named by its image, too.

        Raises
        ------
        InputError
            When there is none.
        """
        if sample_id not in self._positions:
            images = {entry.sample_id: entry.image for entry in self.entries}
            (sample_id,) = as_ids([sample_id], self.sample_ids, images)
        if sample_id not in self._positions:
            raise InputError(f"there is no mask of sample {sample_id!r} in {self.folder}")
        return self.entries[self._positions[sample_id]]

    def mask(self, sample_id: str) -> Mask:
        """A sample's mask, bool, in its image's own size.

        Raises
        ------
        InputError
            When there is none, or its file is missing, broken, or of another size than its image.
        """
        return self._read(self.entry(sample_id))

    def _read(self, entry: MaskEntry) -> Mask:
        path = inside(self.folder, entry.file)
        mask = read_mask(path, self.max_pixels)
        if mask.shape != entry.size:
            raise InputError(
                f"the mask {path} has the size {mask.shape}, its image {entry.size}; "
                "save it in the size of the image"
            )
        return mask if self.frame == "displayed" else np.ascontiguousarray(_turn(entry).undo(mask))

    def size(self, sample_id: str) -> tuple[int, ...]:
        """Of the sample's mask in the frame of the set."""
        entry = self.entry(sample_id)
        return entry.size if self.frame == "displayed" else _turn(entry).stored_size(entry.size)

    # Deriving another set

    def in_frame(self, frame: Frame) -> MaskSet:
        """The same masks, given in the displayed or in the stored frame of their images."""
        if frame not in ("displayed", "stored"):
            raise InputError(f'frame must be "displayed" or "stored", not {frame!r}')
        return replace(self, frame=frame)

    def take(self, sample_ids: Sequence[str]) -> MaskSet:
        """The masks of some samples, in that order."""
        return replace(self, entries=tuple(self.entry(str(name)) for name in sample_ids))

    def where(self, keep: Callable[[MaskEntry], bool]) -> MaskSet:
        """The masks that a function keeps: ``masks.where(lambda mask: mask.accepted)``."""
        return replace(self, entries=tuple(entry for entry in self.entries if keep(entry)))

    def reviewed(self, answers: Mapping[str, bool | None]) -> MaskSet:
        """Keep what a person said of masks, on the disk: True accepts, False rejects, None takes back.

        Raises
        ------
        InputError
            For samples without a mask, for other answers, and while masks are still being made.
        """
        if not self.complete:
            raise InputError(f"the masks in {self.folder} are not finished; make them to the end first")
        answers = {self.entry(name).sample_id: answer for name, answer in answers.items()}
        for sample_id, answer in answers.items():
            if answer not in (True, False, None):
                raise InputError(f"an answer is True, False or None, not {answer!r} for {sample_id!r}")
        whole = MaskSet.open(self.folder, max_pixels=self.max_pixels)
        changed = {
            entry.sample_id: replace(entry, accepted=answers[entry.sample_id])
            if entry.sample_id in answers
            else entry
            for entry in whole.entries
        }
        write_manifest(self.folder / MANIFEST, self.name, changed.values(), self.provenance)
        return replace(self, entries=tuple(changed[name] for name in self.sample_ids))

    def export(self, path: str | Path, format: str = "coco", **options: Unpack[ExportOptions]) -> Path:
        """Write the masks for another tool.

        Parameters
        ----------
        path
            File or folder, as the format has it.
        format
            See :data:`shortcutscope.masks.formats.FORMATS`.
        **options
            Of the format.

        Raises
        ------
        InputError
            For an unknown format, masks that the format cannot hold, or a missing optional package.
        """
        return FORMATS[format].write(self, Path(path), **options)

    def corrected(self, path: str | Path, out: str | Path, format: str = "coco") -> MaskSet:
        """These masks as a person corrected them in another tool, as a set of its own.

        Parameters
        ----------
        path
            What :meth:`export` wrote, after it was edited.
        out
            Folder of the new set.
        format
            See :data:`shortcutscope.masks.formats.FORMATS`.

        Raises
        ------
        InputError
            For an unknown format, files that are not in it, or a missing optional package.
        """
        masks: MaskSet = FORMATS[format].read(path, out, like=self)
        return masks

    # Summing up

    def areas(self) -> Floats:
        """Area of each mask relative to its image, in the order of the set."""
        return np.array([entry.share for entry in self.entries], dtype=np.float64)

    def area_histogram(self, bins: int = 20) -> tuple[Ints, Floats]:
        """Counts, and the edges of their relative areas, of the masks that are not empty."""
        areas = self.areas()
        counts, edges = np.histogram(areas[areas > 0], bins=bins)
        return counts.astype(np.int64), edges

    def mean_mask(self, size: tuple[int, ...] | None = None) -> npt.NDArray[np.float32]:
        """Mean of the masks that are not empty, in one frame; one mask is in memory at a time.

        Parameters
        ----------
        size
            Of the result; None for 64 pixels a side, and for each lead of signals.

        Raises
        ------
        InputError
            When no mask has anything inside, or they differ in their number of axes.
        """
        inside = [entry for entry in self.entries if not entry.empty]
        dims = {len(entry.size) for entry in inside}
        if len(dims) != 1:
            raise InputError(
                "the mean needs masks of one number of axes that are not all empty; "
                f"there are {len(inside)} with {sorted(dims)} axes"
            )
        if size is None:
            size = (_MEAN_SIDE,) * dims.pop()
            leads = {entry.size[0] for entry in inside if entry.kind == "signal"}
            size = (leads.pop(), *size[1:]) if len(leads) == 1 else size
        total = np.zeros(size, dtype=np.float64)
        for entry in inside:
            mask = self._read(entry)
            total += Geometry.of(mask.shape).resized(size).from_source(mask.astype(np.float32))
        return (total / len(inside)).astype(np.float32)

    def to_frame(self) -> pd.DataFrame:
        """One row per mask."""
        return pd.DataFrame(
            [
                {
                    "sample_id": entry.sample_id,
                    "image": entry.image,
                    "file": entry.file,
                    "kind": entry.kind,
                    "size": entry.size,
                    "area": entry.area,
                    "share": entry.share,
                    "confidence": float("nan") if entry.confidence is None else entry.confidence,
                    "flagged": entry.flagged,
                    "empty": entry.empty,
                    "accepted": entry.accepted,
                    "edited": entry.edited,
                }
                for entry in self.entries
            ],
            columns=[
                *("sample_id", "image", "file", "kind", "size", "area", "share"),
                *("confidence", "flagged", "empty", "accepted", "edited"),
            ],
        )

    # Showing

    def facts(self) -> list[tuple[str, str]]:
        """How many masks, of them empty, flagged, accepted and rejected, and their median area."""
        count = {
            "masks": len(self),
            "empty": sum(entry.empty for entry in self.entries),
            "flagged for review": sum(entry.flagged for entry in self.entries),
            "accepted": sum(entry.accepted is True for entry in self.entries),
            "rejected": sum(entry.accepted is False for entry in self.entries),
            "edited": sum(entry.edited for entry in self.entries),
        }
        facts = [(name, str(value)) for name, value in count.items() if value or name == "masks"]
        areas = self.areas()
        if (areas > 0).any():
            facts.append(("median area", f"{np.median(areas[areas > 0]):.2%} of the image"))
        return facts if self.complete else [*facts, ("state", "unfinished")]

    def __repr__(self) -> str:
        return f"MaskSet({self.name!r}: {', '.join(f'{name}: {value}' for name, value in self.facts())})"

    def _repr_html_(self) -> str:
        frame = replace(self, entries=self.entries[:_SHOWN]).to_frame()
        columns = ["sample_id", "size", "share", "confidence", "flagged", "accepted"]
        provenance = parts.facts({name.replace("_", " "): value for name, value in self.provenance.items()})
        return sheet(
            parts.heading(f"Masks of {self.name}"),
            parts.facts(self.facts()),
            parts.pictures(self.silhouettes()),
            parts.table(frame[columns], more=len(self) - len(frame)),
            f"<details><summary>How they were drawn</summary>{provenance}</details>" if provenance else "",
            plain=repr(self),
        )

    def silhouettes(self) -> list[tuple[Array, str]]:
        """Pictures, with captions, of where masks lie and of the first of them; the set has no images."""
        entries = [entry for entry in self.entries if not entry.empty and entry.kind != "signal"]
        if len({len(entry.size) for entry in entries}) != 1:
            return []
        # As many as are read in a moment, evenly spread.
        where = replace(self, entries=tuple(entries[:: -(-len(entries) // _AVERAGED)])).mean_mask()
        pictures: list[tuple[Array, str]] = [(silhouette(where / where.max()), "where they lie")]
        for entry in entries[:_SHOWN]:
            confidence = "" if entry.confidence is None else f"\nconfidence {entry.confidence:.2f}"
            pictures.append((silhouette(self.mask(entry.sample_id)), f"{entry.sample_id}{confidence}"))
        return pictures


def _turn(entry: MaskEntry) -> Orientation:
    return entry.orientation or Orientation.identity(len(entry.size))
