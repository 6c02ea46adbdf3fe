"""Entries that mean missing because the user says so: NA, unknown, -9."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from shortcutscope.errors import InputError


def without_markers(frame: pd.DataFrame, markers: Sequence[str | float]) -> pd.DataFrame:
    """A frame in which the entries that are one of some markers are missing, as empty cells are.

    Parameters
    ----------
    frame
        Any.
    markers
        Words, whatever their case, and numbers.

    Raises
    ------
    InputError
        For a single word instead of a list of them.

    Examples
    --------
    >>> without_markers(pd.DataFrame({"age": ["61", "NA"]}), ["na"])["age"].tolist()
    ['61', nan]
    """
    if isinstance(markers, str):
        raise InputError(f"missing={markers!r} is one word; give a list: missing=[{markers!r}]")
    words = {str(marker).strip().casefold() for marker in markers}
    numbers = [number for number in map(_number, words) if number is not None]
    changed = {}
    for column in frame.columns[~frame.columns.duplicated(keep=False)] if words else ():
        values = frame[column]
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
            continue
        if pd.api.types.is_numeric_dtype(values):
            if values.isin(numbers).any():
                changed[column] = values.mask(values.isin(numbers))
            continue
        text = values.astype(object)
        marked = text.map(lambda value: isinstance(value, str) and value.strip().casefold() in words)
        if marked.any():
            changed[column] = text.mask(marked.astype(bool), np.nan)
    return frame.assign(**changed) if changed else frame


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
