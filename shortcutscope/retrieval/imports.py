"""Marks made in another tool: a CSV or Parquet table, FiftyOne's JSON, CVAT's XML; matched by sample id."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from shortcutscope.data.sample_names import SampleNames
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.places import has_places, read_places

#: What people write for yes and no. An empty field is no answer.
YES = ("1", "1.0", "true", "yes", "y", "x", "carrier", "accept", "accepted", "positive", "present")
NO = (
    "0",
    "0.0",
    "false",
    "no",
    "n",
    "free",
    "other",
    "reject",
    "rejected",
    "negative",
    "absent",
    "free of it",
)
EMPTY = ("", "nan", "none", "null", "<na>", "?", "unknown")
#: Columns looked for where none is named.
VALUE_COLUMNS = ("mark", "value", "answer", "review", "tags")
ID_COLUMNS = ("sample_id", "id", "filepath", "image", "name")


def read_marks(
    path: str | Path,
    sample_ids: Sequence[str],
    *,
    column: str | None = None,
    id_column: str | None = None,
    carrier: str | None = None,
    who: str = "",
    when: str = "",
    files: Mapping[str, str] | None = None,
) -> Marks:
    """Read marks that were made elsewhere.

    - CSV, TSV, Parquet (also as Renumics Spotlight writes them): a column of ids and one of answers, and
      where it is, if marked: boxes ``x0, y0, x1, y1`` in pixels of the file (several rows are several
      boxes), or clicks ``x, y``;
    - JSON of FiftyOne's dataset export (``samples.json``): each sample's ``tags``;
    - XML of "CVAT for images 1.1": each image's ``tag`` elements.

    Ids are sample ids. Where a tool keeps file names alone, the name without folder and image ending is
    compared, and must belong to one sample only. Samples that are there without an answer stay unmarked.

    Parameters
    ----------
    path
        The file.
    sample_ids
        Of the samples that can be marked.
    column, id_column
        Of a table; by default the first of the usual names that it has.
    carrier
        The tag or word that means "carries it", where it is none of the usual ones. Other words then mean
        "free of it".
    who, when
        Kept as given, for tables without such columns.
    files
        Sample id to the name of its image's file, where it is known; ids that were made of the names need
        none, and are found by the name as in the data.

    Raises
    ------
    InputError
        For a file that cannot be read, ids that are no samples or not of one sample, or words that are
        neither yes nor no.

    Examples
    --------
    >>> marks = ss.read_marks("marks.csv", list(data.frame["sample_id"]), carrier="yes")  # doctest: +SKIP
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the CSV, JSON or XML file that the tool wrote")
    kind, match = path.suffix.lower(), SampleNames(sample_ids, files=files)
    if kind in (".csv", ".tsv", ".parquet"):
        return _table(path, match, column, id_column, carrier, who, when)
    if kind not in (".json", ".xml"):
        raise InputError(
            f"{path} is {kind or 'without ending'}; allowed are .csv, .tsv, .parquet, .json, .xml"
        )
    rows = _fiftyone(path, carrier) if kind == ".json" else _cvat(path, carrier)
    answers = [(match(name), value) for name, value in rows if value is not None]
    return Marks(_marks_of(answers, path, who, when))


def _table(
    path: Path,
    match: SampleNames,
    column: str | None,
    id_column: str | None,
    carrier: str | None,
    who: str,
    when: str,
) -> Marks:
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        else:
            separator = "\t" if path.suffix.lower() == ".tsv" else None
            frame = pd.read_csv(path, dtype=str, sep=separator, engine="python", keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no table that can be read: {error}") from error
    ids = _column(frame, id_column, ID_COLUMNS, "sample ids", path)
    answers = _column(frame, column, VALUE_COLUMNS, "answers", path)
    values = [_value(_words(entry), carrier, path) for entry in frame[answers]]
    rows = [(match(str(n)), v) for n, v in zip(frame[ids], values, strict=True) if v is not None]
    columns = _marks_of(rows, path, who, when)
    present = pd.Series(values).notna().to_numpy()
    for name in ("who", "when"):
        if name in frame:
            texts = frame.loc[present, name].astype(str).to_numpy()
            columns[name] = np.where(texts == "", columns[name].to_numpy(), texts)
    # In a list of hits the boxes are what was found, which nobody has confirmed.
    if {"rank", "score"} <= set(frame) or not has_places(frame):
        return Marks(columns)
    named = frame.loc[present].assign(sample_id=columns["sample_id"].to_numpy())
    boxed = frame.loc[~present].assign(sample_id=frame.loc[~present, ids].astype(str))
    if len(unanswered := read_places(boxed)):
        raise InputError(
            f"{path} has a box of {unanswered['sample_id'].iloc[0]!r} and no answer in column "
            f"{answers!r}; a row "
            "with a box says 1"
        )
    return Marks(columns.drop_duplicates("sample_id", keep="last"), read_places(named))


def _fiftyone(path: Path, carrier: str | None) -> Iterable[tuple[str, float | None]]:
    with intact(path, "a FiftyOne export, which has a list 'samples'", "export it again"):
        for sample in json.loads(path.read_text(encoding="utf-8"))["samples"]:
            name = sample.get("sample_id") or sample.get("filepath") or ""
            yield str(name), _value(sample.get("tags") or [], carrier, path)


def _cvat(path: Path, carrier: str | None) -> Iterable[tuple[str, float | None]]:
    with intact(path, "a CVAT export", "export it again"):
        text = path.read_text(encoding="utf-8")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities can be made to fill the memory
        raise InputError(f"{path} declares a document type, which a CVAT export does not; it is not read")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path} is no CVAT export: {error}") from error
    for image in root.iter("image"):
        yield image.get("name", ""), _value([t.get("label", "") for t in image.iter("tag")], carrier, path)


def _marks_of(rows: Sequence[tuple[str, float]], path: Path, who: str, when: str) -> pd.DataFrame:
    if not rows:
        raise InputError(f"{path} holds no answer: no sample has a tag or an entry that means yes or no")
    frame = pd.DataFrame(rows, columns=["sample_id", "value"])
    torn = frame.drop_duplicates().duplicated("sample_id")
    if torn.any():
        name = frame.drop_duplicates().loc[torn, "sample_id"].iloc[0]
        raise InputError(f"{path} says yes and no of sample {name!r}; leave one answer")
    return frame.assign(who=who, when=when)


def _words(entry: Any) -> list[str]:
    """Words of a field, which may hold several tags."""
    if isinstance(entry, str):
        return entry.strip("[]").replace("'", "").replace(";", ",").split(",")
    if isinstance(entry, Iterable):
        return [str(part) for part in entry]
    return [str(entry)]


def _value(words: Iterable[str], carrier: str | None, path: Path) -> float | None:
    """1, 0, or None without an answer."""
    answers = [w for w in (str(word).strip().lower() for word in words) if w not in EMPTY]
    if not answers:
        return None
    if carrier is not None:
        return 1.0 if carrier.strip().lower() in answers else 0.0
    values = {1.0 if word in YES else 0.0 for word in answers if word in YES or word in NO}
    if len(values) != 1:
        raise InputError(
            f"{path} says {', '.join(answers)!r} of a sample; allowed are yes ({', '.join(YES[:8])}) or no "
            f"({', '.join(NO[:8])}). Name your own word for carriers"
        )
    return values.pop()


def _column(frame: pd.DataFrame, column: str | None, defaults: Sequence[str], what: str, path: Path) -> str:
    for name in [column] if column else defaults:
        if name in frame:
            return name
    expected = repr(column) if column else " or ".join(defaults)
    raise InputError(
        f"{path} has no column {expected} of {what}; its columns are {', '.join(map(str, frame))}"
    )
