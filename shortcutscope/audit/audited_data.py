"""Which samples are audited, where associations are measured, and which columns are tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from shortcutscope.data.apart import assert_tables_apart
from shortcutscope.data.properties.names import OF_FILES, OF_PICTURES, measured_source
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.files import slug
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.partitions import is_the_label, merged
from shortcutscope.probes.reading import entries, some
from shortcutscope.types import JSON, Ints

Role = Literal["held-out", "training"]
TRAINING = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "test", "testing")


def require_auroc(expected: float | None) -> None:
    """Refuse what no model should reach.

    Raises
    ------
    InputError
        Says what is allowed.
    """
    if expected is not None and not 0.5 <= expected <= 1:
        raise InputError(f"expected_auroc={expected}; it must be a number from 0.5 to 1")


@dataclass(frozen=True)
class TrainingData:
    """What is known of the data that a model was trained on.

    Attributes
    ----------
    table
        The training samples, for the association of the concepts with the label.
    associations
        Concept to its association with the label as an earlier audit of the network measured it
        (`Finding.association`), for data in which the two do not go together.
    trained_on
        Say True when the audited images are those the model was trained on: effects are about twice as large
        there, and the threshold of use is doubled.
    expected_auroc
        What the model reaches on held-out images by its paper or its owner: where it does not on those that
        are audited, the audit says so, and looks for another reading of the images that is better.

    Raises
    ------
    InputError
        An AUROC that is none.

    Examples
    --------
    >>> known = ss.TrainingData(expected_auroc=0.9)
    >>> ss.TrainingData.of(known) is known
    True
    """

    table: ImageTable | None = None
    associations: Mapping[str, JSON] | None = None
    trained_on: bool = False
    expected_auroc: float | None = None

    def __post_init__(self) -> None:
        require_auroc(self.expected_auroc)

    @classmethod
    def of(cls, train: ImageTable | TrainingData | None) -> TrainingData:
        """The training samples alone say as much."""
        return train if isinstance(train, TrainingData) else cls(train)


@dataclass(frozen=True)
class AuditedData:
    """The samples of an audit by role.

    Attributes
    ----------
    table : ImageTable
        The samples that are scanned.
    reference : ImageTable or None
        The training samples; only their metadata are looked at, and columns are measured of some.
    role : {"held-out", "training"}
        What ``table`` is to the model; decides the threshold of use.
    warnings, assumptions : tuple of str
        What the reader of the audit must know.
    associations : mapping
        Concept to its association in an earlier audit of the network, which is taken instead of measuring it.
    """

    table: ImageTable
    reference: ImageTable | None
    role: Role
    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    associations: Mapping[str, JSON] = field(default_factory=dict)

    @cached_property
    def reference_groups(self) -> Ints:
        """Patient of each training sample, as a number."""
        assert self.reference is not None
        return np.unique(self.reference.frame["group"].to_numpy(), return_inverse=True)[1]


def audited_data(data: ImageTable, training: TrainingData) -> AuditedData:
    """Split a table into audited and training samples by its ``split`` column.

    Raises
    ------
    InputError
        When samples are both audited and given as training samples, or there is one class only.
    """
    is_train = data.frame["split"].astype(str).str.lower().isin(TRAINING).to_numpy()
    warnings: list[str] = []
    train, trained_on = training.table, training.trained_on
    train, assumptions = (None, []) if train is None else training_part(train)
    assumptions += [f"training table: {note}" for note in (() if train is None else train.notes)]
    table, reference = data, train
    role: Role = "training" if trained_on else "held-out"
    if is_train.all():
        role = "training"
    elif is_train.any() and not trained_on:
        table = data.take(np.flatnonzero(~is_train))
        reference = train if train is not None else data.take(np.flatnonzero(is_train))
        assumptions.append(f"the {int(is_train.sum())} rows of the training split are not audited")
    if role == "training":
        warnings.append(
            "the audited images are those the model was trained on: effects are about twice as large there, "
            "so that the threshold of use is doubled, and performance is too good. "
            "Audit held-out images if you can"
        )
    elif not is_train.any() and not (data.frame["split"] != "").any():
        assumptions.append(
            "no split was given: the images are taken as held out. Say so if they were trained on"
        )
    if reference is None:
        assumptions.append(
            "no training samples were given: association with the label is that in the audited data"
        )
    if train is not None and not trained_on:
        assert_tables_apart(
            train,
            table,
            "given both to audit and as training samples",
            "held-out samples and patients must not be trained on. Leave them out of one of the tables, give "
            "the training table a column split (its rows 'train' count), or say train=TrainingData(table, "
            "trained_on=True) (--trained-on-these) where the audited samples were trained on",
        )
    if not table.has_groups:
        assumptions.append(
            "no patient or group column was given: every image is taken as a patient of its own"
        )
    labels = np.unique(table.frame["label"])
    if len(labels) < 2 and not table.labels:
        raise InputError(f"all audited samples have label {labels[0]}: an audit needs at least two classes")
    known = training.associations or {}
    return AuditedData(table, reference, role, tuple(warnings), tuple(assumptions), known)


def training_part(train: ImageTable) -> tuple[ImageTable, list[str]]:
    """The rows of the training split, or all where there are no splits; and what that leaves out.

    Raises
    ------
    InputError
        When all splits are of validation and test.
    """
    splits = train.frame["split"].astype(str)
    in_training = splits.str.lower().isin(TRAINING).to_numpy()
    if in_training.all() or not (splits != "").any():
        return train, []
    if in_training.any():
        note = f"of the training table only the {int(in_training.sum())} rows of its training split count"
        return train.take(np.flatnonzero(in_training)), [note]
    if splits.str.lower().isin([*HELD_OUT, ""]).all():
        raise InputError(
            f"the training table has no training rows: its splits are {sorted(set(splits) - {''})}; give the "
            "rows that the model was trained on"
        )
    return train, []


@dataclass(frozen=True)
class ConceptRequest:
    """Which concepts are asked for.

    Attributes
    ----------
    concepts
        Names of columns, or Concepts; None for the metadata columns, of which those that cannot be concepts
        are left out with the reason.
    present
        Column to the value that means that the artifact is there.
    discover
        Whether others are looked for; None where no concepts are named.
    """

    concepts: Sequence[str | Concept] | str | Concept | None = None
    present: Mapping[str, str | float | bool] = field(default_factory=dict)
    discover: bool | None = None

    def before_measuring(self, table: ImageTable) -> ConceptRequest:
        """Without the columns that will be measured: they cannot be looked at before images are read."""

        def is_there(item: object) -> bool:
            return not isinstance(item, str) or item in table.frame or measured_source(item) is None

        present = {column: value for column, value in self.present.items() if is_there(column)}
        if self.concepts is None:
            return replace(self, present=present)
        return replace(self, present=present, concepts=[c for c in self.items((), ()) if is_there(c)])

    def of_measured(self, table: ImageTable) -> ConceptRequest:
        """What :meth:`before_measuring` leaves out."""

        def was_not_there(item: object) -> bool:
            return isinstance(item, str) and item not in table.frame and measured_source(item) is not None

        present = {column: value for column, value in self.present.items() if was_not_there(column)}
        names = None if self.concepts is None else [c for c in self.items((), ()) if was_not_there(c)]
        return replace(self, present=present, concepts=names)

    def items(self, columns: Sequence[str], metadata: Sequence[str]) -> Sequence[str | Concept]:
        """What is asked for; by default these columns, and those of the metadata whose value is said."""
        if isinstance(self.concepts, str | Concept):
            return [self.concepts]
        if self.concepts is not None:
            return self.concepts
        return [*columns, *(name for name in self.present if name in metadata and name not in columns)]


def resolve_concepts(
    data: AuditedData,
    request: ConceptRequest,
    *,
    columns: Sequence[str] | None = None,
    may_be_none: bool = False,
    symmetric: bool | None = None,
) -> tuple[list[Concept], dict[str, str]]:
    """Turn what was asked for into concepts over audited and training samples.

    Columns that part all samples alike are one concept, see `shortcutscope.probes.partitions.merged`.

    Parameters
    ----------
    request
        Names, Concepts, or all metadata columns.
    columns : names, optional
        The metadata columns to take when none was asked for, instead of all.
    may_be_none : bool
        Whether it is right that there is nothing to test, since concepts will be discovered.
    symmetric : bool, optional
        Whether columns whose two words do not tell are tested as levels of which neither is the artifact; by
        default those that were not asked for by name.

    Returns
    -------
    concepts : list of Concept
    refused : dict
        Column to the reason why it is no concept (only when none was asked for by name).

    Raises
    ------
    InputError
        A name that is no column or cannot be a concept; two concepts of one name; nothing to test.
    """
    frames = [data.table.frame] + ([data.reference.frame] if data.reference is not None else [])
    frame = pd.concat(frames, ignore_index=True).drop_duplicates("sample_id")
    present, by_name = request.present, request.concepts is not None
    symmetric = not by_name if symmetric is None else symmetric
    concepts: list[Concept] = []
    from_columns: list[Concept] = []
    refused: dict[str, str] = {}
    items = request.items(data.table.metadata if columns is None else columns, data.table.metadata)
    _refuse_idle(present, [item for item in items if isinstance(item, str)])
    for item in items:
        if isinstance(item, Concept):
            concepts.append(item)
            continue
        try:
            _refuse_the_label(frame, item, data.table.classes, by_name=by_name)
            _refuse_other_kind(frames, item)
            from_columns += _of_column(frame, item, present.get(item), symmetric=symmetric)
        except InputError as error:
            if by_name or item in present:
                raise
            refused[item] = str(error)
    concepts += merged(from_columns)
    if not concepts and not may_be_none:
        raise _nothing_to_test(refused)
    _refuse_same_names([c.name for c in concepts])
    return concepts, refused


def _of_column(
    frame: pd.DataFrame, column: str, present: str | float | bool | None, *, symmetric: bool
) -> list[Concept]:
    """The concepts of a column; of one that was measured they say what it is."""
    origin = measured_source(column) or "metadata"
    concepts = Concept.from_column(frame, column, present=present, symmetric=symmetric, origin=origin)
    meaning = OF_FILES.get(column) or OF_PICTURES.get(column)
    return [replace(c, description=f"{meaning}; {c.description}") if meaning else c for c in concepts]


def joined(data: AuditedData, concepts: Sequence[Concept], others: Sequence[Concept]) -> list[Concept]:
    """Concepts, and others that were read from columns later; those that part all samples alike are one.

    Parameters
    ----------
    data
        With the columns that all of them were read from.
    concepts
        Those that stand for the others that say the same.
    others
        Over its samples.

    Raises
    ------
    InputError
        For two concepts of one name.
    """
    if not others:
        return list(concepts)
    frames = [data.table.frame] + ([data.reference.frame] if data.reference is not None else [])
    frame = pd.concat(frames, ignore_index=True).drop_duplicates("sample_id")
    of_columns = [c for c in concepts if c.reading is not None and c.reading.column in frame]
    rest = [c for c in concepts if c not in of_columns]
    together = [*rest, *merged([*(c.on(frame) for c in of_columns), *others])]
    _refuse_same_names([c.name for c in together])
    return together


def _refuse_idle(present: Iterable[str], tested: Sequence[str]) -> None:
    idle = [column for column in present if column not in tested]
    if idle:
        raise InputError(
            f"present names {idle[0]!r}, which is none of the columns that are tested: {some(tested, 20)}"
        )


def _nothing_to_test(refused: Mapping[str, str]) -> InputError:
    why = (
        f"; the metadata columns were refused: {refused}"
        if refused
        else ": the table has no metadata columns"
    )
    return InputError(
        f"there is no concept to test{why}. Give concepts=[...], a column per suspected shortcut, or a "
        "Concept made from marked samples, or discover=True to look for what nobody named"
    )


def _refuse_the_label(
    frame: pd.DataFrame, column: str, classes: Sequence[str] | None, *, by_name: bool
) -> None:
    """Refuse the label, and unasked a column that is the label over again: it is no concept of its own."""
    if column == "label":
        raise InputError("column 'label' is no concept: it is what the model is to predict")
    if column in frame and not by_name:
        why = is_the_label(frame, column, classes)
        if why is not None:
            raise InputError(f"column {column!r} is no concept: {why}")


def _refuse_other_kind(frames: Sequence[pd.DataFrame], column: str) -> None:
    """Refuse a column that is written otherwise in the training samples than in the audited ones."""
    column_entries = [entries(frame[column], column) for frame in frames if column in frame]
    kinds = {
        column_kind.kind: column_kind.levels for column_kind in column_entries if column_kind.known.any()
    }
    if len(kinds) > 1:
        text = "; ".join(f"{kind}: {some([repr(x) for x in levels])}" for kind, levels in kinds.items())
        raise InputError(
            f"column {column!r} is written otherwise in the training samples than in the audited ones "
            f"({text}): write it alike in both tables"
        )


def _refuse_same_names(names: Sequence[str]) -> None:
    files = [slug(name) for name in names]
    twice = sorted({name for name, file in zip(names, files, strict=True) if files.count(file) > 1})
    if twice:
        raise InputError(
            f"concepts whose names are the same, or make the same file name: {twice}. Rename one"
        )
    clashes = {"sample_id", *(f"{name}.score" for name in names)} & set(names)
    if clashes:
        raise InputError(
            f"a concept cannot be called {sorted(clashes)[0]!r}: the run keeps the ids, and scores of the "
            "concepts, under such names. Rename the column"
        )
