"""Peak memory, as the operating system sees it: also what libraries take behind torch's back."""

from __future__ import annotations

import ctypes
import gc
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")

_M_MMAP_THRESHOLD = -3  # malloc.h


class NotMeasurableError(RuntimeError):
    """The operating system does not tell; the message says why."""


def return_memory_at_once() -> None:
    """Make this process give freed tensors back to the system, for measuring in it.

    Otherwise the C library keeps them for later, more or less of them depending on all that was allocated
    before, which has nothing to do with what a call needs. To be called before anything else, in a process
    of its own.

    Raises
    ------
    NotMeasurableError
        Not the GNU C library.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**18)
    except (OSError, AttributeError) as error:
        raise NotMeasurableError(f"no mallopt: {error}") from error


def peak_extra_bytes(function: Callable[[], object]) -> int:
    """Memory that a call needs at its peak, on top of what the process held before.

    Parameters
    ----------
    function
        Should have run once before, so that what is made on the first call only is not counted.

    Raises
    ------
    NotMeasurableError
        Not Linux, or a container that hides its memory counters.
    """
    gc.collect()
    try:
        CLEAR.write_text("5")  # sets the peak back to the current size
    except OSError as error:
        raise NotMeasurableError(f"the peak cannot be reset: {error}") from error
    before = _status("VmRSS")
    result = function()
    after = _status("VmHWM")
    del result
    return after - before


def peaks_beside(functions: Sequence[Callable[[], object]], rounds: int = 5) -> list[float]:
    """Peak memory of each function, called in turn: the median over the rounds, after one for warming up.

    Raises
    ------
    NotMeasurableError
        As `peak_extra_bytes`.
    """
    by_round = [[peak_extra_bytes(function) for function in functions] for _ in range(rounds + 1)]
    return [statistics.median(peaks) for peaks in zip(*by_round[1:], strict=True)]


def peak_bytes() -> int:
    """Largest resident set of this process so far.

    Raises
    ------
    NotMeasurableError
        Not Linux.
    """
    # Not getrusage: its maximum is inherited from the process that started this one.
    return _status("VmHWM")


def _status(field: str) -> int:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError as error:
        raise NotMeasurableError(f"no memory counters: {error}") from error
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise NotMeasurableError(f"{STATUS} has no {field}")
