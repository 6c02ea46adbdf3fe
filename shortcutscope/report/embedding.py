"""The picture of an embedding: one point a sample, colour its class, shape whether it carries a concept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shortcutscope.report.charts.axes import figure_of, own_axes
from shortcutscope.types import Array

#: Okabe and Ito (2008), told apart with any colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
UNKNOWN, WITHOUT, WITH = "unknown", "without it", "with it"
MARKERS = {UNKNOWN: ".", WITHOUT: "o", WITH: "^"}


def draw_embedding(
    points: Array,
    labels: Array,
    values: Array | None = None,
    *,
    classes: Sequence[str] = (),
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw points (n, 2) of samples.

    Parameters
    ----------
    points
        (n, 2)
    labels
        (n,) classes, which give the colours.
    values
        (n,) of a concept, 1, 0 or NaN, which give the shapes.
    classes
        Names of the classes.
    title
        Above the picture.
    ax
        Where to draw; by default on a figure of its own.
    """
    ax = own_axes(ax, 6.4, 4.6)
    concept = np.full(len(points), np.nan) if values is None else np.asarray(values, float)
    sides = {WITHOUT: concept == 0, WITH: concept == 1, UNKNOWN: np.isnan(concept)}
    for k, label in enumerate(np.unique(labels)):
        name = classes[int(label)] if 0 <= int(label) < len(classes) else f"class {label}"
        for side, member in sides.items():
            rows = member & (labels == label)
            if rows.any():
                ax.scatter(
                    points[rows, 0],
                    points[rows, 1],
                    s=16,
                    marker=MARKERS[side],
                    color=COLOURS[k % len(COLOURS)],
                    facecolors="none" if side == WITHOUT else None,
                    linewidths=0.8,
                    alpha=0.75,
                    label=name if values is None else f"{name}, {side}",
                )
    ax.set(xticks=[], yticks=[], title=title)
    ax.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.annotate(
        "neighbours mean something, distances nothing", (0.01, 0.01), xycoords="axes fraction", fontsize=6.5
    )
    return figure_of(ax)
