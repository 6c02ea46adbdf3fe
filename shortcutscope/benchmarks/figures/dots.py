"""Means with their intervals as dots on lines, one row a thing that was compared, one panel a setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["Dot", "Panel", "dots"]

#: Okabe and Ito's colours, which can be told apart with any colour vision, and a mark for each.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
ROW_INCHES, WIDTH, FONT_SIZE = 0.21, 4.6, 8


@dataclass(frozen=True)
class Dot:
    """A mean and its interval.

    Attributes
    ----------
    row, series
        What it is of: the row that it lies on, and the colour.
    mean, low, high
        In the units of the axis; an interval that could not be had is None.
    """

    row: str
    series: str
    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Panel:
    """One axis of dots, with rows from top to bottom in the order in which they first occur."""

    title: str
    dots: Sequence[Dot]


def dots(
    panels: Sequence[Panel],
    xlabel: str,
    *,
    limits: tuple[float, float],
    lines: Sequence[float] = (),
    series: Sequence[str] | None = None,
) -> Figure:
    """Draw them side by side, with the same rows.

    Parameters
    ----------
    panels
        At least one with a dot.
    xlabel
        Of every panel.
    limits
        Of the axis; what lies outside is drawn at the edge as an arrow.
    lines
        Where upright lines stand for comparison.
    series
        Their order in the legend; None as they come.
    """
    rows = list(dict.fromkeys(dot.row for panel in panels for dot in panel.dots))
    series = list(series or dict.fromkeys(dot.series for panel in panels for dot in panel.dots))
    plot = Figure(figsize=(WIDTH * len(panels) + 1.5, ROW_INCHES * len(rows) + 1.4), layout="constrained")
    axes = plot.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, ax in zip(panels, axes, strict=True):
        _panel(ax, panel, rows, series, limits)
        for value in lines:
            ax.axvline(value, color="0.4", linewidth=0.8, zorder=0)
        ax.set_title(panel.title, fontsize=FONT_SIZE + 1, loc="left")
        ax.set_xlabel(xlabel, fontsize=FONT_SIZE)
    axes[0].set_yticks(range(len(rows)), rows, fontsize=FONT_SIZE)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    if len(series) > 1:
        handles = [
            axes[0].plot([], [], MARKS[i % len(MARKS)], color=COLOURS[i % len(COLOURS)], markersize=4)[0]
            for i in range(len(series))
        ]
        plot.legend(handles, series, loc="outside lower center", ncols=4, fontsize=FONT_SIZE, frameon=False)
    return plot


def _panel(
    ax: Axes, panel: Panel, rows: Sequence[str], series: Sequence[str], limits: tuple[float, float]
) -> None:
    low, high = limits
    ax.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    ax.tick_params(labelsize=FONT_SIZE, length=0)
    ax.grid(axis="both", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    for dot in panel.dots:
        i = series.index(dot.series)
        y = rows.index(dot.row) + (i - (len(series) - 1) / 2) * min(0.2, 0.7 / len(series))
        colour = COLOURS[i % len(COLOURS)]
        if not low <= dot.mean <= high:
            edge, mark = (low, "<") if dot.mean < low else (high, ">")
            ax.plot(edge, y, mark, color=colour, markersize=4)
            continue
        if dot.low is not None and dot.high is not None:
            ends = (max(dot.low, low), min(dot.high, high))
            ax.plot(ends, (y, y), color=colour, linewidth=0.9, alpha=0.7)
        ax.plot(dot.mean, y, MARKS[i % len(MARKS)], color=colour, markersize=3.5)
