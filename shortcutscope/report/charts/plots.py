"""What a result draws of itself: costs of an audit, depth curves of a finding, metrics of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.compare.amplification import AmplificationRecord
from shortcutscope.compare.result import ComparisonRecord
from shortcutscope.errors import InputError
from shortcutscope.report import wording
from shortcutscope.report.charts.axes import figure_of, own_axes
from shortcutscope.report.circuit import BLUE, FONT_SIZE, INK, MUTED, VERMILION
from shortcutscope.report.comparison import METRICS
from shortcutscope.report.run_files import interval, mapping, number


def draw_costs(findings: Sequence[FindingRecord], ax: Axes | None = None) -> Figure:
    """A row a finding: AUROC where the concept agrees with the label (dot) and where it does not (square).

    Parameters
    ----------
    findings
        In this order, from the top.
    ax
        Where to draw; by default on a figure of its own.

    Raises
    ------
    InputError
        When there is no finding.
    """
    if not findings:
        raise InputError("there is no finding to draw")
    ax = own_axes(ax, 7.2, 1.0 + 0.34 * len(findings))
    for row, finding in enumerate(findings):
        effect, cost = mapping(finding.effect), finding.verdict == "shortcut"
        colour = VERMILION if cost else BLUE
        ends = []
        for key, marker in (("aligned_auroc", "o"), ("robust_auroc", "s")):
            value = number(mapping(effect.get(key)).get("value"))
            if value is None:
                continue
            ends.append(value)
            low_high = interval(mapping(effect.get(key)).get("interval"))
            if low_high is not None:
                ax.plot(low_high, [row, row], color=colour, lw=1.0, alpha=0.5)
            ax.plot([value], [row], marker, color=colour, ms=6, mfc=colour if marker == "o" else "white")
        if len(ends) == 2:
            ax.plot(ends, [row, row], color=colour, lw=2.4 if cost else 1.2, alpha=0.6, zorder=1)
    names = [f"{f.title}\n{wording.VERDICTS[f.verdict][1].lower()}" for f in findings]
    ax.set_yticks(range(len(findings)), names, fontsize=FONT_SIZE, parse_math=False)
    ax.set_ylim(len(findings) - 0.4, -0.6)
    text = "AUROC: dot where the concept agrees with the label, square where it disagrees"
    _finish(ax, text)
    return figure_of(ax)


def draw_depth(profile: pd.DataFrame, name: str, ax: Axes | None = None) -> Figure:
    """How well a concept is read at each layer (AUROC), and how far taking it out moves the output (U).

    Parameters
    ----------
    profile
        Of an audit.
    name
        Of the concept.
    ax
        Where to draw; by default on a figure of its own.

    Raises
    ------
    InputError
        When nothing was measured of it.
    """
    rows = profile[profile["concept"].astype(str) == name]
    if rows.empty or rows["auroc"].isna().all():
        raise InputError(f"nothing was measured of {name!r} at any layer: there is nothing to draw")
    rows = rows.sort_values("depth", kind="stable") if "depth" in rows else rows
    ax = own_axes(ax, 1.8 + 0.42 * len(rows), 3.0)
    place = np.arange(len(rows))
    for key, colour, text, marker in (
        ("auroc", BLUE, "encoded (AUROC)", "o"),
        ("use", VERMILION, "used (U)", "s"),
    ):
        if key not in rows or rows[key].isna().all():
            continue
        ax.plot(place, rows[key], marker=marker, ms=4, lw=1.3, color=colour, label=text)
        if {f"{key}_low", f"{key}_high"} <= set(rows):
            ends = (rows[f"{key}_low"].astype(float), rows[f"{key}_high"].astype(float))
            ax.fill_between(place, *ends, color=colour, alpha=0.15, lw=0)
    ax.axhline(0.5, color=MUTED, lw=0.6, ls="--")
    ax.set_xticks(place, rows["layer"].astype(str), rotation=45, ha="right", fontsize=FONT_SIZE)
    ax.set_title(name, fontsize=FONT_SIZE + 1, loc="left", parse_math=False)
    ax.legend(fontsize=FONT_SIZE, frameon=False)
    _finish(ax, "")
    return figure_of(ax)


def draw_metric(
    comparison: ComparisonRecord, metric: str, table: str | None = None, ax: Axes | None = None
) -> Figure:
    """A metric of every network with its 95 % interval; the broken line is the network before.

    Parameters
    ----------
    comparison
        Of networks.
    metric
        Such as ``"balanced_auroc"``.
    table
        Samples that it was measured on; by default the main ones.
    ax
        Where to draw; by default on a figure of its own.

    Raises
    ------
    InputError
        For a metric or samples that were not measured: it names those that were.
    """
    frame = comparison.frame
    whole = frame[frame["detail"].isna() | frame["detail"].eq("")]
    whole = whole[whole["value"].notna()]
    table = table or str(comparison.settings.get("main") or comparison.tables[0]["name"])
    own = whole[whole["metric"].eq(metric) & whole["table"].eq(table)]
    if own.empty:
        there = wording.listed(
            sorted({f"{m} on {t}" for m, t in zip(whole["metric"], whole["table"], strict=True)})
        )
        raise InputError(f"{metric!r} was not measured on {table!r}; measured were {there or 'none'}")
    names = [
        str(network["name"]) for network in comparison.networks if (own["network"] == network["name"]).any()
    ]
    ax = own_axes(ax, 6.0, 0.9 + 0.32 * len(names))
    for place, name in enumerate(names):
        row = own[own["network"].eq(name)].iloc[0]
        colour = INK if place == 0 else VERMILION if row["better"] is False else BLUE
        ax.plot([row["low"], row["high"]], [place, place], color=colour, lw=1.2)
        ax.plot([row["value"]], [place], "s" if place == 0 else "o", color=colour, ms=6)
    ax.axvline(float(own[own["network"].eq(names[0])]["value"].iloc[0]), color=MUTED, lw=0.8, ls="--")
    ax.set_yticks(range(len(names)), names, fontsize=FONT_SIZE, parse_math=False)
    ax.set_ylim(len(names) - 0.4, -0.6)
    label, hint = METRICS.get(metric, (metric, ""))
    _finish(ax, f"{label} on {table}" + (f": {hint}" if hint else ""))
    return figure_of(ax)


def draw_amplification(curve: AmplificationRecord, ax: Axes | None = None) -> Figure:
    """Accuracy against and with the label over the correlation of the training data, with 95 % intervals.

    Parameters
    ----------
    curve
        Of networks that were trained at each.
    ax
        Where to draw; by default on a figure of its own.
    """
    ax = own_axes(ax, 5.6, 3.4)
    lines = (
        ("aligned_accuracy", MUTED, "s", f"{curve.concept} agrees with the label"),
        ("conflicting_accuracy", BLUE, "o", f"{curve.concept} goes against the label"),
    )
    for metric, colour, marker, label in lines:
        own = curve.frame[curve.frame["metric"].eq(metric)].sort_values("correlation")
        x, y = 100 * own["correlation"].to_numpy(), own["value"].to_numpy()
        ax.fill_between(x, own["low"].to_numpy(), own["high"].to_numpy(), color=colour, alpha=0.15, lw=0)
        ax.plot(x, y, marker, ls="-", color=colour, ms=5, lw=1.4, label=label)
    ax.set_ylim(-0.02, 1.02)
    ax.set_ylabel("accuracy, mean over classes", fontsize=FONT_SIZE)
    legend = ax.legend(fontsize=FONT_SIZE, frameon=False, loc="lower left")
    for text in legend.get_texts():
        text.set_parse_math(False)
    _finish(ax, f"training samples in which {curve.concept} agrees with the label (%)")
    return figure_of(ax)


def _finish(ax: Axes, text: str) -> None:
    ax.set_xlabel(text, fontsize=FONT_SIZE, parse_math=False)
    ax.tick_params(labelsize=FONT_SIZE)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="#00000018", lw=0.6)
