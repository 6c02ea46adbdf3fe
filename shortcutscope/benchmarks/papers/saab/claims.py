"""What the paper of the protocol `saab` claims, beside what was measured, and the figure of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from textwrap import fill
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from shortcutscope.benchmarks.figures.dots import COLOURS, FONT_SIZE, MARKS
from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.papers.protocol import NOT_FOUND, Claim
from shortcutscope.benchmarks.runner import Case

SUPERVISIONS = ("binary", "box", "segmentation")
#: Above this a robust AUROC is not near that of chance; the smallest gap that counts.
CHANCE, GAP = 0.6, 0.25
MEASURES = {
    "variance": "variance of what is called positive",
    "information": "mutual information with the spurious pixels",
}
Key = tuple[Any, ...]
Corner = Literal["lower left", "lower right"]


def claims(cases: Sequence[Case]) -> list[Claim]:
    """The claims of the paper; the chest radiographs' figures are those of its abstract."""
    first, *others = _cohorts(cases)
    members = [case for case in cases if _cohort(case) == first]
    return [
        _order(members, _named(first), "robust AUROC .46 < .72 < .82, pneumothorax (abstract)"),
        _gap(members, _named(first)),
        _unreliable(members, _named(first)),
        *(_order([c for c in cases if _cohort(c) == cohort], _named(cohort), NOT_FOUND) for cohort in others),
        _more_masks(members),
        _few_masks(members),
        _pseudo(members),
        Claim("contrastive learning lets fewer masks do", NOT_FOUND, "its recipe was not found", None),
        *(_falls(cases, name) for name in MEASURES),
        *(_predicts(cases, name) for name in MEASURES),
        _unet(members),
    ]


def _order(cases: Sequence[Case], where: str, published: str) -> Claim:
    """Boxes are left out of the order where they were not run."""
    figures = {name: _figure(cases, supervision=name) for name in SUPERVISIONS}
    means = {name: figure["mean"] for name, figure in figures.items() if figure["mean"] is not None}
    both_ends = {"binary", "segmentation"} <= set(means)
    return Claim(
        f"{' < '.join(means if both_ends else SUPERVISIONS)} ({where})",
        published,
        ", ".join(f"{name} {_text(figures[name])}" for name in means) or "-",
        _rising(list(means.values())) if both_ends else None,
    )


def _gap(cases: Sequence[Case], where: str) -> Claim:
    gaps = _differences(cases, {"supervision": "segmentation"}, {"supervision": "binary"})
    pooled = _differences(cases, {"supervision": "segmentation"}, {"supervision": "classifier"})
    mean = gaps["mean"]
    return Claim(
        f"masks gain at least {GAP:.2f} over image labels ({where})",
        ".82 - .46 = .36 (abstract)",
        f"{_text(gaps)} over labels at every pixel, {_text(pooled)} over a pooled classifier",
        None if mean is None else mean >= GAP,
    )


def _unreliable(cases: Sequence[Case], where: str) -> Claim:
    binary = _figure(cases, supervision="binary")
    pooled = _figure(cases, supervision="classifier")
    mean = binary["mean"]
    return Claim(
        f"with image labels the robust AUROC is near chance or below ({where})",
        ".46, pneumothorax (abstract)",
        f"{_text(binary)}; pooled classifier {_text(pooled)}",
        None if mean is None else mean <= CHANCE,
    )


def _more_masks(cases: Sequence[Case]) -> Claim:
    curve = _curve(cases, "leave")
    means = [figure["mean"] for _, figure in curve]
    return Claim(
        "the robust AUROC rises with the number of masks",
        NOT_FOUND,
        "; ".join(f"{number}: {_text(figure)}" for number, figure in curve) or "-",
        _rising(means) if len(means) > 1 else None,
    )


def _few_masks(cases: Sequence[Case]) -> Claim:
    numbers = [number for number, _ in _curve(cases, "leave") if number != "all"]
    gains = {
        number: _differences(
            cases,
            {"supervision": "segmentation", "masks": number, "unmasked": "leave"},
            {"supervision": "binary"},
        )
        for number in numbers
    }
    enough = [n for n in numbers if gains[n]["mean"] is not None and gains[n]["mean"] > 0]  # type: ignore[operator]
    return Claim(
        "a part of the masks gains over all image labels",
        NOT_FOUND,
        "; ".join(f"{number}: {_text(gain)}" for number, gain in gains.items()) or "-",
        bool(enough) if numbers else None,
    )


def _pseudo(cases: Sequence[Case]) -> Claim:
    numbers = [number for number, _ in _curve(cases, "pseudo") if number != "all"]
    gains = {
        number: _differences(
            cases,
            {"supervision": "segmentation", "masks": number, "unmasked": "pseudo"},
            {"supervision": "segmentation", "masks": number, "unmasked": "leave"},
        )
        for number in numbers
    }
    means = [gain["mean"] for gain in gains.values() if gain["mean"] is not None]
    return Claim(
        "semi-supervised: pseudo-labels for samples without a mask raise the robust AUROC",
        NOT_FOUND,
        "; ".join(f"{number}: {_text(gain)}" for number, gain in gains.items()) or "-",
        all(mean > 0 for mean in means) if means else None,
    )


def _falls(cases: Sequence[Case], measure: str) -> Claim:
    """Whether a measure falls from binary over box to segmentation, in every cohort."""
    texts, falls = [], []
    for cohort in _cohorts(cases):
        members = [case for case in cases if _cohort(case) == cohort]
        figures = [_figure(members, measure, supervision=name)["mean"] for name in SUPERVISIONS]
        means = [mean for mean in figures if mean is not None]
        if len(means) < 2:
            continue
        texts.append(f"{_named(cohort)} {', '.join(f'{mean:.3f}' for mean in means)}")
        falls.append(_rising(means[::-1]))
    return Claim(
        f"more specific supervision lowers the {MEASURES[measure]}",
        "it decreases (abstract); the estimator was not found",
        "; ".join(texts) or "-",
        all(falls) if falls else None,
    )


def _predicts(cases: Sequence[Case], measure: str) -> Claim:
    """Whether a lower measure goes with a higher robust AUROC: over supervisions, and gains over cohorts."""
    points, gains = _points(cases, measure), _gains(cases, measure)
    everywhere = _rank_correlation([(x, y) for x, y, _ in points])
    across = _rank_correlation(gains)
    text = "-"
    if everywhere is not None:
        text = f"rank correlation {everywhere:+.2f} over {len(points)} pairs of world and supervision"
    if across is not None:
        text += f"; of its fall with the gain over {len(gains)} worlds {across:+.2f}"
    return Claim(
        f"a lower {MEASURES[measure]} goes with robustness",
        "both contribute (abstract); figures not found",
        text,
        None if everywhere is None else everywhere < 0,
    )


def _rank_correlation(points: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's; None of fewer than three points, or where one side is constant."""
    if len(points) < 3 or min(np.ptp(points, axis=0)) < 1e-9:
        return None
    return float(spearmanr(points).statistic)


def _unet(cases: Sequence[Case]) -> Claim:
    unet = [case for case in cases if case["architecture"] == "unet"]
    if not unet:
        return Claim("the order on a U-Net", NOT_FOUND, "run with --full", None)
    as_fpn = [{**case, "architecture": "fpn"} for case in unet]
    claim = _order(as_fpn, "U-Net", ".46 < .72 < .82, the paper's own architecture (abstract)")
    return Claim("the order on a U-Net", claim.published, claim.here, claim.holds)


def _points(cases: Sequence[Case], measure: str) -> list[tuple[float, float, str]]:
    """Measure, robust AUROC and supervision, means over seeds, of every cohort."""
    points = []
    for cohort in _cohorts(cases):
        members = [case for case in cases if _cohort(case) == cohort]
        for name in SUPERVISIONS:
            x, y = (_figure(members, m, supervision=name)["mean"] for m in (measure, "robust_auroc"))
            if x is not None and y is not None:
                points.append((x, y, name))
    return points


def _gains(cases: Sequence[Case], measure: str) -> list[tuple[float, float]]:
    """Fall of a measure from binary to segmentation and gain of robust AUROC; a mean over seeds a cohort."""
    gains = []
    for cohort in _cohorts(cases):
        members = [case for case in cases if _cohort(case) == cohort]
        x, y = (
            _differences(members, {"supervision": "segmentation"}, {"supervision": "binary"}, metric)["mean"]
            for metric in (measure, "robust_auroc")
        )
        if x is not None and y is not None:
            gains.append((-x, y))
    return gains


def _cohort(case: Case) -> Key:
    return case["place"], case["kind"]


def _cohorts(cases: Sequence[Case]) -> list[Key]:
    return list(dict.fromkeys(_cohort(case) for case in cases))


def _named(cohort: Key) -> str:
    place, kind = cohort
    return f"{kind}, lesions {place}"


def _picked(cases: Sequence[Case], **values: Any) -> list[Case]:
    """Cases with these values; by default with all masks, on the thin network."""
    values = {"masks": "all", "unmasked": "leave", "architecture": "fpn"} | values
    return [case for case in cases if all(case[key] == value for key, value in values.items())]


def _figure(cases: Sequence[Case], metric: str = "robust_auroc", **wanted: Any) -> dict[str, float | None]:
    return mean_with_interval([case.get(metric) for case in _picked(cases, **wanted)])


def _differences(
    cases: Sequence[Case], one: Case, other: Case, metric: str = "robust_auroc"
) -> dict[str, float | None]:
    """Mean over seeds of the difference of two networks of the same seed."""
    first, second = ({c["seed"]: c.get(metric) for c in _picked(cases, **values)} for values in (one, other))
    pairs = [(first[seed], second[seed]) for seed in first if seed in second]
    return mean_with_interval([a - b for a, b in pairs if a is not None and b is not None])


def _curve(cases: Sequence[Case], unmasked: str) -> list[tuple[Any, dict[str, float | None]]]:
    """Number of masks and robust AUROC, from few to all; all masks leave none out."""
    numbers = {case["masks"] for case in cases if case["unmasked"] == unmasked and case["masks"] != "all"}
    curve = [
        (n, _figure(cases, supervision="segmentation", masks=n, unmasked=unmasked)) for n in sorted(numbers)
    ]
    full = _figure(cases, supervision="segmentation")
    return [*curve, ("all", full)] if curve and full["mean"] is not None else curve


def _rising(values: Sequence[Any]) -> bool:
    return all(a < b for a, b in pairwise(values))


def _text(figure: dict[str, float | None]) -> str:
    mean, low, high = figure["mean"], figure["low"], figure["high"]
    if mean is None:
        return "-"
    return f"{mean:.2f}" if low is None or high is None else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def draw(cases: Sequence[Case]) -> Figure:
    """Robust AUROC by supervision, by number of masks, and beside the measures."""
    plot = Figure(figsize=(11, 3.4), layout="constrained")
    by_supervision, by_masks, by_variance, by_information = plot.subplots(1, 4)
    _draw_supervisions(by_supervision, cases)
    _draw_masks(by_masks, [case for case in cases if _cohort(case) == _cohorts(cases)[0]])
    for ax, measure in ((by_variance, "variance"), (by_information, "information")):
        _draw_measure(ax, cases, measure)
    for ax in plot.axes:
        ax.set_ylim(-0.02, 1.02)
        ax.axhline(0.5, color="0.5", linewidth=0.8, linestyle=":")
        ax.grid(axis="y", color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=FONT_SIZE, length=0)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    by_supervision.set_ylabel("robust AUROC", fontsize=FONT_SIZE)
    return plot


def _draw_supervisions(ax: Axes, cases: Sequence[Case]) -> None:
    for i, cohort in enumerate(_cohorts(cases)):
        members = [case for case in cases if _cohort(case) == cohort]
        figures = [_figure(members, supervision=name) for name in SUPERVISIONS]
        at = np.array([k for k, figure in enumerate(figures) if figure["mean"] is not None], float)
        _line(ax, at + 0.06 * i, [f for f in figures if f["mean"] is not None], i, _named(cohort))
    ax.set_xticks(range(len(SUPERVISIONS)), SUPERVISIONS)
    _finish(ax, "Supervision", "")


def _draw_masks(ax: Axes, cases: Sequence[Case]) -> None:
    numbers = [number for number, _ in _curve(cases, "leave")]
    labels: dict[str, str] = {"leave": "the rest left out", "pseudo": "pseudo-labels for the rest"}
    for i, (unmasked, label) in enumerate(labels.items()):
        curve = _curve(cases, unmasked)
        at = np.array([numbers.index(number) for number, _ in curve], float) + 0.06 * i
        _line(ax, at, [figure for _, figure in curve], i, label)
    binary = _figure(cases, supervision="binary")["mean"]
    if binary is not None and numbers:
        ax.axhline(binary, color=COLOURS[5], linewidth=1.2, linestyle="--", label="all image labels")
    ax.set_xticks(range(len(numbers)), [str(number) for number in numbers])
    _finish(ax, "Masks of positive samples", "")


def _draw_measure(ax: Axes, cases: Sequence[Case], measure: str) -> None:
    points = _points(cases, measure)
    for i, name in enumerate(SUPERVISIONS):
        series = [(x, y) for x, y, supervision in points if supervision == name]
        if series:
            ax.plot(*zip(*series, strict=True), MARKS[i], color=COLOURS[i], markersize=5, label=name)
    _finish(ax, "Measure of the data", fill(MEASURES[measure], 28), "lower left")


def _line(ax: Axes, x: Any, figures: Sequence[dict[str, float | None]], i: int, label: str) -> None:
    means = [np.nan if figure["mean"] is None else figure["mean"] for figure in figures]
    ax.plot(x, means, color=COLOURS[i], marker=MARKS[i], markersize=4, linewidth=1.2, label=label)
    for at, figure in zip(x, figures, strict=True):
        low, high = figure["low"], figure["high"]
        if low is not None and high is not None:
            ax.plot((at, at), (low, high), color=COLOURS[i], linewidth=0.9, alpha=0.7)


def _finish(ax: Axes, title: str, xlabel: str, legend: Corner = "lower right") -> None:
    ax.set_title(title, fontsize=FONT_SIZE + 1, loc="left")
    ax.set_xlabel(xlabel, fontsize=FONT_SIZE)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=FONT_SIZE - 1, frameon=False, loc=legend)
