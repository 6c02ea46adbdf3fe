"""Development data: samples of a comparison that guided the correction which is judged by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from torch import nn

from shortcutscope.compare.networks import After
from shortcutscope.compare.setup import ComparisonSetup
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.student import Student
from shortcutscope.errors import InputError
from shortcutscope.probes.verdict import VerdictRule, untestable
from shortcutscope.types import Bools, Record

__all__ = ["apart_from_development", "students_of"]

#: What samples did for a student, by what they are called where it was made.
ROLES = {
    "held_out": "its teacher was judged on them",
    "validation": "its weights were chosen by them",
}
TRAINED = ("train", "clean")


@dataclass(frozen=True)
class _Shared:
    """Samples of one table that guided one student."""

    student: str
    role: str
    rows: Bools


def students_of(after: After) -> dict[str, Student]:
    """Those of the compared networks that are students, by name."""
    if isinstance(after, Student):
        return {after.recipe: after}
    if isinstance(after, nn.Module):
        return {}
    if isinstance(after, Mapping):
        return {str(name): one for name, one in after.items() if isinstance(one, Student)}
    return {one.recipe: one for one in after if isinstance(one, Student)}


def apart_from_development(
    setup: ComparisonSetup, students: Mapping[str, Student]
) -> tuple[ComparisonSetup, tuple[Record, ...]]:
    """The same with a further table beside each that holds development data: what remains without them.

    What remains is the main table in the place of the whole one, where the concept can be tested on it.

    Parameters
    ----------
    setup
        Tables and concept.
    students
        By name.

    Returns
    -------
    setup
        With the further tables and notes.
    records
        For each table that holds some: ``table``, ``n``, ``of``, ``students`` (name to roles), ``rest``
        (name of the further table, None where too little remains) and ``text``.

    Raises
    ------
    InputError
        For samples, or patients, that a student was trained on.
    """
    records: list[Record] = []
    for name, table in list(setup.tables.items()):
        shared = [one for k, student in students.items() for one in _shared(name, table, k, student)]
        if not shared:
            continue
        guided = np.logical_or.reduce([one.rows for one in shared])
        setup, rest = _with_rest(setup, name, guided)
        records.append(_record(name, guided, shared, rest))
    unknown = [name for name, student in students.items() if student.guided is None]
    notes = [record["text"] for record in records]
    if unknown:
        notes.append(
            f"of {', '.join(unknown)} is not recorded which samples guided it: made by an older version, or "
            "read from a folder without guided.parquet; see to it that they are none of these"
        )
    return replace(setup, notes=(*setup.notes, *notes)), tuple(records)


def _shared(table_name: str, table: ImageTable, name: str, student: Student) -> list[_Shared]:
    guided = student.guided
    if guided is None:
        return []
    found = []
    for role in map(str, guided["role"].unique()):
        part = guided[guided["role"] == role]
        rows = _rows(table, part)
        if not rows.any():
            continue
        if role in TRAINED:
            raise InputError(
                f"{int(rows.sum())} of {len(table)} samples of the table {table_name!r} are such as {name!r} "
                f"was trained on, or of their patients ({role} samples); what is "
                "judged on must not be trained on: give held-out samples of other patients"
            )
        found.append(_Shared(name, role, rows))
    return found


def _rows(table: ImageTable, guided: pd.DataFrame) -> Bools:
    """(N,) which samples, or whose patients, are among those that guided."""
    rows = table.frame["sample_id"].isin(set(guided["sample_id"]))
    patients = set(guided["group"].dropna())
    if table.has_groups and patients:
        rows |= table.frame["group"].isin(patients)
    return np.asarray(rows.to_numpy(), dtype=np.bool_)


def _with_rest(setup: ComparisonSetup, name: str, guided: Bools) -> tuple[ComparisonSetup, str | None]:
    """With the samples of a table that did not guide, where both classes and both values remain in them."""
    table, concept = setup.tables[name], setup.concept[name]
    rest_rows = np.flatnonzero(~guided)
    values = concept.aligned_to(table.frame["sample_id"]).values[rest_rows]
    labels = table.frame["label"].to_numpy()[rest_rows]
    cells = [((labels == y) & (values == t)).sum() for y in np.unique(table.frame["label"]) for t in (0, 1)]
    if not len(rest_rows) or min(cells) == 0:
        return setup, None
    rest = table.take(rest_rows)
    rest_name = f"{name} without development data"
    groups = rest.frame["group"].to_numpy()
    testable = untestable(values, labels, groups, VerdictRule()) is None
    return (
        replace(
            setup,
            tables={**setup.tables, rest_name: rest},
            concept={**setup.concept, rest_name: concept.aligned_to(rest.frame["sample_id"])},
            main=rest_name if setup.main == name and testable else setup.main,
        ),
        rest_name,
    )


def _record(table: str, guided: Bools, shared: Sequence[_Shared], rest: str | None) -> Record:
    by_student: dict[str, list[str]] = {}
    for one in shared:
        by_student.setdefault(one.student, []).append(one.role)
    roles = sorted({one.role for one in shared})
    remains = (
        f"what is left of every metric without them is that of the table {rest!r}"
        if rest is not None
        else "without them too little is left to measure: give other samples"
    )
    n = int(guided.sum())
    text = (
        f"{n} of {len(guided)} samples of {table!r} are development data: they, or others of their patients, "
        f"guided {', '.join(by_student)} ({'; '.join(ROLES.get(role, role) for role in roles)}), which looks "
        f"better on them than it is; {remains}"
    )
    return {
        "table": table, "n": n, "of": len(guided), "students": by_student, "rest": rest, "text": text,
    }  # fmt: skip
