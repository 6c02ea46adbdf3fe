"""Metadata columns as concepts: what kind a column is, and what its values 1 and 0 are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from shortcutscope.errors import InputError

Floats = npt.NDArray[np.float64]
ColumnKind = Literal["auto", "categorical", "continuous"]

_SHOWN = 5


@dataclass(frozen=True)
class ColumnConcept:
    """One concept of a column: its name, its values (0, 1 or NaN) and what they mean."""

    name: str
    values: Floats
    description: str


def column_values(
    series: pd.Series[Any],
    column: str,
    *,
    kind: ColumnKind = "auto",
    min_carriers: int = 10,
    max_levels: int = 12,
) -> list[ColumnConcept]:
    """Concepts of a column; see :meth:`shortcutscope.probes.concept.Concept.from_column`."""
    if kind not in ("auto", "categorical", "continuous"):
        raise InputError(f"kind={kind!r}; allowed are 'auto', 'categorical' and 'continuous'")
    if kind == "auto" and isinstance(series.dtype, pd.CategoricalDtype):
        kind = "categorical"
    series = _without_blanks(series.reset_index(drop=True))
    present = series.dropna()
    levels = _levels(present)
    if len(levels) < 2:
        what = f"one value only ({levels[0]!r})" if levels else "no value at all"
        raise InputError(f"column {column!r} has {what}; a concept needs samples with and without")
    numbers = _numbers(present)
    if len(levels) == 2 and kind != "continuous":
        made = [_binary(series, column, levels, numeric=numbers is not None)]
    elif numbers is not None and (
        kind == "continuous" or (kind == "auto" and _continuous(numbers, max_levels))
    ):
        _refuse_running_number(numbers, column)
        made = [_thirds(series, numbers, column)]
    else:
        if kind == "continuous":
            raise InputError(f"column {column!r} is not continuous: {present.iloc[0]!r} is no number")
        _refuse_ids(present, levels, column, max_levels)
        made = [_one_level(series, column, level) for level in levels]
    kept = [concept for concept in made if _smallest(concept) >= min_carriers]
    if not kept:
        raise InputError(
            f"column {column!r} has too few carriers: {'; '.join(_counts(made))}. At least {min_carriers} "
            "samples with and without are needed"
        )
    return kept


def _without_blanks(series: pd.Series[Any]) -> pd.Series[Any]:
    """Entries that are empty or white space count as missing."""
    if isinstance(series.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(series.dtype):
        series = series.astype(object)
    if series.dtype != object:
        return series
    blank = series.map(lambda value: isinstance(value, str) and not value.strip()).astype(bool)
    return series.mask(blank, None)


def _levels(present: pd.Series[Any]) -> list[Any]:
    """Distinct values in a stable order, also of mixed types."""
    return sorted(present.unique().tolist(), key=lambda v: (not isinstance(v, int | float), str(type(v)), v))


def _numbers(present: pd.Series[Any]) -> pd.Series[float] | None:
    """The values as numbers, dates as nanoseconds; ``None`` for anything else."""
    if pd.api.types.is_datetime64_any_dtype(present.dtype) or pd.api.types.is_timedelta64_dtype(
        present.dtype
    ):
        return present.astype("int64").astype(np.float64)
    if (
        present.dtype == object
        and not present.map(lambda v: isinstance(v, int | float | np.number | np.bool_)).all()
    ):
        return None
    try:
        numbers = present.astype(np.float64)
    except (TypeError, ValueError):
        return None
    if np.isinf(numbers).any():
        raise InputError(f"column {present.name!r} holds infinite values; make them missing or leave it out")
    return numbers


def _continuous(numbers: pd.Series[float], max_levels: int) -> bool:
    whole = bool((numbers == numbers.round()).all())
    return not whole or numbers.nunique() > max_levels


def _binary(series: pd.Series[Any], column: str, levels: list[Any], *, numeric: bool) -> ColumnConcept:
    low, high = levels
    if not numeric and (series == high).sum() > (series == low).sum():
        low, high = high, low  # the rarer string is the mark
    plain = low == 0 and high == 1
    values = _against(series, series == high)
    name = column if plain else f"{column}={_plain(high)}"
    return ColumnConcept(name, values, f"1: {column} is {_plain(high)}; 0: {column} is {_plain(low)}")


def _one_level(series: pd.Series[Any], column: str, level: Any) -> ColumnConcept:
    values = _against(series, series == level)
    text = f"1: {column} is {_plain(level)}; 0: any other value"
    return ColumnConcept(f"{column}={_plain(level)}", values, text)


def _thirds(series: pd.Series[Any], numbers: pd.Series[float], column: str) -> ColumnConcept:
    low, high = np.quantile(numbers, [1 / 3, 2 / 3])
    shown_low, shown_high = (_shown(series, numbers, cut) for cut in (low, high))
    number = numbers.reindex(series.index).to_numpy(np.float64)
    if low < high:
        values = np.where(number >= high, 1.0, np.where(number <= low, 0.0, np.nan))
        text = f"1: {column} >= {shown_high} (top third); 0: {column} <= {shown_low} (bottom); else unknown"
        return ColumnConcept(f"{column} high", values, text)
    # One value fills more than a third around the middle: it is one side, what differs the other.
    values = np.where(np.isnan(number), np.nan, number != low)
    return ColumnConcept(f"{column}!={shown_low}", values, f"1: {column} is not {shown_low}; 0: it is")


def _shown(series: pd.Series[Any], numbers: pd.Series[float], cut: float) -> str:
    """A cut in the column's own terms: the nearest value that occurs."""
    nearest = series.loc[numbers.index].iloc[int(np.abs(numbers.to_numpy() - cut).argmin())]
    return _plain(nearest)


def _plain(level: Any) -> str:
    """A level as one would write it: 7, not 7.0 because the column also has missing values."""
    return f"{level:g}" if isinstance(level, float | np.floating) else str(level)


def _against(series: pd.Series[Any], carries: pd.Series[bool]) -> Floats:
    values = carries.astype(object).where(series.notna(), np.nan)
    return values.to_numpy(np.float64)


def _refuse_running_number(numbers: pd.Series[float], column: str) -> None:
    distinct = np.unique(numbers)
    if len(distinct) == len(numbers) > 2 and bool((np.diff(distinct) == 1).all()):
        raise InputError(f"column {column!r} numbers the samples ({distinct[0]:g} ... {distinct[-1]:g})")


def _refuse_ids(present: pd.Series[Any], levels: list[Any], column: str, max_levels: int) -> None:
    examples = ", ".join(repr(level) for level in levels[:_SHOWN])
    if len(levels) == len(present):
        raise InputError(
            f"column {column!r} looks like ids: all {len(levels)} values differ ({examples}, ...)"
        )
    if len(levels) > max_levels:
        raise InputError(
            f"column {column!r} has {len(levels)} levels ({examples}, ...), more than {max_levels}. Group "
            "them into fewer, or raise max_levels"
        )


def _smallest(concept: ColumnConcept) -> int:
    return int(min((concept.values == 1).sum(), (concept.values == 0).sum()))


def _counts(concepts: list[ColumnConcept]) -> Iterator[str]:
    for concept in concepts[:_SHOWN]:
        with_it, without = int((concept.values == 1).sum()), int((concept.values == 0).sum())
        yield f"{concept.name}: {with_it} with, {without} without"
