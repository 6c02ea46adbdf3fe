"""Discovery as a stage of an audit: kept in the run directory, and taken up again from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from shortcutscope.audit.audited_data import AuditedData
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.data.properties.names import measured_source
from shortcutscope.data.table import ImageTable
from shortcutscope.discover.candidates import agreement
from shortcutscope.discover.metadata import MetadataScreen, screen_metadata
from shortcutscope.discover.proposals import Discovery, discover
from shortcutscope.disk import intact
from shortcutscope.files import read_frame, read_object, write_json
from shortcutscope.options import Running
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.partitions import is_the_label
from shortcutscope.probes.verdict import VerdictRule, untestable
from shortcutscope.scan.reading import Scan
from shortcutscope.types import JSON, Array, Record
from shortcutscope.versions import SEARCHING

RECORD, VALUES = "discovery.json", "discovered.parquet"
#: Metadata columns that are tested when none was asked for: of more, those that go with the label most.
MOST_COLUMNS = 20
#: What is told of a search in ``run.json``.
SAID = ("looked_at", "proposals", "dropped", "notes")
#: Agreement, within class, from which a proposal is a concept that is tested anyway.
SAME_SAMPLES = 0.5


def discovered_concepts(
    run: RunDirectory,
    scan: Scan,
    table: ImageTable,
    others: Sequence[Concept],
    *,
    seed: int,
    running: Running,
) -> list[Concept]:
    """Concepts that nobody named, but for those that name the samples of a given one.

    What was proposed, and what was dropped for which reason, is kept as ``discovery.json`` and
    ``discovered.parquet`` in the run.

    Parameters
    ----------
    run
        Where results are kept; those of the same seed are taken up again.
    scan, table
        See `shortcutscope.discover.proposals.discover`.
    others
        Concepts that are tested anyway.
    seed
        Of the discovery.
    running
        How images are read.
    """

    def searched() -> tuple[list[Concept], Record]:
        discovery = discover(scan, table, seed=seed, running=running)
        return [p.concept for p in discovery.proposals if p.concept], described(discovery)

    stored, proposed = kept_search(run, scan, search_depends(scan, seed), searched)
    labels, groups = scan.samples["label"].to_numpy().astype(np.int64), scan.samples["group"].to_numpy()
    aligned = [c.aligned_to(scan.samples["sample_id"]) for c in others]
    twins = {concept.name: twin_under_test(concept, aligned, labels, groups) for concept in proposed}
    same = {name: named_already(other) for name, other in twins.items() if other is not None}
    run.update({"discovery": {**{key: stored[key] for key in SAID}, "same": same}})
    return [concept for concept in proposed if concept.name not in same]


def search_depends(scan: Scan, seed: int) -> Record:
    """What a search depends on, beside what its run belongs to."""
    return {"seed": seed, "samples": len(scan), "attribution": str(scan.attribution), "number": SEARCHING}


def kept_search(
    run: RunDirectory, scan: Scan, depends: Record, search: Callable[[], tuple[list[Concept], Record]]
) -> tuple[JSON, list[Concept]]:
    """What a search said and the concepts that it proposed: those kept in the run, else of a new one."""
    record = run.path / RECORD
    stored: JSON = read_object(record) if record.exists() else {}
    if stored.get("depends") != depends:
        concepts, said = search()
        run.write_frame(VALUES, _values(concepts, scan))
        stored = {"depends": depends, **said}
        write_json(record, stored)  # last, so that it stands for both
    with intact(record, "a record of a search", "delete it and run the same audit again"):
        return stored, _reopened(stored, read_frame(run.path / VALUES))


def _values(concepts: Sequence[Concept], scan: Scan) -> pd.DataFrame:
    columns: Record = {"sample_id": scan.samples["sample_id"].to_numpy()}
    columns |= {concept.name: pd.Series(concept.values).astype("Int8") for concept in concepts}
    return pd.DataFrame(columns)


def described(discovery: Discovery) -> Record:
    """What a run keeps of a search."""
    return {
        "looked_at": discovery.looked_at,
        "proposals": [
            {**p.to_dict(), "description": p.concept.description if p.concept else ""}
            for p in discovery.proposals
        ],
        "dropped": [p.to_dict() for p in discovery.dropped if p.name],
        "notes": list(discovery.notes),
    }


def _reopened(stored: JSON, values: pd.DataFrame) -> list[Concept]:
    ids = values["sample_id"].to_numpy()
    return [
        Concept(
            p["name"],
            values[p["name"]].to_numpy(np.float64, na_value=np.nan),
            "discovered",
            ids,
            p["description"],
            selected_from=stored["looked_at"],
        )
        for p in stored["proposals"]
    ]


def named_already(other: Concept) -> str:
    """Why a proposal is not tested beside a concept."""
    return f"names the same samples as {other.name}, which is tested"


def twin_under_test(
    concept: Concept, concepts: Sequence[Concept], labels: Array, groups: Array
) -> Concept | None:
    """What is tested in place of a proposal: its twin, unless that cannot be tested and the proposal can."""

    def testable(one: Concept) -> bool:
        return untestable(one.values, labels, groups, VerdictRule()) is None

    if testable(concept):
        concepts = [other for other in concepts if testable(other)]
    return twin(concept, concepts, labels)


def twin(concept: Concept, concepts: Sequence[Concept], labels: Array) -> Concept | None:
    """The first of some concepts that names the samples of a proposal; None if none does."""
    for other in concepts:
        both = concept.known & other.known
        if both.any() and agreement(concept.values[both], other.values[both], labels[both]) >= SAME_SAMPLES:
            return other
    return None


def screened_columns(
    data: AuditedData, *, seed: int
) -> tuple[list[str], dict[str, str], MetadataScreen | None]:
    """Metadata columns to test when none was asked for; those that were measured are screened apart.

    Returns
    -------
    columns : list of str
        All of them, or the `MOST_COLUMNS` that go with the label most.
    refused : dict
        Column to the reason why it is not tested.
    screen : MetadataScreen or None
        None where there are no metadata.
    """
    columns = [column for column in data.table.metadata if measured_source(column) is None]
    if not columns:
        return [], {}, None
    frames = [data.table.frame]
    if data.reference is not None and set(columns) <= set(data.reference.frame.columns):
        frames.append(data.reference.frame)
    frame = pd.concat(frames, ignore_index=True).drop_duplicates("sample_id")
    copies = {c: is_the_label(frame, c, data.table.classes) for c in columns}
    refused = {c: f"column {c!r} is no concept: {why}" for c, why in copies.items() if why is not None}
    columns = [c for c in columns if c not in refused]
    if not columns:
        return [], refused, None
    screen = screen_metadata(frame, columns=columns, seed=seed)
    if len(columns) <= MOST_COLUMNS:
        return columns, refused, screen
    ranked = list(dict.fromkeys(screen.columns["column"]))
    selection = ranked[:MOST_COLUMNS]
    q = screen.columns.groupby("column")["q"].min()
    refused |= {
        c: f"{MOST_COLUMNS} columns go with the label more than it does (q {q[c]:.2g}); name it to test it"
        for c in ranked[MOST_COLUMNS:]
    }
    refused |= {c: why for c, why in screen.skipped.items() if c not in selection}
    return [c for c in columns if c in selection], refused, screen
