"""Figures of masks: images with the outline of their mask, and where and how large the masks are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import PercentFormatter

from shortcutscope.errors import InputError
from shortcutscope.report.charts.axes import ShownFigure
from shortcutscope.review.mask_pictures import MaskPicture, mask_pictures

if TYPE_CHECKING:
    from shortcutscope.data.table import ImageTable
    from shortcutscope.masks.maskset import MaskSet

#: Pictures unless samples are named, and rows of a figure at most.
COUNT, MAX_PICTURES = 24, 300
#: Inches of a picture's side, and of its caption.
INCHES, CAPTION = 1.3, 0.34
#: Signals are drawn larger by this factor.
SIGNAL_FACTOR = 2
#: Sample ids are cut to so many characters.
LONGEST = 18
#: Orange that is told from grey with any colour vision (Okabe and Ito, 2008).
COLOUR = "#e69f00"
FILL = 0.25


def draw_overlays(
    masks: MaskSet, table: ImageTable, samples: Sequence[str] | None = None, columns: int = 6
) -> Figure:
    """Draw images with the outline of their mask, all on one grey scale: the table's value range.

    Signals have no scale in common: see :func:`shortcutscope.data.pictures.trace_picture`.

    Parameters
    ----------
    masks
        Of images; of a volume the slice with most of the mask is drawn, of a signal the traces of its leads.
    table
        Their images, before the transform and in the shape of their files.
    samples
        Ids of those to draw, in that order. None draws 24 of the masks that are not empty and whose images
        the table has, evenly spaced from the most to the least confident: no selection of the best.
    columns
        Pictures in a row.

    Returns
    -------
    figure
        Not known to pyplot; ``figure.savefig(path)`` writes it, and a notebook shows it.

    Raises
    ------
    InputError
        When there is nothing to draw, or too much for one figure; for samples without a mask or image, and
        masks of another size than their image.

    Examples
    --------
    >>> ss.draw_overlays(masks, data).savefig("masks.png")  # doctest: +SKIP
    """
    if columns < 1:
        raise InputError(f"columns must be at least 1, not {columns}")
    names = _spread(masks, table) if samples is None else [str(name) for name in samples]
    if not 0 < len(names) <= MAX_PICTURES:
        raise InputError(f"{len(names)} masks are to be drawn; a figure holds 1 to {MAX_PICTURES}")
    rows, columns = -(-len(names) // columns), min(columns, len(names))
    signals = any(masks.entry(name).kind == "signal" for name in names)
    inches = INCHES * (SIGNAL_FACTOR if signals else 1)
    figure = ShownFigure(inches * columns + 0.7, (inches + CAPTION) * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    coloured = signals
    for ax, picture in zip(axes.flat, mask_pictures(masks, table, names), strict=False):
        _draw(ax, picture)
        coloured |= picture.picture.ndim == 3
    figure.suptitle(masks.name, fontsize=9, parse_math=False)
    if not coloured:
        bar = figure.colorbar(
            ScalarMappable(Normalize(*table.value_range), "gray"),
            ax=axes,
            shrink=max(0.2, 1 / rows),
            aspect=12,
            pad=0.01,
        )
        bar.ax.tick_params(labelsize=6)
        bar.set_label("value, in all images", fontsize=6)
    return figure


def draw_areas(masks: MaskSet, bins: int = 20) -> Figure:
    """Draw how large the masks are, and where in the image they lie.

    Parameters
    ----------
    masks
        Not all empty. Of volumes, the mean over the first axis is drawn.
    bins
        Of the histogram.

    Raises
    ------
    InputError
        When all masks are empty, or they differ in their number of axes.

    Examples
    --------
    >>> ss.draw_areas(ss.MaskSet.open("masks")).savefig("areas.png")
    """
    mean = masks.mean_mask()
    figure = ShownFigure(6.4, 2.7)
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    _draw_histogram(left, masks, bins)
    _draw_mean(right, masks, mean if mean.ndim == 2 else mean.mean(0))
    figure.suptitle(masks.name, fontsize=9, parse_math=False)
    return figure


def _spread(masks: MaskSet, table: ImageTable) -> list[str]:
    ids = set(table.frame["sample_id"].astype(str))
    entries = [entry for entry in masks.entries if not entry.empty and entry.sample_id in ids]
    entries.sort(key=lambda entry: -(entry.confidence or 0.0))
    places = np.linspace(0, len(entries) - 1, min(COUNT, len(entries))).round().astype(int)
    return [entries[k].sample_id for k in places]


def _draw(ax: Axes, picture: MaskPicture) -> None:
    height, width = picture.size
    ax.imshow(
        picture.picture,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(0, width, height, 0),
        interpolation="antialiased" if picture.entry.kind == "signal" else "nearest",
    )
    # A square for each, so that oblong images stand in line and captions have room.
    half = max(height, width) / 2
    ax.set(xlim=(width / 2 - half, width / 2 + half), ylim=(height / 2 + half, height / 2 - half))
    if picture.outline:
        closed = [np.vstack([points, points[:1]]) for points in picture.outline]
        path = Path.make_compound_path(*(Path(points, closed=True) for points in closed))
        halo = [Stroke(linewidth=2.2, foreground="black"), Normal()]
        ax.add_patch(PathPatch(path, facecolor=to_rgba(COLOUR, FILL), edgecolor="none"))
        ax.add_patch(PathPatch(path, fill=False, edgecolor=COLOUR, linewidth=1, path_effects=halo))
    name = picture.entry.sample_id
    name = name if len(name) <= LONGEST else f"…{name[-LONGEST + 1 :]}"
    ax.set_title("\n".join([name, *_lines(picture)]), fontsize=6, pad=2, parse_math=False)


def _lines(picture: MaskPicture) -> list[str]:
    answer = {True: ["accepted"], False: ["rejected"], None: []}[picture.entry.accepted]
    return [", ".join([*picture.words[:1], *answer]), ", ".join(picture.words[1:])]


def _draw_histogram(ax: Axes, masks: MaskSet, bins: int) -> None:
    counts, edges = masks.area_histogram(bins)
    areas = masks.areas()
    inside = areas[areas > 0]
    ax.stairs(counts, edges, fill=True, color="0.6")
    median = float(np.median(inside))
    ax.axvline(median, color=COLOUR, linewidth=1.5, label=f"median {median:.2%}")
    ax.set_xlim(0, None)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel("area of the image", fontsize=8)
    ax.set_ylabel("masks", fontsize=8)
    ax.set_title(f"{inside.size} masks, {areas.size - inside.size} more are empty", fontsize=8)
    ax.legend(fontsize=7, frameon=False)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_mean(ax: Axes, masks: MaskSet, mean: np.ndarray) -> None:
    """The mean in the frame that the image of median shape has."""
    drawn_masks = [entry for entry in masks.entries if not entry.empty]
    shapes = [1.0 if e.kind == "signal" else e.size[-2] / e.size[-1] for e in drawn_masks]
    image = ax.imshow(mean, cmap="cividis", vmin=0, extent=(0, 1, 1, 0), aspect=float(np.median(shapes)))
    ax.set_title("share of them that cover a place", fontsize=8)
    ax.set_xticks([])
    ax.set_yticks([])
    bar = ax.figure.colorbar(image, ax=ax, format=PercentFormatter(1.0, decimals=0))
    bar.ax.tick_params(labelsize=7)
