"""Several labels of a sample: columns of yes and no, or one column whose cells list the findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from shortcutscope.data.manifests.columns import ROLES, quoted, require_columns
from shortcutscope.data.manifests.words import key, says_absent, says_present, says_unknown
from shortcutscope.errors import InputError
from shortcutscope.models.heads.names import plain_name, positions_of
from shortcutscope.types import Floats

__all__ = ["LabelChoice", "Labels", "as_labels", "label_column", "label_columns", "one_of", "read_label"]

Uncertain = Literal["ignore", "positive", "negative"]
Blank = Literal["ignore", "negative"]

#: Words that leave a label open, as the -1 of CheXpert does.
_OPEN = {"uncertain", "maybe", "unsure", "indeterminate", "undetermined", "equivocal", "unclear", "possible"}
#: Words too short to say anything in a column of anything else.
_YES, _NO = {"y", "t", "pos", "+"}, {"n", "f", "neg"}
#: Most findings that the cells of a column may name where nobody says which are meant.
MOST_FINDINGS = 100
_UNCERTAIN = -1.0


@dataclass(frozen=True)
class Labels:
    """Several labels of each sample.

    Attributes
    ----------
    columns
        Columns of 0 and 1 (yes and no, True and False, ...), one a label; or the name of one column whose
        cells list the findings that a sample has, ``"Effusion|Mass"``.
    names
        Of such a column the findings that are labels; by default all that occur. ``"No Finding"`` and the
        like mean that there is none, unless they are among them. Case, blanks and underscores do not count.
    uncertain
        What -1, ``"uncertain"`` and the like become: ``"ignore"`` leaves the sample out for that label alone,
        ``"positive"`` and ``"negative"`` decide it.
    blank
        The same of an empty cell (not mentioned): ``"ignore"``, or ``"negative"``.
    separator
        Between the findings of a cell.

    Raises
    ------
    InputError
        For another word than these, no column, or `names` beside several columns.

    Examples
    --------
    >>> Labels(["Edema", "Effusion"], uncertain="positive").names_of(None)
    ('Edema', 'Effusion')
    """

    columns: str | Sequence[str]
    names: Sequence[str] | None = None
    uncertain: Uncertain = "ignore"
    blank: Blank = "ignore"
    separator: str = "|"

    def __post_init__(self) -> None:
        allowed = {"uncertain": get_args(Uncertain), "blank": get_args(Blank)}
        for name, words in allowed.items():
            if getattr(self, name) not in words:
                raise InputError(f"{name}={getattr(self, name)!r}; allowed are {', '.join(map(repr, words))}")
        if isinstance(self.names, str):
            raise InputError(f"names={self.names!r} is one name; give a list: names=[{self.names!r}]")
        if not isinstance(self.columns, str) and self.names is not None:
            raise InputError("names= is for one column whose cells list findings; leave it out")
        if not self.columns or not self.separator:
            raise InputError("several labels need columns, and findings in cells a separator; none is given")
        listed = self.names_of(None)
        _refuse_alike(listed)

    def names_of(self, found: Sequence[str] | None) -> tuple[str, ...]:
        """Names of the labels, of cells those that were `found` where nobody named them.

        Examples
        --------
        >>> ss.Labels(["Edema", "Effusion"]).names_of(None)
        ('Edema', 'Effusion')
        """
        if not isinstance(self.columns, str):
            return tuple(map(str, self.columns))
        return tuple(map(str, self.names if self.names is not None else found or ()))


#: How labels are asked for: one column of classes, several of yes and no, or `Labels`.
LabelChoice = str | Sequence[str] | Labels


def as_labels(label: LabelChoice) -> Labels | None:
    """The labels that are asked for; None for one column of classes."""
    if isinstance(label, str):
        return None
    return label if isinstance(label, Labels) else Labels(label)


def label_columns(label: LabelChoice) -> list[str]:
    """The columns of a user's frame that labels are read from."""
    columns = label.columns if isinstance(label, Labels) else label
    return [columns] if isinstance(columns, str) else list(map(str, columns))


def read_label(
    frame: pd.DataFrame, label: LabelChoice
) -> tuple[pd.DataFrame, str, tuple[str, ...], tuple[str, ...]]:
    """The frame, its column of the role ``label``, and of several labels names and how they were read."""
    labels = as_labels(label)
    if labels is None:
        return frame, str(label), (), ()
    frame, names, notes = with_labels(frame, labels)
    return frame, "label", names, notes


def label_column(name: str) -> str:
    """The column of a table's frame that holds a label: of its name, unless a role is called so."""
    return f"label: {name}" if name in ROLES else name


def one_of(name: str, labels: Sequence[str]) -> str:
    """The label of that name, however it is written.

    Raises
    ------
    InputError
        When there is none: it lists those there are.
    """
    places = positions_of(name, labels)
    if len(places) != 1:
        there = ", ".join(map(repr, labels)) or "none: the table has one label a sample"
        raise InputError(f"no label {name!r}; there are {there}")
    return labels[places[0]]


def with_labels(frame: pd.DataFrame, labels: Labels) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Read the labels of a user's frame.

    Returns
    -------
    frame
        With a column of 1, 0 and NaN (unknown) for each label, see `label_column`, and the role ``label``,
        which says nothing: it is 0.
    names
        Of the labels.
    notes
        What was read how, a sentence each.

    Raises
    ------
    InputError
        For a missing column, values that are neither yes nor no nor open (with the column's name), and a
        column called ``label`` that is none of the labels.
    """
    columns = [labels.columns] if isinstance(labels.columns, str) else list(map(str, labels.columns))
    require_columns(frame, columns)
    if "label" in frame and "label" not in columns:
        raise InputError(
            "the column 'label' is none of the labels "
            f"({quoted(columns, len(columns))}), and bears the name of their role; rename or drop it"
        )
    if isinstance(labels.columns, str):
        codes = _of_cells(frame[columns[0]], columns[0], labels)
    else:
        codes = {column: _of_column(frame[column], column) for column in columns}
    values = {name: _settled(code, labels) for name, code in codes.items()}
    rest = frame.drop(columns=columns)
    clash = [name for name in map(label_column, values) if name in rest]
    if clash:
        raise InputError(f"{quoted(clash)} is a label and a column of the table; rename or drop the column")
    added = pd.DataFrame({label_column(n): v for n, v in values.items()}, index=rest.index)
    notes = tuple(text for name in values for text in _told(name, codes[name], values[name], labels))
    return pd.concat([rest, added], axis=1).assign(label=0), tuple(values), notes


def _of_column(values: pd.Series, column: str) -> Floats:
    """1, 0, -1 (uncertain) or NaN (blank) of each cell."""
    words = {value: _code(value, column) for value in values.dropna().unique()}
    odd = [value for value, code in words.items() if code is None]
    if odd:
        raise InputError(
            f"label column {column!r} holds {quoted(odd)}; allowed are 0 and 1, yes and no, -1 or "
            "'uncertain', and empty cells. If it is one column whose cells list findings, give label=Labels("
            f"{column!r}) (--label {column!r} --labels-in-cells)"
        )
    return np.array([np.nan if pd.isna(v) else words[v] for v in values], np.float64)


def _code(value: object, column: str) -> float | None:
    """What a cell says; None where it says something else."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    else:
        return number if number in (0.0, 1.0, _UNCERTAIN) or np.isnan(number) else None
    word = key(str(value))
    if not word:
        return np.nan
    if word in _OPEN:
        return _UNCERTAIN
    if says_unknown(word):
        return np.nan
    if word in _YES or says_present(word, column):
        return 1.0
    return 0.0 if word in _NO or says_absent(word) else None


def _of_cells(values: pd.Series, column: str, labels: Labels) -> dict[str, Floats]:
    """The same of every finding that cells list."""
    cells = [
        None if pd.isna(v) else [p.strip() for p in str(v).split(labels.separator) if p.strip()]
        for v in values
    ]
    wanted = {plain_name(name) for name in labels.names_of(None)}
    occurring: dict[str, str] = {}
    for cell in cells:
        for finding in cell or ():
            occurring.setdefault(plain_name(finding), finding)
    none = {word for word in occurring if word not in wanted and says_absent(word)}
    open_ = {word for word in occurring if word not in wanted and says_unknown(word)}
    found = sorted(finding for word, finding in occurring.items() if word not in none | open_)
    if labels.names is None and not 0 < len(found) <= MOST_FINDINGS:
        raise InputError(
            f"the cells of {column!r} name {len(found)} findings ({quoted(found)}); name those that are the "
            "labels, names=[...] (--labels-in-cells A,B)"
        )
    names = labels.names_of(found)
    absent = [name for name in names if plain_name(name) not in occurring]
    if len(absent) == len(names):
        raise InputError(f"no cell of {column!r} names {quoted(absent)}; they name {quoted(found, 30)}")
    codes: dict[str, Floats] = {name: np.zeros(len(cells)) for name in names}
    for row, cell in enumerate(cells):
        said = {plain_name(finding) for finding in cell or ()}
        if said & none and said - none - open_:
            raise InputError(
                f"row {row} of {column!r} (counted from 0) says that there is nothing, and something: "
                f"{values.iloc[row]!r}; mend it"
            )
        unknown = not said - open_
        for name, code in codes.items():
            code[row] = np.nan if unknown else float(plain_name(name) in said)
    return codes


def _settled(codes: Floats, labels: Labels) -> Floats:
    """1, 0 and NaN, by what uncertain and blank mean."""
    meaning = {"ignore": np.nan, "positive": 1.0, "negative": 0.0}
    values = np.where(codes == _UNCERTAIN, meaning[labels.uncertain], codes)
    return np.where(np.isnan(codes), meaning[labels.blank], values)


def _told(name: str, codes: Floats, values: Floats, labels: Labels) -> list[str]:
    """How the cells of a label were read that say neither yes nor no."""
    texts = []
    for what, count, convention in (
        ("uncertain", int((codes == _UNCERTAIN).sum()), labels.uncertain),
        ("blank", int(np.isnan(codes).sum()), labels.blank),
    ):
        if count:
            done = "left out for this label" if convention == "ignore" else f"read as {convention}"
            texts.append(f"{count} {what} {done}")
    is_known = int(np.isfinite(values).sum())
    return (
        [f"label {name!r}: of {len(codes)} samples {' and '.join(texts)}, {is_known} known"] if texts else []
    )


def _refuse_alike(names: Sequence[str]) -> None:
    plain = [plain_name(name) for name in names]
    twice = sorted({name for name, one in zip(names, plain, strict=True) if plain.count(one) > 1})
    if twice:
        raise InputError(f"labels whose names are the same: {quoted(twice)}; name each once")
