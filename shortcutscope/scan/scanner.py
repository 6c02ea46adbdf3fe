"""Scan a model over a table: every layer's pooled activation and relevance, streamed to the disk."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict, Unpack, overload

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from shortcutscope.data.table import ImageTable
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import Target, predicted_class
from shortcutscope.models.layers import Layer, LayerChoice
from shortcutscope.models.outputs import first_float, pick
from shortcutscope.scan.batches import batches, on_device
from shortcutscope.scan.choice import AttributionChoice
from shortcutscope.scan.plan import Options, Plan, make_plan
from shortcutscope.scan.reading import Scan
from shortcutscope.scan.store import ShardWriter, require_free_space

__all__ = ["Scan", "ScanEstimate", "estimate", "scan"]


class ScanOptions(TypedDict, total=False):
    """The options of `scan`."""

    layers: LayerChoice
    target: Target
    task: str
    batch_size: int
    device: torch.device | str | None
    workers: int
    precision: str
    channels_last: bool
    shard_rows: int
    layouts: Mapping[str, str] | None
    output: Output
    relevance: bool
    attribution: str
    strict: bool
    progress: bool


@dataclass(frozen=True)
class ScanEstimate:
    """What a scan will cost.

    Attributes
    ----------
    n_samples
        Images to scan.
    layers
        Layers to record.
    bytes
        On the disk.
    seconds
        Of computing, and of reading images where that takes longer; measured on one batch, with the
        attribution that would be used.
    attribution
        That attribution, and why it is this one.
    forward, reading
        Seconds of a forward pass alone, and of reading, for one image.
    memory_format, layer_choice
        How images are laid out, and which layers were chosen; None where there was no choice.
    """

    n_samples: int
    layers: tuple[Layer, ...]
    bytes: int
    seconds: float
    attribution: AttributionChoice = field(default_factory=AttributionChoice)
    forward: float = 0.0
    reading: float = 0.0
    memory_format: str | None = None
    layer_choice: str | None = None

    def __str__(self) -> str:
        return (
            f"{self.n_samples} samples x {len(self.layers)} layers: {self.bytes / 2**20:.1f} MiB, "
            f"about {self.seconds:.0f} s, {self.attribution}"
        )


@overload
def scan(
    model: nn.Module,
    table: ImageTable,
    out: str | Path,
    *,
    dry_run: Literal[False] = False,
    **options: Unpack[ScanOptions],
) -> Scan: ...


@overload
def scan(
    model: nn.Module,
    table: ImageTable,
    out: str | Path,
    *,
    dry_run: Literal[True],
    **options: Unpack[ScanOptions],
) -> ScanEstimate: ...


def scan(
    model: nn.Module,
    table: ImageTable,
    out: str | Path,
    *,
    layers: LayerChoice = "blocks",
    target: Target = "predicted",
    task: str = "auto",
    batch_size: int = 64,
    device: torch.device | str | None = None,
    workers: int = 0,
    precision: str = "fp32",
    channels_last: bool = True,
    shard_rows: int = 4096,
    layouts: Mapping[str, str] | None = None,
    output: Output = None,
    relevance: bool = True,
    attribution: str = "gradient",
    strict: bool = False,
    progress: bool = True,
    dry_run: bool = False,
) -> Scan | ScanEstimate:
    """Pool every layer's activation and relevance over all samples, in one pass.

    An interrupted scan goes on where it stopped when the same call is made again; a finished one is opened.

    Parameters
    ----------
    model
        Scores a batch of images; given back as it was.
    table
        The samples.
    out
        Folder of the scan.
    layers, layouts
        Which layers, see `find_layers`.
    target
        The class whose score is explained: ``"predicted"``, ``"label"``, one class, one class per sample,
        or ``"every"`` (as many backward passes, and as much relevance to store, as there are classes).
    task
        See `resolve_task`.
    batch_size
        Images at a time.
    device
        Where to run; None for where the model is.
    workers
        Processes that read images.
    precision
        ``"bf16"`` runs the network, not the pooling, in mixed precision.
    channels_last
        Lay out images and weights channels last, which is faster at most image sizes, unless the model fails
        or gives other scores in it; what was chosen is among the scan's `remarks`.
    shard_rows
        Samples of a shard: what an interruption can cost. Fewer for wide networks.
    output
        Which part of the model's output holds the scores, see `find_logits`.
    relevance
        False records activations alone, at the cost of a forward pass.
    attribution
        ``"gradient"`` for gradient x activation, ``"lrp"`` for LRP with the composite that fits the
        network's operations, or ``"lrp:<composite>"``. LRP is checked on the first images; where it does
        not hold, the scan uses gradient x activation, with a warning and the reason in `Scan.attribution`.
        An LRP scan has no plain gradient.
    strict
        Refuse to scan where LRP does not hold, instead of falling back.
    progress
        Show a progress bar.
    dry_run
        Only say what it would cost; nothing is written.

    Raises
    ------
    InputError
        Input that does not fit the model, a folder of something else, or a full disk.
    StaleRunError
        The folder holds a scan of another model, data, transform or setting.
    ModelError
        A model that cannot be scanned, that returns NaN, or on which LRP does not hold with ``strict=True``.
    """
    options = Options(
        layers,
        target,
        task,
        batch_size,
        workers,
        precision,
        channels_last,
        shard_rows,
        layouts,
        output,
        relevance,
        attribution,
        strict,
    )
    with frozen(model, device) as borrowed:
        plan = make_plan(borrowed, table, options)
        if plan.attribution.warning:
            warnings.warn(plan.attribution.warning, stacklevel=2)
        if dry_run:
            return _measure(borrowed, table, plan)
        return _write(borrowed, table, plan, Path(out), progress)


def estimate(model: nn.Module, table: ImageTable, **options: Unpack[ScanOptions]) -> ScanEstimate:
    """What `scan` with these options would cost, measured on one batch; nothing is written.

    Parameters
    ----------
    model, table, **options
        As in `scan`.
    """
    return scan(model, table, Path(), dry_run=True, **options)


def _measure(model: nn.Module, table: ImageTable, plan: Plan) -> ScanEstimate:
    options, n = plan.options, len(table)
    start = time.perf_counter()
    batch = next(batches(table, options.batch_size))
    reading = (time.perf_counter() - start) / max(1, options.workers)
    start = time.perf_counter()
    plan.run(model, table, batch)  # its rows are on the host, so an accelerator has finished
    computing = time.perf_counter() - start
    per_batch = max(reading, computing) if options.workers else reading + computing
    start, size = time.perf_counter(), len(batch[0])
    with torch.no_grad():
        result = model(on_device(batch, plan.device, plan.memory_format))
        pick(result, first_float(result) or ()).cpu()  # an accelerator has finished then
    forward = time.perf_counter() - start
    return ScanEstimate(
        n,
        plan.layers,
        n * plan.row_bytes,
        per_batch * n / size,
        plan.attribution,
        forward / size,
        reading / size,
        str(plan.memory_format),
        plan.layer_choice,
    )


def _write(model: nn.Module, table: ImageTable, plan: Plan, out: Path, progress: bool) -> Scan:
    options, n = plan.options, len(table)
    with (
        ShardWriter(out, plan.inputs, n_rows=n, shard_rows=plan.shard_rows) as writer,
        tqdm(total=n, initial=writer.rows_done, desc="scan", unit="image", disable=not progress) as bar,
    ):
        if writer.rows_done < n:
            require_free_space(out, (n - writer.rows_done) * plan.row_bytes)
            pin_memory = plan.device.type == "cuda"
            for batch in batches(
                table,
                options.batch_size,
                workers=options.workers,
                start=writer.rows_done,
                pin_memory=pin_memory,
            ):
                writer.append(plan.run(model, table, batch))
                bar.update(len(batch[0]))
            writer.flush()
        # Also for a finished scan: metadata may have changed, which no statistic depends on.
        writer.finish(
            _samples(table, writer, plan.task),
            attribution=plan.attribution.to_json(),
            memory_format=str(plan.memory_format),
            layer_choice=plan.layer_choice,
        )
    return Scan.open(out)


def _samples(table: ImageTable, writer: ShardWriter, task: str) -> pd.DataFrame:
    roles = ["sample_id", "label", "group", "split"]
    metadata = [name for name in table.frame.columns if name not in roles]
    prediction = predicted_class(torch.from_numpy(writer.read("logits")), task).numpy()
    return table.frame[roles].assign(
        prediction=prediction, target=writer.read("target"), **{name: table.frame[name] for name in metadata}
    )
