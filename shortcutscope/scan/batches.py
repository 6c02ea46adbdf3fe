"""From images to rows: batches in the table's order, and what one of them adds to the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.attribution.slope import Explained
from shortcutscope.data.decoding.loading import loaded, worker_count
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.heads.targets import Target
from shortcutscope.models.layers import Layer
from shortcutscope.models.memory_format import MemoryFormat
from shortcutscope.scan.capture import BatchPools, CaptureOptions, NonFiniteScanError, capture_batch
from shortcutscope.scan.reading import activation_key, relevance_key
from shortcutscope.types import Array

Batch = tuple[Tensor, Tensor, Tensor]


def batches(
    table: ImageTable,
    batch_size: int,
    *,
    workers: int | None = None,
    start: int = 0,
    stop: int | None = None,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Images (n, ...), labels (n,) and rows (n,) of a table in its order, from row `start` to `stop`.

    Parameters
    ----------
    workers
        Processes that read; None for the table's, see `shortcutscope.data.decoding.loading.worker_count`.
    pin_memory
        For an accelerator.

    Raises
    ------
    InputError
        Images of different shapes; names the samples.
    """
    count = worker_count(table, workers, batch_size=batch_size, start=start, stop=stop)
    rows = range(start, len(table) if stop is None else stop)
    yield from loaded(table, rows, _stacked, batch_size=batch_size, workers=count, pin_memory=pin_memory)


def run_batch(
    model: nn.Module,
    table: ImageTable,
    batch: Batch,
    layers: Sequence[Layer],
    *,
    device: torch.device,
    memory_format: MemoryFormat,
    explained: Explained,
    **options: Unpack[CaptureOptions],
) -> dict[str, Array]:
    """Scan one batch.

    Parameters
    ----------
    model
        Lent out by `frozen`, on `device` and in `memory_format`.
    table, batch
        A batch of this table.
    layers
        To record.
    device, memory_format
        Where and how the batch is laid out.
    explained
        As in `capture_batch`, except that a class per sample counts over the whole table, and labels are
        those of the batch.
    **options
        Passed on to `capture_batch`.

    Returns
    -------
    rows
        Array name -> (n, ...); float32, but for the int64 ``"target"``.

    Raises
    ------
    ModelError
        NaN or infinite scores, activations or relevances; names the samples.
    InputError
        The device's memory does not hold the batch.
    """
    _, labels, rows = batch
    x = on_device(batch, device, memory_format)
    explained = replace(explained, target=targets_of(batch, explained.target), labels=labels)
    try:
        pools = capture_batch(model, x, layers, explained, **options).on_host()
    except NonFiniteScanError as error:
        raise NonFiniteScanError(error.rows, [_name(table, rows[i]) for i in error.rows]) from None
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"a batch of {len(x)} images of shape {tuple(x.shape[1:])} does not fit into the memory of "
            f"{device}; choose a smaller batch_size"
        ) from error
    return _arrays(pools, table, rows)


def on_device(batch: Batch, device: torch.device, memory_format: MemoryFormat) -> Tensor:
    """The images of a batch where and as the model takes them."""
    return memory_format(batch[0].to(device, non_blocking=True))


def targets_of(batch: Batch, target: Target) -> Target:
    """The batch's part of a target: of a class per sample of the table, those of its rows."""
    return target if isinstance(target, str | int) else torch.as_tensor(target)[batch[2]]


def _arrays(pools: BatchPools, table: ImageTable, rows: Tensor) -> dict[str, Array]:
    tensors = {"logits": pools.logits}
    for layer, stats in pools.activations.items():
        tensors |= {activation_key(layer, stat): values for stat, values in stats.items()}
    for layer, stats in pools.relevances.items():
        tensors |= {relevance_key(layer, stat): values for stat, values in stats.items()}
    arrays = {key: values.numpy() for key, values in tensors.items()}
    _require_finite(arrays, table, rows)
    return {**arrays, "target": pools.target.numpy()}


def _require_finite(arrays: dict[str, Array], table: ImageTable, rows: Tensor) -> None:
    for key, values in arrays.items():
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            names = ", ".join(_name(table, rows[i]) for i in np.flatnonzero(~finite)[:5])
            raise ModelError(
                f"{key} is NaN or infinite for the samples {names}: the network is not differentiable there, "
                "or overflows; leave the layer out, use precision='fp32' or "
                "attribution='gradient_x_activation', or scan with relevance=False"
            )


def _name(table: ImageTable, row: Tensor) -> str:
    return str(table.frame["sample_id"].iloc[int(row)])


def _stacked(samples: Sequence[tuple[Tensor, int, int]]) -> Batch:
    images, labels, rows = zip(*samples, strict=True)
    for image, row in zip(images, rows, strict=True):
        if image.shape != images[0].shape:
            raise InputError(
                f"rows {rows[0]} and {row} give images of shape {tuple(images[0].shape)} and "
                f"{tuple(image.shape)}; resize them with size=... or in the transform"
            )
    return torch.stack(images), torch.tensor(labels), torch.tensor(rows)
