"""What a user means by the name of a concept: as an audit read it, or read anew from a column."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.data.manifests.columns import ROLES
from shortcutscope.data.properties.names import measured_source
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.reading import Reading


def finding_named(name: str, findings: Sequence[FindingRecord]) -> FindingRecord | None:
    """The finding of a name, or the only one that was read from a column of that name."""
    exact = [finding for finding in findings if finding.name == name]
    matches = [f for f in findings if f.reading is not None and f.reading.column == name]
    if exact:
        return exact[0]
    return matches[0] if len(matches) == 1 else None


def frames_with(reading: Reading | None, tables: Sequence[ImageTable]) -> list[pd.DataFrame]:
    """Frames of tables; where a concept was read from a measured column, with that measured of their images.

    Raises
    ------
    InputError
        Names images that cannot be read.
    """
    if reading is None or measured_source(reading.column) is None:
        return [table.frame for table in tables]
    quiet = Running(progress=False)
    return [t.frame if reading.column in t.frame else t.measured(quiet).frame for t in tables]


def read_again(finding: FindingRecord, frames: Sequence[pd.DataFrame]) -> Concept | None:
    """A finding's concept over the samples of some tables, read from its column exactly as in the audit.

    None where the finding was not read from a column, or the first table lacks it.

    Raises
    ------
    InputError
        When the column holds what the reading does not know.
    """
    reading = finding.reading
    if reading is None or reading.column not in frames[0]:
        return None
    ids = frames[0]["sample_id"].to_numpy()
    concept = Concept(
        finding.name, reading.of(frames[0]), finding.origin, ids, finding.description, reading=reading
    )
    return over(concept, frames)


def over(concept: Concept, frames: Sequence[pd.DataFrame]) -> Concept:
    """A concept that was read from a column over the samples of all tables that have it.

    Raises
    ------
    InputError
        When the column holds what the reading does not know, or no sample of the first table carries it.
    """
    assert concept.reading is not None
    parts = [concept.on(frame) for frame in frames if concept.reading.column in frame]
    if not parts[0].n_carriers:
        raise InputError(
            f"none of the {len(parts[0])} samples carries {concept.name!r} ({concept.reading}): column "
            f"{concept.reading.column!r} may be written otherwise here"
        )
    ids = np.concatenate([part.sample_ids for part in parts])
    values = np.concatenate([part.values for part in parts])
    first = np.sort(np.unique(ids, return_index=True)[1])
    return Concept(
        concept.name, values[first], concept.origin, ids[first], concept.description, reading=concept.reading
    )


def read_anew(
    name: str,
    frames: Sequence[pd.DataFrame],
    *,
    present: Mapping[str, str | float | bool],
    known: Sequence[str] = (),
) -> Concept:
    """The concept of a column, or of one of its levels ("site=B", "age high"), over the samples of tables.

    Parameters
    ----------
    name
        A column of the first table, or the name of one of the concepts that it makes.
    frames
        Read together, so that which value is which does not depend on how frequent it is in one of them.
    present
        Column to the value that means present, see
        :meth:`shortcutscope.probes.concept.Concept.from_column`.
    known
        Findings, which are named in the error.

    Raises
    ------
    InputError
        For a name that is none of them, and for a column that makes several concepts.
    """
    columns = [column for column in frames[0].columns if column not in ROLES]
    column, level = _parted(name, columns)
    if column is None:
        close = difflib.get_close_matches(name, [*columns, *known], n=3, cutoff=0.25)
        raise InputError(
            f"there is no column {name!r}, nor a concept of that name; the columns are "
            f"{', '.join(map(repr, columns)) or 'none'}"
            + (f"; the audit's findings are {', '.join(map(repr, known))}" if known else "")
            + (f". Did you mean {' or '.join(map(repr, close))}?" if close else "")
        )
    parts = [frame[["sample_id", column]] for frame in frames if column in frame]
    frame = pd.concat(parts, ignore_index=True).drop_duplicates("sample_id")
    concepts = Concept.from_column(frame, column, present=present.get(column, level))
    matches = [one for one in concepts if one.name == name]
    if column != name and not matches:
        raise InputError(
            f"column {column!r} makes no concept {name!r}, but "
            f"{', '.join(repr(one.name) for one in concepts)}"
        )
    concepts = matches or concepts
    if len(concepts) > 1:
        raise InputError(
            f"the column {column!r} is several concepts, {', '.join(repr(one.name) for one in concepts)}: "
            "name one"
        )
    return concepts[0]


def _parted(name: str, columns: Sequence[str]) -> tuple[str | None, str | None]:
    """Column of a name, and the level that it names."""
    if name in columns:
        return name, None
    for column in sorted(columns, key=len, reverse=True):
        rest = name.removeprefix(column)
        if rest != name and (rest == " high" or rest.startswith(("=", "!="))):
            return column, rest.removeprefix("=") if rest.startswith("=") else None
    return None, None
