"""What the report says of subgroups: how the network does in each, and where that differs from the rest."""

from __future__ import annotations

from collections.abc import Sequence

from shortcutscope.audit.subgroups import DELTAS, FILE, read_subgroups
from shortcutscope.report import wording
from shortcutscope.report.run_files import RunFiles, mapping, number, texts
from shortcutscope.types import JSON, Record

#: Groups of the figure, and of two columns in the table; ``subgroups.json`` has them all.
MAX_DRAWN, MAX_CROSSED = 32, 40
#: False discovery rate at which a difference is pointed out.
LEVEL = 0.05
SHARES = ("auroc", "sensitivity", "specificity")
#: Figure to its heading, what it is, and its decimal places.
COLUMNS = {
    "auroc": ("AUROC", "of the class against the others", 2),
    "sensitivity": ("Sensitivity", "share of events that are called positive", 2),
    "specificity": ("Specificity", "share of the others that are not", 2),
    "delta_auroc": ("Δ AUROC", "less that of all other groups of the columns", 2),
    "delta_tpr": ("Δ TPR", "true-positive rate less that of all other groups", 2),
    "delta_fpr": ("Δ FPR", "false-positive rate less that of all other groups", 2),
    "calibration": ("Calibration", "observed less expected share of events; 0 where calibrated", 2),
    "slope": ("Slope", "of the logistic recalibration: 1 where calibrated, less where too sure", 2),
}


def summarize_subgroups(files: RunFiles) -> Record:
    """The subgroups of a run in words and figures; without rows where the run has none.

    Returns
    -------
    dict
        ``points`` (sentences on the operating points), ``sentence``, ``columns``, ``rows``, ``crossed``,
        ``crossed_note``, ``notes``, and for the figure ``drawn``, ``drawn_note`` and ``overall``.
    """
    if not (files.path / FILE).exists():
        return {"rows": [], "drawn": []}
    stored = read_subgroups(files.path)
    classes = texts(mapping(files.run.get("data")).get("classes"))
    points = [mapping(point) for point in stored["operating"]]
    several = len(points) > 1
    groups = [mapping(row) for row in stored["groups"]]
    single = [row for row in groups if len(row["columns"]) == 1]
    crossed = [row for row in groups if len(row["columns"]) > 1]
    drawn = _drawn(single, points[0]["positive"]) if points else []
    return {
        "points": [_point_sentence(point, classes) for point in points],
        "sentence": _sentence(groups),
        "columns": [{"key": key, "label": label, "hint": hint} for key, (label, hint, _) in COLUMNS.items()],
        "rows": [_row(row, classes if several else None) for row in single],
        "crossed": [_row(row, classes if several else None) for row in crossed[:MAX_CROSSED]],
        "crossed_note": _more(len(crossed) - MAX_CROSSED),
        "notes": [f"{text[:1].upper()}{text[1:]}." for text in texts(stored.get("notes"))],
        "drawn": drawn[:MAX_DRAWN],
        "drawn_note": f"The first {MAX_DRAWN} of {len(drawn)} groups." if len(drawn) > MAX_DRAWN else "",
        "overall": points[0] if points else {},
    }


def _point_sentence(point: JSON, classes: Sequence[str]) -> str:
    sensitivity, specificity = (wording.decimal(number(point[k])) for k in ("sensitivity", "specificity"))
    return (
        f"Positive for {_class(int(point['positive']), classes)} from a probability of "
        f"{wording.decimal(number(point['threshold']), 3)} ({point['source']}). Over all samples sensitivity "
        f"is {sensitivity}, specificity {specificity}."
    )


def _class(label: int, classes: Sequence[str]) -> str:
    return classes[label] if label < len(classes) else f"class {label}"


def _sentence(groups: Sequence[JSON]) -> str:
    ranked = [row for row in groups if any(row[d]["q"] is not None for d in DELTAS)]
    differ = [row for row in ranked if _differs(row)]
    few = len(groups) - len(ranked)
    text = f"{len(differ)} of {wording.plural(len(ranked), 'group')} differ from the others (q up to {LEVEL})"
    return f"{text}; {few} have too few patients to say." if few else f"{text}."


def _differs(row: JSON) -> bool:
    return any(row[d]["q"] is not None and row[d]["q"] <= LEVEL for d in DELTAS)


def _row(row: JSON, classes: Sequence[str] | None) -> Record:
    name = str(row["group"])
    return {
        "name": name if classes is None else f"{_class(int(row['positive']), classes)}: {name}",
        "differs": _differs(row),
        "samples": _count(row["samples"]),
        "patients": _count(row["patients"]),
        "events": _count(row["events"]),
        "cells": [_cell(mapping(row[key]), places) for key, (_, _, places) in COLUMNS.items()],
    }


def _count(value: object) -> Record:
    return {"text": wording.count(value), "sort": number(value) or 0}


def _cell(figure: JSON, places: int) -> Record:
    value, low, high = (number(figure.get(k)) for k in ("value", "low", "high"))
    ends = None if low is None or high is None else (low, high)
    q = number(figure.get("q"))
    return {
        "text": wording.decimal(value, places),
        "sort": "" if value is None else value,
        "interval_text": wording.between(ends, places),
        "q_text": "" if q is None else f"q {wording.p_value(q)}",
        "differs": q is not None and q <= LEVEL,
        "why": str(figure.get("why") or ""),
    }


def _drawn(single: Sequence[JSON], positive: int) -> list[Record]:
    """Groups of one column each beside each other, the columns of the surest differences first."""
    of_class = [row for row in single if row["positive"] == positive]
    columns = list(dict.fromkeys(row["columns"][0] for row in of_class))
    rows = []
    for column in columns:
        groups = [row for row in of_class if row["columns"][0] == column]
        if any(row[k]["value"] is not None for row in groups for k in SHARES):
            rows += sorted(groups, key=lambda row: int(row["level"]))
    return [
        {
            "column": row["columns"][0],
            "name": str(row["group"]),
            "n": int(row["patients"]),
            "differs": _differs(row),
            **{
                key: {k: number(mapping(row[key]).get(k)) for k in ("value", "low", "high")} for key in SHARES
            },
        }
        for row in rows
    ]


def _more(count: int) -> str:
    return f"{count} more are in {FILE}." if count > 0 else ""
