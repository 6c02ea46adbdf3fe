"""The audit: scan every layer, probe every concept, and say for each whether it is a shortcut.

The stages write into one run directory and are resumable; the result has a finding for every concept,
ranked by what it costs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from shortcutscope.allowed import check_options
from shortcutscope.audit.audited_data import AuditedData, audited_data, resolve_concepts
from shortcutscope.audit.cost import AuditEstimate, audit_cost, require_memory, statistics_bytes
from shortcutscope.audit.discovery import discovered_concepts, screened_columns
from shortcutscope.audit.examination import Examination, ExamineSettings, examine
from shortcutscope.audit.identity import keep_identity
from shortcutscope.audit.provenance import describe, not_measured, performance
from shortcutscope.audit.record import AuditRecord
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.data.privacy import redacted_command, redacted_line
from shortcutscope.data.readers.image import UnreadableImageError
from shortcutscope.data.splits import assert_splits_apart
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.files import slug
from shortcutscope.locking import locked
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Output, as_head
from shortcutscope.models.loading import has_random_weights, model_fingerprint
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.plan import Options, Plan, make_plan
from shortcutscope.scan.scanner import ScanOptions, estimate, scan
from shortcutscope.scan.store import refuse_other_scan, require_free_space

if TYPE_CHECKING:
    pass

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
    train: ImageTable | None = None,
    associations: Mapping[str, Mapping[str, Any]] | None = None,
    trained_on: bool = False,
    layers: Any = "blocks",
    target: Any = "predicted",
    task: str = "auto",
    positive: int | None = None,
    layouts: dict[str, str] | None = None,
    output: Output = None,
    label_output: str | int | None = None,
    output_names: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 64,
    workers: int = 0,
    precision: str = "fp32",
    attribution: str = "gradient",
    strict: bool = False,
    n_permutations: int = 200,
    n_bootstrap: int = 300,
    on_unreadable: Literal["raise", "skip"] = "raise",
    seed: int = 0,
    progress: bool = True,
    keep_paths: bool = False,
    model_spec: str | None = None,
    command: str | None = None,
) -> AuditRecord:
    """Audit a trained model for shortcuts.

    Parameters
    ----------
    model : nn.Module
        Given back exactly as it was.
    data : ImageTable
        Held-out samples with labels. Rows whose split is ``train`` or ``training`` are not audited when
        there are others: only the association of the concepts with the label is measured on them.
    out : path, optional
        Run directory; by default ``runs/<model class>-<fingerprint>``. An interrupted audit goes on
        there; one with other inputs is refused.
    concepts : names of metadata columns or Concepts, optional
        What to test; by default every metadata column that can be one (of more than 20, those that go
        with the label most), and what is discovered. How columns are read: `Concept.from_column`.
    present : mapping, optional
        Column to the value that means that the artifact is there, such as ``{"collimation": "frame"}``.
    discover : bool, optional
        Whether to look for shortcuts that nobody named, and test what is proposed; by default where no
        concepts are given.
    train : ImageTable, optional
        The training samples, for the association.
    associations : mapping, optional
        Concept to its association with the label as an earlier audit of the network measured it
        (`Finding.association`), for data in which the two do not go together.
    trained_on : bool
        Say True when ``data`` are the images the model was trained on: effects are about twice as large
        there, and the threshold of use is doubled.
    layers, target, task, layouts, output, batch_size, workers, precision, attribution, strict
        See `shortcutscope.scan`. Verdicts rest on interventions, so that they are the same with any
        attribution; with LRP the profile has no directional derivative.
    label_output : int or str, optional
        The one of several outputs that a label of 0 and 1 belongs to, by position or name: of a multi-label
        network its logit is audited, of one whose classes exclude each other its lead over the others.
    output_names : sequence of str, optional
        Names of the outputs in their order, where the model does not know them itself. `output` also takes
        a `Head`, which says all of this at once.
    positive : int, optional
        Class that margins and effects refer to; by default 1 of two classes, and of several the one that
        the concept goes with most.
    n_permutations, n_bootstrap : int
        Permutations of a concept within class; resamples of the patients.
    on_unreadable : {"raise", "skip"}
        What to do with images that cannot be read.
    seed : int
        Seed of folds, permutations, resamples and choices of samples.
    keep_paths : bool
        Whether the run may name files: the paths of the command line, and each image's in ``files.parquet``.

    Returns
    -------
    Audit

    Raises
    ------
    InputError, ModelError, StaleRunError
        Before any long work, with what was given, what is allowed and what to do.
    """
    check_options(
        {
            "n_permutations": n_permutations,
            "n_bootstrap": n_bootstrap,
            "seed": seed,
            "positive": positive,
            "batch_size": batch_size,
            "workers": workers,
            "task": task,
            "on_unreadable": on_unreadable,
            "device": device,
        }
    )
    assert_splits_apart(data.frame)
    audited = replace(audited_data(data, train, trained_on=trained_on), associations=associations or {})
    discovering = concepts is None if discover is None else discover
    columns, unlikely, screen = screened_columns(audited, seed=seed) if concepts is None else ([], {}, None)
    chosen, refused = resolve_concepts(
        audited, concepts, columns=columns, may_be_none=discovering, present=present
    )
    head = as_head(output, label=label_output, names=output_names, task=task)
    scan_options: ScanOptions = {
        "layers": layers,
        "target": target,
        "task": task,
        "batch_size": batch_size,
        "workers": workers,
        "precision": precision,
        "attribution": attribution,
        "strict": strict,
        "layouts": layouts,
        "output": head,
        "device": device,
        "progress": progress,
    }
    labels = sorted(set(audited.table.frame["label"].tolist()))
    if positive is not None and positive not in labels:
        raise InputError(
            f"positive={positive}: no audited sample has that label; there are {', '.join(map(str, labels))}"
        )
    settings = ExamineSettings(
        n_permutations=n_permutations,
        n_bootstrap=n_bootstrap,
        seed=seed,
        positive=positive,
        batch_size=batch_size,
        workers=workers,
        output=head,
        progress=progress,
    )
    known = _known_labels(data, train)
    fingerprint = model_fingerprint(model)
    path = Path(out) if out is not None else Path("runs") / f"{type(model).__name__}-{fingerprint[:8]}"
    planned = _planned(model, audited.table, scan_options, known, skip=on_unreadable == "skip")
    inputs = {
        "model": fingerprint,
        "data": audited.table.fingerprint(),
        "transform": audited.table.transform_fingerprint(),
        "target": str(target),
        "task": task,
        "head": head.to_json(),
        "precision": precision,
        "attribution": attribution,
        "layers": layers if isinstance(layers, str | list | tuple) else repr(layers),
    }
    RunDirectory(path, inputs)  # refused before a folder is made
    if planned is not None:
        n = len(audited.table)
        require_memory(statistics_bytes(n, planned.layers, len(chosen), n_permutations))
        if not (path / "scan").exists():
            require_free_space(path, n * planned.row_bytes)
        if on_unreadable != "skip":
            refuse_other_scan(path / "scan", planned.inputs)
    spec = model_spec or type(model).__name__
    with locked(path):
        return _audit_in(
            RunDirectory(path, inputs),
            model,
            audited,
            chosen,
            scan_options,
            settings,
            planned,
            known,
            about={
                "spec": spec if keep_paths else redacted_command([spec])[0],
                "command": command if keep_paths or command is None else redacted_line(command),
                "fingerprint": fingerprint,
            },
            noted={"refused_columns": unlikely | refused}
            | ({"metadata": screen.to_dict()} if screen else {}),
            discovering=discovering,
            on_unreadable=on_unreadable,
            keep_paths=keep_paths,
        )


def _audit_in(
    run: RunDirectory,
    model: nn.Module,
    audited: AuditedData,
    chosen: list[Concept],
    scan_options: ScanOptions,
    settings: ExamineSettings,
    plan: Plan | None,
    labels: np.ndarray[Any, Any],
    *,
    about: dict[str, Any],
    noted: dict[str, Any],
    discovering: bool,
    on_unreadable: Literal["raise", "skip"],
    keep_paths: bool,
) -> AuditRecord:
    """All stages, in a run directory that this process holds."""
    reading: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "workers": settings.workers,
        "progress": settings.progress,
    }
    device, path = scan_options["device"], run.path
    # Nothing is written before all images have been read: who mends one that is broken starts afresh.
    started = time.perf_counter()
    table = audited.table.verify(
        on_unreadable=on_unreadable, workers=settings.workers, progress=settings.progress
    )
    if plan is None or on_unreadable == "skip":
        plan = _planned(model, table, scan_options, labels)
        assert plan is not None
        refuse_other_scan(path / "scan", plan.inputs)
    scan_options |= {"output": plan.head, "task": plan.task}
    settings = replace(settings, output=plan.head)
    assumed = [*plan.assumed, *([NO_WEIGHTS] if has_random_weights(model) else [])]
    keep_identity(run, table, audited.reference)
    describe(run, model, audited, **about)
    if keep_paths:
        run.write_frame("files.parquet", pd.DataFrame(table.files.items(), columns=["sample_id", "image"]))
    run.update(seed=settings.seed, device=str(device or "cpu"), **noted)
    run.mark("verify", "done", time.perf_counter() - started)
    run.update(head=plan.head.to_json(), assumptions=[*run.record["assumptions"], *assumed])
    for text in (*audited.warnings, *table.notes, *assumed):
        run.warn(text)
    if table.skipped:
        n = len(table.skipped)
        which = (
            "1 image was left out, as asked: it" if n == 1 else f"{n} images were left out, as asked: they"
        )
        run.warn(f"{which} could not be read")
        run.update(data={**run.record["data"], "skipped": list(table.skipped), "n_samples": len(table)})
    with run.stage("scan"):
        scanned = scan(
            model,
            table,
            path / "scan",
            **scan_options,
        )
    if scanned.attribution.warning:
        run.warn(scanned.attribution.warning)
    run.update(
        attribution=scanned.attribution.to_json(),
        memory_format=scanned.remarks.get("memory_format"),
        layer_choice=scanned.remarks.get("layer_choice"),
        not_measured=not_measured(scanned),
        layers=[
            {"name": x.name, "kind": x.kind, "layout": x.layout, "shape": list(x.shape), "depth": x.depth}
            for x in scanned.layers
        ],
        performance=performance(scanned),
    )
    if discovering:
        with run.stage("discover"):
            chosen += discovered_concepts(run, scanned, table, chosen, seed=settings.seed, **reading)
    run.update(settings=settings.to_dict(audited.role))
    with frozen(model, device) as borrowed:
        examined = examine(
            borrowed,
            scanned,
            table,
            chosen,
            audited,
            run,
            settings,
        )
    _write(run, examined)
    return AuditRecord.open(path)


def _planned(
    model: nn.Module,
    table: ImageTable,
    options: ScanOptions,
    labels: np.ndarray[Any, Any],
    *,
    skip: bool = False,
) -> Plan | None:
    """Settled on the first samples, so that what cannot be scanned is refused early.

    None where images may be skipped, and one of the first is.
    """
    chosen = {k: v for k, v in options.items() if k not in ("device", "progress")}
    try:
        with frozen(model, options["device"]) as borrowed:
            return make_plan(borrowed, table, Options(**chosen), labels=labels)  # type: ignore[arg-type]
    except UnreadableImageError:
        if not skip:  # reading all images will name all that are unreadable
            raise
        return None


def _known_labels(data: ImageTable, train: ImageTable | None) -> np.ndarray[Any, Any]:
    """Of all samples, also those that are not audited: classes may lack samples in the others."""
    return np.concatenate([table.frame["label"].to_numpy() for table in (data, train) if table is not None])


def estimate_audit(
    model: nn.Module,
    data: ImageTable,
    *,
    train: ImageTable | None = None,
    trained_on: bool = False,
    concepts: Sequence[str | Concept] | str | Concept | None = None,
    present: Mapping[str, str] | None = None,
    n_permutations: int = 200,
    seed: int = 0,
    **options: Any,
) -> AuditEstimate:
    """What an audit would cost at most in time, memory and on disk; nothing is written.

    Parameters
    ----------
    model, data, train, trained_on, concepts, present, n_permutations, seed
        As in `audit`.
    **options
        Of the scan.
    """
    audited = audited_data(data, train, trained_on=trained_on)
    asked: ScanOptions = {"device": None, **options}  # type: ignore[typeddict-item]
    _planned(model, audited.table, asked, _known_labels(data, train))  # refuses what an audit would refuse
    columns = screened_columns(audited, seed=seed)[0] if concepts is None else []
    chosen, _ = resolve_concepts(audited, concepts, columns=columns, may_be_none=True, present=present)
    return audit_cost(
        estimate(model, audited.table, **options),
        n_concepts=len(chosen),
        n_classes=int(audited.table.frame["label"].nunique()),
        n_permutations=n_permutations,
    )


def _write(run: RunDirectory, examined: Examination) -> None:
    """Write profile, concepts, galleries and, last, the findings."""
    run.write_frame("profile.parquet", examined.profile)
    run.write_frame("concepts.parquet", examined.concepts)
    for name, gallery in examined.galleries.items():
        run.write_arrays(
            f"gallery/{slug(name)}.npz",
            images=gallery.images,
            maps=gallery.maps,
            sample_ids=np.array(gallery.sample_ids),
            captions=np.array(gallery.captions),
            kind=np.array(gallery.kind),
        )
    run.finish([f.to_dict() for f in examined.findings])
