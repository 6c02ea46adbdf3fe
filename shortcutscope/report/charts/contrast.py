"""The contrast sheet of a finding as a figure: carriers above those that are like them, and both means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from shortcutscope.audit.appearance.contrast import ContrastSheet
from shortcutscope.report.charts.axes import ShownFigure
from shortcutscope.report.contrast import class_name, coloured, read_contrast
from shortcutscope.report.gallery import DIVERGING, shared_limit
from shortcutscope.report.svg import BLUE, FONT_SIZE, MUTED, ORANGE, figure, restrain, to_svg
from shortcutscope.types import Array, Floats, Record

#: Leads of a signal whose mean traces are drawn, those that differ most.
MOST_LEADS = 4
_SIZE = 1.25


def draw_contrast(contrast: ContrastSheet, *, title: str = "", classes: Sequence[str] = ()) -> Figure:
    """Draw a contrast sheet.

    Parameters
    ----------
    contrast
        That an audit wrote.
    title
        Above it.
    classes
        Names of the labels.
    """
    n = len(contrast.carriers)
    rows = [(contrast.carriers, "with it"), (contrast.others, "alike, without it")]
    if contrast.carrier_patches.size:
        rows += [(contrast.carrier_patches, "where it is read"), (contrast.other_patches, "without it")]
    wide = 2.6 if contrast.kind == "signal" else _SIZE
    heights = [1.0 if contrast.kind == "signal" else _SIZE * _aspect(pictures) for pictures, _ in rows]
    picture = ShownFigure(n * wide + 3.6, sum(heights) + 1.1)
    sheet, means = np.ravel(picture.subfigures(1, 2, squeeze=False, width_ratios=[n * wide, 3.6]))
    axes = sheet.subplots(len(rows), n, squeeze=False, height_ratios=heights)
    for row, (pictures, text) in enumerate(rows):
        for k in range(n):
            if row % 2 and not contrast.other_ids[k]:
                axes[row, k].text(0.5, 0.5, "none without it", ha="center", va="center", fontsize=7)
                axes[row, k].set_axis_off()
            else:
                _show(axes[row, k], pictures[k])
        axes[row, 0].set_ylabel(text, fontsize=8)
    for k in range(n):
        axes[0, k].set_title(class_name(int(contrast.labels[k]), classes), fontsize=7.5, parse_math=False)
    _draw_means(means, contrast)
    if title:
        picture.suptitle(title, fontsize=9.5, x=0.01, ha="left", parse_math=False)
    return picture


def _aspect(pictures: Array) -> float:
    return float(np.clip(pictures.shape[1] / pictures.shape[2], 0.4, 1.6))


def _show(ax: Axes, picture: Array) -> None:
    ax.imshow(picture, cmap="gray", vmin=0, vmax=255, aspect="auto" if picture.shape[1] > 400 else "equal")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _draw_means(means: SubFigure, contrast: ContrastSheet) -> None:
    if not contrast.has_both:
        ax = means.subplots()
        ax.text(
            0.5, 0.5, "no label has samples\nwith it and without it", ha="center", va="center", fontsize=8
        )
        ax.set_axis_off()
        return
    if contrast.kind == "signal":
        _traces(
            list(np.atleast_1d(means.subplots(min(MOST_LEADS, len(contrast.mean_carriers))))), contrast, 7
        )
        return
    axes = means.subplots(2, 2, width_ratios=[1, 1.7])
    for ax, mean, text in (
        (axes[0, 0], contrast.mean_carriers, "mean with it"),
        (axes[1, 0], contrast.mean_others, "mean without it"),
    ):
        ax.imshow(np.clip(mean, 0, 1), cmap="gray", vmin=0, vmax=1)
        ax.set_title(text, fontsize=7.5)
        ax.set_axis_off()
    axes[0, 1].remove()
    axes[1, 1].remove()
    ax = means.add_subplot(axes[0, 1].get_gridspec()[:, 1])
    difference = contrast.difference
    top = shared_limit(difference)
    drawn = ax.imshow(difference, cmap=DIVERGING, vmin=-top, vmax=top)
    ax.set_title("difference", fontsize=7.5)
    ax.set_axis_off()
    bar = means.colorbar(drawn, ax=ax, shrink=0.6, ticks=[-top, 0, top])
    bar.ax.set_yticklabels([f"−{top:.2g}", "0", f"+{top:.2g}"], fontsize=7)


def _traces(axes: Sequence[Axes], contrast: ContrastSheet, size: float) -> None:
    """Mean traces of the leads that differ most, carriers over others."""
    spread = np.abs(contrast.difference).mean(1)
    leads = np.sort(np.argsort(-spread, kind="stable")[: len(axes)])
    for ax, lead in zip(axes, leads, strict=True):
        ax.plot(contrast.mean_others[lead], color="#777777", linewidth=1.0, label="without it")
        ax.plot(contrast.mean_carriers[lead], color="#D55E00", linewidth=1.0, label="with it")
        ax.set_xticks([])
        ax.tick_params(labelsize=size - 1)
        ax.set_title(f"lead {lead + 1}", fontsize=size, loc="left")
    axes[0].legend(fontsize=size - 1, frameon=False, loc="upper right", ncols=2)


def draw_sheet(path: Path, classes: Sequence[str], name: str) -> Record:
    """A contrast sheet for a page, with ``bar``: the scale of the difference; of signals the means."""
    sheet = read_contrast(path, classes)
    bar: Markup | None = None
    if sheet["means"] is not None:
        bar = difference_bar(sheet["means"]["top"], name)
    elif sheet["kind"] == "signal" and (contrast := ContrastSheet.open(path)).has_both:
        bar = mean_traces(contrast.mean_carriers, contrast.mean_others, name)
    return {**sheet, "bar": bar}


def difference_bar(top: float, name: str) -> Markup:
    """The scale of a difference of means."""
    picture = figure(2.9, 0.42)
    ax = picture.subplots()
    ramp = coloured(np.linspace(-1, 1, 64)[None], 1.0)
    ax.imshow(ramp, extent=(-1, 1, 0, 1), aspect="auto", interpolation="none")
    ax.set(xlim=(-1, 1), ylim=(0, 1), yticks=[])
    ax.set_xticks([-1, 0, 1], [f"−{top:.2g}", "0", f"+{top:.2g}"])
    restrain(ax, grid=False)
    ax.spines[:].set_visible(False)
    return to_svg(picture, name, f"Colour scale of the difference from minus to plus {top:.2g}")


def mean_traces(carriers: Floats, others: Floats, name: str) -> Markup:
    """Mean traces (leads, time) of both sides, of the leads that differ most."""
    spread = np.abs(carriers - others).mean(1)
    leads = np.sort(np.argsort(-spread, kind="stable")[:MOST_LEADS])
    picture = figure(6.2, 0.25 + 0.85 * len(leads))
    for ax, lead in zip(picture.subplots(len(leads), 1, squeeze=False)[:, 0], leads, strict=True):
        ax.plot(others[lead], color=BLUE, linewidth=1.1, label="without it")
        ax.plot(carriers[lead], color=ORANGE, linewidth=1.1, label="with it")
        ax.set_xticks([])
        ax.set_title(f"lead {lead + 1}", size=FONT_SIZE, color=MUTED, loc="left")
        restrain(ax)
    picture.axes[0].legend(fontsize=FONT_SIZE, frameon=False, loc="upper right", ncols=2, labelcolor=MUTED)
    return to_svg(picture, name, "Mean traces of carriers and of others, of the leads that differ most")
