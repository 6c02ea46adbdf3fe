"""A gallery of neurons: the samples that each is most active on or relevant for, and what it sees there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from shortcutscope.discover.receptive import Field
from shortcutscope.errors import InputError
from shortcutscope.types import Array

#: Inches of a picture's side, and of the column of titles.
SIDE, TITLES = 1.1, 1.7
#: Sample ids are cut to so many characters.
LONGEST = 16
OUTLINE = "#e66100"


def draw_neurons(galleries: Mapping[str, Sequence[Field]]) -> Figure:
    """Draw neurons beneath each other: a row of samples with the field outlined, and a row of fields.

    Parameters
    ----------
    galleries
        Title of a neuron -> what it sees of its samples, see
        :func:`shortcutscope.discover.receptive.crops`.

    Returns
    -------
    figure
        Not known to pyplot; ``figure.savefig(path)`` writes it, and a notebook shows it.

    Raises
    ------
    InputError
        There is no sample, or what the samples are is no picture.
    """
    columns = max((len(fields) for fields in galleries.values()), default=0)
    if not columns:
        raise InputError("no neuron with samples is given; there is nothing to draw")
    _require_pictures(galleries)
    rows = 2 * len(galleries)
    figure = Figure(figsize=(TITLES + SIDE * columns, 1.12 * SIDE * rows), layout="constrained")
    axes = figure.subplots(
        rows,
        columns + 1,
        squeeze=False,
        width_ratios=[TITLES / SIDE, *[1] * columns],
        gridspec_kw={"wspace": 0},
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for k, (title, fields) in enumerate(galleries.items()):
        above, below = axes[2 * k], axes[2 * k + 1]
        above[0].text(0, 0.5, title, va="center", fontsize=8, wrap=True)
        below[0].text(0, 0.5, "what it sees", va="center", fontsize=7, color="0.4")
        for i, field in enumerate(fields, start=1):
            _draw_sample(above[i], field)
            _draw_crop(below[i], field)
    return figure


def _draw_sample(ax: Axes, field: Field) -> None:
    (top, bottom), (left, right) = field.box
    ax.imshow(_picture(field.image, field.image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    outline = Rectangle(
        (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=OUTLINE, linewidth=1.2
    )
    ax.add_patch(outline)
    name = field.sample_id
    ax.set_title(
        name if len(name) <= LONGEST else f"…{name[-LONGEST + 1 :]}", fontsize=6, pad=2, parse_math=False
    )


def _draw_crop(ax: Axes, field: Field) -> None:
    ax.imshow(_picture(field.crop, field.image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _picture(part: Array, whole: Array) -> Array:
    """(H, W) or (H, W, 3) in 0 to 1, by the range of the whole image."""
    low, high = float(whole.min()), float(whole.max())
    scaled = np.clip((part - low) / (high - low if high > low else 1), 0, 1)
    return scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled.mean(0)


def _require_pictures(galleries: Mapping[str, Sequence[Field]]) -> None:
    for title, fields in galleries.items():
        for field in fields:
            if field.image.ndim != 3:
                raise InputError(
                    f"samples of shape {field.image.shape} of {title!r} are no pictures (channels, height, "
                    "width); draw a slice of a volume, or the signal itself, from the fields"
                )
