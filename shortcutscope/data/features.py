"""Features of an encoder, from memory or from a file, checked before anything is measured of them."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from shortcutscope.data.manifests.columns import as_text, check_unique, quoted
from shortcutscope.errors import InputError
from shortcutscope.types import Array, Floats, Ints, Record

#: What the features are called in an npz, and the ids there and in a Parquet file.
FEATURE_NAMES = ("features", "embeddings", "embedding", "feats", "X", "x")
ID_NAMES = ("sample_id", "sample_ids", "ids")
#: A column of one feature: a name that ends in its number.
_NUMBERED = re.compile(r"(.*?)(\d+)")
_SAVE = "save it as npz: np.savez(file, features=features.astype(np.float32), sample_id=ids)"


@dataclass(frozen=True, eq=False)
class Features:
    """One vector for each of N samples, as an encoder gave it.

    Attributes
    ----------
    values
        (N, d), float32 or float64, finite.
    ids
        (N,) sample ids, where they are known.
    columns
        Further columns of the file: label, group, metadata.
    notes
        What was guessed or changed.
    """

    values: Floats
    ids: tuple[str, ...] | None = None
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: object, name: str = "features") -> Self:
        """Read features.

        Parameters
        ----------
        source
            An array or tensor (N, d), a DataFrame (columns ``f0``, ``f1``, ... or one column of lists, others
            are columns of the table), such a Parquet file, an npz with ``features`` and, best, ``sample_id``,
            or an npy file.
        name
            Of the encoder, for errors.

        Raises
        ------
        InputError
            What cannot be read, is no (N, d), holds other things than numbers, NaN or infinities, or does not
            vary at all.

        Examples
        --------
        >>> Features.of([[0.0, 1.0], [2.0, 3.0]]).values.shape
        (2, 2)
        """
        if isinstance(source, cls):
            return source
        where = f"encoder {name!r}"
        if isinstance(source, str | Path):
            raw, ids, columns = _read(Path(source), where)
        elif isinstance(source, pd.DataFrame):
            raw, ids, columns = _of_frame(source, where)
        else:
            raw, ids, columns = _as_array(source, where), None, pd.DataFrame()
        values, notes = _checked(raw, where)
        if ids is not None:
            check_unique(ids)
        return cls(values, None if ids is None else tuple(ids), columns, tuple(notes))

    @property
    def shape(self) -> tuple[int, int]:
        """(N, d)."""
        return self.values.shape[0], self.values.shape[1]

    def rows_of(self, ids: Sequence[str], name: str = "features") -> Ints:
        """Row of each of some samples, by the ids.

        Parameters
        ----------
        ids
            Of the samples.
        name
            Of the encoder, for errors.

        Raises
        ------
        InputError
            Where samples are missing.
        """
        position = {key: row for row, key in enumerate(self.ids or ())}
        missing = [key for key in ids if key not in position]
        if missing:
            raise InputError(
                f"encoder {name!r} has no features of {len(missing)} of {len(ids)} samples, among them "
                f"{quoted(missing)} (its ids: {quoted(self.ids or ())}); embed them, or take them off the "
                "table"
            )
        return np.array([position[key] for key in ids], np.intp)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of ids and values."""
        digest = hashlib.sha256("\0".join(self.ids or ()).encode())
        digest.update(repr((self.values.shape, self.values.dtype.str)).encode())
        digest.update(np.ascontiguousarray(self.values))
        return digest.hexdigest()


def _as_array(source: object, where: str) -> Array:
    if isinstance(source, torch.Tensor):
        tensor = source.detach().cpu()
        return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())
    try:
        return np.asarray(source)
    except ValueError as error:  # rows of different lengths
        raise InputError(
            f"{where}: the rows are not all of one length ({error}); give one vector (d,) per sample"
        ) from error


def _read(path: Path, where: str) -> tuple[Array, list[str] | None, pd.DataFrame]:
    if not path.is_file():
        raise InputError(f"{where}: no such file: {str(path)!r}")
    kind = path.suffix.lower()
    if kind not in (".npz", ".npy", ".parquet"):
        raise InputError(
            f"{where}: {path.name!r} cannot be read; allowed are .npz, .parquet and .npy. Read the file "
            f"yourself and give the array, or {_SAVE}"
        )
    try:
        if kind == ".parquet":
            return _of_frame(pd.read_parquet(path), where)
        if kind == ".npy":
            return np.load(path, allow_pickle=False), None, pd.DataFrame()
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
    except InputError:
        raise
    except Exception as error:  # a parser may raise anything
        objects = " It holds Python objects, which are not read, since they can run code:" * (
            "pickle" in str(error).lower()
        )
        raise InputError(
            f"{where}: {path.name!r} cannot be read.{objects} {error}. Convert the features to numbers and "
            f"{_SAVE}"
        ) from error
    return _of_arrays(arrays, where)


def _of_arrays(arrays: Record, where: str) -> tuple[Array, list[str] | None, pd.DataFrame]:
    """Features, ids and columns of the arrays of an npz."""
    wide = [key for key, array in arrays.items() if array.ndim >= 2]
    name_of_features = next((name for name in FEATURE_NAMES if name in wide), None)
    if name_of_features is None and len(wide) != 1:
        raise InputError(
            f"{where}: which array of the npz holds the features? It has {quoted(list(arrays), 20)}; call "
            "that of shape (N, d) 'features'"
        )
    values = arrays[name_of_features or wide[0]]
    flat = {
        key: array if array.dtype.kind != "S" else np.char.decode(array, "utf-8")
        for key, array in arrays.items()
        if array.ndim == 1 and len(array) == len(values)
    }
    key = next((name for name in ID_NAMES if name in arrays), None)
    if key is not None and key not in flat:
        raise InputError(
            f"{where}: {key} has the shape {arrays[key].shape} for features {values.shape}; one id per row "
            "is needed"
        )
    ids = None if key is None else as_text(pd.Series(flat.pop(key)), "sample_id")
    return values, ids, pd.DataFrame(flat)


def _of_frame(frame: pd.DataFrame, where: str) -> tuple[Array, list[str] | None, pd.DataFrame]:
    """Features, ids and columns of a table: numbered columns, or one of lists."""
    frame = frame.rename(columns=str)
    if not frame.columns.is_unique:
        raise InputError(f"{where}: column names must be unique")
    key = next((name for name in ID_NAMES if name in frame.columns), None)
    ids = None if key is None else as_text(frame[key], "sample_id")
    rest = frame if key is None else frame.drop(columns=key)
    lists = [c for c in rest.columns if rest[c].map(_is_list).any()]
    if len(lists) > 1:
        raise InputError(f"{where}: several columns hold lists: {quoted(lists)}; give one of them alone")
    if lists:
        return _stacked(rest[lists[0]], where), ids, rest.drop(columns=lists).reset_index(drop=True)
    names = _numbered(rest, where)
    if not names:
        raise InputError(
            f"{where}: no features among the columns {quoted(list(frame.columns), 10)}; call them f0, f1, "
            "..., or give one column of lists"
        )
    return rest[names].to_numpy(), ids, rest.drop(columns=names).reset_index(drop=True)


def _is_list(entry: object) -> bool:
    return isinstance(entry, list | tuple) or (isinstance(entry, np.ndarray) and entry.ndim == 1)


def _stacked(column: pd.Series, where: str) -> Array:
    missing = int((~column.map(_is_list)).sum())
    if missing:
        raise InputError(f"{where}: {missing} rows have no features; leave them out")
    lengths = sorted({len(entry) for entry in column})
    if len(lengths) > 1:
        raise InputError(f"{where}: the lists are of different lengths ({quoted(lengths)})")
    return np.stack([np.asarray(entry) for entry in column])


def _numbered(frame: pd.DataFrame, where: str) -> list[str]:
    """Columns that are one feature each, by their number and not by their place."""
    families: dict[str, dict[int, str]] = defaultdict(dict)
    for column in frame.columns:
        match = _NUMBERED.fullmatch(column)
        if match and pd.api.types.is_numeric_dtype(frame[column]):
            families[match[1]][int(match[2])] = column
    running = {
        prefix: [by_number[k] for k in sorted(by_number)]
        for prefix, by_number in families.items()
        if len(by_number) > 1 or prefix == "f"
    }
    if len(running) > 1 and "f" in running:
        running = {"f": running["f"]}
    if len(running) > 1:
        first_columns = [columns[0] for columns in running.values()]
        raise InputError(
            f"{where}: which columns are the features, those of {quoted(first_columns)}? Call them f0 ..."
        )
    for prefix, columns in running.items():
        numbers = sorted(families[prefix])
        gaps = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
        if gaps or numbers[0] > 1:
            raise InputError(
                f"{where}: columns {prefix}{numbers[0]} to {prefix}{numbers[-1]} are {len(numbers)}: "
                f"{prefix}{gaps[0] if gaps else 0} is missing. Number the features from 0 without gaps"
            )
        return columns
    return []


def _checked(raw: Array, where: str) -> tuple[Floats, list[str]]:
    """Features as floating-point numbers that can be measured, and what was changed."""
    if raw.ndim != 2 or 0 in raw.shape:
        pool = " Average the tokens, or take the class token: one vector per sample." * (raw.ndim > 2)
        raise InputError(f"{where}: the features have the shape {raw.shape}; needed is (N, d).{pool}")
    kind: Any = raw.dtype.kind
    if kind not in "fiu":
        what = "Python objects" if kind == "O" else f"{raw.dtype} values"
        raise InputError(
            f"{where}: the features are {what}, not numbers; convert them: features.astype(np.float32)"
        )
    notes = []
    if raw.dtype == np.float16:
        notes.append("features in half precision: differences of less than a thousandth are rounding")
    values = (
        raw if raw.dtype in (np.float32, np.float64) else raw.astype(np.float32 if kind == "f" else float)
    )
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        half = " In half precision, values above 65,504 are infinite: save them as float32." * (
            raw.dtype == np.float16
        )
        raise InputError(
            f"{where}: {len(bad)} of {len(values)} rows hold NaN or infinities, the first is row {bad[0]} "
            f"(counted from 0); leave these samples out or embed them anew.{half}"
        )
    constant = int((values == values[:1]).all(axis=0).sum())
    if constant == values.shape[1]:
        raise InputError(
            f"{where}: all {len(values)} rows are the same: the encoder saw one image, or its output was not "
            "read"
        )
    if constant:
        notes.append(f"{constant} of {values.shape[1]} features are the same for all samples")
    return values, notes


def duplicates(values: Floats, groups: Sequence[str] | Array) -> int:
    """Samples whose features are exactly those of another patient's sample: the same image twice, perhaps."""
    codes, _ = pd.factorize(np.array([row.tobytes() for row in values], dtype=object))
    first = np.unique(codes, return_index=True)[1]
    patients = np.asarray(groups)
    return int((patients != patients[first[codes]]).sum())
