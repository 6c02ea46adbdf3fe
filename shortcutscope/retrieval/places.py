"""Where in an image something was marked: boxes in the pixels of its file, or clicks, boxes of no size.

Edges count from the upper left corner of the first pixel, so that a box from 0 to 1 is that pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from shortcutscope.errors import InputError

#: Left, top, right and bottom edge.
EDGES = ("x0", "y0", "x1", "y1")
#: Of a click, which may stand in their place.
POINT = ("x", "y")
COLUMNS = ("sample_id", *EDGES)
#: How far beyond the image an edge may lie, in pixels.
ROUNDED = 0.5


def no_places() -> pd.DataFrame:
    """A table of places without a row."""
    return pd.DataFrame(
        {"sample_id": pd.Series(dtype=str), **{name: pd.Series(dtype=float) for name in EDGES}}
    )


def has_places(frame: pd.DataFrame) -> bool:
    """Whether a table of marks has columns of boxes or of clicks.

    Raises
    ------
    InputError
        For some of the columns of boxes without the others.
    """
    present = [name for name in EDGES if name in frame]
    if present and len(present) < len(EDGES):
        missing = [name for name in EDGES if name not in frame]
        raise InputError(f"boxes need the columns {', '.join(EDGES)}; missing: {', '.join(missing)}")
    return bool(present) or all(name in frame for name in POINT)


def read_places(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that have a box or a click.

    Parameters
    ----------
    frame
        Columns sample_id, and x0, y0, x1, y1 (boxes) or x, y (clicks); rows without numbers have none.

    Raises
    ------
    InputError
        For words, half a box, or one whose right or lower edge does not lie beyond the other.
    """
    from_columns = EDGES if all(name in frame for name in EDGES) else (*POINT, *POINT)
    edges = pd.DataFrame(
        {edge: _numbers(frame, column) for edge, column in zip(EDGES, from_columns, strict=True)}
    )
    ids = frame["sample_id"].astype(str).reset_index(drop=True)
    edges = edges.reset_index(drop=True)
    half = edges.isna().any(axis=1) & edges.notna().any(axis=1)
    if half.any():
        raise InputError(
            f"a box of sample {ids[half].iloc[0]!r} has an empty edge; give all of {', '.join(EDGES)}, or "
            "none"
        )
    places = edges.assign(sample_id=ids)[list(COLUMNS)].dropna().reset_index(drop=True)
    for name, (x0, y0, x1, y1) in named_boxes(places):
        if not is_click((x0, y0, x1, y1)) and not (x1 > x0 and y1 > y0):
            raise InputError(
                f"the box of sample {name!r} goes from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}); x1 must lie "
                "right of x0 and y1 below y0. Where a tool gives width and height, add them to x0 and y0"
            )
    return places


def refuse_outside(places: pd.DataFrame, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Refuse boxes that reach beyond their image.

    Parameters
    ----------
    places
        Boxes and clicks.
    sizes
        Sample id to the height and width of its file in pixels.
    """
    for name, (x0, y0, x1, y1) in named_boxes(places):
        high, wide = sizes[name]
        # An edge on the last pixel's own border, or rounded beyond it by a tool, is inside.
        if min(x0, y0) < -ROUNDED or x1 > wide + ROUNDED or y1 > high + ROUNDED:
            raise InputError(
                f"the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) of sample {name!r} lies outside its image of "
                f"{wide} x {high} pixels. Boxes go by the pixels of the file; where they were drawn on a "
                "smaller or larger copy, multiply them by the ratio of the sizes"
            )


def boxes_of(places: pd.DataFrame, sample_ids: Sequence[str]) -> dict[int, list[tuple[float, ...]]]:
    """Number of the sample among `sample_ids` to its boxes and clicks."""
    position = {str(name): row for row, name in enumerate(sample_ids)}
    boxes: dict[int, list[tuple[float, ...]]] = {}
    for name, box in named_boxes(places):
        boxes.setdefault(position[name], []).append(box)
    return boxes


def named_boxes(places: pd.DataFrame) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Sample id and edges of each row."""
    edges = places[list(EDGES)].to_numpy(np.float64)
    names = places["sample_id"].astype(str)
    return [(name, (row[0], row[1], row[2], row[3])) for name, row in zip(names, edges.tolist(), strict=True)]


def is_click(box: Sequence[float]) -> bool:
    """Whether a place is a point."""
    return box[0] == box[2] and box[1] == box[3]


def _numbers(frame: pd.DataFrame, column: str) -> pd.Series[float]:
    texts = frame[column].replace("", np.nan)
    numbers = pd.to_numeric(texts, errors="coerce").astype(float)
    wrong = texts.notna() & ~np.isfinite(numbers)
    if wrong.any():
        raise InputError(
            f"column {column} of the boxes holds {texts[wrong].iloc[0]!r}; it must be a number of pixels"
        )
    return numbers
