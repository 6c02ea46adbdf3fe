"""The figure of the subgroups: AUROC, sensitivity and specificity of each, beside those of the whole."""

from __future__ import annotations

from itertools import pairwise

from markupsafe import Markup
from matplotlib.axes import Axes

from shortcutscope.report.svg import BLUE, FONT_SIZE, INK, LINE, MUTED, ORANGE, figure, restrain, to_svg
from shortcutscope.types import JSON

PANELS = (("auroc", "AUROC"), ("sensitivity", "Sensitivity"), ("specificity", "Specificity"))
LONGEST = 34


def forest(subgroups: JSON, name: str) -> Markup | None:
    """A row a group; groups that differ from the others are orange squares, the whole is a broken line."""
    rows = subgroups["drawn"]
    if not rows:
        return None
    places = _places(rows)
    names = [f"{_short(row['name'])} ({row['n']})" for row in rows]
    picture = figure(1.0 + 0.062 * max(map(len, names)) + 6.0, 0.6 + 0.2 * (places[-1] + 1))
    picture.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
    panels = picture.subplots(1, len(PANELS), sharey=True)
    for ax, (key, title) in zip(panels, PANELS, strict=True):
        _panel(ax, rows, places, key, subgroups["overall"].get(key))
        ax.set_title(title, size=FONT_SIZE + 0.5, color=INK, loc="left", fontweight="bold")
    panels[0].set_yticks(places, names)
    panels[0].set_ylim(places[-1] + 0.7, -0.7)
    for label, row in zip(panels[0].get_yticklabels(), rows, strict=True):
        label.set_color(INK if row["differs"] else MUTED)
    return to_svg(picture, name, "AUROC, sensitivity and specificity of each subgroup with 95 % intervals")


def _places(rows: list[JSON]) -> list[float]:
    """Heights of the rows, with a gap between columns."""
    places = [0.0]
    for above, below in pairwise(rows):
        places.append(places[-1] + (1.0 if above["column"] == below["column"] else 1.6))
    return places


def _panel(ax: Axes, rows: list[JSON], places: list[float], key: str, overall: float | None) -> None:
    if overall is not None:
        ax.axvline(overall, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)))
    for row, place in zip(rows, places, strict=True):
        value, low, high = (row[key][k] for k in ("value", "low", "high"))
        if value is None:
            continue
        colour, marker = (ORANGE, "s") if row["differs"] else (BLUE, "o")
        if low is not None and high is not None:
            ax.plot([low, high], [place] * 2, color=colour, linewidth=2.6, alpha=0.45)
        ax.plot([value], [place], marker=marker, markersize=4.5, color=colour, clip_on=False, zorder=3)
    low = min((row[key]["low"] for row in rows if row[key]["low"] is not None), default=0.0)
    left = max(0.0, low - 0.03)
    ax.set_xlim(left, 1.01)
    restrain(ax, grid=False)
    ax.grid(axis="x", color=LINE, linewidth=0.6)
    ax.spines["left"].set_visible(False)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
