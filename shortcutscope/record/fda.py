"""A run as the table that bias.myti.Report reads, the FDA's tool for comparing what mitigates bias."""

from __future__ import annotations

import csv
import io

from shortcutscope.errors import InputError
from shortcutscope.record.content import RunContent, RunFigure, SubgroupPair

COLUMNS = (
    "Mean",
    "Std",
    "Training Prevalence Difference",
    "Positive-associated",
    "Mitigation",
    "Metric",
    "Subgroup",
    "Task",
    "Prevalence Source",
)
_METRICS = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity"}
#: The tool draws mean -+ 1.96 Std / sqrt(25), for the 25 trainings of a model that it expects.
_HALF_INTERVAL = 1.96 / 25**0.5


def fda(content: RunContent) -> str:
    """Write a row for each metric of the samples without and with each concept.

    ``Std`` is such that the tool's interval is as wide as that of the run. ``Training Prevalence Difference``
    is in percent of the positive class, and ``Positive-associated`` the side that has more of it.

    Raises
    ------
    InputError
        Where no concept has two subgroups.

    References
    ----------
    Burgon et al. 2024, Manipulation of sources of bias in AI device development. SPIE Medical Imaging.
    https://github.com/DIDSR/bias.myti.report
    """
    if not content.pairs:
        raise InputError(
            "the run has no figures of the samples with and without a concept: every concept has more than "
            "two values or too few samples, or the run is of an earlier version, and the same audit into the "
            "same folder adds them"
        )
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(COLUMNS)
    for pair in content.pairs:
        table.writerows(_row(pair, figure) for figure in pair.figures)
    return file.getvalue()


def _row(pair: SubgroupPair, figure: RunFigure) -> tuple[object, ...]:
    without, carrying = pair.prevalence
    spread = ""
    if figure.low is not None and figure.high is not None:
        spread = repr((figure.high - figure.low) / 2 / _HALF_INTERVAL)
    return (
        repr(figure.value),
        spread,
        repr(100 * abs(carrying - without)),
        _cell(pair.groups[carrying > without]),
        "No Mitigation",
        _METRICS[figure.name],
        _cell(str(figure.part)),
        _cell(pair.task),
        pair.source,
    )


def _cell(text: str) -> str:
    """Other people's names on one line, which no spreadsheet takes for a formula."""
    flat = " ".join(text.split())
    return f"'{flat}" if flat[:1] in "=+-@" else flat
