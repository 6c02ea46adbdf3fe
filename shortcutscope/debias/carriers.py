"""Which samples carry what is unlearnt: one finding, or several together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.naming import finding_named, frames_with, over, read_again, read_anew
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.options import Shortcut
from shortcutscope.errors import InputError
from shortcutscope.probes.concept import Concept
from shortcutscope.types import Floats


def carried(
    shortcut: Shortcut,
    chosen: Sequence[FindingRecord],
    tables: Sequence[ImageTable],
    findings: Sequence[FindingRecord] = (),
) -> tuple[Concept | None, dict[str, Floats]]:
    """The first finding over all tables, and by name who carries the others among the training samples.

    Parameters
    ----------
    shortcut
        With the concept of each, where it is not read as the audit read it.
    chosen
        The findings that are unlearnt; none without an audit.
    tables
        The training samples, and others.
    findings
        All of the audit.

    Raises
    ------
    InputError
        For a concept that cannot be told of the tables, see `concept_over`; of several findings also for one
        of which it is not known which training samples carry it, and for a concept of a finding that is not
        among them.
    """
    said = shortcut.concept
    names = [finding.name for finding in chosen]
    if isinstance(said, Mapping):
        if strange := sorted(set(said) - set(names)):
            raise InputError(
                f"concept= is given for {strange[0]!r}, which is not unlearnt; it may be of "
                f"{', '.join(map(repr, names)) or 'no finding: none is chosen'}"
            )
    elif said is not None and len(chosen) > 1:
        raise InputError(
            f"concept= says who carries one finding, and {len(chosen)} are to be unlearnt: give it for each, "
            f"concept={{{names[-1]!r}: ...}}; on the command line leave it out"
        )
    each: list[tuple[FindingRecord | None, str | Concept | None]] = [
        (finding, said.get(finding.name) if isinstance(said, Mapping) else said) for finding in chosen
    ]
    every = [
        concept_over(own, finding, tables, findings, shortcut.present)
        for finding, own in each or [(None, None if isinstance(said, Mapping) else said)]
    ]
    values = [values_of(concept, tables[0]) for concept in every]
    for finding, known in zip(chosen, values, strict=False):
        if known is None and len(chosen) > 1:
            raise InputError(
                f"nobody knows which training samples carry {finding.name!r}, and several findings need it: "
                f"give concept={{{finding.name!r}: finding.label(model, train)}}, on the command line "
                "--retrieved"
            )
    return every[0], {
        name: known for name, known in zip(names[1:], values[1:], strict=True) if known is not None
    }


def concept_over(
    concept: str | Concept | None,
    found: FindingRecord | None,
    tables: Sequence[ImageTable],
    findings: Sequence[FindingRecord] = (),
    present: Mapping[str, Any] | None = None,
) -> Concept | None:
    """The concept of all tables' samples, or None where no column of the training samples holds it.

    What an audit read is read from the tables exactly as the audit did; a column that none of its findings
    was read from is read from all tables together.

    Raises
    ------
    InputError
        For a concept of other samples, a column that is asked for and is not there, or holds several, and a
        column that holds what the audit did not know.
    """
    present = present or {}
    if isinstance(concept, Concept):
        frames = frames_with(concept.reading, tables)
        if concept.reading is not None and concept.reading.column in frames[0]:
            return over(concept, frames)
        if not set(concept.sample_ids) & set(frames[0]["sample_id"]):
            raise InputError(
                f"the concept {concept.name!r} says nothing of the train samples: its ids are others. Use "
                "finding.label(model, train) for values of new samples"
            )
        return concept
    source = found if concept is None else finding_named(concept, findings)
    frames = frames_with(None if source is None else source.reading, tables)
    if source is not None and source.reading is not None and source.reading.column not in present:
        again = read_again(source, frames)
        if again is None and concept is not None:
            raise InputError(
                f"the training samples have no column {source.reading.column!r}, from which {source.name!r} "
                f"was read ({source.reading}); they have {', '.join(tables[0].metadata) or 'none'}"
            )
        return again
    name = concept if concept is not None else source.name if source is not None else None
    if source is not None and source.reading is not None:
        name = source.reading.column  # the user says anew which value is present
    if name is None or (concept is None and name not in frames[0]):
        return None
    return read_anew(name, frames, known=[finding.name for finding in findings], present=present)


def values_of(concept: Concept | None, table: ImageTable | None) -> Floats | None:
    """(N,) the concept of a table's rows, or None where it is known of none."""
    if concept is None or table is None:
        return None
    if not set(concept.sample_ids) & set(table.frame["sample_id"]):
        return None
    values = concept.aligned_to(table.frame["sample_id"]).values
    return values if np.isfinite(values).any() else None
