"""What an audit is asked for: refused where it cannot be done, before any long work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from shortcutscope.audit.audited_data import (
    AuditedData,
    ConceptRequest,
    TrainingData,
    audited_data,
    joined,
    resolve_concepts,
)
from shortcutscope.audit.discovery import screened_columns
from shortcutscope.audit.measured import MOST_MEASURED, measured_data, screened_measured
from shortcutscope.audit.outputs import (
    OutputData,
    named_concepts,
    outputs_of,
    refuse_same_folders,
    refuse_unfit,
    screened_measured_outputs,
    several_head,
    several_scanning,
)
from shortcutscope.audit.provenance import describe
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.data.privacy import redacted_command, redacted_line
from shortcutscope.data.readers.image import UnreadableImageError
from shortcutscope.data.splits import assert_splits_apart
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Head, Output, as_head
from shortcutscope.models.loading import model_fingerprint
from shortcutscope.models.texts import TextReader
from shortcutscope.options import Recording, Running, Statistics
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.choice import stored_name
from shortcutscope.scan.plan import OF_AUDITS, Plan, Scanning, make_plan


@dataclass(frozen=True)
class AuditTask:
    """One audit: what is audited, for what, and how.

    Attributes
    ----------
    labels
        Of all samples that are known, also those that are not audited: classes may lack samples in others.
    fingerprint
        Of the model.
    request
        Which concepts were asked for.
    noted
        What the run keeps beside the results.
    expected_auroc
        What the model should reach.
    texts
        By which findings are named, too.
    """

    model: nn.Module
    audited: AuditedData
    concepts: list[Concept]
    head: Head
    scanning: Scanning
    statistics: Statistics
    running: Running
    record: Recording
    labels: np.ndarray[Any, Any]
    fingerprint: str
    discovering: bool = False
    outputs: Sequence[OutputData] = ()
    request: ConceptRequest = field(default_factory=ConceptRequest)
    noted: Mapping[str, Any] = field(default_factory=dict)
    expected_auroc: float | None = None
    texts: TextReader | None = None

    def with_texts(self) -> AuditTask:
        """With the texts as their model reads them.

        Raises
        ------
        InputError, ModelError
            For samples that are no pictures, and a model that fails on a picture or on the texts.
        """
        naming = self.scanning.texts
        if naming is None:
            return self
        shape = tuple(self.audited.table.image(0).shape)
        if len(shape) != 3:
            raise InputError(
                f"texts= names findings in pictures (C, H, W), and the samples are {shape}: leave it out"
            )
        about = {
            "model": model_fingerprint(naming.model),
            "texts": list(naming.texts),
            "templates": list(naming.templates),
        }
        return replace(self, texts=naming.reader(), noted={**self.noted, "texts": about})

    @property
    def n_concepts(self) -> int:
        """That are examined at most: labels are concepts of each other, and columns are measured."""
        unasked = self.scanning.measure and self.request.concepts is None
        return len(self.concepts) + len(self.outputs) + MOST_MEASURED * unasked

    def inputs(self) -> dict[str, Any]:
        """What a run directory belongs to."""
        table, scanning = self.audited.table, self.scanning
        layers = scanning.layers
        return {
            "model": self.fingerprint,
            "data": table.fingerprint(),
            "transform": table.transform_fingerprint(),
            "target": str(scanning.target),
            "task": self.head.task,
            "head": self.head.to_json(),
            "precision": self.running.precision,
            "attribution": stored_name(scanning.attribution),
            "layers": layers if isinstance(layers, str | list | tuple) else repr(layers),
        }

    def options(self) -> dict[str, Any]:
        """What processes that share an audit have to agree in, besides what the run belongs to."""
        return {
            "statistics": self.statistics,
            "concepts": [concept.fingerprint() for concept in self.concepts],
            "batch_size": self.running.batch_size,
        }

    def measured(self, table: ImageTable) -> AuditTask:
        """With the columns that were measured as the audited images were read."""
        if not self.scanning.measure:
            return self
        seed, request = self.statistics.seed, self.request.of_measured(self.audited.table)
        audited = replace(self.audited, table=table)
        if request.concepts is None or len(request.items((), ())):  # else nothing asks for their association
            audited = measured_data(audited, table, seed=seed, running=self.running)
        outputs, screen = self.outputs, None
        if outputs:
            outputs = outputs_of(audited, outputs)
            columns, unlikely, outputs = screened_measured_outputs(outputs, seed=seed)
        else:
            columns, unlikely, screen = screened_measured(audited, seed=seed)
        if request.concepts is not None:
            columns, unlikely = [], {}
        concepts, refused = resolve_concepts(audited, request, columns=columns, may_be_none=True)
        noted = {**self.noted, "refused_columns": {**self.noted["refused_columns"], **unlikely, **refused}}
        if screen is not None:
            noted["measured"] = screen.to_dict()
        concepts = joined(audited, self.concepts, concepts)
        return replace(self, audited=audited, concepts=concepts, outputs=outputs, noted=noted)

    def plan(self, table: ImageTable, *, skip: bool = False) -> Plan | None:
        """The scan, settled on the first samples, so that what cannot be scanned is refused early.

        None where images may be skipped, and one of the first is.
        """
        running = replace(self.running, on_unreadable="raise")
        try:
            with frozen(self.model, running.device) as borrowed:
                return make_plan(
                    borrowed,
                    table,
                    self.scanning,
                    running,
                    self.head,
                    labels=self.labels,
                    fingerprint=self.fingerprint,
                )
        except UnreadableImageError:
            if not skip:  # reading all images will name all that are unreadable
                raise
            return None

    def describe(self, run: RunDirectory) -> None:
        """Keep software, model and data in the run, and nothing that names files unless that is wanted."""
        record = self.record
        spec, command = record.model_spec or type(self.model).__name__, record.command
        if not record.keep_paths:
            spec = redacted_command([spec])[0]
            command = None if command is None else redacted_line(command)
        said = replace(record, model_spec=spec, command=command)
        describe(run, self.model, self.audited, said, self.fingerprint)


def task_of(
    model: nn.Module,
    data: ImageTable,
    request: ConceptRequest,
    train: ImageTable | TrainingData | None,
    head: Output,
    scanning: Scanning | None,
    statistics: Statistics | None,
    running: Running | None,
    record: Recording | None = None,
) -> AuditTask:
    """What an audit, or its estimate, is asked for; refused where it cannot be done."""
    statistics, scanning = statistics or Statistics(), scanning or Scanning()
    scanning.require_only("an audit", "layers", "target", "attribution", "strict", "layouts", *OF_AUDITS)
    assert_splits_apart(data.frame)
    training = TrainingData.of(train)
    audited = audited_data(data, training)
    if data.labels:
        return _task_of_labels(
            model, audited, request, training, as_head(head), scanning, statistics, running, record
        )
    if as_head(head).labels is not None:
        raise InputError(
            "labels= (--outputs) ties several labels to outputs, and the table has one: open it with "
            "label=[...]"
        )
    every = request.concepts is None
    columns, unlikely, screen = screened_columns(audited, seed=statistics.seed) if every else ([], {}, None)
    discovering = every if request.discover is None else request.discover
    known = request.before_measuring(audited.table) if scanning.measure else request
    chosen, refused = resolve_concepts(
        audited, known, columns=columns, may_be_none=discovering or known != request
    )
    _require_label(statistics.positive, audited)
    return AuditTask(
        model,
        audited,
        chosen,
        as_head(head),
        scanning,
        statistics,
        running or Running(),
        record or Recording(),
        labels=_known_labels(data, training.table),
        fingerprint=model_fingerprint(model),
        discovering=discovering,
        request=request,
        noted={"refused_columns": unlikely | refused} | ({"metadata": screen.to_dict()} if screen else {}),
        expected_auroc=training.expected_auroc,
    )


def _task_of_labels(
    model: nn.Module,
    audited: AuditedData,
    request: ConceptRequest,
    training: TrainingData,
    head: Head,
    scanning: Scanning,
    statistics: Statistics,
    running: Running | None,
    record: Recording | None,
) -> AuditTask:
    """As `_task`, of several labels a sample."""
    labels = audited.table.labels
    refuse_unfit(statistics, training.associations)
    refuse_same_folders(labels)
    outputs = outputs_of(audited)
    known = request.before_measuring(audited.table) if scanning.measure else request
    chosen, refused, outputs = named_concepts(audited, outputs, known, seed=statistics.seed)
    return AuditTask(
        model,
        replace(audited, assumptions=(*audited.assumptions, *audited.table.label_notes)),
        chosen,
        several_head(head, labels),
        several_scanning(scanning),
        statistics,
        running or Running(),
        record or Recording(),
        labels=np.empty(0, np.int64),
        fingerprint=model_fingerprint(model),
        discovering=request.concepts is None if request.discover is None else request.discover,
        outputs=outputs,
        request=request,
        noted={"refused_columns": refused},
    )


def _require_label(positive: int | None, audited: AuditedData) -> None:
    """Refuse a class that no audited sample has."""
    labels = sorted(set(audited.table.frame["label"].tolist()))
    if positive is not None and positive not in labels:
        raise InputError(
            f"positive={positive}: no audited sample has that label; there are {', '.join(map(str, labels))}"
        )


def _known_labels(data: ImageTable, train: ImageTable | None) -> np.ndarray[Any, Any]:
    """Of all samples, also those that are not audited: classes may lack samples in the others."""
    return np.concatenate([table.frame["label"].to_numpy() for table in (data, train) if table is not None])
