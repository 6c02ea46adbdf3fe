"""Retrieval for a finding of an audit, from its run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.identity import refuse_other_data
from shortcutscope.audit.record import AuditRecord
from shortcutscope.errors import InputError
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
        Its name, or with marks a new one, of something that was not audited.
    marks
        Further marks; they are kept in the run.
    **options
        Of `shortcutscope.retrieval.retrieval.Retrieval`, such as ``images`` and ``layers``.

    Raises
    ------
    InputError
        For a run without that finding where no marks are given, or one that is not finished.
    """
    run = Path(run)
    record = _record(run, finding, marks)
    images = options.get("images")
    if images is not None:
        options["images"] = images = images.keeping(options.get("running"))
        refuse_other_data(run, images, "the images")
    run_scan = Scan.open(run / "scan")
    name = finding if record is None else record.name
    path = marks_path(run, name)
    stored = Marks.open(path)
    if marks is not None:
        ids = run_scan.samples["sample_id"].astype(str)
        marks = marks.by_id(ids.tolist(), None if images is None else images.files)
        marks.aligned_to(ids.to_numpy())
        stored = stored.followed_by(marks)
    settings: RetrievalOptions = {"name": name, "path": path, "cache": run / "annotate"}
    if record is not None:
        values = record.concept.aligned_to(run_scan.samples["sample_id"]).values
        if record.origin in KNOWN:
            settings["known"] = values
        else:
            settings["inferred"] = values
    settings.update(options)
    retrieval = Retrieval(run_scan, stored, **settings)
    if marks is not None:
        stored.save(path)
    return retrieval


def _record(run: Path, finding: str, marks: Marks | None) -> FindingRecord | None:
    """The finding; None for a name that there are marks of, and no finding."""
    audit = AuditRecord.open(run)
    audit.require_one_output(f"the finding {finding!r}")
    if any(finding in (record.name, *record.same) for record in audit.findings):
        return audit.finding(finding)
    if marks is not None or marks_path(run, finding).exists():
        return None
    names = ", ".join(record.name for record in audit.findings) or "none"
    raise InputError(
        f"no finding {finding!r} in {run}; there are {names}. Something else is looked for by marks: "
        "give them"
    )
