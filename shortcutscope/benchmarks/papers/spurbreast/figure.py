"""The figure of the protocol `spurbreast`: the accuracy from training to test, and under attack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shortcutscope.benchmarks.figures.dots import COLOURS, FONT_SIZE, MARKS
from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.papers.spurbreast.measures import EPSILONS
from shortcutscope.benchmarks.runner import Case

__all__ = ["draw"]

TITLES = {
    "field_strength": "field strength goes with the label",
    "orientation": "orientation goes with the label",
    "none": "no shortcut",
}
SPLITS = {"train": "training", "val": "validation", "test": "test"}


def draw(cases: Sequence[Case]) -> Figure:
    """Above, accuracy by split; below, accuracy in validation under PGD; a column each feature."""
    networks = [case for case in cases if case["part"] == "network" and case["correlation"] in (0.5, 1.0)]
    features = [name for name in TITLES if any(case["feature"] == name for case in networks)]
    names = list(dict.fromkeys(case["architecture"] for case in networks))
    plot = Figure(figsize=(3 * max(1, len(features)), 4.6), layout="constrained")
    if not features:
        return plot
    grid = plot.subplots(2, len(features), sharey=True, squeeze=False)
    attacked = ["val_clean", *(f"val_pgd_{number}" for number in EPSILONS)]
    for (above, below), feature in zip(grid.T, features, strict=True):
        members = [case for case in networks if case["feature"] == feature]
        _lines(above, members, names, [f"{split}_accuracy" for split in SPLITS], list(SPLITS.values()))
        _lines(below, members, names, attacked, ["0", *map(str, EPSILONS)])
        above.set_title(TITLES[feature], fontsize=FONT_SIZE + 1, loc="left")
        below.set_xlabel("largest change of a pixel (PGD, validation), 255ths", fontsize=FONT_SIZE)
    for ax in grid[:, 0]:
        ax.set_ylabel("accuracy", fontsize=FONT_SIZE)
    if names:
        handles = grid[0, 0].get_legend_handles_labels()
        plot.legend(*handles, loc="outside lower center", ncols=4, fontsize=FONT_SIZE, frameon=False)
    return plot


def _lines(
    ax: Axes, cases: Sequence[Case], names: Sequence[str], keys: Sequence[str], ticks: Sequence[str]
) -> None:
    """A line each architecture, with the intervals over seeds."""
    for number, name in enumerate(names):
        members = [case for case in cases if case["architecture"] == name]
        figures = [mean_with_interval([case.get(key) for case in members]) for key in keys]
        mean, low, high = (
            np.array([np.nan if f[part] is None else f[part] for f in figures], float)
            for part in ("mean", "low", "high")
        )
        # Side by side, so that one does not hide the other.
        x = np.arange(len(keys)) + 0.08 * (number - (len(names) - 1) / 2)
        reach = np.nan_to_num([mean - low, high - mean])
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        ax.errorbar(x, mean, reach, label=name, color=colour, marker=mark, markersize=4, linewidth=1)
    ax.axhline(0.5, color="0.6", linewidth=0.8, zorder=0)
    ax.set_xticks(range(len(keys)), ticks, fontsize=FONT_SIZE)
    ax.tick_params(axis="y", labelsize=FONT_SIZE)
    ax.set_ylim(-0.03, 1.03)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
