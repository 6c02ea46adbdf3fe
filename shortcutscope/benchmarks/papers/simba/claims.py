"""What the papers of the protocol `simba` claim, beside what was measured, and the figure of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shortcutscope.benchmarks.figures.dots import COLOURS, FONT_SIZE, MARKS
from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.papers.protocol import Claim
from shortcutscope.benchmarks.papers.simba.networks import METHODS, REMEDIES
from shortcutscope.benchmarks.runner import Case

__all__ = ["claims", "draw"]

#: Disparity that the authors see in networks trained without a bias.
BASELINE = 0.05
Interval = dict[str, float | None]
Cohort = tuple[Any, ...]


def claims(cases: Sequence[Case]) -> list[Claim]:
    """The claims of both papers: 2024 is JAMIA's, 2025 eBioMedicine's."""
    single = [case for case in cases if case["bias"] != "both"]
    return [
        _disparity(single),
        _baseline(single),
        _reweighing(single),
        _most_successful(single),
        _everywhere(single),
        _not_used(single),
        _intensity(cases),
    ]


def _disparity(cases: Sequence[Case]) -> Claim:
    more = _differences(cases, "erm", "no bias")
    return Claim(
        "a bias in the training data sets the groups apart",
        "the biases resulted in expected disparities (2024, abstract); figures not found",
        f"gap {_text(_mean(cases, 'erm'))}, {_text(more)} more than without bias",
        _positive(more),
    )


def _baseline(cases: Sequence[Case]) -> Claim:
    gap = _mean(cases, "no bias")
    return Claim(
        "without bias in the training data the groups are hardly apart",
        "rates differ by less than .05 (README of the authors' code)",
        f"gap {_text(gap)}",
        None if gap["mean"] is None else gap["mean"] < BASELINE,
    )


def _reweighing(cases: Sequence[Case]) -> Claim:
    less = _differences(cases, "erm", "reweighing")
    return Claim(
        "reweighing brings the groups together",
        "the most successful strategy (2024, abstract); figures not found",
        f"gap {_text(_mean(cases, 'reweighing'))}, {_text(less)} less than without a remedy; beyond the "
        f"baseline's rates {_text(_beyond(cases, 'reweighing'))} against {_text(_beyond(cases, 'erm'))}",
        _positive(less),
    )


def _most_successful(cases: Sequence[Case]) -> Claim:
    full = {w for w in _cohorts(cases) if all(_of(cases, name, w) for name in REMEDIES)}
    members = [case for case in cases if _cohort(case) in full]
    means = {name: _mean(members, name) for name in ("erm", *REMEDIES, "reversal")}
    gaps = {name: mean["mean"] for name, mean in means.items() if mean["mean"] is not None}
    best = min((name for name in REMEDIES if name in gaps), key=lambda name: gaps[name], default=None)
    return Claim(
        "of reweighing, unlearning and group models, reweighing leaves the smallest gap",
        "the most successful of three strategies (2024, abstract); figures not found",
        ", ".join(f"{name} {_text(means[name])}" for name in gaps) or "-",
        None if best is None else best == "reweighing",
    )


def _everywhere(cases: Sequence[Case]) -> Claim:
    networks = [case for case in cases if case["method"] == "erm" and case.get("layers")]
    all_layers = [
        all(a > c for a, c in zip(case["availability"], case["chance"], strict=True)) for case in networks
    ]
    lowest = mean_with_interval([min(case["availability"]) for case in networks])
    return Claim(
        "the bias is encoded throughout the network",
        "encoded throughout the model (2025, abstract); figures not found",
        f"at every layer above 95 % of permutations in {sum(all_layers)} of {len(networks)} networks; AUROC "
        f"at the layer that has least {_text(lowest)}"
        if networks
        else "-",
        all(all_layers) if networks else None,
    )


def _not_used(cases: Sequence[Case]) -> Claim:
    networks = [case for case in cases if case["method"] == "reweighing" and case.get("layers")]
    plain = [case for case in cases if case["method"] == "erm" and case.get("layers")]
    unused = [bool(case["encoded"]) and not case["used"] for case in networks]
    available, before = (
        mean_with_interval([float(np.mean(case["availability"])) for case in some])
        for some in (networks, plain)
    )
    flips, flips_before = (
        mean_with_interval([case.get("flips") for case in some]) for some in (networks, plain)
    )
    return Claim(
        "a strong encoding need not mean that the network uses the bias",
        "a stronger encoding did not necessarily lead to a shortcut (2025, abstract); figures not found",
        f"encoded and not used in {sum(unused)} of {len(networks)} reweighed networks: mean AUROC over "
        f"layers {_text(available)} against {_text(before)} without a remedy, flips {_text(flips)} against "
        f"{_text(flips_before)}"
        if networks
        else "-",
        sum(unused) > len(networks) / 2 if networks else None,
    )


def _intensity(cases: Sequence[Case]) -> Claim:
    members = [case for case in cases if case["bias"] == "both" and case["method"] == "erm"]
    more = mean_with_interval([case["gap_intensity"] - case["gap"] for case in members])
    intensity, morphology = (
        mean_with_interval([case[name] for case in members]) for name in ("gap_intensity", "gap")
    )
    return Claim(
        "of two biases at once, intensity influences the network more than morphology",
        "a greater influence on shortcut learning (2025, abstract); figures not found",
        f"gap by intensity {_text(intensity)}, by morphology {_text(morphology)}; {_text(more)} more"
        if members
        else "needs worlds with two biases",
        _positive(more),
    )


def _positive(difference: Interval) -> bool | None:
    """Whether an interval lies above 0; of a single cohort, its mean."""
    if difference["mean"] is None:
        return None
    low = difference["mean"] if difference["low"] is None else difference["low"]
    return low > 0


def _cohort(case: Case) -> Cohort:
    return case["bias"], case["dims"], case["seed"]


def _cohorts(cases: Sequence[Case]) -> list[Cohort]:
    return list(dict.fromkeys(_cohort(case) for case in cases))


def _of(cases: Sequence[Case], method: str, cohort: Cohort) -> list[Case]:
    return [case for case in cases if case["method"] == method and _cohort(case) == cohort]


def _mean(cases: Sequence[Case], method: str, measure: str = "gap") -> Interval:
    return mean_with_interval([case.get(measure) for case in cases if case["method"] == method])


def _differences(cases: Sequence[Case], one: str, other: str) -> Interval:
    """Mean over cohorts of the difference in gap of two methods in the same cohort."""
    pairs = [(_of(cases, one, cohort), _of(cases, other, cohort)) for cohort in _cohorts(cases)]
    return mean_with_interval([a[0]["gap"] - b[0]["gap"] for a, b in pairs if a and b])


def _beyond(cases: Sequence[Case], method: str) -> Interval:
    """Gap with the rates counted from those of the network trained without the bias, in the same cohort.

    The groups are small, so that even without a bias they are apart by chance; the same heads are so in both.
    """
    gaps = []
    for cohort in _cohorts(cases):
        for case, base in zip(_of(cases, method, cohort), _of(cases, "no bias", cohort), strict=False):
            gaps.append(float(np.mean([abs(case[d] - base[d]) for d in ("delta_tpr", "delta_fpr")])))
    return mean_with_interval(gaps)


def _text(figure: Interval) -> str:
    mean, low, high = figure["mean"], figure["low"], figure["high"]
    if mean is None:
        return "-"
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def draw(cases: Sequence[Case]) -> Figure:
    """Gap and flips by method, and where the bias is encoded and used, by layer."""
    single = [case for case in cases if case["bias"] != "both"]
    plot = Figure(figsize=(11, 3.6), layout="constrained")
    gap, flips, encoded, used = plot.subplots(1, 4, width_ratios=(1.25, 1, 1, 1))
    _by_method(gap, single, "gap", "Groups apart", "mean of |ΔTPR| and |ΔFPR|")
    _by_method(flips, single, "flips", "Flipped by the bias alone", "share of test heads")
    flips.set_yticklabels([])
    _legend(plot, gap, "outside lower left")
    cohort = _first_cohort(single)
    suffix = "" if cohort is None else f", {_named(cohort)}"
    members = [case for case in single if (case["bias"], case["dims"]) == cohort]
    _by_layer(encoded, members, lambda case: case["availability"], f"Encoded{suffix}", "AUROC within class")
    _by_layer(used, members, lambda case: case["use"], f"Used{suffix}", "SD of the logit")
    encoded.axhline(0.5, color="0.5", linewidth=0.8, linestyle=":")
    used.axhline(0, color="0.5", linewidth=0.8, linestyle=":")
    _legend(plot, encoded, "outside lower right")
    for ax in plot.axes:
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=FONT_SIZE, length=0)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    return plot


def _kinds(cases: Sequence[Case]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((case["bias"], case["dims"]) for case in cases))


def _named(kind: tuple[str, int]) -> str:
    return f"{kind[0]} {kind[1]}-D"


def _first_cohort(cases: Sequence[Case]) -> tuple[str, int] | None:
    """The first kind of cohort whose layers were measured."""
    return next(iter(_kinds([case for case in cases if case.get("layers")])), None)


def _by_method(ax: Axes, cases: Sequence[Case], measure: str, title: str, xlabel: str) -> None:
    rows = [name for name in METHODS if any(case["method"] == name for case in cases)]
    for k, kind in enumerate(_kinds(cases)):
        members = [case for case in cases if (case["bias"], case["dims"]) == kind]
        label: str | None = _named(kind)
        for row, name in enumerate(rows):
            interval = _mean(members, name, measure)
            if interval["mean"] is None:
                continue
            y = row + 0.15 * (k - (len(_kinds(cases)) - 1) / 2)
            colour, mark = COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)]
            ax.plot(interval["mean"], y, mark, color=colour, markersize=4.5, label=label)
            label = None
            if interval["low"] is not None and interval["high"] is not None:
                ax.plot((max(0, interval["low"]), interval["high"]), (y, y), color=colour, linewidth=0.9)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.grid(axis="x", color="0.9", linewidth=0.6)
    _titled(ax, title)
    ax.set_xlabel(xlabel, fontsize=FONT_SIZE)


def _by_layer(
    ax: Axes, cases: Sequence[Case], values: Callable[[Case], list[float]], title: str, ylabel: str
) -> None:
    """A mean over seeds for each layer, input first."""
    layers: list[str] = []
    for k, name in enumerate(METHODS):
        members = [case for case in cases if case["method"] == name and case.get("layers")]
        if not members:
            continue
        layers = members[0]["layers"]
        means = np.mean([values(case) for case in members], axis=0)
        ax.plot(means, color=COLOURS[k], marker=MARKS[k], markersize=4, linewidth=1.2, label=name)
    ax.set_xticks(range(len(layers)), layers, rotation=45)
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    _titled(ax, title)
    ax.set_ylabel(ylabel, fontsize=FONT_SIZE)


def _legend(figure: Figure, ax: Axes, place: Literal["outside lower left", "outside lower right"]) -> None:
    figure.legend(*ax.get_legend_handles_labels(), loc=place, fontsize=FONT_SIZE, ncols=5, frameon=False)


def _titled(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=FONT_SIZE + 1, loc="left")
