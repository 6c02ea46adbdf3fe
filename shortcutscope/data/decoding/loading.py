"""Samples in batches, read by worker processes where that pays."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from shortcutscope.data.decoding.decoded import Decoded, handed_over, is_held, take_in
from shortcutscope.data.rows import Rows
from shortcutscope.data.sources import PathSource, origin_of
from shortcutscope.machine import default_jobs

#: Fewest images that worker processes are started for unasked, and most of these.
FEWEST, MOST_WORKERS = 256, 4

Item = TypeVar("Item")
Batch = TypeVar("Batch")


def worker_count(
    table: Rows, workers: int | None, *, batch_size: int, start: int = 0, stop: int | None = None
) -> int:
    """Processes by which the rows of a table from `start` to `stop` are read.

    0, which is this process itself, for a single batch, and where all images are in memory.

    Parameters
    ----------
    table
        Its own `workers` count where none are given here.
    workers
        As asked for. None: one less than there are cores, four at most, for many files that have to be
        decoded, where processes are forked; a spawned one imports the user's script again, which may not be
        made for it, and other sources than files may not be made for several processes.
    batch_size, start, stop
        What is read; one process makes one batch.
    """
    asked = table.workers if workers is None else workers
    rows = table.rows[start:stop]
    if asked == 0 or len(rows) <= batch_size:
        return 0
    to_decode = (int(row) for row in rows if not is_held(table.source, int(row)))
    first = next(to_decode, None)
    if first is None or asked is not None:
        return asked if first is not None and asked is not None else 0
    of_files = isinstance(origin_of(table.source, first)[0], PathSource)
    many = sum(1 for _, _ in zip(to_decode, range(FEWEST - 1), strict=False)) == FEWEST - 1
    forked = (multiprocessing.get_start_method(allow_none=True) or _default_start()) == "fork"
    return min(MOST_WORKERS, default_jobs() - 1) if of_files and many and forked else 0


def _default_start() -> str:
    return multiprocessing.get_all_start_methods()[0]


def loaded(
    items: Dataset[Item],
    rows: Sequence[int],
    collate: Callable[[Sequence[Item]], Batch],
    *,
    batch_size: int,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Batches of the items of these rows, in order; what workers decode on the way is kept here.

    Parameters
    ----------
    items
        By row.
    collate
        From a list of items to a batch; can be pickled where processes are spawned.
    workers
        Worker processes.
    pin_memory
        As of a DataLoader.
    """
    sets = (list(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size))
    return loaded_sets(items, sets, collate, workers=workers, pin_memory=pin_memory)


def loaded_sets(
    items: Dataset[Item],
    sets: Iterable[list[int]],
    collate: Callable[[Sequence[Item]], Batch],
    *,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """As `loaded`, a batch of each set of rows."""
    loader: DataLoader[tuple[Batch, _Beside]] = DataLoader(
        _Handing(items),  # type: ignore[arg-type]  # the collate makes another type of it
        batch_sampler=sets,
        num_workers=workers,
        collate_fn=_Collate(collate),
        pin_memory=pin_memory,
        # A generator of its own: without one a DataLoader draws its seed from torch's global generator.
        generator=torch.Generator().manual_seed(0),
    )
    for batch, beside in loader:
        take_in(beside.decoded)
        yield batch


@dataclass(frozen=True)
class _Beside:
    """What goes from a worker process to the one that asked beside the batch, and is never pinned."""

    decoded: list[Decoded]


class _Handing(Dataset[tuple[Item, list[Decoded]]]):
    """Items with what was decoded for them."""

    def __init__(self, items: Dataset[Item]) -> None:
        self.items = items

    def __getitem__(self, row: int) -> tuple[Item, list[Decoded]]:
        with _one_thread():
            return self.items[row], handed_over()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker process: a mean over an image depends in its last bits on how many threads take it."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Collate(Generic[Item, Batch]):
    """A class, so that worker processes can be spawned with it."""

    def __init__(self, collate: Callable[[Sequence[Item]], Batch]) -> None:
        self.collate = collate

    def __call__(self, pairs: Sequence[tuple[Item, list[Decoded]]]) -> tuple[Batch, _Beside]:
        items, parts = zip(*pairs, strict=True)
        return self.collate(items), _Beside([one for part in parts for one in part])
