"""Metadata columns as concepts: what kind a column is, and which of its values are present and absent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from shortcutscope.data.manifests.words import (
    key,
    says_absent,
    says_present,
    says_unknown,
    tell_presence,
    which_is_present,
)
from shortcutscope.errors import InputError
from shortcutscope.probes.reading import Entries, EntryKind, Level, Reading, entries, level_text, some
from shortcutscope.types import Array, Floats

ColumnKind = Literal["auto", "categorical", "continuous"]

_BOOLEANS = {"true": 1, "false": 0}
#: Words that are no numbers in a column of numbers, at most, for them to be marks of what is missing.
MOST_MARKERS = 4


@dataclass(frozen=True)
class ColumnConcept:
    """One concept of a column: its name, its values (0, 1 or NaN), what they mean and how they are read."""

    name: str
    values: Floats
    description: str
    reading: Reading


def column_values(
    series: pd.Series,
    column: str,
    *,
    kind: ColumnKind = "auto",
    min_carriers: int = 10,
    max_levels: int = 12,
    present: object = None,
    symmetric: bool = False,
) -> list[ColumnConcept]:
    """Concepts of a column; see :meth:`shortcutscope.probes.concept.Concept.from_column`."""
    if kind not in ("auto", "categorical", "continuous"):
        raise InputError(f"kind={kind!r}; allowed are 'auto', 'categorical' and 'continuous'")
    if kind == "auto" and isinstance(series.dtype, pd.CategoricalDtype):
        kind = "categorical"
    content = entries(series, column)
    if len(content.levels) < 2:
        raise InputError(_one_value(content, column))
    if present is not None:
        concepts = [_as_named(content, column, present)]
    elif content.kind == "words":
        concepts = _of_words(content, column, kind, max_levels, symmetric=symmetric)
    else:
        concepts = _of_numbers(content, column, kind, max_levels)
    frequent = [concept for concept in concepts if _smallest(concept) >= min_carriers]
    if not frequent:
        raise InputError(
            f"column {column!r} has too few carriers: {'; '.join(_counts(concepts))}. At least "
            f"{min_carriers} samples with and without are needed"
        )
    return frequent


def _as_named(content: Entries, column: str, present: object) -> ColumnConcept:
    """The level that the user says is the artifact, against the others."""
    named_level = entries(pd.Series([_BOOLEANS.get(str(present).casefold(), present)], dtype=object), column)
    same = named_level.levels if named_level.kind == content.kind else ()
    if content.kind == "words":
        same = tuple(x for x in content.levels if key(str(x)) == key(str(present)))
    if not same or not content.among(same).any():
        levels = some([repr(level_text(x, content.kind)) for x in content.levels], 20)
        raise InputError(f"present={present!r} is no value of column {column!r}; it has {levels}")
    open_ = (-1.0,) if _is_open(content) and same[0] != -1 else ()
    others = tuple(x for x in content.levels if x not in (*same, *open_))
    reading = Reading(column, content.kind, same, others if len(others) == 1 else (), open_)
    return _concept(_named(column, content.kind, same[0], others), reading, content, "as was said")


def _of_words(
    content: Entries, column: str, kind: ColumnKind, max_levels: int, *, symmetric: bool
) -> list[ColumnConcept]:
    levels = [str(level) for level in content.levels]
    if kind == "continuous":
        raise InputError(f"column {column!r} is not continuous: {levels[0]!r} is no number")
    if kind == "auto":
        _refuse_marked_numbers(content, column)
    unknown = [word for word in levels if says_unknown(word)]
    if unknown and tell_presence(levels, column):
        rest = next((w for w in levels if says_present(w, column)), None) or next(
            (w for w in levels if not says_absent(w) and not says_unknown(w)), levels[0]
        )
        raise InputError(
            f"column {column!r} has the words {some([repr(w) for w in levels], 12)}: does {unknown[0]!r} "
            f"mean that it is not known? Then say so (missing={unknown}, --missing {','.join(unknown)}); "
            f"else say which word is present, against all others (present={{{column!r}: {rest!r}}}, "
            f"--present '{column}={rest}')"
        )
    if len(levels) == 2:
        return [_two_words(content, column, levels, symmetric=symmetric)]
    _refuse_ids(content, column, max_levels)
    absent = tuple(word for word in levels if says_absent(word))
    others = [word for word in levels if word not in absent]
    why = f"{absent[0]!r} says absent" if absent else ""
    if absent and len(others) == 1:
        reading = Reading(column, "words", (others[0],), absent)
        return [_concept(f"{column}={others[0]}", reading, content, why)]
    if not others:
        absent, others = (), levels
    concepts = [_concept(f"{column}={word}", Reading(column, "words", (word,)), content) for word in others]
    if absent:
        concepts.append(
            _concept(f"{column}!={absent[0]}", Reading(column, "words", (), absent), content, why)
        )
    return concepts


def _two_words(content: Entries, column: str, levels: Sequence[str], *, symmetric: bool) -> ColumnConcept:
    present = which_is_present(levels, column)
    if present is None and not symmetric:
        first, second = levels
        raise InputError(
            f"say which of {first!r} and {second!r} in column {column!r} means that the artifact is there: "
            f"present={{{column!r}: {second!r}}}, on the command line --present '{column}={second}'"
        )
    # Neither word is the artifact: which is called 1 depends on the words alone.
    one = max(levels, key=lambda word: (key(word), word)) if present is None else present
    zero = next(word for word in levels if word != one)
    reading = Reading(column, "words", (one,), (zero,), symmetric=present is None)
    why = "symmetric: no value is known to be the artifact" if present is None else "by these words"
    return _concept(_named(column, "words", one, (zero,)), reading, content, why)


def _of_numbers(content: Entries, column: str, kind: ColumnKind, max_levels: int) -> list[ColumnConcept]:
    levels, entry = content.levels, content.kind
    if kind != "continuous":
        if _is_open(content) and kind == "auto":
            reading = Reading(column, entry, (1.0,), (0.0,), unknown=(-1.0,))
            return [_concept(column, reading, content, "-1 is taken for uncertain")]
        if len(levels) == 2:
            low, high = levels
            plain = (low, high) == (0.0, 1.0)
            why = "" if plain else "the larger is taken for present"
            reading = Reading(column, entry, (high,), (low,))
            return [_concept(_named(column, entry, high, (low,)), reading, content, why)]
        if kind == "categorical" or not _continuous(content, max_levels):
            _refuse_ids(content, column, max_levels)
            return [_one_number(content, column, level) for level in levels]
    _refuse_running_number(content, column)
    return [_thirds(content, column)]


def _is_open(content: Entries) -> bool:
    """Whether the column is 1, 0 and -1, as uncertain findings are written."""
    return content.kind == "numbers" and content.levels == (-1.0, 0.0, 1.0)


def _one_number(content: Entries, column: str, level: Level) -> ColumnConcept:
    name = level_text(level, content.kind)
    if level == 0 and content.kind == "numbers":  # none of what is counted: what there is, is the artifact
        return _concept(f"{column}!={name}", Reading(column, content.kind, absent=(level,)), content)
    return _concept(f"{column}={name}", Reading(column, content.kind, (level,)), content)


def _thirds(content: Entries, column: str) -> ColumnConcept:
    values = content.values[content.known]
    first, second = np.quantile(values, [1 / 3, 2 / 3])
    # A cut is a value that occurs, so that it can be written down in full.
    low, high = float(values[values <= first].max()), float(values[values >= second].min())
    if first < second:
        reading = Reading(column, content.kind, cuts=(low, high))
        return _concept(f"{column} high", reading, content, "top third against bottom third of these samples")
    # One value fills more than a third around the middle: it is one side, what differs the other.
    reading = Reading(column, content.kind, absent=(low,))
    return _concept(f"{column}!={level_text(low, content.kind)}", reading, content)


def _concept(name: str, reading: Reading, content: Entries, why: str = "") -> ColumnConcept:
    return ColumnConcept(name, reading.values(content), f"{reading}{f' ({why})' if why else ''}", reading)


def _named(column: str, kind: EntryKind, present: Level, others: Sequence[Level]) -> str:
    plain = kind == "numbers" and present == 1 and tuple(others) == (0.0,)
    plain |= kind == "words" and key(str(present)) == key(column)
    return column if plain else f"{column}={level_text(present, kind)}"


def _continuous(content: Entries, max_levels: int) -> bool:
    levels: Array = np.array(content.levels, np.float64)
    return bool((levels != levels.round()).any()) or len(levels) > max_levels


def _one_value(content: Entries, column: str) -> str:
    missing = int((~content.known).sum())
    what = (
        f"one value only ({level_text(content.levels[0], content.kind)!r})"
        if content.levels
        else "no value at all"
    )
    mend = ""
    if content.levels and missing:
        mend = (
            f". {missing} entries are empty, which is unknown: if empty means absent, write 0 (or no) there"
        )
    return f"column {column!r} has {what}; a concept needs samples with and without{mend}"


def _refuse_marked_numbers(content: Entries, column: str) -> None:
    odd, count = content.numeric()
    if not odd or len(odd) > MOST_MARKERS or count < content.known.sum() / 2:
        return
    rows = int(content.among(odd).sum())
    raise InputError(
        f"column {column!r} holds numbers, but {some([repr(word) for word in odd])} in {rows} of "
        f"{int(content.known.sum())} rows. If that means that nothing is known, say so: missing={odd}, on "
        f"the command line --missing {','.join(odd)}; if it is a level, say which one is tested: "
        f"--present '{column}={odd[0]}'"
    )


def _refuse_running_number(content: Entries, column: str) -> None:
    distinct = np.array(content.levels, np.float64)
    if len(distinct) == content.known.sum() > 2 and bool((np.diff(distinct) == 1).all()):
        raise InputError(f"column {column!r} numbers the samples ({distinct[0]:g} ... {distinct[-1]:g})")


def _refuse_ids(content: Entries, column: str, max_levels: int) -> None:
    levels = content.levels
    examples = ", ".join(repr(level_text(level, content.kind)) for level in levels[:5])
    if len(levels) == content.known.sum():
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
    for concept in concepts[:5]:
        with_it, without = int((concept.values == 1).sum()), int((concept.values == 0).sum())
        yield f"{concept.name}: {with_it} with, {without} without"
