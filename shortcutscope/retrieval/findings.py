"""Retrieval for a finding of an audit, from its run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import pandas as pd

from shortcutscope.audit.identity import refuse_other_data
from shortcutscope.audit.record import AuditRecord
from shortcutscope.retrieval.marks import Marks, marks_path
from shortcutscope.retrieval.retrieval import Retrieval, RetrievalOptions
from shortcutscope.scan.reading import Scan

#: Origins whose values were known, not inferred.
KNOWN = ("metadata", "planted", "label")


def retrieval_of(
    run: str | Path, finding: str, *, marks: Marks | None = None, **options: Unpack[RetrievalOptions]
) -> Retrieval:
    """Begin with a finding of an audit: its values, and the marks that were kept in the run.

    Values of a discovered or marked concept were inferred: see `Retrieval`.

    Parameters
    ----------
    run
        Run directory.
    finding
        Its name.
    marks
        Further marks; they are kept in the run.
    **options
        Of `shortcutscope.retrieval.retrieval.Retrieval`, such as ``images`` and ``layers``.

    Raises
    ------
    InputError
        For a run without that finding, or one that is not finished.
    """
    run = Path(run)
    record = AuditRecord.open(run).finding(finding)
    images = options.get("images")
    if images is not None:
        options["images"] = images = images.keeping(options.get("running"))
        refuse_other_data(run, images, "the images")
    run_scan = Scan.open(run / "scan")
    path = marks_path(run, record.name)
    stored = Marks.open(path)
    if marks is not None:
        ids = run_scan.samples["sample_id"].astype(str)
        marks = marks.by_id(ids.tolist(), None if images is None else images.files)
        marks.aligned_to(ids.to_numpy())
        stored = Marks(pd.concat([m.answers for m in (stored, marks) if len(m.answers)] or [stored.answers]))
    values = record.concept.aligned_to(run_scan.samples["sample_id"]).values
    settings: RetrievalOptions = {"name": record.name, "path": path, "cache": run / "annotate"}
    if record.origin in KNOWN:
        settings["known"] = values
    else:
        settings["inferred"] = values
    settings.update(options)
    retrieval = Retrieval(run_scan, stored, **settings)
    if marks is not None:
        stored.save(path)
    return retrieval
