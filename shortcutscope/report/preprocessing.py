"""Ways to read the same images, by how well the network does in each."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shortcutscope.audit.preprocessing.check import PreprocessingCheck
from shortcutscope.audit.preprocessing.readings import AS_GIVEN
from shortcutscope.report import wording
from shortcutscope.report.charts.axes import figure_of, own_axes
from shortcutscope.report.circuit import BLUE, FONT_SIZE, INK, MUTED, VERMILION
from shortcutscope.report.run_files import mapping, number
from shortcutscope.types import JSON, Record


def draw_readings(check: PreprocessingCheck, *, ax: Axes | None = None) -> Figure:
    """Draw the AUROC of every reading, best first, and the interval of the given one as a band.

    Parameters
    ----------
    check
        As `shortcutscope.check_preprocessing` gives it.
    ax
        Where to draw; by default on a figure of its own.

    Examples
    --------
    >>> ss.draw_readings(ss.check_preprocessing(model, data)).savefig("readings.png")  # doctest: +SKIP
    """
    frame = check.readings
    ax = own_axes(ax, 7.0, 0.9 + 0.22 * len(frame))
    if all(map(math.isfinite, check.interval)):
        ax.axvspan(*check.interval, color=MUTED, alpha=0.15, lw=0)
    ax.axvline(check.auroc, color=MUTED, lw=0.8)
    if check.expected_auroc is not None:
        ax.axvline(check.expected_auroc, color=INK, lw=0.8, ls="--")
    colours = [
        INK if name == AS_GIVEN else VERMILION if better else BLUE
        for name, better in zip(frame["reading"], frame["better"], strict=True)
    ]
    ax.scatter(frame["auroc"], range(len(frame)), c=colours, s=18, zorder=3)
    ax.set_yticks(range(len(frame)), frame["reading"], fontsize=FONT_SIZE)
    ax.invert_yaxis()
    ax.set_xlabel(f"AUROC on {check.n_images} images; orange: better than as given", fontsize=FONT_SIZE)
    ax.tick_params(axis="x", labelsize=FONT_SIZE)
    ax.spines[["top", "right"]].set_visible(False)
    return figure_of(ax)


def summarize_preprocessing(run: JSON) -> Record:
    """What a report says of the check: ``note``, and ``rows``, best reading first; empty without one."""
    kept = mapping(run.get("preprocessing"))
    if not kept or kept.get("not_made"):
        why = str(kept.get("not_made") or "")
        note = f"Whether other readings of the images are better was not tried: {why}." if why else ""
        return {"note": note, "rows": []}
    note = (
        f"On {wording.count(kept.get('n_images'))} labelled images. A reading is called better where its "
        "gain is at least 0.02, and beyond chance for all readings at once or borne out by the batch norms, "
        "without such by the likelihood of the labels."
    )
    rows = [
        {
            "reading": str(row["reading"]),
            "better": bool(row["better"]),
            "auroc": wording.decimal(number(row["auroc"]), 3),
            "difference": wording.decimal(number(row["difference"]), 3),
            "norms": wording.decimal(number(row["norms"]), 3),
        }
        for row in kept.get("readings") or []
    ]
    return {"note": note, "rows": rows}
