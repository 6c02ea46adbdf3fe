"""How the entries of a column are read as present, absent or unknown: the same in every table."""

from __future__ import annotations

import datetime
import decimal
import numbers as kinds_of_number
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from shortcutscope.data.manifests.words import key
from shortcutscope.errors import InputError
from shortcutscope.types import JSON, Array, Bools, Floats

Level = str | float
EntryKind = Literal["words", "numbers", "dates"]

_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|[+-]?\.\d+")
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a column.

    Attributes
    ----------
    kind
        ``"words"``, ``"numbers"`` (True is 1) or ``"dates"``.
    values
        ``(N,)`` numbers, or seconds since 1970, NaN where missing; of words the number of the level.
    levels
        The distinct entries, sorted; words as they are written (of spellings that differ in case alone the
        first).
    """

    kind: EntryKind
    values: Floats
    levels: tuple[Level, ...]

    @property
    def known(self) -> Bools:
        """``(N,)`` entries that are not missing."""
        return ~np.isnan(self.values)

    def among(self, levels: Sequence[Level]) -> Bools:
        """``(N,)`` entries that are one of some levels."""
        if self.kind != "words":
            return np.isin(self.values, [float(level) for level in levels])
        keys = {key(str(level)) for level in levels}
        return np.isin(self.values, [k for k, level in enumerate(self.levels) if key(str(level)) in keys])

    def numeric(self) -> tuple[list[str], int]:
        """Of words: those that are no numbers, and how many entries are numbers all the same."""
        odd = [str(level) for level in self.levels if not _NUMBER.fullmatch(str(level).strip())]
        return odd, int((self.known & ~self.among(odd)).sum())


def entries(series: pd.Series, column: str) -> Entries:
    """The entries of a column; None, NaN and blanks are missing, and text of numbers are numbers.

    Raises
    ------
    InputError
        For lists and other entries that are several values, and infinite numbers.
    """
    series = series.reset_index(drop=True)
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(object)
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return _dates(series)
    if pd.api.types.is_timedelta64_dtype(series.dtype):
        series = series.dt.total_seconds()
    if pd.api.types.is_complex_dtype(series.dtype):
        raise InputError(f"column {column!r} holds complex numbers; make it a column of numbers or words")
    if pd.api.types.is_numeric_dtype(series.dtype) or pd.api.types.is_bool_dtype(series.dtype):
        return _numbers(series.to_numpy(np.float64, na_value=np.nan), column)
    refuse_several(series, column)
    codes, distinct = pd.factorize(series.astype(object))
    text = [_text(value) for value in distinct]
    present = [value for value, word in zip(distinct, text, strict=True) if word]
    if present and all(isinstance(value, datetime.date) for value in present):
        return _dates(pd.to_datetime(series.astype(object), utc=True))
    if present and all(_NUMBER.fullmatch(word) for word in text if word):
        numbers = [float(word) if word else np.nan for word in text]
        return _numbers(np.array([*numbers, np.nan])[codes], column)
    spelled: dict[str, str] = {}
    for word in filter(None, text):
        spelled[key(word)] = min(word, spelled.get(key(word), word))
    order = {same: k for k, same in enumerate(sorted(spelled, key=lambda same: (spelled[same], same)))}
    values = np.array([order.get(key(word), np.nan) for word in text] + [np.nan], np.float64)[codes]
    return Entries("words", values, tuple(spelled[same] for same in order))


def refuse_several(series: pd.Series, column: str) -> None:
    """Refuse a column whose entries are several values each.

    Raises
    ------
    InputError
        Names an entry, and how to make columns of it.
    """
    if series.dtype != object and not isinstance(series.dtype, pd.ArrowDtype):
        return
    several = [v for v in series if isinstance(v, list | tuple | set | frozenset | dict | np.ndarray)]
    if several:
        raise InputError(
            f"column {column!r} holds several values in an entry, such as {str(several[0])[:80]}; a concept "
            "has one per sample. Make a column of 0 and 1 for each value that is to be tested"
        )


def _text(value: object) -> str:
    """An entry as text, empty where it is missing."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return ""
    if isinstance(value, kinds_of_number.Number | np.number | np.bool_) and not isinstance(value, complex):
        number = float(value)  # type: ignore[arg-type]
        return level_text(number) if np.isfinite(number) else str(number)
    if isinstance(value, decimal.Decimal):
        return str(value)
    return " ".join(str(value).split())


def _numbers(values: Array, column: str) -> Entries:
    values = np.asarray(values, np.float64)
    if np.isinf(values).any():
        raise InputError(f"column {column!r} holds infinite values; make them missing or leave it out")
    return Entries("numbers", values, tuple(np.unique(values[~np.isnan(values)]).tolist()))


def _dates(series: pd.Series) -> Entries:
    if series.dt.tz is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    seconds = np.asarray((series - pd.Timestamp(0)).dt.total_seconds(), np.float64)
    return Entries("dates", seconds, tuple(np.unique(seconds[~np.isnan(seconds)]).tolist()))


def level_text(level: Level, kind: EntryKind = "numbers") -> str:
    """A level as one would write it: 7, not 7.0 because the column also has missing values."""
    if isinstance(level, str):
        return level
    if kind == "dates":
        return str(pd.Timestamp(level, unit="s"))
    return str(int(level)) if level == int(level) and abs(level) < 1e15 else f"{level:.12g}"


@dataclass(frozen=True)
class Reading:
    """How the entries of a column become 1, 0 and unknown.

    Attributes
    ----------
    column
        Its name.
    kind
        Of its entries: ``"words"``, ``"numbers"`` or ``"dates"``.
    present, absent
        Levels that are 1, and 0. Where one of the two is empty, it is any other entry; where neither is, a
        further level is refused.
    unknown
        Levels that are unknown, as missing entries are.
    cuts
        Of numbers: 0 up to the first, 1 from the second, unknown between; instead of levels.
    symmetric
        Neither value is known to be the artifact: that one of them is 1 is a convention.

    Examples
    --------
    >>> import pandas as pd
    >>> Reading("ring", "words", present=("present",), absent=("absent",)).of(
    ...     pd.DataFrame({"ring": ["Absent", "present", None]})
    ... )
    array([ 0.,  1., nan])
    """

    column: str
    kind: EntryKind
    present: tuple[Level, ...] = ()
    absent: tuple[Level, ...] = ()
    unknown: tuple[Level, ...] = ()
    cuts: tuple[float, float] | None = None
    symmetric: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(EntryKind):
            raise InputError(f"kind={self.kind!r}; allowed are {', '.join(get_args(EntryKind))}")
        if (self.cuts is None) != bool(self.present or self.absent):
            raise InputError(f"the reading of {self.column!r} needs levels, or cuts, and not both")

    def of(self, frame: pd.DataFrame) -> Floats:
        """Values ``(N,)``: 1, 0, or NaN where unknown.

        Raises
        ------
        InputError
            When the frame lacks the column, its entries are of another kind, or one is of a level that the
            reading does not know.
        """
        if self.column not in frame:
            raise InputError(
                f"the table has no column {self.column!r}, by which the concept is read ({self}); its "
                f"columns are {some(list(frame.columns), 20)}"
            )
        content = entries(frame[self.column], self.column)
        if content.kind != self.kind and content.known.any():
            raise InputError(
                f"column {self.column!r} holds {content.kind} here "
                f"({some([level_text(x, content.kind) for x in content.levels])}), but the concept was read "
                f"from {self.kind}: {self}. Write the column alike in both tables"
            )
        return self.values(content)

    def values(self, content: Entries) -> Floats:
        """As :meth:`of`, of entries of the same kind."""
        is_known = content.known & ~content.among(self.unknown)
        if self.cuts is not None:
            low, high = self.cuts
            with np.errstate(invalid="ignore"):
                cut = np.where(content.values >= high, 1.0, np.where(content.values <= low, 0.0, np.nan))
            return np.where(is_known, cut, np.nan)
        present, absent = content.among(self.present), content.among(self.absent)
        if self.present and self.absent:
            self._refuse_new(content, is_known & ~present & ~absent)
        carries = present if self.present else ~absent
        return np.where(is_known, carries.astype(np.float64), np.nan)

    def _refuse_new(self, content: Entries, new: Bools) -> None:
        if not new.any():
            return
        unknown = [level_text(x, self.kind) for x in content.levels if (content.among([x]) & new).any()]
        raise InputError(
            f"column {self.column!r} holds {some([repr(x) for x in unknown])} in {int(new.sum())} of "
            f"{len(new)} rows, which the concept does not know ({self}). Make these entries missing (missing="
            f"{unknown[:_SHOWN]}, --missing {','.join(unknown[:_SHOWN])}), or name a concept with the level"
        )

    def __str__(self) -> str:
        """What is 1, and what is 0."""
        name = self.column
        if self.cuts is not None:
            low, high = (level_text(cut, self.kind) for cut in self.cuts)
            return f"1: {name} >= {high}; 0: {name} <= {low}; else unknown"
        present, absent = (
            " or ".join(level_text(x, self.kind) for x in levels) for levels in (self.present, self.absent)
        )
        one = f"{name} is {present}" if present else "any other value"
        zero = f"{name} is {absent}" if absent else "any other value"
        unknown = " or ".join(level_text(x, self.kind) for x in self.unknown)
        return f"1: {one}; 0: {zero}" + (f"; unknown: {unknown}" if unknown else "")

    @classmethod
    def from_dict(cls, values: JSON) -> Reading:
        """Read it from ``findings.json``."""
        levels = {name: tuple(values.get(name) or ()) for name in ("present", "absent", "unknown")}
        cuts = values.get("cuts")
        return cls(
            str(values["column"]),
            values["kind"],
            cuts=None if cuts is None else (float(cuts[0]), float(cuts[1])),
            symmetric=bool(values.get("symmetric")),
            **levels,
        )


def some(values: Iterable[Any], most: int = _SHOWN) -> str:
    """The first few values, for an error text."""
    items = [str(value) for value in values]
    return ", ".join(items[:most]) + (f", ... ({len(items)} in all)" if len(items) > most else "")
