"""Manifests as people have them: CSV with any usual separator and encoding, TSV, Parquet."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from shortcutscope.errors import InputError

__all__ = ["read_manifest", "trimmed"]

_HEAD_BYTES = 64 * 1024
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: How files of other kinds begin that get the ending .csv.
_OTHERS = (
    (b"PK\x03\x04", "an Excel file or an archive"),
    (b"\xd0\xcf\x11\xe0", "an Excel file"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", "packed with gzip"),
)
_SHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst")
#: What Excel puts before a table to say how its columns are parted.
_SAID = re.compile(r"\ufeff?\"?sep=(.)\"?\r?\n")
_COMMA_NUMBER = r"[+-]?\d+(?:,\d+)?"
_THOUSANDS = r"[+-]?\d{1,3}(?:,\d{3})*"


def read_manifest(
    path: str | Path, text_columns: Sequence[str], notes: list[str] | None = None
) -> pd.DataFrame:
    """Read a CSV, TSV or Parquet table; `text_columns` stay text, so that the id ``007`` stays one.

    A CSV may have commas, semicolons, tabs or bars between its columns, blanks after them and around the
    names, a byte order mark, and be in UTF-8 or UTF-16. Only empty cells are missing, columns without a name
    are called ``Unnamed: <number>``, empty rows are left out, and decimal commas are understood.

    Parameters
    ----------
    path
        The table.
    text_columns
        Columns of ids, names and files.
    notes
        Gets a sentence for each thing that was guessed or left out.

    Raises
    ------
    InputError
        When the file is missing, of another kind, in another encoding, empty, or cannot be parsed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such table: {str(path)!r}")
    kind = path.suffix.lower()
    if kind in _SHEETS:
        raise InputError(f"{str(path)!r} is a spreadsheet: save its sheet as CSV (UTF-8) and give that")
    if kind in _PACKED:
        raise InputError(f"{str(path)!r} is packed: unpack it and give the table in it")
    if kind not in (".csv", ".tsv", ".parquet"):
        raise InputError(f"{str(path)!r} is not a table; allowed are .csv, .tsv and .parquet")
    remarks = [] if notes is None else notes
    try:
        if kind == ".parquet":
            frame = pd.read_parquet(path)
            frame.columns = [str(column).strip() for column in frame.columns]
            return frame
        return _read_text(path, "\t" if kind == ".tsv" else ",", text_columns, remarks)
    except UnicodeDecodeError as error:
        raise InputError(
            f"the table {str(path)!r} is not in UTF-8 (byte {error.object[error.start]:#04x}): save it as "
            "UTF-8, in Excel as 'CSV UTF-8', or convert it: iconv -f LATIN1 -t UTF-8"
        ) from error
    except (OSError, ValueError) as error:  # pandas' and pyarrow's parser errors are ValueErrors
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read the table {str(path)!r}: {error}") from error


def _read_text(path: Path, default: str, text_columns: Sequence[str], notes: list[str]) -> pd.DataFrame:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        whole = not file.read(1)
    encoding = _encoding(path, head)
    text = codecs.getincrementaldecoder(encoding)("strict").decode(head)
    if not text.strip():
        raise InputError(
            f"the table {str(path)!r} is empty; it needs a line of column names and one per image"
        )
    line = _SAID.match(text)
    separator = line[1] if line else _separator(text, default, whole=whole)
    if separator != default and separator in _SEPARATORS:
        notes.append(f"the columns of {path.name} are parted by {_SEPARATORS[separator]}")
    rows = _records(text, separator, whole=whole)[1 if line else 0 :]
    if not rows:
        raise InputError(f"the table {str(path)!r} is empty; it needs a line of column names")
    header = [name.strip() for name in rows[0]]
    _refuse_repeated(path, header)
    _refuse_long_rows(path, header, rows)
    # Rows may end in a separator without a name for it; what is beyond the names is empty then.
    beyond = max(map(len, rows)) - len(header)
    names = [name or f"Unnamed: {k}" for k, name in enumerate(header)]
    names += [f"Unnamed: {len(header) + k}" for k in range(beyond)]
    frame = pd.read_csv(
        path,
        sep=separator,
        encoding=encoding,
        header=None,
        names=names,
        skiprows=_rows_of_header(text, separator) + (1 if line else 0),
        index_col=False,
        dtype=dict.fromkeys([c for c in text_columns if c in names], str),
        skipinitialspace=True,
        keep_default_na=False,
        na_values=[""],
        low_memory=False,
    )
    frame = frame.drop(columns=names[len(header) :])
    empty = frame.isna().all(axis=1)
    if empty.any():
        notes.append(f"{int(empty.sum())} empty row(s) of {path.name} were left out")
        frame = frame[~empty].reset_index(drop=True)
    for column in frame.columns.difference(list(text_columns), sort=False):
        frame[column] = _decimal_commas(frame[column], notes)
    return frame


def _encoding(path: Path, head: bytes) -> str:
    for start, what in _OTHERS:
        if head.startswith(start):
            raise InputError(
                f"{str(path)!r} is no text: it is {what}. Save or unpack it as CSV (UTF-8), or give it its "
                "own ending"
            )
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        raise InputError(
            f"{str(path)!r} is no text, or UTF-16 without a byte order mark: save it as CSV (UTF-8)"
        )
    return "utf-8"


def _separator(text: str, default: str, *, whole: bool) -> str:
    """The separator that gives every row as many fields as the header has, the most of them."""

    def fit(separator: str) -> tuple[bool, int]:
        rows = _records(text, separator, whole=whole)
        width = len(rows[0])
        return width > 1 and all(len(row) == width or not any(row[width:]) for row in rows), width

    return max([default, *(s for s in _SEPARATORS if s != default)], key=fit)


def _records(text: str, separator: str, *, whole: bool) -> list[list[str]]:
    """Rows of the beginning of a table; the last may be cut off."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        rows = [row for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"the table cannot be read: {error}") from error
    return rows if whole or len(rows) < 2 else rows[:-1]


def _rows_of_header(text: str, separator: str) -> int:
    """Rows up to the header and with it: empty ones may go before."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    return 1 + next(k for k, row in enumerate(reader) if any(map(str.strip, row)))


def _refuse_repeated(path: Path, header: Sequence[str]) -> None:
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated:
        raise InputError(
            f"column names must be unique; repeated in {str(path)!r}: {', '.join(map(repr, repeated))}"
        )


def _refuse_long_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate(rows[1:]):
        if any(field.strip() for field in row[len(header) :]):
            raise InputError(
                f"row {number} (counted from 0) of {str(path)!r} has {len(row)} fields, but there are "
                f"{len(header)} column names: put text that holds a separator in quotes, or name every column"
            )


def _decimal_commas(values: pd.Series, notes: list[str]) -> pd.Series:
    """Numbers of a text column in which all are numbers, some with a decimal comma."""
    if pd.api.types.is_numeric_dtype(values) or not len(values):
        return values
    texts = values.dropna().astype(str).str.strip()
    if not texts.str.contains(",", regex=False).any() or not texts.str.fullmatch(_COMMA_NUMBER).all():
        return values
    if texts.str.fullmatch(_THOUSANDS).all():
        notes.append(
            f"column {values.name!r} was left as text: its commas may part decimals or thousands "
            f"({texts[texts.str.contains(',', regex=False)].iloc[0]!r}); write decimal points"
        )
        return values
    notes.append(f"column {values.name!r} has decimal commas")
    return pd.to_numeric(values.astype(object).where(values.notna()).str.replace(",", ".", regex=False))


def trimmed(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A frame as a table takes it: no blanks around texts, no row numbers; and what was changed.

    Empty texts are missing. A column without a name that holds a number of its own for each row is left out.

    Raises
    ------
    InputError
        When column names repeat.
    """
    if not frame.columns.is_unique:
        repeated = sorted({str(c) for c in frame.columns[frame.columns.duplicated()]})
        raise InputError(f"column names must be unique; repeated: {', '.join(map(repr, repeated))}")
    numbers = [
        column
        for column in frame.columns
        if str(column).startswith("Unnamed: ")
        and pd.api.types.is_numeric_dtype(frame[column])
        and (frame[column] % 1 == 0).all()
        and frame[column].is_unique
        and len(frame) > 1
    ]
    notes = ["the column of row numbers, which has no name, was left out"] if numbers else []
    frame = frame.drop(columns=numbers)
    blanks: list[str] = []
    changed: dict[str, pd.Series] = {}
    for column in frame.columns:
        values = frame[column]
        if pd.api.types.infer_dtype(values, skipna=True) != "string" or isinstance(
            values.dtype, pd.CategoricalDtype
        ):
            continue
        stripped = values.str.strip()
        is_filled = values.notna().to_numpy()
        differs = np.zeros(len(values), dtype=bool)
        differs[is_filled] = stripped[is_filled].to_numpy(str) != values[is_filled].to_numpy(str)
        if not differs.any() and not (stripped[is_filled] == "").any():
            continue
        changed[column] = stripped.mask(stripped.eq("").fillna(False).astype(bool))
        if differs.any():
            blanks.append(f"{int(differs.sum())} entries of column {column!r}")
    if blanks:
        notes.append(f"blanks were taken off around {', '.join(blanks)}")
    if changed:
        frame = frame.copy()
        for column, stripped in changed.items():
            frame[column] = stripped
    return frame, notes
