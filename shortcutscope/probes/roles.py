"""Which samples are audited, where associations are measured, and which columns are tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.probes.concept import Concept
from shortcutscope.rundir import slug

Role = Literal["held-out", "training"]
TRAINING = ("train", "training")


@dataclass(frozen=True)
class AuditedData:
    """The samples of an audit by role.

    Attributes
    ----------
    table : ImageTable
        The samples that are scanned.
    reference : ImageTable or None
        The training samples; only their metadata are looked at.
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
    associations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def audited_data(data: ImageTable, train: ImageTable | None, *, trained_on: bool) -> AuditedData:
    """Split a table into audited and training samples by its ``split`` column.

    Raises
    ------
    InputError
        When samples are both audited and given as training samples, or there is one class only.
    """
    is_train = data.frame["split"].astype(str).str.lower().isin(TRAINING).to_numpy()
    table, reference, warnings, assumptions = data, train, [], []
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
        shared = set(train.frame["sample_id"]) & set(table.frame["sample_id"])
        if shared:
            raise InputError(
                f"{len(shared)} samples are given both to audit and as training samples, for example "
                f"{sorted(shared)[:3]}: leave them out of one, or say trained_on=True"
            )
    if not table.has_groups:
        assumptions.append(
            "no patient or group column was given: every image is taken as a patient of its own"
        )
    labels = np.unique(table.frame["label"])
    if len(labels) < 2:
        raise InputError(f"all audited samples have label {labels[0]}: an audit needs at least two classes")
    return AuditedData(table, reference, role, tuple(warnings), tuple(assumptions))


def resolve_concepts(
    audited: AuditedData,
    asked: Sequence[str | Concept] | str | Concept | None,
    *,
    columns: Sequence[str] | None = None,
    may_be_none: bool = False,
) -> tuple[list[Concept], dict[str, str]]:
    """Turn what was asked for into concepts over audited and training samples.

    Parameters
    ----------
    asked : names, Concepts, or None
        None takes every metadata column; those that cannot be concepts are left out with the reason.
    columns : names, optional
        The metadata columns to take when none was asked for, instead of all.
    may_be_none : bool
        Whether it is right that there is nothing to test, since concepts will be discovered.

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
    frames = [audited.table.frame] + ([audited.reference.frame] if audited.reference is not None else [])
    frame = pd.concat(frames, ignore_index=True).drop_duplicates("sample_id")
    if isinstance(asked, str | Concept):
        asked = [asked]
    concepts: list[Concept] = []
    refused: dict[str, str] = {}
    by_default = audited.table.metadata if columns is None else columns
    for item in by_default if asked is None else asked:
        if isinstance(item, Concept):
            concepts.append(item)
            continue
        try:
            concepts += Concept.from_column(frame, item)
        except InputError as error:
            if asked is not None:
                raise
            refused[item] = str(error)
    if not concepts and not may_be_none:
        raise InputError(
            "there is no concept to test"
            + (
                f"; the metadata columns were refused: {refused}"
                if refused
                else ": the table has no metadata columns"
            )
            + ". Give concepts=[...], a column per suspected shortcut, or a Concept made from marked "
            "samples, or discover=True to look for what nobody named"
        )
    names = [slug(c.name) for c in concepts]
    twice = sorted({c.name for c, n in zip(concepts, names, strict=True) if names.count(n) > 1})
    if twice:
        raise InputError(
            f"concepts whose names are the same, or make the same file name: {twice}. Rename one"
        )
    return concepts, refused
