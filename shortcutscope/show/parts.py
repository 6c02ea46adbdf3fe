"""Parts of what a notebook shows: a heading, facts, notes, tables and pictures, as escaped HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
from PIL import Image

from shortcutscope.types import Array


def heading(name: str, text: str = "") -> str:
    """What it is, and below it a line on what to know first."""
    return f"<h3>{escape(name)}</h3>" + (f'<p class="lead">{escape(text)}</p>' if text else "")


def facts(entries: Mapping[str, object] | Iterable[tuple[str, object]]) -> str:
    """Names with values; those that are None or empty are left out.

    Examples
    --------
    >>> facts({"masks": 3, "state": None})
    '<dl><div><dt>masks</dt><dd>3</dd></div></dl>'
    """
    rows = entries.items() if isinstance(entries, Mapping) else entries
    filled = [(name, str(value)) for name, value in rows if value is not None and str(value)]
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in filled)
    return f"<dl>{cells}</dl>" if cells else ""


def notes(texts: Iterable[str]) -> str:
    """Sentences as a list; nothing of none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def table(frame: pd.DataFrame, *, more: int = 0) -> str:
    """A frame without its index, and how many rows are not shown; nothing of an empty one."""
    if frame.empty:
        return ""
    # Places of numbers that carry nothing hide those that do; a missing value is a gap, not a word.
    rows = frame.where(frame.notna(), np.nan).to_html(
        border=0, index=False, na_rep="", float_format=lambda value: f"{value:.3g}"
    )
    rest = f'<p class="muted">and {more} more</p>' if more > 0 else ""
    return f'<div class="scroll">{rows}</div>{rest}'


def pictures(entries: Iterable[tuple[Array | None, str]], *, height: int | None = None) -> str:
    """Pictures (H, W) or (H, W, 3) of bytes with their captions; without a picture the caption alone."""
    size = "" if height is None else f' style="height:{height}px"'
    cells = []
    for picture, caption in entries:
        image = "" if picture is None else f'<img src="{picture_uri(picture)}" alt=""{size}>'
        lines = "<br>".join(escape(line) for line in caption.split("\n"))
        cells.append(f"<figure>{image}<figcaption>{lines}</figcaption></figure>")
    return f'<div class="pictures">{"".join(cells)}</div>' if cells else ""


def curves(rows: Sequence[Mapping[str, float]], along: str) -> str:
    """Every column of rows as a small line over another column, with its first and last value.

    Examples
    --------
    >>> "loss 0.9 to 0.4" in curves([{"step": 1, "loss": 0.9}, {"step": 2, "loss": 0.4}], "step")
    True
    """
    names = dict.fromkeys(name for row in rows for name in row if name != along)
    cells = []
    for name in names:
        points = [(row[along], row[name]) for row in rows if along in row and name in row]
        if len(points) < 2:
            continue
        x, y = np.array(points, dtype=float).T
        across = 8 + 164 * (x - x.min()) / max(float(np.ptp(x)), 1e-12)
        down = 52 - 44 * (y - y.min()) / max(float(np.ptp(y)), 1e-12)
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
        text = escape(f"{name.replace('_', ' ')} {y[0]:.3g} to {y[-1]:.3g}")
        cells.append(
            f'<figure><svg role="img" aria-label="{text}" width="180" height="60" viewBox="0 0 180 60">'
            f'<polyline points="{line}" fill="none" stroke="var(--ss-blue)" stroke-width="1.5"/></svg>'
            f"<figcaption>{text}</figcaption></figure>"
        )
    return f'<div class="pictures">{"".join(cells)}</div>' if cells else ""


def png(content: bytes, text: str) -> str:
    """A PNG file as a picture that says what it shows."""
    return f'<img src="data:image/png;base64,{base64.b64encode(content).decode()}" alt="{escape(text)}">'


def picture_uri(picture: Array) -> str:
    """A picture as a data URI, without loss: noise can be the very thing to see."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
