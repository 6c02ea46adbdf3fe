"""One image in several rows, of readers or of boxes, or under several names: one sample, or one patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from shortcutscope.data.manifests.columns import as_text
from shortcutscope.data.manifests.labels import label_column
from shortcutscope.errors import InputError
from shortcutscope.types import Ints

__all__ = ["one_group_a_picture", "one_row_a_file"]

_SHOWN = 3
_MEND = {
    "label": "decide beforehand (the readers' majority, or one reader's rows), so that all its rows agree",
    "group": "an image is of one patient: mend the column, or leave out the rows that are wrong",
    "split": "an image on both sides makes held-out numbers too good: move all its rows to one split",
    "mask": "join its masks into one file, since an image has one mask",
}


def one_row_a_file(
    frame: pd.DataFrame,
    files: Sequence[str],
    names: Sequence[str],
    roles: Mapping[str, str],
    mask: str | None = None,
    *,
    labels: Sequence[str] = (),
) -> tuple[pd.DataFrame, Ints, list[str]]:
    """The frame with one row for each image file: rows of one image are no further samples.

    Parameters
    ----------
    frame
        One row per reader, box or image.
    files
        The file of each row, the same text for the same file.
    names
        What the file is called in the row.
    roles
        Role to its column: label, and sample_id, group and split where there are such.
    mask
        Column of mask files.
    labels
        Names of several labels.

    Returns
    -------
    frame
        Only the first row of each file. A column in which the rows of a file differ is missing there.
    rows
        Their numbers in the given frame.
    notes
        What was done, a sentence each.

    Raises
    ------
    InputError
        When rows of one file differ in label, group, split or mask.
    """
    codes, _ = pd.factorize(np.asarray(files, dtype=object))
    rows = np.flatnonzero(~pd.Series(codes).duplicated().to_numpy())
    if len(rows) == len(frame):
        return frame, rows, []
    called = [names[int(row)] for row in rows]
    alike = [(roles[role], role) for role in ("label", "group", "split") if role in roles]
    for column, role in (*alike, *((label_column(name), "label") for name in labels)):
        _refuse_torn(frame[column], codes, called, role)
    first_rows = frame.iloc[rows].reset_index(drop=True)
    if mask is not None:
        has_mask = frame[mask].notna().to_numpy()
        _refuse_torn(frame[mask][has_mask], codes[has_mask], called, "mask")
        first = frame[mask].groupby(codes).first()  # the first that is there
        first_rows[mask] = first.reindex(codes[rows]).to_numpy()
    notes = [
        f"{len(frame) - len(rows)} of {len(frame)} rows name an image that an earlier row names, too: "
        f"{len(rows)} images are {len(rows)} samples, each with the id of its first row"
    ]
    metadata = frame.columns.difference([*roles.values(), *filter(None, (mask,))], sort=False)
    notes += _without_torn(first_rows, frame, metadata, codes, codes[rows])
    return first_rows, rows, notes


def _without_torn(
    first_rows: pd.DataFrame, frame: pd.DataFrame, columns: pd.Index, codes: Ints, first: Ints
) -> list[str]:
    """Empty the columns at files whose rows differ in them; a sentence for each such column."""
    notes = []
    for column in columns:
        torn = _torn(frame[column], codes)
        if len(torn):
            values = first_rows[column].astype(object)
            values[np.isin(first, torn)] = None
            first_rows[column] = values.infer_objects()
            notes.append(f"column {column!r} is unknown for {len(torn)} images whose rows differ in it")
    return notes


def _torn(values: pd.Series, codes: Ints) -> Ints:
    """Codes of the files whose rows differ in a column."""
    text = pd.Series(values.astype(object).where(values.notna(), "").astype(str).to_numpy())
    counts = text.groupby(codes).nunique()
    return counts.index[counts > 1].to_numpy(dtype=np.int64)


def _refuse_torn(values: pd.Series, codes: Ints, names: Sequence[str], role: str) -> None:
    torn = _torn(values, codes)
    if not len(torn):
        return
    examples = []
    for code in torn[:_SHOWN]:
        different = dict.fromkeys(as_text(values[codes == code], role, optional=True))
        examples.append(f"{names[code]!r} ({', '.join(map(repr, different))})")
    more = " ..." if len(torn) > _SHOWN else ""
    raise InputError(
        f"{len(torn)} image file(s) have several rows that differ in their {role}: {', '.join(examples)}"
        f"{more}; "
        f"{_MEND[role]}"
    )


def one_group_a_picture(frame: pd.DataFrame, pictures: Sequence[str]) -> tuple[list[str], list[str]]:
    """Groups in which the samples with the same picture, and all others of their groups, are together.

    Parameters
    ----------
    frame
        With sample_id, label and group.
    pictures
        A digest of each sample's picture.

    Returns
    -------
    groups
        Of each sample.
    notes
        Which samples are the same, and which of those bear different labels.
    """
    groups = frame["group"].tolist()
    codes, _ = pd.factorize(np.asarray(pictures, dtype=object))
    twins = pd.Series(codes).duplicated(keep=False).to_numpy()
    if not twins.any():
        return groups, []
    ids = frame["sample_id"].to_numpy(object)
    sets = [np.flatnonzero(codes == code) for code in pd.unique(codes[twins])]
    merged = _Merged()
    for rows in sets:
        for row in rows[1:]:
            merged.join(groups[rows[0]], groups[row])
    pairs = [" and ".join(repr(str(ids[row])) for row in rows[:2]) for rows in sets]
    notes = [
        f"{int(twins.sum())} samples show {len(sets)} picture(s) under several names, for example "
        f"{'; '.join(pairs[:_SHOWN])}: those are taken as one patient. Leave the copies out"
    ]
    labels = frame["label"].to_numpy()
    torn = [name for name, rows in zip(pairs, sets, strict=True) if len(set(labels[rows])) > 1]
    if torn:
        notes.append(
            f"{len(torn)} of these pictures have different labels under their names "
            f"({'; '.join(torn[:_SHOWN])}): check them"
        )
    return [merged.of(group) for group in groups], notes


class _Merged:
    """Groups that were joined, each by the name of one of them."""

    def __init__(self) -> None:
        self._into: dict[str, str] = {}

    def of(self, group: str) -> str:
        while group in self._into:
            group = self._into[group]
        return group

    def join(self, first: str, second: str) -> None:
        one, other = self.of(first), self.of(second)
        if one != other:
            self._into[other] = one
