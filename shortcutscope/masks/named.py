"""Masks of a run by name: of a finding, or of something that was not audited and only marks speak of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from torch import nn

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.identity import refuse_other_data, refuse_other_model
from shortcutscope.audit.record import AuditRecord
from shortcutscope.data.sample_names import as_ids
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.files import slug
from shortcutscope.masks.annotation import READ, AnnotateOptions, annotate, annotate_finding
from shortcutscope.masks.boxed.annotating import Asked, annotate_boxed, refuse_boxes
from shortcutscope.masks.boxed.rival import Rival
from shortcutscope.masks.learning import Drawing
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.options import Running
from shortcutscope.retrieval.findings import KNOWN, retrieval_of
from shortcutscope.retrieval.marks import Marks, marks_path
from shortcutscope.scan.reading import Scan


def annotate_named(
    run: str | Path,
    name: str,
    model: nn.Module,
    data: ImageTable,
    samples: Sequence[str] | None = None,
    *,
    marks: Marks | None = None,
    out: str | Path | None = None,
    **options: Unpack[AnnotateOptions],
) -> MaskSet:
    """Draw the masks of a finding, or of something that was marked.

    With boxes among the marks a detector that they teach says where, at the resolution of the files, and
    whether at all; without boxes the ranking of the marks says which samples carry it, and the evidence of
    the input and the network where. Without marks this is `annotate_finding`.

    Parameters
    ----------
    run
        Run directory.
    name
        Of a finding of the run, or, with marks, of something else.
    model, data
        Those that were audited.
    samples
        Ids, or names of the files, of those whose masks are wanted; None for all.
    marks
        Further marks; they are kept in the run. Of a name that is no finding earlier marks are enough.
    out
        Folder of the masks; by default ``masks/<name>`` in the run.
    **options
        Of `shortcutscope.masks.annotation.annotate`.

    Raises
    ------
    InputError
        For a name that is no finding and that there are no marks of, for boxes outside their images or that
        do not say where, and as `annotate_finding`.
    """
    finding = require_named(run, name, marked=marks is not None)
    if finding is not None and marks is None:
        return annotate_finding(finding, model, data, samples, out=out, **options)
    return annotate_marked(Path(run), finding or name, model, data, samples, marks, out, **options)


def require_named(run: str | Path, name: str, *, marked: bool) -> FindingRecord | None:
    """The finding of a name; None for a name that only marks speak of.

    Raises
    ------
    InputError
        When neither a finding nor marks (given, as `marked` says, or kept in the run) have that name.
    """
    record = AuditRecord.open(Path(run))
    record.require_one_output(f"masks of {name!r}")
    if any(name in (one.name, *one.same) for one in record.findings):
        return record.finding(name)
    if marked or marks_path(run, name).exists():
        return None
    names = ", ".join(one.name for one in record.findings) or "none"
    raise InputError(
        f"no finding {name!r} in {run}; there are {names}. Masks of something else are drawn by marks: "
        "give them (--marks), with boxes on about ten images"
    )


def annotate_marked(
    run: Path,
    named: str | FindingRecord,
    model: nn.Module,
    data: ImageTable,
    samples: Sequence[str] | None,
    marks: Marks | None,
    out: str | Path | None,
    **options: Unpack[AnnotateOptions],
) -> MaskSet:
    """Draw the masks of a finding, or of something that was not audited, by marks.

    Arguments are as of `annotate_named`.
    """
    finding = None if isinstance(named, str) else named
    name = named if isinstance(named, str) else named.name
    running = options.get("running") or Running()
    running.require_only("annotate", *READ)
    refuse_other_model(run, model)
    data = data.keeping(running)
    refuse_other_data(run, data)
    data.require_one_label("the data")
    scan = Scan.open(run / "scan")
    ids = scan.samples["sample_id"].astype(str).tolist()
    own, path = scan.rows_of(data), marks_path(run, name)
    joined = Marks.open(path)
    if marks is not None:
        joined = joined.followed_by(marks.by_id(ids, data.files))
    joined.aligned_to(ids)
    folder = run / "masks" / slug(name) if out is None else Path(out)
    rows_wanted = None if samples is None else as_ids(samples, ids, data.files)
    if boxes := joined.areas(ids):
        refuse_boxes(joined, own, {ids[row]: several for row, several in boxes.items()})
        asked = _asked(name, ids, rows_wanted, folder, options)
        if finding is not None:
            known = finding.concept.aligned_to(scan.samples["sample_id"]).values
            rival = None if _hopeless(finding) else _rival(finding, model, scan, own, options)
            asked = replace(asked, known=known if finding.origin in KNOWN else None, rival=rival)
        joined.save(path)
        return annotate_boxed(model, own, joined, asked, running)
    reading = Running(workers=running.workers, progress=running.progress)
    concept = retrieval_of(run, name, marks=joined, images=own, running=reading).to_concept()
    return annotate(model, scan, own, concept, rows_wanted, out=folder, **options)


def _hopeless(finding: FindingRecord) -> bool:
    """Whether no evidence of a finding says where it is."""
    reading = finding.concept.reading
    unclear = reading is not None and reading.symmetric
    return unclear or finding.extent == "diffuse" or finding.encoded.get("value") is False


def _rival(
    finding: FindingRecord, model: nn.Module, scan: Scan, data: ImageTable, options: AnnotateOptions
) -> Rival:
    def draw(samples: Sequence[str], folder: Path) -> MaskSet:
        return annotate(model, scan, data, finding.concept, samples, out=folder, **options)

    return Rival(draw)


def _asked(
    name: str, ids: Sequence[str], rows_wanted: Sequence[str] | None, folder: Path, options: AnnotateOptions
) -> Asked:
    drawing = options.get("drawing") or Drawing()
    if drawing.method != "fusion":
        raise InputError(f"method={drawing.method!r} is not for boxes: it draws what a network's layer shows")
    if options.get("accepted") is not None:
        raise InputError("accepted= is not read with boxes: add boxes of what was accepted to the marks")
    position = {sample_id: row for row, sample_id in enumerate(ids)}
    unknown = [sample_id for sample_id in rows_wanted or () if sample_id not in position]
    if unknown:
        raise InputError(f"{len(unknown)} samples were not scanned, among them {unknown[:5]}")
    rows = (
        list(range(len(ids))) if rows_wanted is None else [position[sample_id] for sample_id in rows_wanted]
    )
    return Asked(name, rows, folder, drawing, options.get("heat", False), options.get("keep_paths", False))
