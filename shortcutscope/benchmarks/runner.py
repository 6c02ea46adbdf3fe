"""One way to run every benchmark: cases one by one, each stored when done, all of them listed.

A suite says which cases there are, how one case is run and how the cases sum up; the rest (processes,
progress, resuming, the table, the JSON file) is the same for all suites and lives here. A case that fails is
listed with its error and tried again by the next run: nothing is dropped, since a benchmark that forgets
its failures flatters.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from shortcutscope._version import __version__
from shortcutscope.benchmarks.live_table import LiveTable
from shortcutscope.benchmarks.records import Records
from shortcutscope.files import to_json, write_json
from shortcutscope.machine import machine
from shortcutscope.types import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Case = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What the user chose for a run of a suite.

    Attributes
    ----------
    quick
        The small version of the suite: minutes instead of tens of minutes.
    seed
        Seed of everything random; every case derives its own from it.
    data
        Folder with real data sets, or None: suites then use phantoms alone.
    cache
        Folder for finished cases and for models shared between suites.
    jobs
        Number of processes that work on cases at the same time, each with one torch thread.
    full
        The long version, of suites that have one: hours, resumed case by case.
    """

    quick: bool
    seed: int
    data: Path | None
    cache: Path
    jobs: int
    full: bool = False


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes
    ----------
    name
        Name on the command line and of the cache folder.
    cases
        Lists the cases of a run; a case is a flat dictionary that JSON can hold, distinct from the others.
    run_case
        Runs one case and returns its measurements. A module-level function, so that a spawned process
        can import it.
    summarize
        Computes the summary from the finished cases (those whose ``error`` is None).
    columns
        Keys of a case shown in the table.
    serial
        True for suites that measure time or memory: one case after the other, in this process. Or a
        function that tells such cases apart: they run last, when nothing else does.
    command
        What the user typed before the name.
    draw
        From the finished cases to the figure that tells most, of suites that have one.
    """

    name: str
    cases: Callable[[Settings], list[Case]]
    run_case: Callable[[Case, Settings], Case]
    summarize: Callable[[list[Case]], Record]
    columns: tuple[str, ...]
    serial: bool | Callable[[Case], bool] = False
    command: str = "bench"
    draw: Callable[[Sequence[Case]], Figure] | None = None


def run(
    suite: Suite,
    settings: Settings,
    json_path: Path | None = None,
    progress: bool = True,
    console: Console | None = None,
) -> Record:
    """Run a suite, or finish one that was interrupted.

    Parameters
    ----------
    suite, settings
        What to run and how.
    json_path
        Where to write the result (atomically). None: nowhere.
    progress
        Show the table and a progress bar.
    console
        Where to show them; standard output by default.

    Returns
    -------
    dict
        ``suite, version, machine, settings, cases, summary``. Every case is listed in the order of
        ``suite.cases``, with its own keys, its measurements, ``seconds`` and ``error`` (None if it ran).
    """
    cases = suite.cases(settings)
    data = None if settings.data is None else str(Path(settings.data).resolve())
    records = Records(
        settings.cache, suite.name, {"quick": settings.quick, "seed": settings.seed, "data": data}
    )
    if len({records.key(case) for case in cases}) != len(cases):
        raise ValueError(f"suite {suite.name!r} lists the same case twice")
    done: dict[int, Case] = {i: r for i, c in enumerate(cases) if (r := records.finished(c)) is not None}
    todo = [i for i in range(len(cases)) if i not in done]

    screen = (
        LiveTable(f"{suite.command} {suite.name}", suite.columns, len(cases), console) if progress else None
    )
    with screen or nullcontext():
        if screen:
            screen.resume([done[i] for i in sorted(done)])
        for i, outcome in _execute(suite, settings, cases, todo):
            done[i] = to_json(
                {**cases[i], **outcome.measured, "seconds": outcome.seconds, "error": outcome.error}
            )
            records.store(cases[i], done[i], outcome.trace)
            if screen:
                screen.add(done[i])

    result = _result(suite, settings, [done[i] for i in range(len(cases))])
    if json_path is not None:
        write_json(Path(json_path), result)
    if screen:
        screen.finish(result)
    return result


def _result(suite: Suite, settings: Settings, cases: list[Case]) -> Record:
    result: Record = to_json(
        {
            "suite": suite.name,
            "version": __version__,
            "machine": machine(),
            "settings": _described(settings),
            "cases": cases,
            "summary": _summary(suite, cases),
        }
    )
    return result


@dataclass(frozen=True)
class _Outcome:
    """What became of one case."""

    measured: Case
    seconds: float | None
    error: str | None = None
    trace: str | None = None


def _summary(suite: Suite, records: Sequence[Case]) -> Record:
    ran = [record for record in records if record["error"] is None]
    summary = suite.summarize(ran) if ran else {}
    return {"n_cases": len(records), "n_failed": len(records) - len(ran), **summary}


def _execute(
    suite: Suite, settings: Settings, cases: list[Case], todo: list[int]
) -> Iterator[tuple[int, _Outcome]]:
    """Yield the outcomes as they come, with the number of the case."""
    serial = suite.serial if callable(suite.serial) else lambda case: bool(suite.serial)
    alone = [i for i in todo if serial(cases[i])]
    yield from _in_pool(suite, settings, cases, [i for i in todo if i not in alone], settings.jobs)
    yield from _in_pool(suite, settings, cases, alone, 1)


def _in_pool(
    suite: Suite, settings: Settings, cases: list[Case], todo: list[int], jobs: int
) -> Iterator[tuple[int, _Outcome]]:
    jobs = max(1, min(jobs, len(todo)))
    if jobs == 1:
        with _one_thread():
            for i in todo:
                yield i, _attempt(suite.run_case, cases[i], settings)
        return
    lost: list[int] = []
    with _pool(jobs) as pool:
        futures: dict[Future[_Outcome], int] = {
            pool.submit(_attempt, suite.run_case, cases[i], settings): i for i in todo
        }
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool:
                    lost.append(futures[future])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    # A dead worker takes the whole pool with it, so the innocent cases get a process of their own.
    for i in sorted(lost):
        with _pool(1) as pool:
            try:
                yield i, pool.submit(_attempt, suite.run_case, cases[i], settings).result()
            except BrokenProcessPool:
                yield i, _Outcome({}, None, "the process died (out of memory, or killed from outside)")


def _attempt(run_case: Callable[[Case, Settings], Case], case: Case, settings: Settings) -> _Outcome:
    start = time.perf_counter()
    try:
        figures = run_case(dict(case), settings)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return _Outcome({}, time.perf_counter() - start, text, traceback.format_exc())
    return _Outcome(figures, time.perf_counter() - start)


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a forked child inherits torch's thread pool in an unusable state.
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"
    os.environ["TQDM_DISABLE"] = "1"  # bars of several processes would overwrite each other
    import torch

    torch.set_num_threads(1)


def _end_with(parent: int) -> None:
    """End this worker when its parent was killed: it would wait for its next case for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _described(settings: Settings) -> Record:
    return {
        "quick": settings.quick,
        "full": settings.full,
        "seed": settings.seed,
        "data": None if settings.data is None else Path(settings.data).name,
        "jobs": settings.jobs,
    }
