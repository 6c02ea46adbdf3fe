"""Scan a model over a table: every layer's pooled activation and relevance, streamed to the disk."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from shortcutscope.data.decoding.loading import worker_count
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import predicted_class
from shortcutscope.models.layers import Layer
from shortcutscope.models.outputs import first_float, pick
from shortcutscope.options import READING, Running
from shortcutscope.processes import (
    count,
    from_main,
    is_main,
    own_share,
    rank,
    require_same,
    require_same_folder,
    together,
    wait,
)
from shortcutscope.progress import progress_bar
from shortcutscope.scan.batches import batches, on_device
from shortcutscope.scan.choice import AttributionChoice
from shortcutscope.scan.plan import OF_AUDITS, Plan, Scanning, make_plan
from shortcutscope.scan.reading import Scan
from shortcutscope.scan.store import ShardWriter, require_free_space

__all__ = ["Scan", "ScanEstimate", "Scanning", "estimate", "scan"]


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


def scan(
    model: nn.Module,
    data: ImageTable,
    out: str | Path,
    *,
    scanning: Scanning | None = None,
    head: Output = None,
    running: Running | None = None,
    plan: Plan | None = None,
) -> Scan:
    """Pool every layer's activation and relevance over all samples, in one pass.

    An interrupted scan goes on where it stopped when the same call is made again; a finished one is opened.
    Of several processes (``torchrun``), which all have to make this call, each scans a part of the rows.

    Parameters
    ----------
    model
        Scores a batch of images; given back as it was.
    data
        The samples.
    out
        Folder of the scan.
    scanning
        What is recorded; by default the blocks, and gradient x activation of the predicted class.
    head
        Which part of the model's output holds the scores, or a `Head`, which says more.
    running
        Where and how; images that cannot be read are always refused.
    plan
        What `make_plan` settled for this model and these samples, in place of `scanning`, `head` and
        `running`: the model is not tried again.

    Raises
    ------
    InputError
        Input that does not fit the model, a folder of something else, or a full disk.
    StaleRunError
        The folder holds a scan of another model, data, transform or setting.
    ModelError
        A model that cannot be scanned, that returns NaN, or on which LRP does not hold with ``strict=True``.
    """
    with _settled(model, data, scanning, head, running, plan) as (borrowed, table, settled):
        return _write(borrowed, table, settled, Path(out))


def estimate(
    model: nn.Module,
    data: ImageTable,
    *,
    scanning: Scanning | None = None,
    head: Output = None,
    running: Running | None = None,
    plan: Plan | None = None,
) -> ScanEstimate:
    """What `scan` with these options would cost, measured on one batch; nothing is written.

    Parameters
    ----------
    model, data, scanning, head, running, plan
        As in `scan`.
    """
    with _settled(model, data, scanning, head, running, plan) as (borrowed, table, settled):
        return _measure(borrowed, table, settled)


@contextlib.contextmanager
def _settled(
    model: nn.Module,
    data: ImageTable,
    scanning: Scanning | None,
    head: Output,
    running: Running | None,
    plan: Plan | None,
) -> Iterator[tuple[nn.Module, ImageTable, Plan]]:
    """The model, lent out in the scan's memory format, the samples and the plan."""
    if plan is not None and (scanning, head, running) != (None, None, None):
        raise InputError("the plan says what is scanned and how; leave scanning=, head= and running= out")
    running = (running or Running()) if plan is None else plan.running
    running.require_only("a scan", "device", "precision", "batch_size", "progress", *READING)
    if running.cache is not None:
        data = data.keeping(running)
    with together(), frozen(model, running.device) as borrowed:
        if plan is None:
            scanning = scanning or Scanning()
            scanning.require_only("a scan", *(f.name for f in fields(Scanning) if f.name not in OF_AUDITS))
            plan = make_plan(borrowed, data, scanning, running, head)
        else:
            plan.require_made_for(borrowed, data)
            plan.memory_format.apply(borrowed)
        if plan.attribution.warning:
            # Said of the line that calls `scan` or `estimate`, beyond this function and contextlib's.
            warnings.warn(plan.attribution.warning, stacklevel=4)
        yield borrowed, data, plan


def _measure(model: nn.Module, table: ImageTable, plan: Plan) -> ScanEstimate:
    running, n = plan.running, len(table)
    start = time.perf_counter()
    batch = next(batches(table, running.batch_size, workers=0))
    workers = worker_count(table, running.workers, batch_size=running.batch_size)
    reading = (time.perf_counter() - start) / max(1, workers)
    start = time.perf_counter()
    plan.run(model, table, batch)  # its rows are on the host, so an accelerator has finished
    computing = time.perf_counter() - start
    per_batch = max(reading, computing) if workers else reading + computing
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


def _write(model: nn.Module, table: ImageTable, plan: Plan, out: Path) -> Scan:
    running, n = plan.running, len(table)
    require_same(plan.inputs, "scan")
    writer, missing = _opened(out, plan, n)
    if missing:
        require_free_space(out, sum(map(len, missing)) * plan.row_bytes)
    todo = sum(map(len, writer.runs))
    # A process that shares the work shows what it does itself.
    total = n if count() == 1 else todo
    bar = progress_bar(
        total=total, initial=total - todo, desc="scan", unit="image", progress=running.progress
    )
    with writer, bar:
        for rows in writer.runs:
            for batch in batches(
                table,
                running.batch_size,
                workers=running.workers,
                start=rows.start,
                stop=rows.stop,
                pin_memory=plan.device.type == "cuda",
            ):
                writer.append(plan.run(model, table, batch))
                bar.update(len(batch[0]))
        wait("scanned")
        if is_main():
            writer.take_parts()
            # Also for a finished scan: metadata may have changed, which no statistic depends on.
            remarks = {
                "attribution": plan.attribution.to_json(),
                "memory_format": str(plan.memory_format),
                "layer_choice": plan.layer_choice,
                "labels": list(table.labels),
            }
            writer.finish(_samples(table, writer, plan.task), remarks)
        wait("scan finished")
    return Scan.open(out)


def _opened(out: Path, plan: Plan, n: int) -> tuple[ShardWriter, list[range]]:
    """The store, opened by the main process for all that share the scan, and all rows that it lacks."""

    def opened(rank: int) -> ShardWriter:
        return ShardWriter(out, plan.inputs, n_rows=n, shard_rows=plan.shard_rows, rank=rank)

    writer = opened(0) if is_main() else None
    runs, shards = from_main(lambda: (writer.runs, writer.missing) if writer else ([], []), "store opened")
    require_same_folder(out, "store opened")
    writer = writer or opened(rank())
    writer.take(shards[own_share(len(shards))])
    return writer, runs


def _samples(table: ImageTable, writer: ShardWriter, task: str) -> pd.DataFrame:
    roles = ["sample_id", "label", "group", "split"]
    metadata = [name for name in table.frame.columns if name not in roles]
    prediction = predicted_class(torch.from_numpy(writer.read("logits")), task).numpy()
    return table.frame[roles].assign(
        prediction=prediction, target=writer.read("target"), **{name: table.frame[name] for name in metadata}
    )
