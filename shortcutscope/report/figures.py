"""The figures of a report: heat maps, depth curves, extent evidence, colour bars.

Every function takes plain data of `shortcutscope.report.summary` and returns inline SVG. Colour maps are
readable with any colour vision (cividis, PuOr); what a colour says is also said by a number or a mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.patches import Rectangle

from shortcutscope.report.svg import (
    BLUE,
    FONT_SIZE,
    INK,
    LINE,
    MUTED,
    ORANGE,
    PANEL,
    figure,
    restrain,
    to_svg,
)
from shortcutscope.types import JSON, Array, Bools, Floats

AVAILABILITY = matplotlib.colormaps["cividis"]
DIVERGING = matplotlib.colormaps["PuOr_r"]
SMALL = FONT_SIZE - 0.25  # eleven pixels
#: More cells than this carry no number: it could not be read.
MAX_NUMBERED = 400
MAX_LAYER_MAPS = 9


def availability_heatmap(heatmaps: JSON, name: str) -> Markup:
    """AUROC per concept and layer; cells that do not exceed their own null's 95 % quantile are hatched."""
    values, null = _array(heatmaps["auroc"]), _array(heatmaps["null_high"])
    with np.errstate(invalid="ignore"):
        silent = np.isfinite(null) & (values <= null)
    norm = Normalize(0.5, 1.0)
    finite = null[np.isfinite(null)]
    marks = [(float(np.median(finite)), "null 95 %")] if finite.size else []
    label = "Heat map of the availability of every concept at every layer, as AUROC"
    return _heatmap(
        heatmaps, values, silent, AVAILABILITY, norm, marks, [0.5, 0.75, 1.0], "AUROC", name, label
    )


def use_heatmap(heatmaps: JSON, name: str) -> Markup:
    """Effect U of taking the concept out, per concept and layer; cells below the threshold are hatched."""
    values, threshold = _array(heatmaps["use"]), heatmaps["threshold"]
    with np.errstate(invalid="ignore"):
        silent = np.abs(values) < (threshold or 0.0)
    top = _limit(values, threshold)
    marks = [] if threshold is None else [(threshold, "threshold"), (-threshold, "")]
    label = "Heat map of the use of every concept at every layer, in standard deviations of the logit"
    norm = TwoSlopeNorm(0.0, -top, top)
    return _heatmap(heatmaps, values, silent, DIVERGING, norm, marks, [-top, 0.0, top], "use U", name, label)


def _limit(values: Floats, threshold: float | None) -> float:
    finite = np.abs(values[np.isfinite(values)])
    top = max(float(finite.max()) if finite.size else 0.0, 1.5 * (threshold or 0.0), 0.1)
    return float(np.ceil(top * 10) / 10)


def _heatmap(
    heatmaps: JSON,
    values: Floats,
    silent: Bools,
    colours: Any,
    norm: Normalize,
    marks: Sequence[tuple[float, str]],
    ticks: Sequence[float],
    unit: str,
    name: str,
    label: str,
) -> Markup:
    rows, columns = values.shape
    names = [_short(concept, 26) for concept in heatmaps["concepts"]]
    cell = float(np.clip(6.4 / columns, 0.16, 0.62))
    picture = figure(1.1 + 0.062 * max(map(len, names)) + cell * columns + 0.7, 0.95 + 0.3 * rows)
    ax, bar = picture.subplots(1, 2, width_ratios=[cell * columns, 0.12])
    numbered = values.size <= MAX_NUMBERED and cell >= 0.3
    for (row, column), value in np.ndenumerate(values):
        box = (column + 0.03, row + 0.04)
        if not np.isfinite(value):
            ax.add_patch(Rectangle(box, 0.94, 0.92, fill=False, edgecolor=LINE, linewidth=0.6))
            continue
        quiet = bool(silent[row, column])
        colour: Any = PANEL if quiet else colours(norm(value))
        ax.add_patch(Rectangle(box, 0.94, 0.92, facecolor=colour, edgecolor="none"))
        if numbered:
            ink = MUTED if quiet else _contrasting(colour)
            ax.text(
                column + 0.5, row + 0.5, _cell(float(value)), ha="center", va="center", size=SMALL, color=ink
            )
    _hatch(ax, np.argwhere(silent & np.isfinite(values))[:, ::-1])
    ax.set(xlim=(0, columns), ylim=(rows, 0))
    _layer_ticks(ax, heatmaps["layers"], offset=0.5, room=cell * columns)
    ax.set_yticks(np.arange(rows) + 0.5, names)
    restrain(ax, grid=False)
    ax.tick_params(axis="y", colors=INK)
    ax.spines[["left", "bottom"]].set_visible(False)
    _colour_bar(bar, colours, norm, ticks, marks, unit)
    return to_svg(picture, name, label)


def _hatch(ax: Axes, cells: Array) -> None:
    """Diagonals over cells (column, row); plain lines, since pattern fills print badly."""
    strokes = np.array([[[0.03, y], [x, 0.04]] for x, y in ((0.34, 0.35), (0.65, 0.65), (0.97, 0.96))])
    strokes = np.concatenate([strokes, [[[0.36, 0.96], [0.97, 0.36]], [[0.67, 0.96], [0.97, 0.67]]]])
    if cells.size:
        lines = (cells[:, None, None] + strokes).reshape(-1, 2, 2)
        ax.add_collection(LineCollection(list(lines), colors=LINE, linewidths=0.7, zorder=1.5))


def _colour_bar(
    bar: Axes,
    colours: Any,
    norm: Normalize,
    ticks: Sequence[float],
    marks: Sequence[tuple[float, str]],
    unit: str,
) -> None:
    """A scale with a mark where significance begins."""
    low, high = float(norm.vmin or 0.0), float(norm.vmax or 1.0)
    ramp = np.linspace(high, low, 64)[:, None]
    bar.imshow(colours(norm(ramp)), extent=(0, 1, low, high), aspect="auto", interpolation="none")
    for value, text in marks:
        bar.plot([-0.25, 1.25], [value, value], color=INK, linewidth=1.2, clip_on=False)
        if text and all(abs(value - tick) > 0.07 * (high - low) for tick in ticks):
            bar.text(1.6, value, text, va="center", size=SMALL, color=MUTED, clip_on=False)
    bar.set(xlim=(0, 1), ylim=(low, high), xticks=[])
    bar.yaxis.tick_right()
    bar.set_yticks(list(ticks), [_plain(tick) for tick in ticks])
    restrain(bar, grid=False)
    bar.spines[["left", "bottom"]].set_visible(False)
    bar.set_title(unit, size=FONT_SIZE, color=MUTED, loc="left")


def availability_curve(finding: JSON, name: str) -> Markup:
    """AUROC over depth with its interval, and the band of the permuted concept."""
    curves = finding["curves"]
    picture = figure(4.6, 2.3)
    ax = picture.subplots()
    x = np.arange(len(curves["layers"]), dtype=float)
    auroc, low, high = (_vector(curves[k]) for k in ("auroc", "auroc_low", "auroc_high"))
    null_mean, null_high = _vector(curves["null_mean"]), _vector(curves["null_high"])
    ax.fill_between(x, null_mean, null_high, color=MUTED, alpha=0.22, linewidth=0)
    ax.plot(x, null_high, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)))
    ax.fill_between(x, low, high, color=BLUE, alpha=0.2, linewidth=0)
    ax.plot(x, auroc, color=BLUE, linewidth=1.6, marker="o", markersize=3)
    _note_last(ax, x, null_high, "null 95 %")
    values = np.concatenate([auroc, low, null_mean])
    bottom = min(0.45, float(np.nanmin(values)) - 0.02) if np.isfinite(values).any() else 0.45
    ax.set(ylim=(max(bottom, 0.0), 1.02))
    _depth_axis(ax, curves["layers"], "Availability (AUROC)")
    return to_svg(picture, name, f"Availability of {finding['name']} over the depth of the network")


def use_curve(finding: JSON, name: str) -> Markup:
    """Use over depth with its interval, between the lines of the threshold."""
    curves, threshold = finding["curves"], finding["used"]["threshold"]
    picture = figure(4.6, 2.3)
    ax = picture.subplots()
    x = np.arange(len(curves["layers"]), dtype=float)
    use, low, high = (_vector(curves[k]) for k in ("use", "use_low", "use_high"))
    ax.axhline(0, color=LINE, linewidth=0.8)
    if threshold is not None:
        ax.axhspan(-threshold, threshold, color=MUTED, alpha=0.14, linewidth=0)
        for limit in (-threshold, threshold):
            ax.axhline(limit, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)))
        _note_last(ax, x, np.full(len(x), threshold), "threshold")
    measured = np.isfinite(use)  # at some of the layers alone
    ax.fill_between(x[measured], low[measured], high[measured], color=ORANGE, alpha=0.2, linewidth=0)
    ax.plot(x[measured], use[measured], color=ORANGE, linewidth=1.6, marker="s", markersize=3)
    _depth_axis(ax, curves["layers"], "Use (U)")
    return to_svg(picture, name, f"Use of {finding['name']} over the depth of the network")


def cell_map(extent: JSON, name: str, concept: str) -> Markup:
    """AUROC of the concept in each cell of the image; one scale from .5 to 1 for every finding."""
    values = _array(extent["cell_map"])
    picture = figure(2.5, 2.1 if len(values) > 1 else 0.9)
    ax, bar = picture.subplots(1, 2, width_ratios=[1, 0.06])
    _cells(ax, values, (0, values.shape[1], 0, values.shape[0]))
    if len(values) == 1:  # a row of square cells would be a thin line
        ax.set_aspect("auto")
    ax.set_axis_off()
    _colour_bar(bar, AVAILABILITY, Normalize(0.5, 1.0), [0.5, 0.75, 1.0], [], "AUROC")
    return to_svg(
        picture,
        name,
        f"Where in the {_kind(extent)} {concept} can be read: AUROC in each of "
        f"{int(np.isfinite(values).sum())} cells",
    )


def layer_maps(extent: JSON, name: str, concept: str) -> Markup | None:
    """The same map read from the layers of the network, from input to output."""
    maps = [layer for layer in extent["layers"] if layer["cell_map"] is not None]
    if not maps:
        return None
    indices = np.unique(np.linspace(0, len(maps) - 1, MAX_LAYER_MAPS).round().astype(int))
    picture = figure(0.92 * len(indices), 1.1)
    ax = picture.subplots()
    # All on one set of axes: an axes object each would take most of the time of a report.
    for place, i in enumerate(indices):
        x = 1.08 * place
        _cells(ax, _array(maps[i]["cell_map"]), (x, x + 1, 0, 1))
        ax.text(x + 0.5, 1.06, _tail(maps[i]["layer"], 12), ha="center", size=SMALL, color=MUTED)
    ax.set(xlim=(-0.02, 1.08 * len(indices) - 0.06), ylim=(-0.02, 1.2))
    ax.set_axis_off()
    return to_svg(
        picture, name, f"How layers of the network see {concept}: AUROC per cell of the {_kind(extent)}"
    )


def _cells(ax: Axes, values: Floats, extent: tuple[float, float, float, float]) -> None:
    """A map of cells in a frame; unknown cells stay empty."""
    cells = np.ma.masked_invalid(values)
    ax.imshow(cells, cmap=AVAILABILITY, vmin=0.5, vmax=1.0, interpolation="none", extent=extent)
    left, right, low, high = extent
    frame = Rectangle((left, low), right - left, high - low, fill=False, edgecolor=LINE, linewidth=0.8)
    ax.add_patch(frame)


def _kind(extent: JSON) -> str:
    """What the cells are of: ``"image"``, ``"volume"`` or ``"signal"``."""
    return str(extent.get("kind", "image"))


def extent_zones(extent: JSON, name: str, concept: str) -> Markup:
    """The share of lit cells with its interval, against the zones of the verdict."""
    picture = figure(4.6, 0.95)
    ax = picture.subplots()
    zones = extent["zones"]
    if zones is not None:
        low, high = zones["localized_below"], zones["diffuse_above"]
        ax.axvspan(low, high, color=MUTED, alpha=0.2, linewidth=0)
        for middle, text in (
            (low / 2, "localized"),
            ((low + high) / 2, "undetermined"),
            ((1 + high) / 2, "diffuse"),
        ):
            ax.text(middle, 1.12, text, ha="center", va="bottom", size=FONT_SIZE, color=MUTED)
        for limit in (low, high):
            ax.axvline(limit, color=MUTED, linewidth=0.8)
    statistic, ends = extent["statistic"], extent["interval"]
    if ends is not None:
        ax.plot(ends, [0.5, 0.5], color=BLUE, linewidth=3.5, alpha=0.4, solid_capstyle="butt", clip_on=False)
    ax.plot([statistic], [0.5], marker="D", markersize=6, color=BLUE, clip_on=False)
    ax.set(xlim=(0, 1), ylim=(0, 1), yticks=[])
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    ax.set_xlabel(
        f"share of the {_kind(extent)}'s cells in which the concept can be read", size=FONT_SIZE, color=MUTED
    )
    restrain(ax, grid=False)
    ax.spines["left"].set_visible(False)
    return to_svg(
        picture,
        name,
        f"Share of {_kind(extent)} cells that know {concept}, against the limits of the extent verdict",
    )


def lit_curve(extent: JSON, name: str, concept: str) -> Markup | None:
    """Share of lit cells at each layer, against the zones of the verdict."""
    layers = [layer for layer in extent["layers"] if layer["statistic"] is not None]
    if len(layers) < 2:
        return None
    picture = figure(4.6, 2.0)
    ax = picture.subplots()
    if extent["zones"] is not None:
        ax.axhspan(
            extent["zones"]["localized_below"],
            extent["zones"]["diffuse_above"],
            color=MUTED,
            alpha=0.2,
            linewidth=0,
        )
    ax.plot(
        [layer["statistic"] for layer in layers],
        color=BLUE,
        linewidth=1.6,
        marker="o",
        markersize=3,
        clip_on=False,
    )
    ax.set(ylim=(0, 1.0))
    ax.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    _depth_axis(ax, [layer["layer"] for layer in layers], "Lit cells per layer")
    return to_svg(picture, name, f"Share of cells that know {concept} at each layer of the network")


def relevance_bar(top: float, name: str) -> Markup:
    """The one scale that all maps of a gallery share."""
    picture = figure(2.9, 0.42)
    ax = picture.subplots()
    ramp = DIVERGING(np.linspace(0, 1, 64))[None]
    ax.imshow(ramp, extent=(-1, 1, 0, 1), aspect="auto", interpolation="none")
    ax.set(xlim=(-1, 1), ylim=(0, 1), yticks=[])
    ax.set_xticks([-1, 0, 1], [f"−{top:.2g}", "0", f"+{top:.2g}"])
    restrain(ax, grid=False)
    ax.spines[:].set_visible(False)
    return to_svg(picture, name, f"Colour scale of relevance from minus to plus {top:.2g}")


def _depth_axis(ax: Axes, layers: Sequence[str], title: str) -> None:
    ax.set_title(title, size=FONT_SIZE + 0.5, color=INK, loc="left", fontweight="bold")
    ax.set_xlim(-0.3, max(len(layers) - 0.7, 0.3))
    _layer_ticks(ax, layers, offset=0.0, room=4.1)
    restrain(ax)


def _layer_ticks(ax: Axes, layers: Sequence[str], offset: float, room: float) -> None:
    """Names of the layers along ``room`` inches: slanted or thinned out where they would not fit.

    Long names keep their end, which is what tells them apart.
    """
    step = int(np.ceil(len(layers) / 20))
    places = range(0, len(layers), step)
    names = [_tail(layers[i], 16) for i in places]
    flat = 0.068 * (max(map(len, names), default=0) + 1) <= room / max(len(places), 1)
    ax.set_xticks([place + offset for place in places], names)
    if not flat:
        for text in ax.get_xticklabels():
            text.set(rotation=40, ha="right", rotation_mode="anchor")


def _note_last(ax: Axes, x: Floats, line: Floats, text: str) -> None:
    """Label a line at its last point, above it and inside the axes."""
    finite = np.flatnonzero(np.isfinite(line))
    if finite.size:
        place = (float(x[finite[-1]]), float(line[finite[-1]]))
        ax.annotate(
            text, place, (0, 2), textcoords="offset points", ha="right", va="bottom", size=SMALL, color=MUTED
        )


def _contrasting(colour: tuple[float, float, float, float]) -> str:
    """Black or white, whichever reads better on a colour (relative luminance, WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#111111" if luminance > 0.18 else "#ffffff"


def _cell(value: float) -> str:
    """Two places without the zero before the point, which says nothing in a column of shares."""
    text = f"{abs(value):.2f}"
    text = text[1:] if text.startswith("0.") else text
    return f"−{text}" if value < 0 and float(text) else text


def _plain(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _tail(text: str, length: int) -> str:
    return text if len(text) <= length else "…" + text[1 - length :]


def _array(rows: Sequence[Sequence[float | None]]) -> Floats:
    return np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=float)


def _vector(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], dtype=float)
