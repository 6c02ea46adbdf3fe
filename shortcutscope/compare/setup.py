"""What is compared: tables, the concept and its direction, checked before any long work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from shortcutscope.audit.audited_data import (
    ConceptRequest,
    TrainingData,
    audited_data,
    resolve_concepts,
    training_part,
)
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.naming import frames_with, read_anew
from shortcutscope.data.splits import assert_splits_apart
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.files import slug
from shortcutscope.planting.planting import PlantedSource
from shortcutscope.probes.association import Association, associate
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.reading import Reading
from shortcutscope.probes.verdict import VerdictRule, untestable
from shortcutscope.types import Floats

#: Other concepts that are looked at, at most.
MOST_OTHERS = 20
#: Smallest association that says in which direction a concept goes.
SMALLEST_PHI = VerdictRule().smallest_phi


@dataclass(frozen=True)
class ComparisonSetup:
    """What is asked of every network.

    Attributes
    ----------
    tables
        Held-out samples by name.
    concept
        The values per table.
    train, train_concept
        Training samples, for the association with the label, and the concept on them where it is known.
    positive, against
        The class that margins refer to, and whether the concept goes against it.
    main
        The table on which the networks' own spaces and the subgroups are measured.
    others
        Every other concept, over the main table.
    notes
        Choices that a reader must know.
    """

    tables: Mapping[str, ImageTable]
    concept: Mapping[str, Concept]
    train: ImageTable | None
    train_concept: Concept | None
    positive: int
    against: bool
    main: str
    others: tuple[Concept, ...]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the concept."""
        return next(iter(self.concept.values())).name

    @property
    def joint_concept(self) -> Concept:
        """The concept over the main table and the training samples."""
        parts = [self.concept[self.main]]
        if self.train_concept is not None:
            parts.append(self.train_concept)
        ids = np.concatenate([part.sample_ids for part in parts])
        values = np.concatenate([part.values for part in parts])
        first = np.sort(np.unique(ids, return_index=True)[1])
        return replace(parts[0], values=values[first], sample_ids=ids[first], marks=None)


def comparison_setup(
    data: ImageTable | Mapping[str, ImageTable],
    concept: str | Concept | None,
    finding: FindingRecord | None,
    *,
    train: ImageTable | None,
    positive: int | None,
    others: bool | Sequence[str | Concept],
    present: Mapping[str, str | float | bool] | None = None,
    known: Sequence[str] = (),
) -> ComparisonSetup:
    """Check tables and concept, and find out its direction; `known` findings are named in errors.

    Raises
    ------
    InputError
        Tables without the concept or with one class, samples or patients that are trained on, a class that
        does not exist.
    """
    if train is not None:
        train.require_one_label("train")
        train = training_part(train)[0]
    tables = _tables(data, train)
    present = present or {}
    resolved = _choose(tables, concept, finding, present, known)
    concepts = {t: _concept_on(table, t, resolved) for t, table in tables.items()}
    train_concept = None if train is None else _on_training(train, resolved)
    learned = None if train is None or train_concept is None else (train, train_concept)
    positive, against, notes = _direction(tables, concepts, learned, finding, positive)
    main, main_notes = _main_table(tables, concepts, learned is not None, positive, against)
    notes += main_notes
    column = resolved.name if resolved.reading is None else resolved.reading.column
    rest, refused = _others(tables[main], resolved.name, column, others, present)
    if refused:
        notes.append("columns that are no concepts: " + "; ".join(f"{k} ({v})" for k, v in refused.items()))
    return ComparisonSetup(
        tables, concepts, train, train_concept, positive, against, main, tuple(rest), tuple(notes)
    )


def _tables(data: ImageTable | Mapping[str, ImageTable], train: ImageTable | None) -> dict[str, ImageTable]:
    tables = {"data": data} if isinstance(data, ImageTable) else dict(data)
    if not tables:
        raise InputError("data is an empty mapping; give at least one table of held-out samples")
    for name, table in tables.items():
        if not isinstance(table, ImageTable):
            raise InputError(f"data[{name!r}] is {type(table).__name__}, not an ImageTable")
        table.require_one_label(name)
        assert_splits_apart(table.frame)
    return {name: audited_data(table, TrainingData(train)).table for name, table in tables.items()}


def _choose(
    tables: Mapping[str, ImageTable],
    concept: str | Concept | None,
    finding: FindingRecord | None,
    present: Mapping[str, str | float | bool],
    known: Sequence[str],
) -> Concept:
    """The concept, with the reading of its column, or its values by sample id where it is no column.

    Only its name and how it is told are used: its values are those of each table, see `_concept_on`.
    """
    frames = [table.frame for table in tables.values()]
    if isinstance(concept, Concept):
        return concept
    if finding is not None:
        reading = finding.reading
        if reading is not None and reading.column in present:
            return read_anew(reading.column, frames, present=present)
        if reading is None and all(_flags(frame, finding.name) for frame in frames):
            return _flag(finding.name, frames[0])
        return finding.concept
    if concept is None:
        first = next(iter(tables.values()))
        plantings = first.source.plantings if isinstance(first.source, PlantedSource) else ()
        candidates = [p.column for p in plantings if p.column in first.frame] or [
            c for c in first.metadata if _as_values(first.frame[c]) is not None
        ]
        if len(candidates) != 1:
            raise InputError(
                f"name the concept to compare by with concept=...; the tables' columns of 0 and 1 are "
                f"{', '.join(map(repr, candidates)) or 'none'}"
            )
        concept = candidates[0]
    if concept not in present and all(_flags(frame, concept) for frame in frames):
        return _flag(concept, frames[0])
    lacking = [name for name, table in tables.items() if concept not in table.frame]
    if lacking and len(lacking) < len(tables):
        raise _lacks(lacking[0], concept, tables[lacking[0]])
    return read_anew(concept, frames, present=present, known=known)


def _flags(frame: pd.DataFrame, column: str) -> bool:
    return column in frame and _as_values(frame[column]) is not None


def _flag(column: str, frame: pd.DataFrame) -> Concept:
    """A column of 0, 1 and missing; all samples of a table may have the same."""
    reading = Reading(column, "numbers", (1.0,), (0.0,))
    ids = frame["sample_id"].to_numpy()
    return Concept(column, reading.of(frame), "metadata", ids, str(reading), reading=reading)


def _lacks(where: str, column: str, table: ImageTable) -> InputError:
    return InputError(
        f"the table {where!r} has no column {column!r}; its metadata are "
        f"{', '.join(map(repr, table.metadata)) or 'none'}. Add the column with "
        "table.with_columns(...), or give a Concept by sample id"
    )


def _concept_on(table: ImageTable, where: str, concept: Concept) -> Concept:
    column, frame = None if concept.reading is None else concept.reading.column, table.frame
    by_id = np.isin(frame["sample_id"].to_numpy(np.str_), concept.sample_ids).any()
    if column is not None and column not in frame and not by_id:
        (frame,) = frames_with(concept.reading, [table])
        if column not in frame:
            raise _lacks(where, column, table)
    values = concept.on(frame)
    if len(np.unique(values.values[values.known])) < 2:
        only = (
            f"is {values.values[values.known][0]:g} for all" if values.known.any() else "is unknown for all"
        )
        raise InputError(
            f"in the table {where!r} the concept {concept.name!r} {only} {len(table)} samples; samples with "
            "and without it are needed"
        )
    return values


def _on_training(train: ImageTable, concept: Concept) -> Concept | None:
    """The concept on the training samples, if it is known there."""
    by_column = concept.reading is not None and concept.reading.column in train.frame
    by_id = np.isin(train.frame["sample_id"].to_numpy(np.str_), concept.sample_ids).any()
    return concept.on(train.frame) if by_column or by_id else None


def _as_values(column: pd.Series[Any]) -> Floats | None:
    """A column of 0, 1 and missing as numbers; None for any other."""
    if not (pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column)):
        return None
    values = np.asarray(column.to_numpy(np.float64, na_value=np.nan), np.float64)
    finite = values[~np.isnan(values)]
    return values if len(finite) and set(np.unique(finite)) <= {0.0, 1.0} else None


def _direction(
    tables: Mapping[str, ImageTable],
    concepts: Mapping[str, Concept],
    learned: tuple[ImageTable, Concept] | None,
    finding: FindingRecord | None,
    positive: int | None,
) -> tuple[int, bool, list[str]]:
    """Positive class, whether the concept goes against it, and how that was found out.

    Where the concept goes with the label differs between the tables (it is the other way round in an inverted
    one); what counts is the data that the network learned from.
    """
    name = next(iter(concepts.values())).name
    if positive is not None:
        classes = sorted({int(y) for table in tables.values() for y in np.unique(table.frame["label"])})
        if positive not in classes:
            raise InputError(f"positive={positive}; the tables' labels are {classes}")
    if learned is None and finding is not None and finding.name == name:
        phi, of = finding.association.get("phi"), finding.association.get("positive")
        if phi is not None and abs(phi) >= SMALLEST_PHI and positive in (None, of):
            return int(str(of)), phi < 0, []
    order = sorted(tables, key=lambda t: t != "correlated")
    places = [] if learned is None else [learned]
    places += [(tables[t], concepts[t]) for t in order]
    known = [a for a in (_association(*place, positive) for place in places) if a is not None]
    for association in known:
        if abs(np.nan_to_num(association.phi)) >= SMALLEST_PHI and association.p <= VerdictRule().level:
            return association.positive, association.phi < 0, []
    if not known:
        raise InputError(
            f"in every table all samples of which {name!r} is known are of one class, so that nothing tells "
            "with which class it goes; give values of samples of two classes"
        )
    association = known[-1]
    return (
        association.positive,
        False,
        [
            f"{name} goes with no class in these data: it is taken to go with class {association.positive}. "
            "If it went with another one in the training data, give train= or positive="
        ],
    )


def _association(table: ImageTable, concept: Concept, positive: int | None) -> Association | None:
    """Association of the concept with the label, None where it is known of one class only."""
    labels, groups = table.frame["label"].to_numpy(), table.frame["group"].to_numpy()
    if len(np.unique(labels[concept.known])) < 2:
        return None
    return associate(concept.values, labels, groups, positive=positive, n_bootstrap=1)


def _main_table(
    tables: Mapping[str, ImageTable],
    concepts: Mapping[str, Concept],
    has_training: bool,
    positive: int,
    against: bool,
) -> tuple[str, list[str]]:
    """The table whose smallest group of label and concept is largest.

    Without training samples the association is that of the table itself, so that one in which the concept
    goes with the label as in training is preferred where it can be tested.
    """
    sizes, preferred = {}, {}
    for name, table in tables.items():
        labels, groups = table.frame["label"].to_numpy(), table.frame["group"].to_numpy()
        values = concepts[name].values
        sizes[name] = min(
            int(((labels == y) & (values == t)).sum()) for y in np.unique(labels) for t in (0, 1)
        )
        testable = untestable(values, labels, groups, VerdictRule()) is None
        association = _association(table, concepts[name], positive)
        phi = 0.0 if association is None else np.nan_to_num(association.phi)
        goes = (phi < 0) == against and abs(phi) >= SMALLEST_PHI
        preferred[name] = testable and goes and not has_training
    main = max(tables, key=lambda t: (preferred[t], sizes[t]))
    if len(tables) == 1:
        return main, []
    why = (
        "there the concept goes with the label as in training"
        if preferred[main]
        else "its smallest group of label and concept is the largest"
    )
    return main, [f"layers, verdicts and subgroups are measured on the table {main!r}: {why}"]


def _others(
    table: ImageTable,
    name: str,
    column: str,
    asked: bool | Sequence[str | Concept],
    present: Mapping[str, str | float | bool],
) -> tuple[list[Concept], dict[str, str]]:
    """Every other concept of the metadata, or those asked for."""
    checked = audited_data(table, TrainingData())
    present = {k: value for k, value in present.items() if k != column}
    if asked is False:
        return [], {}
    if asked is not True:
        concepts, refused = resolve_concepts(
            checked, ConceptRequest(list(asked), present), may_be_none=True, symmetric=True
        )
    else:
        columns = [c for c in table.metadata if c not in (name, column)]
        concepts, refused = resolve_concepts(
            checked, ConceptRequest(present=present), columns=columns[:MOST_OTHERS], may_be_none=True
        )
        if columns[MOST_OTHERS:]:
            refused[", ".join(columns[MOST_OTHERS:])] = f"only {MOST_OTHERS} columns are looked at unasked"
    return [c for c in concepts if slug(c.name) != slug(name)], refused
