"""What a running benchmark shows: the latest cases with a progress bar, and all of them at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

Case = dict[str, Any]

_LIVE_ROWS = 12  # the running table shows the latest cases only, so that it fits on a terminal


class LiveTable:
    """The live table of a running suite, and the whole one at the end.

    Parameters
    ----------
    name : str
        What is run.
    columns : tuple of str
        Keys of a case that are shown.
    total : int
        Number of cases.
    console : Console, optional
        Where to show them; standard output by default.
    """

    def __init__(self, name: str, columns: tuple[str, ...], total: int, console: Console | None) -> None:
        self.name = name
        self.columns = columns
        self.console = console or Console()
        self.cases: list[Case] = []
        self.bar = Progress(
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task(name, total=total)
        self.live = Live(
            console=self.console, transient=True, refresh_per_second=4, get_renderable=self._running
        )

    def __enter__(self) -> LiveTable:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def resume(self, cases: list[Case]) -> None:
        """Count cases that a former run finished."""
        self.cases.extend(cases)
        self.bar.advance(self.task, len(cases))
        if cases:
            self.console.print(f"{len(cases)} finished cases found, going on from there")

    def add(self, case: Case) -> None:
        """Show a case that has just ended."""
        self.cases.append(case)
        self.bar.advance(self.task)
        if not self.console.is_terminal:  # a log file gets one line a case
            figures = ", ".join(f"{c}={cell(case[c])}" for c in self.columns if c in case)
            outcome = case["error"] or f"{case['seconds']:.1f} s"
            self.console.print(f"[{len(self.cases)}] {figures}: {outcome}", markup=False, highlight=False)

    def finish(self, result: Case) -> None:
        """Print every case and the summary, of which lists of rows are tables of their own."""
        self.console.print(self._table(result["cases"]))
        summary = Table("summary", "value", title=f"{self.name}: summary")
        for key, value in result["summary"].items():
            if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
                self.console.print(_rows(f"{self.name}: {key}", value))
            else:
                summary.add_row(Text(key), Text(cell(value)))
        self.console.print(summary)

    def _running(self) -> Group:
        if not self.console.is_terminal:
            return Group()
        return Group(self._table(self.cases[-_LIVE_ROWS:]), self.bar)

    def _table(self, cases: Sequence[Case]) -> Table:
        failed = any(case["error"] for case in cases)
        table = Table(title=self.name)
        for column in (*self.columns, "seconds"):
            table.add_column(column, overflow="fold")
        if failed:
            table.add_column("error", overflow="fold", style="red")
        for case in cases:
            row = [cell(case.get(column)) for column in (*self.columns, "seconds")]
            if failed:
                row.append(case["error"] or "")
            table.add_row(*map(Text, row))
        return table


def _rows(title: str, rows: Sequence[Case]) -> Table:
    table = Table(title=title)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row.get(column))) for column in columns))
    return table


def cell(value: Any) -> str:
    """Write a value the short way: three digits, a dash for what was not measured."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    if isinstance(value, dict) and value.keys() == {"mean", "low", "high"}:
        interval = "" if value["low"] is None else f" ({cell(value['low'])} to {cell(value['high'])})"
        return cell(value["mean"]) + interval
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value)
    return str(value)
