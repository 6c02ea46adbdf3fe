"""Several processes that share one piece of work, as ``torchrun`` starts them.

Inside of `together` every process runs the same code. Work is dealt out (`share`, `dealt`), and what each of
them has is exchanged at `gathered`: an error in one of them is raised in all. Outside of it, and where there
is one process only, nothing here does anything.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shortcutscope.errors import InputError, ModelError, ShortcutscopeError, StaleRunError

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

    from shortcutscope.types import JSON

Value = TypeVar("Value")

#: What a process that works alone, or hangs, may take until the others, which wait for it, end.
LONGEST_WAIT = timedelta(hours=24)
#: What ``torchrun`` says to each process.
_RENDEZVOUS = ("RANK", "MASTER_ADDR", "MASTER_PORT")
#: As which an error comes out of another process that cannot be sent as it is.
_KINDS = (StaleRunError, InputError, ModelError, ShortcutscopeError, OSError, MemoryError)


class LostProcessError(ShortcutscopeError):
    """Another process ended without saying why."""


@dataclass(frozen=True)
class _Outcome:
    """What one process brings to an exchange: where it is, and what came of it there."""

    place: str
    value: Any = None
    error: Exception | None = None
    trace: str = ""


class _Group:
    """The processes, joined for exchanges of Python objects.

    Attributes
    ----------
    rank, count
        This process's number, and how many there are.
    told
        The error that all of them know of.
    """

    def __init__(self) -> None:
        from torch import distributed

        if not distributed.is_initialized():
            _require_rendezvous()
            _begin()
        self.rank, self.count = distributed.get_rank(), distributed.get_world_size()
        self.told: BaseException | None = None
        group = distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
        assert not isinstance(group, int)  # as which it is given to processes outside of it
        self._group: ProcessGroup | None = group
        atexit.register(self.end)  # before the end of the group that it is part of, if that began here

    def exchange(self, own: _Outcome, error: Exception | None = None) -> list[Any]:
        """The values of all, by rank; the first error of them is raised, of this process as it was."""
        from torch import distributed

        outcomes: list[Any] = [None] * self.count
        try:
            distributed.all_gather_object(outcomes, own, group=self._group)
        except RuntimeError as lost:
            self.told = LostProcessError(
                f"one of the {self.count} processes ended without a word, or was not heard of for "
                f"{LONGEST_WAIT}; run the same command again, it goes on from there"
            )
            traceback.clear_frames(lost.__traceback__)  # which would keep the group's threads, see `end`
            raise self.told from lost
        for rank, outcome in enumerate(outcomes):
            if outcome.error is not None:
                self.told = error if rank == self.rank else outcome.error
                assert self.told is not None
                if rank != self.rank and outcome.trace:
                    self.told.add_note(f"in process {rank} of {self.count}:\n{outcome.trace}")
                raise self.told
        places = {outcome.place for outcome in outcomes}
        if len(places) > 1:
            raise RuntimeError(f"the processes went different ways: {sorted(places)}")
        return [outcome.value for outcome in outcomes]

    def end(self) -> None:
        """Let go of the threads that exchange: such as run on while Python ends may abort it."""
        from torch import distributed

        group, self._group = self._group, None
        if group is not None and distributed.is_initialized():
            with contextlib.suppress(ValueError):  # gone with the group that it was part of
                distributed.destroy_process_group(group)

    def fail(self, error: Exception) -> None:
        """Raise an error of this process in all of them, unless they know of it."""
        if error is not self.told:
            self.exchange(_failed("", error), error)


_JOINED: list[_Group] = []  # at most one, made once a process
_ACTIVE: list[_Group | None] = [None]  # the last one counts


def started() -> int:
    """How many processes were started.

    Raises
    ------
    InputError
        ``WORLD_SIZE`` is no number of processes.
    """
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"WORLD_SIZE={text!r} is no number of processes: unset it, or use torchrun")
    return int(text)


def is_first() -> bool:
    """Whether this process is the one that speaks for all that were started, whatever they share."""
    return int(os.environ.get("RANK", "0")) == 0


def own_device() -> torch.device:
    """The accelerator of this process (``torchrun`` numbers them per machine), or the CPU."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Share the work inside with the other processes, all of which come here.

    An error that one of them raises inside is raised in all; at the end they wait for each other. Only the
    first one warns.

    Raises
    ------
    InputError
        There are several processes that do not know of each other.
    LostProcessError
        One of them is no more.
    """
    if len(_ACTIVE) > 1 or started() == 1:
        yield
        return
    if not _JOINED:
        _JOINED.append(_Group())
    group = _JOINED[0]
    _ACTIVE.append(group)
    try:
        with warnings.catch_warnings():
            if group.rank:
                warnings.simplefilter("ignore")
            try:
                yield
            except Exception as error:
                group.fail(error)
                raise
            wait("end")
    finally:
        _ACTIVE.pop()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Share nothing inside: what is done there is for this process only."""
    _ACTIVE.append(None)
    try:
        yield
    finally:
        _ACTIVE.pop()


def count() -> int:
    """How many processes share the work."""
    group = _ACTIVE[-1]
    return 1 if group is None else group.count


def rank() -> int:
    """The number of this process among those that share the work."""
    group = _ACTIVE[-1]
    return 0 if group is None else group.rank


def is_main() -> bool:
    """Whether this process is the one that writes and shows."""
    return rank() == 0


def gathered(compute: Callable[[], Value], place: str) -> list[Value]:
    """What each process computes, by rank; where one fails, its error is raised in all.

    Parameters
    ----------
    compute
        Gives something that can be pickled.
    place
        Where in the work this is; processes that are at different places are stopped.
    """
    group = _ACTIVE[-1]
    if group is None:
        return [compute()]
    try:
        own = _Outcome(place, compute())
    except Exception as error:
        group.fail(error)
        raise
    return group.exchange(own)


def from_main(compute: Callable[[], Value], place: str) -> Value:
    """What the main process computes, in all of them."""
    if count() == 1:
        return compute()
    values: list[Any] = gathered(compute if is_main() else _nothing, place)
    first: Value = values[0]
    return first


def wait(place: str) -> None:
    """Until all processes are here."""
    gathered(_nothing, place)


def require_same(facts: JSON, place: str) -> None:
    """Refuse processes that were given different things.

    Raises
    ------
    InputError
        Names in what they differ.
    """
    first, *others = gathered(lambda: dict(facts), place)
    for number, other in enumerate(others, start=1):
        names = sorted(k for k in {*first, *other} if first.get(k) != other.get(k))
        if names:
            raise InputError(
                f"process {number} of {count()} was given another {', '.join(names)} than process 0: call "
                "the function in all of them with the same model, data and options"
            )


def require_same_folder(folder: Path, place: str) -> None:
    """Refuse processes that write into different folders; the main process's is there.

    Raises
    ------
    InputError
        Says what is needed.
    """
    if count() == 1:
        return

    def leave_word() -> str:
        word = f".same.{os.getpid()}.tmp"  # as all is called that is cleared away when a process was killed
        (folder / word).touch()
        return word

    name = from_main(leave_word, place)

    def look() -> None:
        if not (folder / name).exists():
            raise InputError(
                f"process {rank()} of {count()} was given the folder {folder}, which is not the one that "
                "process 0 writes: give all of them the same, on a disk that all see"
            )

    try:
        gathered(look, f"{place}: the same folder")
    finally:
        if is_main():
            (folder / name).unlink(missing_ok=True)


def share(n: int, rank: int, count: int) -> slice:
    """Which of `n` things, a run of them, are one process's; shares differ by one at most."""
    sizes = [n // count + (k < n % count) for k in range(count)]
    start = sum(sizes[:rank])
    return slice(start, start + sizes[rank])


def own_share(n: int) -> slice:
    """Which of `n` things are this process's."""
    return share(n, rank(), count())


def dealt(costs: Sequence[float]) -> list[int]:
    """Positions of the things that this process does, in their order, so that all do about as much."""
    sums, own = [0.0] * count(), []
    for position in sorted(range(len(costs)), key=lambda k: -costs[k]):
        least = sums.index(min(sums))
        sums[least] += costs[position]
        if least == rank():
            own.append(position)
    return sorted(own)


def is_told_elsewhere(error: BaseException) -> bool:
    """Whether the first process tells of an error, too."""
    return not is_first() and any(group.told is error for group in _JOINED)


def leave() -> None:
    """Wait for the others before this process ends: ``torchrun`` ends all as soon as one has failed."""
    for group in _JOINED:
        if not isinstance(group.told, LostProcessError):
            with contextlib.suppress(LostProcessError):
                group.exchange(_Outcome("leaving"))


def _begin() -> None:
    """Start torch's process group; it serves a training that comes later, too."""
    import torch
    from torch import distributed

    accelerated = torch.cuda.is_available() and distributed.is_nccl_available()
    if accelerated and own_device().index < torch.cuda.device_count():
        torch.cuda.set_device(own_device())  # what "cuda" means in this process
    distributed.init_process_group("cpu:gloo,cuda:nccl" if accelerated else "gloo")
    end_at_exit()


def end_at_exit() -> None:
    """Have torch's process group, which was begun just now, end as this process does."""
    atexit.register(_end)


def _end() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _require_rendezvous() -> None:
    missing = [name for name in _RENDEZVOUS if name not in os.environ]
    if missing:
        raise InputError(
            f"WORLD_SIZE={started()} says that there are several processes, but not how they find each other "
            f"({', '.join(missing)} is not set): start them with torchrun, or unset WORLD_SIZE"
        )


def _failed(place: str, error: Exception) -> _Outcome:
    """An error with what can be sent of it; where it is no fault of the user's, with where it was raised."""
    plain = isinstance(error, ShortcutscopeError | OSError | MemoryError)
    trace = "" if plain else "".join(traceback.format_exception(error))
    return _Outcome(place, error=error if _is_sendable(error) else _plain(error), trace=trace)


def _is_sendable(error: Exception) -> bool:
    try:
        return str(pickle.loads(pickle.dumps(error))) == str(error)
    except Exception:  # whatever the classes of others raise
        return False


def _plain(error: Exception) -> Exception:
    kind = next((kind for kind in _KINDS if isinstance(error, kind)), None)
    return RuntimeError(f"{type(error).__name__}: {error}") if kind is None else kind(str(error))


def _nothing() -> Any:
    return None
