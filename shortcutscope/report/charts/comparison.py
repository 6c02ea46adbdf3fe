"""Figures of a comparison: a dot with its interval per network and table, and layers before and after.

The biased network is an orange square with a broken line, a new one a blue dot, one that got worse an orange
triangle: shape and line say what the colour says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from shortcutscope.report.svg import BLUE, FONT_SIZE, INK, LINE, MUTED, ORANGE, figure, restrain, to_svg
from shortcutscope.types import JSON, Floats

#: Characters of a network's or layer's name.
LONGEST = 26


def metric_dots(metric: JSON, name: str) -> Markup:
    """One metric: a line per network, grouped by table, with 95 % intervals."""
    tables = metric["tables"]
    n_rows = sum(len(table["rows"]) for table in tables)
    titled = len(tables) > 1
    lines = n_rows + titled * len(tables)
    picture = figure(4.9, 0.62 + 0.2 * lines)
    ax = picture.subplots()
    place, ticks, names = 0.0, [], []
    for table in tables:
        if titled:
            ticks.append(place)
            names.append(table["name"])
            place += 1
        top = place
        for row in table["rows"]:
            _dot(ax, row, place)
            ticks.append(place)
            names.append(_short(row["network"]))
            place += 1
        before = next((r["value"] for r in table["rows"] if r["first"]), None)
        if before is not None:
            ax.plot([before] * 2, [top, place - 0.6], color=ORANGE, linewidth=0.8, linestyle=(0, (3, 2)))
    ax.set(ylim=(place - 0.4, -0.6))
    ax.set_yticks(ticks, names)
    ax.set_title(metric["label"], size=FONT_SIZE + 0.5, color=INK, loc="left", fontweight="bold")
    restrain(ax, grid=False)
    ax.grid(axis="x", color=LINE, linewidth=0.6)
    ax.spines["left"].set_visible(False)
    headings = {table["name"] for table in tables} if titled else set()
    for text, value in zip(ax.get_yticklabels(), names, strict=True):
        text.set_color(INK if value in headings else MUTED)
        if value in headings:
            text.set_fontweight("bold")
    _room(ax, [row for table in tables for row in table["rows"]], zero=metric["metric"] == "delta_tpr")
    return to_svg(picture, name, f"{metric['label']} of every network with its interval, by table")


def layer_lines(network: JSON, name: str) -> Markup:
    """Use and availability per layer, of the biased network and of a new one."""
    picture = figure(9.2, 2.5)
    use, availability = picture.subplots(1, 2)
    for ax, metric, title in (
        (use, "use", f"Use (U), before and {_short(network['name'])}"),
        (availability, "availability", "Availability (AUROC)"),
    ):
        for which, colour, marker, style in (
            ("before", ORANGE, "s", (0, (4, 2))),
            ("after", BLUE, "o", "solid"),
        ):
            rows = network[which][metric]
            x = _places(network, which, rows)
            value, low, high = (_vector([row[k] for row in rows]) for k in ("value", "low", "high"))
            ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            ax.plot(x, value, color=colour, linewidth=1.5, linestyle=style, marker=marker, markersize=3.5)
        ax.set_title(title, size=FONT_SIZE + 0.5, color=INK, loc="left", fontweight="bold")
        restrain(ax)
        _layer_axis(ax, network)
    use.axhline(0, color=MUTED, linewidth=0.8)
    bottom = availability.get_ylim()[0]
    availability.set_ylim(min(bottom, 0.45), 1.02)
    _legend(use, network["name"])
    label = f"Use and availability per layer before and in {network['name']}"
    return to_svg(picture, name, label)


def _dot(ax: Axes, row: JSON, place: float) -> None:
    first, worse = row["first"], row["better"] is False
    colour, marker = (ORANGE, "s") if first else (ORANGE, "v") if worse else (BLUE, "o")
    if row["low"] is not None and row["high"] is not None:
        ax.plot([row["low"], row["high"]], [place] * 2, color=colour, linewidth=2.6, alpha=0.45)
    ax.plot([row["value"]], [place], marker=marker, markersize=5.5, color=colour, clip_on=False, zorder=3)


def _room(ax: Axes, rows: Sequence[JSON], *, zero: bool) -> None:
    """The part of the scale that holds all intervals; shares keep 0 or 1 where they come near it."""
    limits = [row[k] for row in rows for k in ("value", "low", "high") if row[k] is not None]
    low, high = min(limits), max(limits)
    pad = max(0.06 * (high - low), 0.02)
    if zero:
        ax.axvline(0, color=MUTED, linewidth=0.8)
        low, high = min(low, 0.0), max(high, 0.0)
        ax.set_xlim(low - pad, high + pad)
        return
    ax.set_xlim(max(low - pad, -0.02), min(high + pad, 1.02))


def _places(network: JSON, which: str, rows: Sequence[JSON]) -> Floats:
    """Where the measured layers stand: by their number where both networks have the same, else by depth."""
    layers = network["layers"][which]
    places = {layer["name"]: k if network["same"] else layer["depth"] for k, layer in enumerate(layers)}
    return np.array([places[row["detail"]] for row in rows], float)


def _layer_axis(ax: Axes, network: JSON) -> None:
    """Names of the layers where both networks have the same, else their depth."""
    if not network["same"]:
        ax.set_xlabel("depth in the network", size=FONT_SIZE, color=MUTED)
        return
    names = [_tail(layer["name"]) for layer in network["layers"]["before"]]
    step = int(np.ceil(len(names) / 20))
    places = list(range(0, len(names), step))
    ax.set_xticks(places, [names[i] for i in places])
    if 0.068 * (max(map(len, names), default=0) + 1) > 4.0 / max(len(places), 1):
        for text in ax.get_xticklabels():
            text.set(rotation=40, ha="right", rotation_mode="anchor")


def _legend(ax: Axes, name: str) -> None:
    handles = [
        Line2D([], [], color=ORANGE, marker="s", markersize=3.5, linestyle=(0, (4, 2)), label="before"),
        Line2D([], [], color=BLUE, marker="o", markersize=3.5, label=_short(name)),
    ]
    legend = ax.legend(handles=handles, frameon=False, fontsize=FONT_SIZE, handlelength=2.4)
    for text in legend.get_texts():
        text.set_color(INK)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _tail(text: str) -> str:
    return text if len(text) <= LONGEST else "…" + text[1 - LONGEST :]


def _vector(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
