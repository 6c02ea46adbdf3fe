"""Progress: bars on a terminal or in a notebook, one for all stages where these are told beforehand.

Where the output goes to a file or a pipe there are no bars, and lines only where they are wanted
(`plain_lines`), as on the command line: at the start of each stage, and every half minute.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm

from shortcutscope.processes import is_main

#: Seconds between two lines within a stage.
EVERY = 30.0
#: Of what is left of a stage, the share that its next bar is taken for: how many come is not known.
SHARE = 0.9
#: Seconds, and share of the work, before which nothing is said of the time left.
_EARLY, _FEW = 5.0, 0.02


class Total:
    """The progress of all stages as one number, and the time that is left.

    Parameters
    ----------
    weights
        Stage to what it costs, in units that are the same for all, in their order; of stages that take turns
        the names with a comma between.
    bar
        What shows it; None for none.
    lines
        Whether lines are written to standard error.

    Notes
    -----
    The time left is the weight left times the seconds that a unit took so far. A stage is over when a later
    one begins, since it may come back; what it does until then is taken for nine tenths of what was left.
    """

    def __init__(self, weights: Mapping[str, float], bar: tqdm | None, *, lines: bool) -> None:
        whole = sum(weights.values())
        self._weights = [weight / whole for weight in weights.values()]
        self._places = {name: k for k, names in enumerate(weights) for name in names.split(", ")}
        self._done = [0.0] * len(weights)
        self._stages: list[str] = []
        self._bar, self._lines = bar, lines
        self._began = time.monotonic()
        self._told = self._drawn = self._before = 0.0

    @property
    def share(self) -> float:
        """Of the work that is done, from 0 to 1."""
        return sum(weight * done for weight, done in zip(self._weights, self._done, strict=True))

    @property
    def seconds_left(self) -> float | None:
        """None as long as too little is done to tell."""
        share, elapsed = self.share, time.monotonic() - self._began
        own = share - self._before
        return None if elapsed < _EARLY or own < _FEW else elapsed * (1 - share) / own

    def enter(self, stage: str, *, at_once: bool = True) -> None:
        """A stage begins; those before it are over. It is told at once, or when some time has passed."""
        self._stages.append(stage)
        earlier = self._places.get(stage, 0)
        self._done[:earlier] = [1.0] * earlier
        self._tell(at_once=at_once)

    def leave(self, stage: str) -> None:
        """A stage is over, at least for now."""
        self.part().at(1.0)
        self._stages.remove(stage)

    def part(self, taken_for: float = SHARE) -> StagePart:
        """What comes next of the stage that runs, and for how much of what is left of it that is taken."""
        place = next((self._places[name] for name in reversed(self._stages) if name in self._places), None)
        return StagePart(self, place, 0.0 if place is None else self._done[place], taken_for)

    def begin(self, share: float, taken_for: float = SHARE) -> StagePart:
        """What comes next of the stage that runs, of which an earlier run did so much."""
        part, done = self.part(taken_for), self.share
        part.at(share)
        self._before += self.share - done
        return part

    def move(self, place: int | None, share: float) -> None:
        """So much of a stage is done; it never goes back."""
        if place is not None:
            self._done[place] = max(self._done[place], min(share, 1.0))
        self._tell()

    def _tell(self, *, at_once: bool = False) -> None:
        name = self._stages[-1] if self._stages else ""
        if self._bar is not None:
            self._bar.set_description_str(name, refresh=False)
            left = self.seconds_left
            self._bar.set_postfix_str("" if left is None else f"{duration(left)} left", refresh=False)
            self._bar.n = round(100 * self.share, 1)
            if at_once or time.monotonic() - self._drawn >= self._bar.mininterval:
                self._drawn = time.monotonic()
                self._bar.refresh()
        elapsed = time.monotonic() - self._began
        if self._lines and name and (at_once or elapsed - self._told >= EVERY):
            self._told = elapsed
            left = self.seconds_left
            rest = "" if left is None else f", about {duration(left)} left"
            print(f"{name}: {100 * self.share:.0f} % of all done{rest}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class StagePart:
    """A bar of one stage, by which the total moves from where the stage was."""

    total: Total
    place: int | None
    before: float
    taken_for: float = SHARE

    def at(self, share: float) -> None:
        """So much of the bar is done."""
        self.total.move(self.place, self.before + (1 - self.before) * self.taken_for * share)


class _PartBar(tqdm):  # type: ignore[misc]
    """A bar that is not shown, and moves the total."""

    def __init__(self, *args: Any, part: StagePart, of: int | None, initial: int, **kwargs: Any) -> None:
        super().__init__(*args, initial=initial, disable=True, **kwargs)
        self._part, self._of, self._count = part, of, initial

    def __iter__(self) -> Iterator[Any]:
        for item in self.iterable:
            yield item
            self.update()

    def update(self, n: float | None = 1) -> None:
        self._count += int(n or 0)
        if self._of:
            self._part.at(self._count / self._of)


_TOTAL: ContextVar[Total | None] = ContextVar("total", default=None)
_LINES: ContextVar[bool] = ContextVar("lines", default=False)


@contextmanager
def plain_lines() -> Iterator[None]:
    """Within it lines are written where there can be no bars: of each stage, and of what takes long."""
    before = _LINES.set(True)
    try:
        yield
    finally:
        _LINES.reset(before)


@contextmanager
def total_progress(weights: Mapping[str, float], *, progress: bool) -> Iterator[None]:
    """One progress for several stages, in place of the bars of each.

    Parameters
    ----------
    weights
        Stage to its cost relative to the others.
    progress
        Whether progress is wanted. Within the total of another piece of work nothing changes.
    """
    if not progress or not is_main() or _TOTAL.get() is not None:
        yield
        return
    shown = not _hidden()
    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
    bar = tqdm(total=100, bar_format=layout, leave=False, dynamic_ncols=True) if shown else None
    before = _TOTAL.set(Total(weights, bar, lines=_LINES.get() and not shown))
    try:
        yield
    finally:
        _TOTAL.reset(before)
        if bar is not None:
            bar.close()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """A stage of the total that is shown, if one is."""
    total = _TOTAL.get()
    if total is None:
        yield
        return
    total.enter(name)
    try:
        yield
    finally:
        total.leave(name)


def progress_bar(
    items: Iterable[object] | None = None,
    *,
    desc: str,
    progress: bool,
    total: int | None = None,
    unit: str = "it",
    initial: int = 0,
    leave: bool = True,
    taken_for: float = SHARE,
) -> tqdm:
    """A bar, to iterate over or to be moved on by hand; within a total it moves that instead.

    Parameters
    ----------
    items
        What to iterate over.
    desc, total, unit, initial, leave
        As of `tqdm.tqdm`.
    progress
        Whether bars are wanted; of processes that share the work the first one shows them.
    taken_for
        Within a total, the share of what is left of the stage.
    """
    whole = _TOTAL.get()
    wanted = progress and is_main()
    if whole is None and wanted and _LINES.get() and _hidden():
        whole = Total({desc: 1.0}, None, lines=True)
        whole.enter(desc, at_once=False)
    if whole is not None:
        of = len(items) if total is None and isinstance(items, Sized) else total
        part = whole.begin(initial / of if of else 0.0, taken_for)
        return _PartBar(items, total=total, initial=initial, part=part, of=of)
    disable = not wanted or _hidden()
    return tqdm(items, desc=desc, total=total, unit=unit, initial=initial, leave=leave, disable=disable)


def duration(seconds: float) -> str:
    """A time as one says it.

    Examples
    --------
    >>> duration(42), duration(200), duration(4000)
    ('45 s', '3 min', '1 h 10 min')
    """
    if seconds < 60:
        return f"{max(5 * round(seconds / 5), 5)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(10 * round(minutes / 10), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs in this process; that its package was imported does not say so."""
    kernels = sys.modules.get("ipykernel.kernelapp")
    return kernels is not None and kernels.IPKernelApp.initialized()


def _hidden() -> bool:
    """Whether standard error is neither a terminal nor that of a notebook, which does not say what it is."""
    isatty = getattr(sys.stderr, "isatty", None)
    return not in_notebook() and not (isatty is not None and isatty())
