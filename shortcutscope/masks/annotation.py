"""Masks of a localized finding for any number of images, each drawn by what other patients taught."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy.typing as npt
from torch import nn

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.identity import refuse_other_data, refuse_other_model
from shortcutscope.data.sample_geometry import image_name, mask_geometry
from shortcutscope.data.sample_names import as_ids
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.files import slug
from shortcutscope.masks.area_prior import AreaPrior
from shortcutscope.masks.drawing import MaskPrediction, needs_review
from shortcutscope.masks.heat import keep_heat
from shortcutscope.masks.learning import CrossFitPredictors, Drawing, early_layers, fit_predictors
from shortcutscope.masks.manifest import JOURNAL, MANIFEST
from shortcutscope.masks.mask_files import Assessment, Kind
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import PRIOR, MaskWriter
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.models.frozen import frozen
from shortcutscope.options import READING, Running
from shortcutscope.probes.concept import Concept
from shortcutscope.progress import progress_bar
from shortcutscope.scan.batches import batches
from shortcutscope.scan.reading import Scan

#: Of how masks are drawn: a folder of masks goes on only with the same.
ALGORITHM = 5
METHODS = ("fusion", "clarc")
#: What is read of `Running`.
READ = ("device", "batch_size", "progress", *READING)
#: What samples with so many axes beside that of channels are.
KIND_OF: dict[int, Kind] = {1: "signal", 2: "image", 3: "volume"}


class AnnotateOptions(TypedDict, total=False):
    """The options of `annotate` that a finding's masks are drawn with, too."""

    drawing: Drawing | None
    heat: bool
    keep_paths: bool
    extent: str | None
    accepted: MaskSet | None
    running: Running | None


def annotate(
    model: nn.Module,
    scan: Scan,
    data: ImageTable,
    concept: Concept,
    samples: Sequence[str] | None = None,
    *,
    out: str | Path,
    drawing: Drawing | None = None,
    heat: bool = False,
    keep_paths: bool = False,
    extent: str | None = None,
    accepted: MaskSet | None = None,
    running: Running | None = None,
) -> MaskSet:
    """Draw the masks of a concept's carriers.

    Parameters
    ----------
    model
        The network that was scanned; given back as it was.
    scan
        Of the samples.
    data
        The images that were scanned, with at least the scan's samples.
    concept
        Which samples carry the artifact: known, marked, or found.
    samples
        Ids, or names of the files, of those whose masks are wanted; None for all of the scan.
    out
        Folder of the masks. An interrupted run there goes on.
    drawing
        How masks are drawn.
    heat
        Keep heat maps, too; `shortcutscope.masks.heat.heat_map` reads them.
    keep_paths
        Keep the names of the images' files, which exports then have; else images go by their ids there.
    extent
        What the audit found. A diffuse concept has no mask.
    accepted
        Masks of which a person accepted or edited five or more: their areas say which cut is taken, and how
        sure it is (not of signals, nor with ``"clarc"``). None takes those that lie in `out`; masks that are
        there are never drawn again.
    running
        Device, batch size, bars, and how images are read.

    Raises
    ------
    InputError
        For a diffuse concept, unknown samples, too few samples with or without the concept, or when these
        cannot be told apart out of fold.
    StaleRunError
        When the folder holds masks that were made in another way.
    """
    drawing, running = drawing or Drawing(), running or Running()
    running.require_only("annotate", *READ)
    refuse_diffuse(extent, concept.name)
    refuse_symmetric(concept)
    data.require_one_label("the data")
    ids = scan.samples["sample_id"].astype(str).to_numpy()
    table = scan.rows_of(data.keeping(running))
    wanted = _rows(ids, None if samples is None else as_ids(samples, ids.tolist(), data.files))
    kind = _kind(table)
    layers = early_layers(scan, len(table.shape) - 1)
    with_prior = drawing.method == "fusion" and kind != "signal"
    prior = area_prior(out, accepted) if with_prior else None
    told = {
        "model": model_fingerprint(model),
        "layers": [layer.name for layer in layers],
        "concept": concept.fingerprint(),
        "algorithm": ALGORITHM,
        **asdict(drawing),
        PRIOR: None if prior is None else prior.to_dict(),
    }
    batch_size, progress = running.batch_size, running.progress
    with frozen(model, running.device), MaskWriter(out, concept.name, told) as writer:
        waiting = [row for row in wanted if not writer.done(ids[row])]
        if waiting:
            writer.begin()
            fitted = fit_predictors(
                model, scan, table, concept, drawing, batch_size=batch_size, progress=progress
            ).with_prior(prior)
            values = concept.aligned_to(ids).values
            with progress_bar(total=len(waiting), desc="masks", progress=progress) as bar:
                for row, prediction in _stream(model, table, fitted, wanted, frozenset(waiting), batch_size):
                    geometry = mask_geometry(table, row)
                    if heat:
                        keep_heat(Path(out), ids[row], geometry.to_source(prediction.heat))
                    writer.append(
                        ids[row],
                        geometry.to_source(prediction.mask),
                        image=image_name(table, row, keep_paths=keep_paths),
                        kind=kind,
                        orientation=geometry.orientation,
                        assessment=Assessment(
                            prediction.confidence,
                            needs_review(prediction, float(values[row])),
                            prediction.doubt,
                        ),
                    )
                    bar.update()
    return MaskSet.open(out)


def _kind(table: ImageTable) -> Kind:
    axes = len(table.shape) - 1
    if axes not in KIND_OF:
        raise InputError(
            "masks are drawn on images (C, H, W), volumes (C, D, H, W) and signals (leads, time), not on "
            f"shape {table.shape}"
        )
    return KIND_OF[axes]


def area_prior(out: str | Path, accepted: MaskSet | None = None) -> AreaPrior | None:
    """Ordinary areas of a set of masks, or of those that lie in a folder; None where too few are accepted."""
    if accepted is None and any((Path(out) / name).exists() for name in (MANIFEST, JOURNAL)):
        accepted = MaskSet.open(out)
    return None if accepted is None else AreaPrior.from_masks(accepted)


def _stream(
    model: nn.Module,
    table: ImageTable,
    fitted: CrossFitPredictors,
    wanted: Sequence[int],
    waiting: frozenset[int],
    batch_size: int,
) -> Iterator[tuple[int, MaskPrediction]]:
    """Rows that are left and what was drawn of them, fold by fold, one batch in memory at a time.

    Batches are those of a run that was never interrupted: what a network computes of an image depends in its
    last bits on how many others are in the batch.
    """
    for fold, predictor in enumerate(fitted.predictors):
        rows_of_fold = [row for row in wanted if fitted.folds[row] == fold]
        parts = [rows_of_fold[k : k + batch_size] for k in range(0, len(rows_of_fold), batch_size)]
        rows = [row for part in parts if not waiting.isdisjoint(part) for row in part]
        if not rows:
            continue
        for x, _, places in batches(table.take(rows), batch_size):
            at = [rows[int(place)] for place in places]
            prediction = predictor.predict(model, x, fitted.scores[at])
            yield from ((row, one) for row, one in zip(at, prediction, strict=True) if row in waiting)


def annotate_finding(
    finding: FindingRecord,
    model: nn.Module,
    data: ImageTable,
    samples: Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    **options: Unpack[AnnotateOptions],
) -> MaskSet:
    """Draw the masks of a finding of an audit.

    Parameters
    ----------
    finding
        Read from a run.
    model, data
        Those that were audited.
    samples
        Ids of those whose masks are wanted; None for all.
    out
        Folder of the masks; by default ``masks/<finding>`` in the run.
    **options
        Of :func:`annotate`.

    Raises
    ------
    InputError
        For a finding that was not read from a run, a diffuse one, one that no layer encodes, or another
        model.
    """
    run = finding.home()
    settings: AnnotateOptions = {"extent": finding.extent, **options}
    refuse_diffuse(settings["extent"], finding.name)
    refuse_unencoded(finding)
    refuse_other_model(run, model)
    data = data.keeping(settings.get("running"))
    refuse_other_data(run, data)
    folder = run / "masks" / slug(finding.name) if out is None else Path(out)
    scan = Scan.open(run / "scan")
    return annotate(model, scan, data, finding.concept, samples, out=folder, **settings)


def refuse_diffuse(extent: str | None, name: str) -> None:
    """Raise InputError for a diffuse concept."""
    if extent == "diffuse":
        raise InputError(
            f"{name!r} is diffuse: images that carry it differ from the others all over, so that no part of "
            "them is it. If it is a thing in images that differ as a whole besides, box it on about ten of "
            "them (marks=, on the command line --marks); if not, debias the model instead. In Python "
            "extent=None draws masks all the same"
        )


def refuse_symmetric(concept: Concept) -> None:
    """Raise InputError for a concept of which nobody said on which side the artifact is."""
    reading = concept.reading
    if reading is not None and reading.symmetric:
        one, other = reading.present[0], reading.absent[0]
        raise InputError(
            f"neither {one!r} nor {other!r} of column {reading.column!r} is known to be the artifact, so "
            f"that nobody can tell what a mask is of. Run the same audit again and say it: "
            f"present={{{reading.column!r}: {one!r}}}, on the command line --present '{reading.column}={one}'"
        )


def refuse_unencoded(finding: FindingRecord) -> None:
    """Raise InputError for a finding that no layer encodes."""
    if finding.encoded.get("value") is False:
        raise InputError(
            f"{finding.name!r} is not encoded in the network ({finding.reason}): masks follow what its "
            "layers show, and would be guesses here. Masks from elsewhere can be imported"
        )


def _rows(ids: npt.NDArray[Any], samples: Sequence[str] | None) -> list[int]:
    if samples is None:
        return list(range(len(ids)))
    position = {name: k for k, name in enumerate(ids)}
    unknown = [str(name) for name in samples if str(name) not in position]
    if unknown:
        raise InputError(f"{len(unknown)} samples were not scanned, among them {unknown[:5]}")
    return [position[str(name)] for name in samples]
