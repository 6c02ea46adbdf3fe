"""What a scan will do, settled on its first samples before any long work."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from shortcutscope.attribution.lrp import Composite
from shortcutscope.attribution.slope import Explained
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.fingerprint import Sighting, model_fingerprint
from shortcutscope.models.frozen import device_of
from shortcutscope.models.heads.head import Head, Output, as_head
from shortcutscope.models.heads.targets import Target, class_count, resolve_task
from shortcutscope.models.layers import Layer, LayerChoice, choose_layers
from shortcutscope.models.memory_format import MemoryFormat, choose_memory_format
from shortcutscope.models.preflight import AGAIN, TRIED, preflight
from shortcutscope.models.texts import TextNaming
from shortcutscope.options import OptionGroup, Running
from shortcutscope.processes import count
from shortcutscope.scan.batches import Batch, batches, on_device, run_batch, targets_of
from shortcutscope.scan.choice import (
    GRADIENT,
    NONE,
    AttributionChoice,
    check_attribution,
    choose_attribution,
    stored_name,
)
from shortcutscope.scan.pooling import POOLING_VERSION
from shortcutscope.scan.reading import layer_to_json
from shortcutscope.scan.store import EXACT
from shortcutscope.types import Array
from shortcutscope.versions import SCANNING

#: Largest shard: what bounds the memory of a wide network's scan (four times this, in the making).
SHARD_BYTES = 64 * 2**20

#: Fewest shards of a scan for each process: one that is killed loses what its latest one would have held.
FEWEST_SHARDS = 10

#: First images that are scanned for trial, and those on which LRP is checked, at most.
FIRST = 2
CHECKED_SAMPLES = 4

#: What of `Scanning` an audit reads, and a scan alone does not.
OF_AUDITS = ("measure", "texts")

#: Columns that the scan adds to the table of samples.
ADDED_COLUMNS = ("prediction", "target")


@dataclass(frozen=True)
class Scanning(OptionGroup):
    """What a scan records.

    Attributes
    ----------
    layers, layouts
        Which layers, see `find_layers`.
    target
        The class whose score is explained: ``"predicted"``, ``"label"``, one class, one class per sample,
        or ``"every"`` (as many backward passes, and as much relevance to store, as there are classes).
    attribution
        A method of `shortcutscope.attribution.attribute.attribute` that gives all layers at once:
        ``"gradient_x_activation"``, ``"lrp"`` with the composite that fits the network's operations, or
        ``"lrp:<composite>"``. LRP is checked on the first images; where it does not hold, the scan uses
        gradient x activation, with a warning and the reason in `Scan.attribution`. An LRP scan has no plain
        gradient.
    strict
        Refuse to scan where LRP does not hold, instead of falling back.
    relevance
        False records activations alone, at the cost of a forward pass.
    channels_last
        Lay out images and weights channels last, which is faster at most image sizes, unless the model fails
        or gives other scores in it; what was chosen is among the scan's `remarks`.
    shard_rows
        Samples of a shard: what an interruption can cost. Fewer for wide networks.
    measure
        Of an audit: whether columns are measured of files and pictures
        (`shortcutscope.data.samples.SampleTable.measured`), and tested like others.
    texts
        Of an audit: texts to name findings by, and the model that reads them, see `TextNaming`.

    Raises
    ------
    InputError
        A size that is too small, an unknown attribution, or one without relevance.

    Examples
    --------
    >>> ss.Scanning(layers=["blocks.1.1"], attribution="lrp", strict=True).strict
    True
    """

    layers: LayerChoice = "blocks"
    target: Target = "predicted"
    attribution: str = GRADIENT
    strict: bool = False
    layouts: Mapping[str, str] | None = None
    relevance: bool = True
    channels_last: bool = True
    shard_rows: int = 4096
    measure: bool = True
    texts: TextNaming | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attribution(self.attribution)
        if self.attribution != GRADIENT and not self.relevance:
            raise InputError(
                f"attribution={self.attribution!r} is given with relevance=False, which records no "
                "relevance; leave one of them out"
            )


@dataclass(frozen=True)
class Plan:
    """A scan that can start.

    Attributes
    ----------
    scanning, running
        The options, with what the network lacks.
    device, autocast, memory_format
        Where and in what form batches are run.
    layers, task
        As found on the first samples.
    attribution
        The attribution that is used, and why.
    head, assumed
        Which scores are read, and what nobody said of them, in words.
    inputs
        What the result depends on, as JSON values.
    row_bytes
        Of one sample on the disk.
    shard_rows
        A multiple of the batch size, so that a resumed scan forms the same batches.
    layer_choice
        Which of the default layers were taken, where there are many.
    made_for
        The model, as it was then.
    """

    scanning: Scanning
    running: Running
    device: torch.device
    autocast: torch.dtype | None
    memory_format: MemoryFormat
    layers: tuple[Layer, ...]
    task: str
    attribution: AttributionChoice
    inputs: dict[str, Any]
    row_bytes: int
    shard_rows: int
    head: Head
    assumed: tuple[str, ...] = ()
    layer_choice: str | None = None
    made_for: Sighting | None = field(default=None, repr=False, compare=False)

    def require_made_for(self, model: nn.Module, table: ImageTable) -> None:
        """Refuse another model, other samples or another transform than the plan was settled on.

        Raises
        ------
        InputError
            Says which of them differ.
        """
        same = self.made_for is not None and self.made_for.is_of(model)
        given = {
            "model": self.inputs["model"] if same else model_fingerprint(model),
            "data": table.fingerprint(),
            "transform": table.transform_fingerprint(),
        }
        others = [what for what, fingerprint in given.items() if fingerprint != self.inputs[what]]
        if others:
            raise InputError(f"the plan was made for another {', '.join(others)}; make it anew")

    def run(self, model: nn.Module, table: ImageTable, batch: Batch) -> dict[str, Array]:
        """The rows that one batch adds to the store, see `run_batch`."""
        return run_batch(
            model,
            table,
            batch,
            self.layers,
            device=self.device,
            memory_format=self.memory_format,
            autocast=self.autocast,
            explained=Explained(self.scanning.target, None, self.task, self.head),
            relevance=self.scanning.relevance,
            composite=self.attribution.composite,
        )


def make_plan(
    model: nn.Module,
    table: ImageTable,
    scanning: Scanning,
    running: Running,
    head: Output = None,
    *,
    labels: Array | None = None,
    fingerprint: str | None = None,
) -> Plan:
    """Settle everything on the first samples.

    Parameters
    ----------
    model
        Lent out by `frozen`; gets the memory format of the scan.
    table, scanning, running, head
        What to scan, and how.
    labels
        All that are known, of the table and others of its kind, to be compared with the outputs; None where
        scores are not judged by labels.
    fingerprint
        The model's, where it is known.

    Raises
    ------
    InputError
        Labels, targets, layers, precision, images or columns that cannot be used.
    ModelError
        A model that cannot be scanned, or on which LRP does not hold with ``strict=True``.
    """
    _check_columns(table)
    _check_one_target_a_sample(scanning.target, table)
    fingerprint = fingerprint or model_fingerprint(model)
    trial, batch = _first_trial(model, table, scanning, running, head, labels)
    scanning, rows = trial.scanning, trial.run(model, table, batch)
    logits = torch.from_numpy(rows["logits"])
    trial = replace(trial, task=resolve_task(logits, trial.task))
    _check_all_classes(trial, table, class_count(logits, trial.task))
    if scanning.attribution != GRADIENT:
        trial = replace(trial, attribution=_choose(trial, model, table))
        rows = trial.run(model, table, batch)
    row_bytes = sum(values[0].size * _stored_size(key, values) for key, values in rows.items())
    per_shard = min(
        scanning.shard_rows, SHARD_BYTES // row_bytes, -(-len(table) // (FEWEST_SHARDS * count()))
    )
    return replace(
        trial,
        inputs=_inputs(fingerprint, table, trial),
        row_bytes=row_bytes,
        shard_rows=max(1, per_shard // running.batch_size) * running.batch_size,
        made_for=Sighting(model),
    )


def _first_trial(
    model: nn.Module,
    table: ImageTable,
    scanning: Scanning,
    running: Running,
    head: Output,
    labels: Array | None,
) -> tuple[Plan, Batch]:
    """A plan as far as the model and its scores tell it, and the samples to run it on."""
    device = device_of(model)
    autocast = autocast_dtype(running.precision, device)
    asked = as_head(head)
    tried = next(batches(table, AGAIN if asked.settled else TRIED, workers=0))
    batch = (tried[0][:FIRST], tried[1][:FIRST], tried[2][:FIRST])
    images = batch[0].to(device)
    chosen = choose_layers(model, images, scanning.layers, layouts=scanning.layouts, output=head)
    memory_format = choose_memory_format(model, images) if scanning.channels_last else MemoryFormat()
    memory_format.apply(model)
    seen = preflight(
        model,
        on_device(tried, device, memory_format),
        asked,
        labels=labels,
        classes=table.classes,
        batch_size=running.batch_size,
        autocast=autocast,
    )
    scanning, gradient = _with_gradient(scanning, seen.no_gradient)
    plan = Plan(
        scanning,
        running,
        device,
        autocast,
        memory_format,
        chosen.layers,
        seen.head.read_task,
        gradient,
        {},
        0,
        0,
        seen.head,
        seen.assumed,
        chosen.note,
    )
    return plan, batch


def _choose(trial: Plan, model: nn.Module, table: ImageTable) -> AttributionChoice:
    """LRP where it holds on the first samples."""
    scanning = trial.scanning
    batch = next(batches(table, min(CHECKED_SAMPLES, trial.running.batch_size), workers=0))

    def attempt(composite: Composite) -> None:
        replace(trial, attribution=AttributionChoice(composite=composite)).run(model, table, batch)

    # Where every class is explained, the rules are the same for each of them.
    every = isinstance(scanning.target, str) and scanning.target == "every"
    target: Target = "predicted" if every else targets_of(batch, scanning.target)
    return choose_attribution(
        model,
        on_device(batch, trial.device, trial.memory_format),
        scanning.attribution,
        Explained(target, batch[1], trial.task, trial.head),
        attempt,
        strict=scanning.strict,
        autocast=trial.autocast,
    )


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of an automatic mixed precision, None for full precision.

    Raises
    ------
    InputError
        Unknown, or not supported by the device.
    """
    if precision == "fp32":
        return None
    if precision != "bf16":
        raise InputError(f"precision is {precision!r}; allowed are 'fp32' and 'bf16'")
    if not _has_bf16(device):
        raise InputError(f"precision='bf16' is not supported by this machine's {device.type}; use 'fp32'")
    return torch.bfloat16


def _has_bf16(device: torch.device) -> bool:
    if not torch.amp.is_autocast_available(device.type):
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Every CPU can emulate it, many times slower than float32.
    native: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type != "cpu" or native


def _with_gradient(scanning: Scanning, lacking: str | None) -> tuple[Scanning, AttributionChoice]:
    """The options without relevance where there is no gradient, and what is said of it."""
    if lacking is None or not scanning.relevance:
        return scanning, AttributionChoice()
    if scanning.strict and scanning.attribution != GRADIENT:
        raise ModelError(
            f"attribution={scanning.attribution!r} does not hold on this model: {lacking}; without "
            "strict=True (--strict) it is audited without relevance"
        )
    choice = AttributionChoice(scanning.attribution, NONE, lacking)
    return replace(scanning, relevance=False, attribution=GRADIENT), choice


def _inputs(fingerprint: str, table: ImageTable, plan: Plan) -> dict[str, Any]:
    """What a scan depends on: another value of any of these is another scan."""
    attribution, target = plan.attribution, plan.scanning.target
    if not isinstance(target, str | int):
        target = "sha256:" + hashlib.sha256(np.asarray(target, dtype="<i8").tobytes()).hexdigest()
    return {
        "model": fingerprint,
        "data": table.fingerprint(),
        "transform": table.transform_fingerprint(),
        "layers": [layer_to_json(layer) for layer in plan.layers],
        "target": target,
        "task": plan.task,
        "output": plan.head.to_json() if plan.head.changes else None,
        "relevance": plan.scanning.relevance,
        # What is used, not what was asked for: after a fallback the rows are those of the gradient.
        "attribution": stored_name(attribution.used),
        "composite": None if attribution.composite is None else repr(attribution.composite),
        "precision": plan.running.precision,
        "pooling": POOLING_VERSION,
        "scanning": SCANNING,
    }


def _stored_size(key: str, values: Array) -> int:
    return values.itemsize if key in EXACT else np.dtype(np.float16).itemsize


def _check_columns(table: ImageTable) -> None:
    taken = [name for name in ADDED_COLUMNS if name in table.frame.columns]
    if taken:
        raise InputError(
            f"the table has metadata columns called {' and '.join(map(repr, taken))}, which the scan adds "
            "itself; rename them"
        )
    try:
        pa.Table.from_pandas(table.frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"the table's metadata cannot be written to Parquet ({error}); give each column "
            "values of one type"
        ) from error


def _check_one_target_a_sample(target: Target, table: ImageTable) -> None:
    if not isinstance(target, str | int) and np.shape(target) != (len(table),):
        raise InputError(
            f"targets have shape {np.shape(target)} but the table has {len(table)} samples; give one "
            "class a sample"
        )


def _check_all_classes(plan: Plan, table: ImageTable, n_classes: int) -> None:
    """Refuse labels and targets that are no classes of the model."""
    if plan.task != "multilabel":
        _check_classes("label", table.frame["label"].to_numpy(), n_classes)
    if not isinstance(plan.scanning.target, str | int):
        _check_classes("target", np.asarray(plan.scanning.target), n_classes)


def _check_classes(what: str, classes: Array, n_classes: int) -> None:
    outside = sorted({int(c) for c in classes[(classes < 0) | (classes >= n_classes)]})
    if outside:
        some = ", ".join(map(str, outside[:5]))
        raise InputError(
            f"{what} {some} lies outside the model's {n_classes} classes (0 to {n_classes - 1}); map the "
            "labels to the model's outputs, or load the model with as many classes as the data has"
        )
