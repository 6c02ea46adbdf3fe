"""A table of samples for their columns alone: their images need not be there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from shortcutscope.data.manifests.columns import Roles, as_text, role_frame
from shortcutscope.data.manifests.duplicates import one_row_a_file
from shortcutscope.data.manifests.image_names import default_id, file_key, local_names
from shortcutscope.data.manifests.labels import LabelChoice, Labels, label_columns, read_label
from shortcutscope.data.manifests.manifest import read_manifest, trimmed
from shortcutscope.data.manifests.missing import without_markers
from shortcutscope.data.readers.image import UnreadableImageError
from shortcutscope.data.sources import ArraySource, ImageReading, ImageSource, PathSource
from shortcutscope.data.table import ImageTable
from shortcutscope.types import Array

__all__ = ["UnreadFiles", "unread_table"]


class UnreadFiles(PathSource):
    """Files that are known by name alone."""

    def read(self, i: int) -> Array:
        """Refused: nobody said how these images are read.

        Raises
        ------
        UnreadableImageError
            Always.
        """
        raise UnreadableImageError(f"the table knows its images by name alone: {self.names[i]!r} is not read")


def unread_table(
    path: str | Path,
    *,
    image: str,
    roles: Roles,
    mask: str | None = None,
    root: str | Path | None = None,
    classes: Sequence[str] | None = None,
    missing: Sequence[str] = (),
    value_range: tuple[float, float] = (0.0, 1.0),
    labels: Labels | None = None,
    reading: ImageReading | None = None,
) -> ImageTable:
    """Table of a manifest, as :meth:`shortcutscope.data.table.ImageTable.from_csv` makes it.

    Parameters
    ----------
    path
        The manifest; it may have no column of images.
    image, roles, mask, root, classes, missing, value_range
        As there.
    labels
        Several labels a sample, in place of the role's column.
    reading
        How images are read that are there after all; None where nobody says.

    Raises
    ------
    InputError
        When the manifest cannot be read or lacks the label.
    """
    notes: list[str] = []
    text_columns = [roles.sample_id, roles.group, roles.split, "sample_id", "group", "split", image]
    label: LabelChoice = labels or roles.label
    text = {column for column in text_columns if column is not None} - set(label_columns(label))
    frame, remarks = trimmed(without_markers(read_manifest(path, sorted(text), notes), missing))
    notes += remarks
    frame, column, names_of_labels, label_notes = read_label(frame, label)
    roles = replace(roles, label=column)
    ids: list[str] | None = None
    source: ImageSource
    if image in frame.columns:
        base = str(Path(Path(path).parent if root is None else root).absolute())
        names = local_names(as_text(frame[image], "image file"), base)
        keys = [file_key(name, base) for name in names]
        in_frame = roles.of_frame(frame)
        frame, rows, remarks = one_row_a_file(frame, keys, names, in_frame, labels=names_of_labels)
        notes, names = [*notes, *remarks], [names[row] for row in rows]
        ids = [default_id(name, base) for name in names]
        source = UnreadFiles(names, base) if reading is None else PathSource(names, base, reading)
    else:
        source = ArraySource(np.broadcast_to(np.float32(value_range[0]), (len(frame), 1, 1)))
    drop = [column for column in (image, mask) if column is not None and column in frame.columns]
    metadata, class_names, has_groups = role_frame(frame, roles, default_ids=ids, drop=drop, classes=classes)
    return ImageTable(
        metadata,
        source,
        value_range=value_range,
        classes=class_names,
        has_groups=has_groups,
        notes=notes,
        labels=names_of_labels,
        label_notes=label_notes,
    )
