"""Squares (arXiv 2604.04518): a benchmark of shortcut corrections that fits on two cores.

The class is how bright a square of 8 pixels is; in training it goes with how bright the background is.
`symmetric`: 16 of 800 training images go against the shortcut, eight of either class. `asymmetric`: one
class has both backgrounds alike, the other is dark in 8 of 400. Judged is the average accuracy of the four
groups of class and background, and the worst, on 1,600 test images in which all groups are alike. Every rival
is run with the published training and, where it trains, with the optimiser, augmentation and steps of this
package's rows: the published rows alone would flatter these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from shortcutscope.benchmarks.figures.dots import Dot, Panel, dots
from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.papers.protocol import Protocol
from shortcutscope.benchmarks.papers.squares.claims import RIVALS, claims
from shortcutscope.benchmarks.papers.squares.data import SHARES, Cohort, cohort
from shortcutscope.benchmarks.papers.squares.networks import GroupLabels, Networks, Schedule, by_group
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.errors import InputError
from shortcutscope.types import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PROTOCOL"]

#: What the twins of this package's rows get from another image.
TWINS = {"transfer": "background"}


@dataclass(frozen=True)
class Row:
    """A recipe, who knows the groups, and whose training."""

    recipe: str
    group_labels: GroupLabels
    training: Schedule
    options: tuple[tuple[str, object], ...] = ()


_BALANCED = (*TWINS.items(), ("balanced", True))
ROWS = (
    Row("erm", "none", "published"),
    Row("dfr", "truth", "published"),
    Row("group-dro", "truth", "published"),
    Row("p-clarc", "truth", "published"),
    Row("rr-clarc", "truth", "published"),
    Row("erm", "none", "ours"),
    Row("group-dro", "truth", "ours"),
    Row("rr-clarc", "truth", "ours"),
    Row("group-balanced", "truth", "ours"),
    Row("group-balanced", "discovered", "ours"),
    Row("counterfactual-augmentation", "none", "ours", tuple(TWINS.items())),
    Row("counterfactual-augmentation", "truth", "ours", _BALANCED),
    Row("counterfactual-augmentation", "discovered", "ours", _BALANCED),
)
QUICK = (ROWS[0], ROWS[8], ROWS[10])


def cases(settings: Settings) -> list[Case]:
    """Both poisonings, all rows, a quarter of the width, one seed; full: the whole width, three seeds."""
    poisonings = list(SHARES)[:1] if settings.quick else list(SHARES)
    return [
        {
            "poisoning": poisoning,
            "seed": seed,
            "recipe": row.recipe,
            "group_labels": row.group_labels,
            "training": row.training,
            "width": "whole" if settings.full else "quarter",
        }
        for seed in range(settings.seed, settings.seed + (3 if settings.full else 1))
        for poisoning in poisonings
        for row in (QUICK if settings.quick else ROWS)
    ]


def run_case(case: Case, settings: Settings) -> Case:
    """Correct the biased network of a poisoning by one row, and judge it."""
    images = _cohort(case["poisoning"], case["seed"])
    networks = Networks(
        images,
        case["seed"],
        settings.cache / "reproduce" / "squares",
        thin=case["width"] == "quarter",
        epochs=30 if settings.quick else 150,
    )
    row = next(
        row
        for row in ROWS
        if all(getattr(row, name) == case[name] for name in ("recipe", "group_labels", "training"))
    )
    model = networks.train(row.recipe, row.group_labels, row.training, dict(row.options))
    return dict(by_group(model, images.test))


@lru_cache(maxsize=2)
def _cohort(poisoning: str, seed: int) -> Cohort:
    return cohort(poisoning, seed)


def summarize(finished: list[Case]) -> Record:
    """Mean and 95 % interval over seeds of every row."""
    keys = ("poisoning", "recipe", "group_labels", "training")
    rows = []
    for setting in dict.fromkeys(tuple(case[key] for key in keys) for case in finished):
        members = [case for case in finished if tuple(case[key] for key in keys) == setting]
        row: Record = {**dict(zip(keys, setting, strict=True)), "cases": len(members)}
        rows.append(
            row
            | {name: mean_with_interval([case[name] for case in members]) for name in ("average", "worst")}
        )
    return {"rows": rows}


def draw(finished: Sequence[Case]) -> Figure:
    """Average and worst group of every row, a panel a poisoning; the published averages beside them."""
    panels = []
    for poisoning in SHARES:
        members = [case for case in finished if case["poisoning"] == poisoning]
        here = [
            Dot(_name(row), series, float(value["mean"]), value["low"], value["high"])
            for row in summarize(members)["rows"]
            for series, value in (("average group", row["average"]), ("worst group", row["worst"]))
        ]
        published = [
            Dot(f"{recipe} ({labels}, published)", "average group in the paper", figures[poisoning])
            for recipe, labels, figures in RIVALS
            if poisoning in figures and f"{recipe} ({labels}, published)" in {dot.row for dot in here}
        ]
        if here:
            panels.append(Panel(poisoning, [*here, *published]))
    return dots(panels, "accuracy, %", limits=(0, 100), lines=(50,))


def _name(row: Record) -> str:
    return f"{row['recipe']} ({row['group_labels']}, {row['training']})"


def check(data: Path) -> None:
    """There is nothing to give: the images are drawn.

    Raises
    ------
    InputError
        Always.
    """
    raise InputError(f"squares draws its own images: leave --data {str(data)!r} out")


PROTOCOL = Protocol(
    suite=Suite(
        name="squares",
        cases=cases,
        run_case=run_case,
        summarize=summarize,
        columns=("poisoning", "seed", "recipe", "group_labels", "training", "average", "worst"),
        command="reproduce",
        draw=draw,
    ),
    paper="Squares, arXiv 2604.04518 (April 2026); figures of the corrections as published there",
    data="Draws its own images, with a quarter of ResNet-18's width; --full: the whole width, three seeds.",
    claims=claims,
    check=check,
)
