"""An audit of embeddings as HTML: verdicts side by side, what they rest on, and what corrections change.

`summarize_embeddings` makes plain data; the template lays them out, and `draw_encoders` is the same as a
picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from shortcutscope._version import __version__
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.embeddings.before_after import BEFORE
from shortcutscope.embeddings.encoder import EncoderRecord
from shortcutscope.embeddings.result import EmbeddingsAuditRecord
from shortcutscope.files import write_atomically
from shortcutscope.report import wording
from shortcutscope.report.charts.axes import figure_of, own_axes
from shortcutscope.report.environment import environment
from shortcutscope.report.figures import AVAILABILITY
from shortcutscope.report.run_files import interval, mapping, number
from shortcutscope.types import JSON, Array, Record

#: Metrics of the corrections, their headings and what they say.
METRICS = {
    "encoded_auroc": ("Encoded", "AUROC within class at which a fresh probe reads the concept; best at 0.5"),
    "label_auroc": ("Label AUROC", "over all samples as they are; higher is better"),
    "aligned_auroc": ("Aligned AUROC", "where the concept agrees with the label"),
    "robust_auroc": ("Robust AUROC", "where the concept disagrees with the label; higher is better"),
    "robustness_index": (
        "Robustness index",
        "share of nearest neighbours that go by the class and not by the concept; best at 1",
    ),
}
_METHODS = {BEFORE: "before", "leace": "LEACE"}


def render_embeddings(record: EmbeddingsAuditRecord, *, page: bool = True) -> str:
    """The audit as a page that loads nothing from anywhere, or as an element for a notebook."""
    template = environment().get_template("embeddings.html")
    return template.render(report=summarize_embeddings(record), page=page)


def write_embeddings(record: EmbeddingsAuditRecord, path: Path) -> Path:
    """Write the page, whole or not at all."""
    content = render_embeddings(record).encode()
    write_atomically(path, lambda file: file.write(content))
    return path


def summarize_embeddings(record: EmbeddingsAuditRecord) -> Record:
    """Everything that the page says, as plain data."""
    concluded = record.conclusion
    run, data = record.run, mapping(record.run.get("data"))
    facts = [
        ("Encoders", wording.count(len(record))),
        ("Samples", wording.count(data.get("n_samples"))),
        ("Patients", wording.count(data.get("n_groups"))),
        ("Concepts", wording.count(len(_concepts(record)))),
    ]
    return {
        "version": __version__,
        "title": "Audit of embeddings",
        "headline": _headline(record),
        "undecided": list(concluded.undecided),
        "facts": [{"label": label, "value": value} for label, value in facts],
        "encoders": [_encoder(encoder) for encoder in record],
        "lines": [_line(name, record) for name in _concepts(record)],
        "corrections": _corrections(record),
        "metrics": [{"label": label, "hint": hint} for label, hint in METRICS.values()],
        "notes": [
            *map(str, run.get("warnings") or ()),
            *map(str, run.get("assumptions") or ()),
            concluded.assumption,
        ],
        "refused": [{"label": k, "value": v} for k, v in mapping(run.get("refused_columns")).items()],
        "settings": [
            {"label": k.replace("_", " "), "value": _setting(v)}
            for k, v in mapping(run.get("settings")).items()
        ],
    }


def draw_encoders(record: EmbeddingsAuditRecord, ax: Axes | None = None) -> Figure:
    """Encoders by concepts: colour and number say how well a concept is encoded, the letter what came of it.

    S shortcut, U used without cost or association, E encoded and not used, nothing for what is not encoded.
    """
    letters = {"shortcut": "S", "used": "U", "encoded": "E", "absent": "", "untestable": "?"}
    concepts = _concepts(record)
    ax = own_axes(ax, 2.2 + 1.1 * len(record), 1.2 + 0.36 * len(concepts))
    values: Array = np.full((len(concepts), len(record)), np.nan)
    for column, encoder in enumerate(record):
        for finding in encoder.findings:
            row = concepts.index(finding.name)
            kind = wording.VERDICTS[finding.verdict][0]
            area = number(finding.encoded.get("auroc"))
            values[row, column] = np.nan if area is None else area
            text = f"{wording.decimal(area)} {letters[kind]}".strip()
            dark = area is not None and area < 0.8
            ax.text(column, row, text, ha="center", va="center", size=8, color="white" if dark else "black")
    ax.imshow(values, cmap=AVAILABILITY, norm=Normalize(0.5, 1.0), aspect="auto")
    ax.set_xticks(range(len(record)), [encoder.name for encoder in record])
    ax.set_yticks(range(len(concepts)), concepts)
    ax.set_title("encoded (AUROC); S shortcut, U used, E encoded, not used", size=8)
    return figure_of(ax)


def _concepts(record: EmbeddingsAuditRecord) -> list[str]:
    return list(dict.fromkeys(f.name for f in record.findings))


def _headline(record: EmbeddingsAuditRecord) -> str:
    if len(record) == 1:
        return wording.headline([vars(f) for f in record.findings]).replace("this model", "this head")
    parts = []
    for encoder in record:
        names = [f.name for f in encoder.shortcuts]
        parts.append(f"{encoder.name}: {wording.listed(names) if names else 'none'}")
    return f"Shortcuts, by encoder: {'; '.join(parts)}."


def _encoder(encoder: EncoderRecord) -> Record:
    figures = encoder.performance
    return {
        "name": encoder.name,
        "n_features": wording.count(encoder.n_features),
        "head": encoder.head,
        "auroc": wording.decimal(number(figures.get("auroc"))),
        "accuracy": wording.percent(number(figures.get("accuracy"))),
        "notes": list(encoder.notes),
        "findings": [_finding(finding) for finding in encoder.findings],
    }


def _finding(finding: FindingRecord) -> Record:
    kind, label = wording.VERDICTS[finding.verdict]
    encoded, used, association, effect = (
        mapping(finding.encoded),
        mapping(finding.used),
        mapping(finding.association),
        mapping(finding.effect),
    )
    return {
        "name": finding.name,
        "kind": kind,
        "label": label,
        "reason": finding.reason,
        "notes": list(finding.notes),
        "encoded": _with_interval(encoded.get("auroc"), encoded.get("interval")),
        "q": wording.p_value(number(encoded.get("q"))),
        "used": _with_interval(used.get("effect"), used.get("interval")),
        "association": _with_interval(association.get("phi"), association.get("interval")),
        "aligned": _metric(effect, "aligned_auroc"),
        "robust": _metric(effect, "robust_auroc"),
        "gap": _metric(effect, "auroc_gap"),
        "n": wording.count(mapping(effect.get("auroc_gap")).get("n")),
    }


def _metric(effect: JSON, name: str) -> Record:
    entry = mapping(effect.get(name))
    return _with_interval(entry.get("value"), entry.get("interval")) | {"why": str(entry.get("why") or "")}


def _with_interval(value: object, ends: object) -> Record:
    return {"text": wording.decimal(number(value)), "interval": wording.between(interval(ends)), "why": ""}


def _line(concept: str, record: EmbeddingsAuditRecord) -> Record:
    cells = []
    for encoder in record:
        finding = next((f for f in encoder.findings if f.name == concept), None)
        cells.append(None if finding is None else _finding(finding))
    return {"name": concept, "cells": cells}


def _corrections(record: EmbeddingsAuditRecord) -> list[Record]:
    """Per encoder and concept a row per method, of what is encoded or used; the others' are in the file."""
    tables = []
    for encoder in record:
        listing = [f.name for f in encoder.findings if f.encoded.get("value")]
        frame = record.corrections[record.corrections["encoder"] == encoder.name]
        for concept in listing:
            rows = frame[frame["concept"] == concept]
            if len(rows):
                tables.append({"encoder": encoder.name, "concept": concept, "rows": _methods(rows)})
    return tables


def _methods(rows: pd.DataFrame) -> list[Record]:
    lines = []
    for method in rows["method"].unique():
        rows_of_encoder = rows[rows["method"] == method].set_index("metric")
        lines.append(
            {
                "name": _METHODS.get(str(method), str(method)),
                "cells": [
                    _cell(rows_of_encoder.loc[metric].to_dict())
                    for metric in METRICS
                    if metric in rows_of_encoder.index
                ],
            }
        )
    return lines


def _cell(row: JSON) -> Record:
    return _with_interval(row["value"], [row["low"], row["high"]]) | {"why": str(row["why"])}


def _setting(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return "by default" if value is None else str(value)
