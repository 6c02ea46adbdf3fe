"""Matplotlib figures as inline SVG that follows the page: its colours, its font, its light or dark mode.

A figure is drawn with placeholder colours; in the SVG these become CSS variables of the page. So one
drawing serves both modes, text stays text (selectable, readable by a screen reader), and nothing is
loaded from anywhere.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

#: Placeholders: colours that no colour map gives, and the CSS variable that each stands for.
INK, MUTED, LINE, PANEL, SURFACE = "#010203", "#010204", "#010205", "#010206", "#010207"
BLUE, ORANGE = "#010208", "#010209"
_VARIABLES = {
    INK: "--ss-ink",
    MUTED: "--ss-muted",
    LINE: "--ss-line",
    PANEL: "--ss-panel",
    SURFACE: "--ss-surface",
    BLUE: "--ss-blue",
    ORANGE: "--ss-orange",
}
FONT_SIZE = 8.5
#: A point of the drawing in CSS pixels.
PIXELS_PER_POINT = 96 / 72


def figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, made without pyplot's global state."""
    picture = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(picture)
    picture.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr, call-arg]
    return picture


def restrain(ax: Axes, *, grid: bool = True) -> None:
    """Take away what carries no information: two spines, tick marks, strong lines."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(LINE)
    ax.tick_params(length=0, colors=MUTED, labelsize=FONT_SIZE)
    if grid:
        ax.grid(axis="y", color=LINE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.patch.set_visible(False)


def to_svg(picture: Figure, name: str, label: str) -> Markup:
    """Render a figure for a page.

    Parameters
    ----------
    picture : Figure
        Drawn with the placeholder colours of this module.
    name : str
        Unique on the page: prefixes every id, since all figures share one document.
    label : str
        What a screen reader says in place of the picture.
    """
    for text in picture.findobj(matplotlib.text.Text):
        text.set_parse_math(False)  # a concept named "$x$" is a name, not a formula
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": FONT_SIZE,
        "text.parse_math": False,
    }
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    buffer = io.StringIO()
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # The page's font has the glyph, or the reader's machine does; ours only measures the text.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        picture.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return Markup(_adapt(buffer.getvalue(), name, label, picture.get_figwidth()))


def _adapt(svg: str, name: str, label: str, inches: float) -> str:
    """Turn matplotlib's document into an element of the page."""
    view_box = re.search(r'viewBox="[^"]*"', svg)
    pixels = round(inches * 72 * PIXELS_PER_POINT)
    opening = (
        f'<svg class="ss-svg" role="img" aria-label="{escape(label)}" style="width:{pixels}px" '
        f"{view_box.group(0) if view_box else ''} "
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    # matplotlib's own style element would reach every element of the page; the page's style has its rule.
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]+>", lambda tag: _adapt_tag(tag.group(0), name), body)
    return opening + re.sub(r"\n\s*", "\n", body)


def _adapt_tag(tag: str, name: str) -> str:
    """Colours to variables, ids made unique, font left to the page, numbers to a hundredth of a point."""
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, f"var({variable})")
    tag = re.sub(r' id="([^"]+)"', "" if tag.startswith("<g ") else rf' id="{name}-\1"', tag)
    tag = re.sub(r'(href="|url\()#', rf"\1#{name}-", tag)
    # The page's font is narrower than the one that the layout was measured with, so that nothing collides.
    tag = re.sub(r" font-family: [^;\"]*;?", "", tag)
    tag = re.sub(r"font: (?:\w+ )*?([\d.]+)px [^;\"]*", r"font-size: \1px", tag)
    tag = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", tag)
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", tag)
