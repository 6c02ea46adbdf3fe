"""The audit: scan every layer, probe every concept, and say for each whether it is a shortcut.

The stages write into one run directory and are resumable; the result has a finding for every concept,
ranked by what it costs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from shortcutscope.audit.audited_data import (
    ConceptRequest,
    TrainingData,
)
from shortcutscope.audit.context import ExamineSettings
from shortcutscope.audit.cost import (
    LIKELY_MORE,
    AuditEstimate,
    audit_cost,
    require_memory,
    stage_weights,
    statistics_bytes,
)
from shortcutscope.audit.discovery import discovered_concepts
from shortcutscope.audit.examination import examine, write_examination
from shortcutscope.audit.identity import keep_identity
from shortcutscope.audit.outputs import (
    attribution_of,
    audit_outputs,
    outputs_of,
)
from shortcutscope.audit.preprocessing.check import affordable_images
from shortcutscope.audit.preprocessing.within_audit import check_in_audit
from shortcutscope.audit.provenance import not_measured, performance
from shortcutscope.audit.record import AuditRecord
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.audit.subgroups import subgroups_of
from shortcutscope.audit.task import AuditTask, task_of
from shortcutscope.data.decoding.decoded import DecodedImages
from shortcutscope.data.table import ImageTable
from shortcutscope.locking import locked
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Output
from shortcutscope.models.loading import has_random_weights
from shortcutscope.models.mixed_precision import autocast_forward
from shortcutscope.options import Recording, Running, Statistics
from shortcutscope.probes.concept import Concept
from shortcutscope.processes import (
    from_main,
    is_main,
    require_same,
    require_same_folder,
    together,
    wait,
)
from shortcutscope.progress import stage, total_progress
from shortcutscope.scan.plan import Plan, Scanning
from shortcutscope.scan.scanner import Scan, estimate, scan
from shortcutscope.scan.store import refuse_other_scan, require_free_space

#: Said of a network that was built without weights.
NO_WEIGHTS = "no weights: random. The network was built without any, so that nothing here was learnt"


def audit(
    model: nn.Module,
    data: ImageTable,
    out: str | Path | None = None,
    *,
    concepts: Sequence[str | Concept] | str | Concept | None = None,
    present: Mapping[str, Any] | None = None,
    discover: bool | None = None,
    train: ImageTable | TrainingData | None = None,
    head: Output = None,
    scanning: Scanning | None = None,
    statistics: Statistics | None = None,
    running: Running | None = None,
    record: Recording | None = None,
) -> AuditRecord:
    """Audit a trained model for shortcuts.

    Several processes (``torchrun``) share it; all have to make this call, and all are given the result.

    Parameters
    ----------
    model : nn.Module
        Given back exactly as it was.
    data : ImageTable
        Held-out samples with labels; of several labels a sample each is audited at its output, see
        `AuditRecord.outputs`. Rows whose split is ``train`` or ``training`` are not audited when there are
        others: only the association of the concepts with the label is measured on them.
    out : path, optional
        Run directory; by default ``runs/<model class>-<fingerprint>``. An interrupted audit goes on
        there; one with other inputs is refused.
    concepts : names of metadata columns or Concepts, optional
        What to test; by default every metadata column that can be one (of more than 20, those that are
        associated with the label most), those that are measured of files and pictures and are associated
        with the label (`Scanning.measure`), and what is discovered. How columns are read:
        `Concept.from_column`.
    present : mapping, optional
        Column to the value that means that the artifact is there, such as ``{"collimation": "frame"}``.
    discover : bool, optional
        Whether to look for shortcuts that nobody named, and test what is proposed; by default where no
        concepts are given.
    train : ImageTable or TrainingData, optional
        The training samples, for the association; or what else is known of them.
    head : Head, str or int, optional
        Which scores of the model are audited: a `Head`, or the part of what the model returns. Of a
        multi-label network the logit of the label's output is audited, of one whose classes exclude each
        other its lead over the others.
    scanning : Scanning, optional
        Layers, target and attribution of the scan. Verdicts rest on interventions, so that they are the same
        with any attribution; with LRP the profile has no directional derivative.
    statistics : Statistics, optional
        Permutations, resamples, the seed, and the class that effects refer to.
    running : Running, optional
        Device, precision, batch size, workers, bars, and what to do with images that cannot be read.
    record : Recording, optional
        What the run says of where it comes from.

    Returns
    -------
    Audit

    Raises
    ------
    InputError, ModelError, StaleRunError
        Before any long work, with what was given, what is allowed and what to do.

    Examples
    --------
    >>> how = {"train": train, "statistics": few, "running": quiet}
    >>> audit = ss.audit(model, data, "runs/net", concepts=["tag"], **how)
    >>> audit["tag"].verdict, audit["tag"].extent
    ('shortcut', 'localized')
    """
    request = ConceptRequest(concepts, present or {}, discover)
    running = running or Running()
    with together():
        return _audited(model, data, out, request, train, head, scanning, statistics, running, record)


def _audited(
    model: nn.Module,
    data: ImageTable,
    out: str | Path | None,
    request: ConceptRequest,
    train: ImageTable | TrainingData | None,
    head: Output,
    scanning: Scanning | None,
    statistics: Statistics | None,
    running: Running,
    record: Recording | None,
) -> AuditRecord:
    """An audit by all processes that share it."""
    images = DecodedImages(running.cache, running.cache_gb)
    kept = data.keeping(running, images)
    task = task_of(model, kept, request, train, head, scanning, statistics, running, record).with_texts()
    path = Path(out) if out is not None else Path("runs") / f"{type(model).__name__}-{task.fingerprint[:8]}"
    plan = task.plan(task.audited.table, skip=running.on_unreadable == "skip")
    inputs = task.inputs()
    RunDirectory(path, inputs)  # refused before a folder is made
    if plan is not None:
        n, n_permutations = len(task.audited.table), task.statistics.n_permutations
        needed = statistics_bytes(n, plan.layers, task.n_concepts, n_permutations)
        require_memory(needed)
        images.spare(needed)
        if not (path / "scan").exists():
            require_free_space(path, n * plan.row_bytes)
        if running.on_unreadable != "skip":
            refuse_other_scan(path / "scan", plan.inputs)
    require_same({**inputs, **task.options()}, "audit")
    with locked(path) if is_main() else contextlib.nullcontext():
        require_same_folder(path, "locked")
        run = RunDirectory(path, inputs)
        wait("opened")
        weights = stage_weights(
            len(task.audited.table),
            len(plan.layers) if plan is not None else 1,
            len(task.concepts) + len(task.outputs) + LIKELY_MORE * task.discovering,
            discovering=task.discovering,
        )
        with run.logged(), total_progress(weights, progress=running.progress):
            _audit_in(run, task, plan)
        wait("finished")
        return AuditRecord.open(path)


def _audit_in(run: RunDirectory, task: AuditTask, plan: Plan | None) -> None:
    """All stages, in a run directory that this process, or the first of those that share it, holds."""
    model, running, statistics = task.model, task.running, task.statistics
    path, skipping = run.path, running.on_unreadable == "skip"
    # Nothing is written before all images have been read: who mends one that is broken starts afresh.
    started = time.perf_counter()
    with stage("verify"):
        table = task.audited.table.verify(
            running.on_unreadable,
            workers=running.workers,
            progress=running.progress,
            measure=task.scanning.measure,
        )
    task = task.measured(table)
    audited = task.audited
    if plan is None or skipping:
        plan = task.plan(table)
        assert plan is not None
        refuse_other_scan(path / "scan", plan.inputs)
    settings = ExamineSettings.of(statistics, running, plan.head, task.texts)
    _note_beginning(run, task, table, plan)
    run.mark("verify", "done", time.perf_counter() - started)
    with run.stage("preprocessing"):
        expected, seed = task.expected_auroc, statistics.seed
        check = from_main(lambda: check_in_audit(run, model, table, plan, expected, seed), "preprocessing")
    run.update({"preprocessing": check})
    with run.stage("scan"):
        scanned = scan(model, table, path / "scan", plan=plan)
    _note_scan(run, scanned, several=bool(task.outputs))
    concepts = list(task.concepts)
    if task.discovering and not task.outputs:
        with run.stage("discover"):
            concepts += from_main(
                lambda: discovered_concepts(
                    run, scanned, table, task.concepts, seed=statistics.seed, running=running
                ),
                "discover",
            )
    run.update({"settings": settings.to_dict(audited.role)})
    with (
        frozen(model, running.device) as borrowed,
        # Margins are compared with those of the scan.
        autocast_forward(borrowed, plan.device.type, plan.autocast),
    ):
        if task.outputs:
            outputs = task.outputs
            if audited.table is not table:
                audited = replace(audited, table=table)
                outputs = outputs_of(audited, outputs)
            searching = running if task.discovering else None
            audit_outputs(borrowed, scanned, run, outputs, concepts, searching, audited, settings)
            return
        examined = examine(borrowed, scanned, table, concepts, audited, run, settings)
    with run.stage("subgroups"):
        subgroups = subgroups_of(scanned, concepts, examined.findings, table.classes, settings)
    write_examination(run, examined, subgroups)


def _note_beginning(run: RunDirectory, task: AuditTask, table: ImageTable, plan: Plan) -> None:
    """Keep what is known when all images have been read."""
    audited = task.audited
    assumed = [*plan.assumed, *([NO_WEIGHTS] if has_random_weights(task.model) else [])]
    if is_main():
        keep_identity(run, table, audited.reference)
    task.describe(run)
    if task.record.keep_paths:
        run.write_frame("files.parquet", pd.DataFrame(table.files.items(), columns=["sample_id", "image"]))
    run.update({"seed": task.statistics.seed, "device": str(task.running.device or "cpu"), **task.noted})
    run.update({"head": plan.head.to_json(), "assumptions": [*run.record["assumptions"], *assumed]})
    for text in (*audited.warnings, *table.notes, *assumed):
        run.warn(text)
    if table.skipped:
        _note_skipped(run, table)


def _note_scan(run: RunDirectory, scanned: Scan, *, several: bool) -> None:
    """Keep what the scan says of the network."""
    if scanned.attribution.warning:
        run.warn(scanned.attribution.warning)
    layers = [
        {"name": x.name, "kind": x.kind, "layout": x.layout, "shape": list(x.shape), "depth": x.depth}
        for x in scanned.layers
    ]
    run.update(
        {
            "attribution": (attribution_of(scanned) if several else scanned.attribution).to_json(),
            "memory_format": scanned.remarks.get("memory_format"),
            "layer_choice": scanned.remarks.get("layer_choice"),
            "not_measured": not_measured(scanned),
            "layers": layers,
            "performance": {} if several else performance(scanned),
        }
    )


def _note_skipped(run: RunDirectory, table: ImageTable) -> None:
    """Say which images are not audited."""
    n = len(table.skipped)
    which = "1 image was left out, as asked: it" if n == 1 else f"{n} images were left out, as asked: they"
    run.warn(f"{which} could not be read")
    run.update({"data": {**run.record["data"], "skipped": list(table.skipped), "n_samples": len(table)}})


def estimate_audit(
    model: nn.Module,
    data: ImageTable,
    *,
    request: ConceptRequest | None = None,
    train: ImageTable | TrainingData | None = None,
    head: Output = None,
    scanning: Scanning | None = None,
    statistics: Statistics | None = None,
    running: Running | None = None,
) -> AuditEstimate:
    """What an audit would cost at most in time, memory and on disk; nothing is written.

    Parameters
    ----------
    model, data, train, head, scanning, statistics, running
        As in `audit`.
    request
        The concepts; by default as in `audit`.

    Raises
    ------
    InputError, ModelError
        What an audit would refuse before it scans.
    """
    task = task_of(model, data, request or ConceptRequest(), train, head, scanning, statistics, running)
    table = task.audited.table
    plan = task.plan(table)
    assert plan is not None
    images, passes = affordable_images(len(table), relevance=plan.scanning.relevance)
    return audit_cost(
        estimate(model, table, plan=plan),
        checked=(images, passes if images else 0.0),
        n_concepts=task.n_concepts,
        n_classes=2 * len(task.outputs) or int(table.frame["label"].nunique()),
        n_permutations=task.statistics.n_permutations,
    )
