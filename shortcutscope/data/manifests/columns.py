"""From a user's DataFrame to the columns every later stage relies on: sample_id, label, group, split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shortcutscope.data.manifests.words import says_unknown
from shortcutscope.errors import InputError
from shortcutscope.types import Floats, Ints

ROLES = ("sample_id", "label", "group", "split")
_SHOWN = 5


@dataclass(frozen=True)
class Roles:
    """Which column plays which part; None means the column of the role's own name, where there is one."""

    label: str = "label"
    sample_id: str | None = None
    group: str | None = None
    split: str | None = None

    def of_frame(self, frame: pd.DataFrame) -> dict[str, str]:
        """Role to column for the roles that the frame has.

        Raises
        ------
        InputError
            When a named column does not exist (the columns there are, are listed), or plays two roles.
        """
        require_columns(frame, [self.label, *filter(None, (self.sample_id, self.group, self.split))])
        columns = {"label": self.label}
        for role, column in (("sample_id", self.sample_id), ("group", self.group), ("split", self.split)):
            if column is not None:
                columns[role] = column
            elif role in frame.columns and role not in columns.values():
                columns[role] = role
        if len(set(columns.values())) < len(columns):
            raise InputError(
                f"one column cannot play two roles: {columns}; copy the column under another name"
            )
        return columns


def require_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise InputError for the columns that a frame lacks, listing those it has."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise InputError(
            f"no column {quoted(missing, len(missing))}; the columns are "
            f"{quoted(list(frame.columns), len(frame.columns))}"
        )


def role_frame(
    frame: pd.DataFrame,
    roles: Roles,
    *,
    default_ids: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    classes: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...] | None, bool]:
    """Bring a user's frame into the table's form.

    Parameters
    ----------
    frame
        One row per sample.
    roles
        Its columns with a role; they are renamed to the role.
    default_ids
        Sample ids where no column holds them.
    drop
        Columns that are no metadata (the image's and the mask's).
    classes
        Class names in label order, see :func:`encode_labels`.

    Returns
    -------
    frame, classes, has_groups
        The frame has sample_id, label, group, split and then the metadata; without a group column each
        sample is its own group.

    Raises
    ------
    InputError
        For an empty frame, a missing column, duplicate or missing ids, missing groups or unusable labels.
    """
    if len(frame) == 0:
        raise InputError("the table is empty; it needs one row per image")
    if not frame.columns.is_unique:
        repeated = sorted({str(c) for c in frame.columns[frame.columns.duplicated()]})
        raise InputError(f"column names must be unique; repeated: {quoted(repeated)}")
    columns = roles.of_frame(frame)
    label, class_names = encode_labels(frame[columns["label"]], classes)
    ids = _sample_ids(frame, columns, default_ids)
    group = as_text(frame[columns["group"]], "group") if "group" in columns else ids
    split = (
        as_text(frame[columns["split"]], "split", optional=True) if "split" in columns else [""] * len(frame)
    )
    used = {*columns.values(), *drop}
    metadata = frame[[column for column in frame.columns if column not in used]].reset_index(drop=True)
    metadata.columns = [str(column) for column in metadata.columns]
    clash = [column for column in metadata.columns if column in ROLES]
    if clash:
        raise InputError(
            f"the metadata column(s) {quoted(clash)} bear the name of a role that another column plays; "
            "rename or drop them"
        )
    parts = pd.DataFrame({"sample_id": ids, "label": label, "group": group, "split": split})
    return pd.concat([parts, metadata], axis=1), class_names, "group" in columns


def _sample_ids(
    frame: pd.DataFrame, columns: Mapping[str, str], default_ids: Sequence[str] | None
) -> list[str]:
    if "sample_id" in columns:
        ids = as_text(frame[columns["sample_id"]], "sample_id")
    elif default_ids is not None:
        ids = list(default_ids)
    else:
        width = len(str(len(frame) - 1))
        ids = [f"{i:0{width}d}" for i in range(len(frame))]
    check_unique(ids)
    return ids


def as_text(values: pd.Series, role: str, *, optional: bool = False) -> list[str]:
    """Text of each value; whole floats lose their ``.0``.

    A missing value is an InputError, or an empty text where the role is optional.
    """
    empty = values.isna().to_numpy()
    if empty.any() and not optional:
        rows = np.flatnonzero(empty)
        raise InputError(
            f"{rows.size} of {len(values)} rows have no {role} ({_rows(rows)}); fill or remove them"
        )
    present = values[~empty]
    if pd.api.types.is_float_dtype(present) and np.isfinite(present).all() and (present % 1 == 0).all():
        present = present.astype(np.int64)
    text = iter(str(value).strip() for value in present)
    return ["" if missing else next(text) for missing in empty]


def check_unique(ids: Sequence[str]) -> None:
    """Raise InputError naming the sample ids that occur more than once."""
    series = pd.Series(ids, dtype=object)
    repeated = series[series.duplicated()].unique().tolist()
    if repeated:
        raise InputError(
            f"{len(repeated)} sample_id(s) occur more than once, on different images: {quoted(repeated)}. "
            "An id belongs to one image: take the column that tells the images apart, or none"
        )


def encode_labels(
    values: pd.Series, classes: Sequence[str] | None = None
) -> tuple[Ints, tuple[str, ...] | None]:
    """Class numbers of a label column.

    Integers, whole floats, booleans and text of whole numbers are class numbers as they stand. Other text
    is mapped in sorted order, or in the order of `classes`.

    Returns
    -------
    labels : (N,) int64
    classes
        Names in label order, or None for numeric labels without names.

    Raises
    ------
    InputError
        For missing, fractional or negative labels, labels outside `classes`, several labels in a cell, and
        labels that differ in case alone.
    """
    missing = np.flatnonzero(values.isna())
    if missing.size:
        raise InputError(
            f"{missing.size} of {len(values)} labels are missing ({_rows(missing)}); "
            "fill them or remove the rows"
        )
    _refuse_lists(values)
    names = tuple(map(str, classes)) if classes is not None else None
    numeric = pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)
    if not numeric and (names is None or not set(map(str, values)) <= set(names)):
        numbers = pd.to_numeric(values.astype(str), errors="coerce")
        numeric = bool(numbers.notna().all())
        odd = sorted({str(value) for value in values[numbers.isna()]})
        if names is None and numbers.notna().any() and odd and all(map(says_unknown, odd)):
            raise InputError(
                f"the labels are numbers, but {quoted(odd)} in {int(numbers.isna().sum())} of {len(values)} "
                "rows: leave these rows out, or name all classes with classes=, if that is one"
            )
        values = numbers if numeric else values
    if numeric:
        return _class_numbers(values.to_numpy(dtype=np.float64), names), names
    text = values.astype(str)
    if names is None:
        names = tuple(sorted(set(text)))
        _refuse_several(names)
        _refuse_cases(names)
    unknown = sorted(set(text) - set(names))
    if unknown:
        raise InputError(
            f"{len(unknown)} label(s) are none of the classes {', '.join(map(repr, names))}: "
            f"{quoted(unknown)}"
        )
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[value] for value in text], dtype=np.int64), names


def _class_numbers(values: Floats, names: tuple[str, ...] | None) -> Ints:
    odd = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)) | (values < 0))
    if odd.size:
        examples = ", ".join(f"{v:g}" for v in values[odd[:_SHOWN]])
        uncertain = "; leave out the rows of -1 where it means uncertain" if (values == -1).any() else ""
        raise InputError(
            f"{odd.size} of {len(values)} labels are not class numbers (0, 1, 2, ...): "
            f"{examples} in {_rows(odd)}; give whole numbers from 0, or text{uncertain}"
        )
    if names is not None and values.max() >= len(names):
        raise InputError(
            f"label {values.max():g} is outside the {len(names)} classes {', '.join(map(repr, names))}"
        )
    return values.astype(np.int64)


def _refuse_lists(values: pd.Series) -> None:
    lists = [value for value in values if isinstance(value, list | tuple | set | dict | np.ndarray)]
    if lists:
        _refuse_cells(len(lists), lists[0])


def _refuse_several(names: Sequence[str]) -> None:
    """Refuse labels that are several in one cell: parted by bars, a list, or made of other labels."""
    alone = set(names)
    several = [
        name
        for name in names
        if "|" in name
        or (name[0] in "[{(" and name[-1] in "]})")
        or any(
            len(parts := [part.strip() for part in name.split(sign)]) > 1 and alone.issuperset(parts)
            for sign in ",;/+&"
        )
    ]
    if several:
        _refuse_cells(len(several), several[0])


def _refuse_cells(count: int, example: object) -> None:
    raise InputError(
        f"{count} label(s) hold several labels in one cell, such as {example!r}: a sample has one label. "
        "Choose one finding: make a column of 0 and 1 that says who has it, and give that as the label "
        "(or name all classes with classes=, if this is the name of one)"
    )


def _refuse_cases(names: Sequence[str]) -> None:
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    torn = [group for group in alike.values() if len(group) > 1]
    if torn:
        examples = "; ".join(" and ".join(map(repr, group)) for group in torn[:_SHOWN])
        raise InputError(
            f"labels differ in case or blanks alone: {examples}. Write them alike, or name all classes with "
            "classes="
        )


def quoted(names: Sequence[object], most: int = _SHOWN) -> str:
    """The first few names, quoted, for an error text."""
    return ", ".join(map(repr, names[:most])) + (" ..." if len(names) > most else "")


def _rows(rows: Ints) -> str:
    """Row numbers as text, counted from 0 as in the frame."""
    numbers = ", ".join(str(row) for row in rows[:_SHOWN])
    return f"row {numbers}{' ...' if len(rows) > _SHOWN else ''}, counted from 0"
