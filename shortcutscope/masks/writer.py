"""Masks on their way to the disk: one at a time, each whole or not at all, and resumable."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy.typing as npt

from shortcutscope.data.readers.orientation import Orientation
from shortcutscope.disk import require_writable
from shortcutscope.errors import InputError
from shortcutscope.files import refuse_other_inputs, to_json, write_atomically
from shortcutscope.locking import locked
from shortcutscope.masks.manifest import (
    JOURNAL,
    MANIFEST,
    Manifest,
    journal_head,
    journal_line,
    read_journal,
    read_manifest,
    write_manifest,
)
from shortcutscope.masks.mask_files import (
    Assessment,
    Kind,
    MaskEntry,
    checked_mask,
    describe,
    mask_file,
    write_mask,
)
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.types import JSON, Record
from shortcutscope.versions import DRAWING

#: In the provenance; it may change as a person accepts masks, and each mask's file says what held for it.
PRIOR = "area_prior"


class MaskWriter:
    """Appends masks to a folder.

    Each mask is a file of its own, written before the journal names it, so that an interruption at any
    moment loses at most the mask being written; a writer on the same folder goes on from there. Used as a
    context manager, leaving without an exception finishes the set.

    Parameters
    ----------
    folder
        Of the set; made when it does not exist.
    name
        Of the finding.
    provenance
        What makes the masks, as JSON can hold it: fingerprint of the model, layers, concept, method,
        threshold. The package's version is added.

    Raises
    ------
    StaleRunError
        When the folder holds masks of another name or provenance.
    InputError
        When the folder holds something else.

    Examples
    --------
    >>> with MaskWriter(run / "masks" / "ruler", "ruler", provenance) as writer:  # doctest: +SKIP
    ...     for sample_id, mask in made:
    ...         if not writer.done(sample_id):
    ...             writer.append(sample_id, mask, assessment=Assessment(0.8))
    """

    def __init__(self, folder: str | Path, name: str, provenance: JSON | None = None) -> None:
        from shortcutscope._version import __version__

        self.folder = Path(folder)
        self.name = name
        self.provenance: Record = to_json({"version": __version__, "drawing": DRAWING, **(provenance or {})})
        self._finished = False
        self._journal: IO[bytes] | None = None
        require_writable(self.folder)
        self._stored()  # refused before a folder is made
        self._held = ExitStack()
        self._held.enter_context(locked(self.folder))
        self._previous = self._stored()
        self._done = {entry.sample_id for entry in self._previous.entries} if self._previous else set()

    def _stored(self) -> Manifest | None:
        """The masks of the folder, which were made in the same way; nothing is written."""
        journal, file = self.folder / JOURNAL, self.folder / MANIFEST
        if self.folder.is_file():
            raise InputError(f"{self.folder} is a file: give a folder for the masks")
        if journal.exists():
            manifest = read_journal(journal)
        elif file.exists():
            manifest = read_manifest(file)
        elif self.folder.is_dir() and any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
            raise InputError(f"{self.folder} is not empty and holds no masks: give a new folder")
        else:
            return None
        stored, requested = (
            {"finding": name, "drawing": 1, **provenance} | {PRIOR: None, "version": None}
            for name, provenance in ((manifest.name, manifest.provenance), (self.name, self.provenance))
        )
        refuse_other_inputs(self.folder, stored, requested)
        return manifest

    def begin(self) -> IO[bytes]:
        """The journal, at its end. Beside a finished list it is begun when a mask is to be added.

        Raises
        ------
        InputError
            When the set is finished.
        """
        if self._finished:
            raise InputError(f"the masks in {self.folder} are finished; open another writer to add some")
        if self._journal is None:
            journal = self.folder / JOURNAL
            if not journal.exists():
                lines = [journal_head(self.name, self.provenance)]
                lines += [journal_line(entry) for entry in (self._previous.entries if self._previous else ())]
                write_atomically(journal, lambda file: file.writelines(lines))
            self._journal = journal.open("r+b")
            if self._previous is not None and self._previous.whole_bytes:
                self._journal.truncate(self._previous.whole_bytes)
            self._journal.seek(0, 2)
        return self._journal

    def __len__(self) -> int:
        return len(self._done)

    def done(self, sample_id: str) -> bool:
        """Whether a sample's mask is on the disk."""
        return sample_id in self._done

    def append(
        self,
        sample_id: str,
        mask: npt.ArrayLike,
        *,
        image: str | None = None,
        kind: Kind | None = None,
        orientation: Orientation | None = None,
        assessment: Assessment | None = None,
    ) -> MaskEntry:
        """Write one mask.

        Parameters
        ----------
        sample_id
            Of the sample.
        mask : (H, W), (D, H, W) or (leads, time)
            In the displayed frame of the image, see :class:`shortcutscope.data.geometry.Geometry`.
        image
            File name of the image as other tools know it; None for the sample id.
        kind
            ``"image"``, ``"volume"`` or ``"signal"``; None takes two axes for an image, three for a volume.
        orientation
            From the image as stored to the image as displayed.
        assessment
            What is known of how far it is to be trusted.

        Raises
        ------
        InputError
            For a sample that is done, something that is no mask, or a confidence outside 0 to 1.
        """
        sample_id = str(sample_id)
        journal = self.begin()
        assessment = assessment or Assessment()
        confidence = assessment.confidence
        self._check(sample_id, confidence)
        array, kind = checked_mask(mask, kind)
        if orientation is not None and len(orientation.axes) != array.ndim:
            raise InputError(f"an orientation of {len(orientation.axes)} axes does not fit {array.shape}")
        entry = MaskEntry(
            sample_id=sample_id,
            image=image or sample_id,
            file=mask_file(sample_id, kind),
            kind=kind,
            size=tuple(array.shape),
            **describe(array),
            confidence=None if confidence is None else float(confidence),
            flagged=bool(assessment.flagged),
            accepted=assessment.accepted,
            edited=assessment.edited,
            orientation=None if orientation is None or orientation.is_identity else orientation,
            doubt=assessment.doubt,
        )
        story = {**self.provenance, "finding": self.name, "sample_id": sample_id}
        write_mask(self.folder / entry.file, array, {"shortcutscope": json.dumps(story)})
        journal.write(journal_line(entry))
        journal.flush()
        self._done.add(sample_id)
        return entry

    def _check(self, sample_id: str, confidence: float | None) -> None:
        if self.done(sample_id):
            raise InputError(f"the mask of sample {sample_id!r} is already in {self.folder}")
        if confidence is not None and not 0 <= confidence <= 1:
            raise InputError(f"confidence must lie between 0 and 1, not {confidence} ({sample_id!r})")

    def close(self) -> MaskSet:
        """Finish the set: the journal becomes ``masks.json``."""
        if not self._finished:
            journal = self.folder / JOURNAL
            if self._journal is not None or journal.exists() or self._previous is None:
                self.begin().close()
                entries = read_journal(journal).entries
                write_manifest(self.folder / MANIFEST, self.name, entries, self.provenance)
                journal.unlink()
            self._finished = True
            self._held.close()
        return MaskSet.open(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        if self._journal is not None:
            self._journal.close()
        self._finished = True
        self._held.close()
