"""A comparison of networks as HTML: what got worse first, then metrics, layers, groups and all numbers.

`summarize_comparison` makes plain data; the template and `charts.comparison` lay them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from shortcutscope._version import __version__
from shortcutscope.files import write_atomically
from shortcutscope.report import wording
from shortcutscope.report.charts import comparison as figures
from shortcutscope.report.environment import environment
from shortcutscope.report.run_files import number
from shortcutscope.types import JSON, Record

if TYPE_CHECKING:
    from shortcutscope.compare.result import ComparisonRecord

#: Metric to its heading and what it says.
METRICS: Mapping[str, tuple[str, str]] = {
    "balanced_auroc": (
        "Balanced AUROC",
        "every group of label and concept weighs the same; higher is better",
    ),
    "robust_auroc": ("Robust AUROC", "where the concept disagrees with the label; higher is better"),
    "aligned_auroc": ("Aligned AUROC", "where the concept agrees with the label; higher is better"),
    "worst_group_accuracy": (
        "Worst-group accuracy",
        "smallest over the groups of label and concept; higher is better",
    ),
    "auroc": ("AUROC", "over all samples as they are; higher is better"),
    "accuracy": ("Accuracy", "over all samples as they are; higher is better"),
    "delta_tpr": ("ΔTPR", "true-positive rate of carriers minus that of the others; best at zero"),
    "ece": ("Calibration error", "expected calibration error; lower is better"),
    "flip_rate": (
        "Flip rate on twins",
        "predictions that differ between the same image without and with the artifact; lower is better",
    ),
    "pixel_flip_rate": (
        "Flip rate on the pixels",
        "predictions that differ between all images at one end of the concept and at the other; lower is "
        "better",
    ),
    "levelled_auroc": ("Levelled AUROC", "of images that are alike in the concept; higher is better"),
    "artifact_relevance": ("Artifact relevance", "share of relevance inside the mask; lower is better"),
    "use": ("Use U", "change of the logit when the concept is taken out of the layer; best at zero"),
    "availability": ("Availability", "AUROC of the concept read from the layer; neither is better"),
    "verdict": ("Verdict", "of the audit of this network"),
}
#: In the table of networks.
OVERVIEW = (
    "balanced_auroc",
    "robust_auroc",
    "worst_group_accuracy",
    "delta_tpr",
    "ece",
    "flip_rate",
    "pixel_flip_rate",
    "levelled_auroc",
    "artifact_relevance",
)
#: Parts whose metrics have a figure.
DRAWN = ("overall", "concept", "twins", "pixels", "relevance")
#: Networks whose layers are drawn; the table of all numbers has the others.
MAX_LAYER_FIGURES = 12


def render_comparison(comparison: ComparisonRecord, *, page: bool = True, inside: bool = False) -> str:
    """The comparison as a page that loads nothing from anywhere, or as an element for a notebook.

    With `inside` it is part of the report of an audit, whose script and sheet it shares.
    """
    uid = "ssc"  # beside the "ss" of the report that it may be part of
    report = summarize_comparison(comparison)
    template = environment().get_template("comparison.html")
    markup = draw_comparison(report, uid)
    return template.render(report=report, figures=markup, uid=uid, page=page, inside=inside)


def write_comparison(comparison: ComparisonRecord, path: Path) -> Path:
    """Write the page, whole or not at all."""
    content = render_comparison(comparison).encode()
    write_atomically(path, lambda file: file.write(content))
    return path


def draw_comparison(report: JSON, uid: str) -> dict[str, list[Markup]]:
    """Figures of the metrics, and of the layers of every network."""
    return {
        "metrics": [
            figures.metric_dots(metric, f"{uid}-metric-{k}") for k, metric in enumerate(report["metrics"])
        ],
        "layers": [
            figures.layer_lines(network, f"{uid}-layers-{k}")
            for k, network in enumerate(report["layers"][:MAX_LAYER_FIGURES])
        ],
    }


def summarize_comparison(comparison: ComparisonRecord) -> Record:
    """Everything that the page says, as plain data.

    Returns
    -------
    dict
        ``title``, ``headline``, ``facts``, ``notes``, ``worse``, ``development``, ``replacements``,
        ``chance``, ``overview``, ``metrics``, ``layers``, ``groups``, ``subgroups``, ``verdicts``,
        ``missing`` and ``rows``.
    """
    rows = _rows(comparison)
    changed = [row for row in rows if not row["first"]]
    main = comparison.settings.get("main")
    missing = [row for row in rows if row["note"].startswith("not measurable")]
    said = {one["text"] for one in comparison.development}
    return {
        "version": __version__,
        "title": f"Before and after, by {comparison.concept}",
        "concept": comparison.concept,
        "headline": _headline(comparison, rows),
        "facts": _facts(comparison),
        "notes": [text[:1].upper() + text[1:] + "." for text in comparison.notes if text not in said],
        "main": main,
        "worse": [row for row in rows if row["better"] is False],
        "development": [one["text"][:1].upper() + one["text"][1:] + "." for one in comparison.development],
        "replacements": [_replacement(one) for one in comparison.replacements],
        "chance": _chance(comparison),
        "overview": _overview(comparison, rows),
        "metrics": _metrics(comparison, rows),
        "layers": _layers(comparison, rows),
        "groups": [row for row in changed if row["part"] == "group"],
        "subgroups": [row for row in changed if row["part"] == "subgroup"],
        "verdicts": [row for row in changed if row["part"] == "verdict"],
        "missing": _missing(missing),
        "rows": rows,
    }


def biased_name(comparison: ComparisonRecord) -> str:
    """Name of the network that the others are compared with."""
    return str(comparison.networks[0]["name"])


def _rows(comparison: ComparisonRecord) -> list[Record]:
    """Every row with its texts, in the order of the frame: what got worse first."""
    first = biased_name(comparison)
    layers = {
        (network["name"], layer["name"]): layer.get("before") or layer["name"]
        for network in comparison.networks
        for layer in network["layers"]
    }
    records = comparison.frame.to_dict("records")
    by_key = {
        (r["table"], r["part"], r["metric"], r["detail"]): r for r in records if r["network"] == first
    }  # fmt: skip
    rows = []
    for record in records:
        detail = record["detail"]
        if record["part"] == "layer":
            detail = layers.get((record["network"], detail), detail)
        old = by_key.get((record["table"], record["part"], record["metric"], detail), {})
        numbers = {
            k: number(record[k]) for k in ("value", "low", "high", "change", "change_low", "change_high")
        }
        before = number(old.get("value"))
        verdict = record["part"] == "verdict"
        rows.append(
            {
                **{k: str(record[k]) for k in ("network", "table", "metric", "part", "detail", "note")},
                **numbers,
                "first": record["network"] == first,
                "better": record["better"],
                "label": METRICS.get(record["metric"], (record["metric"], ""))[0],
                "hint": METRICS.get(record["metric"], ("", ""))[1],
                "before": before,
                "before_text": str(old.get("note", "")) if verdict else wording.decimal(before, 3),
                "text": str(record["note"]).split(" → ")[-1]
                if verdict
                else wording.decimal(numbers["value"], 3),
                "short_text": wording.decimal(numbers["value"]),
                "short_interval_text": wording.between(_ends(numbers, "")),
                "short_change_text": _short_change(numbers["change"]),
                "interval_text": wording.between(_ends(numbers, ""), 3),
                "change_text": signed(numbers["change"]),
                "change_interval_text": wording.between(_ends(numbers, "change_"), 3),
                "judgement": {True: "better", False: "worse"}.get(record["better"], ""),
            }
        )
    return rows


def _replacement(found: JSON) -> Record:
    """A concept that took the place of the old one, with its texts."""
    return {
        **found,
        "before_text": signed(found["before"], 2),
        "after_text": signed(found["after"], 2),
        "change_text": signed(found["change"], 2),
        "before_interval_text": wording.between(tuple(found["before_interval"])),
        "after_interval_text": wording.between(tuple(found["after_interval"])),
        "change_interval_text": wording.between(tuple(found["change_interval"])),
        "q_text": wording.p_value(found["q"]),
    }


def signed(value: float | None, places: int = 3) -> str:
    """A change with its sign.

    Examples
    --------
    >>> signed(0.1234), signed(-0.5, 1), signed(0.0), signed(None)
    ('+0.123', '−0.5', '0.000', '–')
    """
    text = wording.decimal(value, places)
    return f"+{text}" if value is not None and value > 0 and float(text) != 0 else text


def _short_change(value: float | None) -> str:
    """With two places, or three where two would say that nothing changed."""
    return signed(value, 3 if value is not None and 0 < abs(value) < 0.005 else 2)


def _ends(numbers: Mapping[str, float | None], prefix: str) -> tuple[float, float] | None:
    low, high = numbers[f"{prefix}low"], numbers[f"{prefix}high"]
    return None if low is None or high is None else (low, high)


def _headline(comparison: ComparisonRecord, rows: Sequence[JSON]) -> str:
    """Whether the shortcut is gone, what that gained, and how many things got worse."""
    worse = len(comparison.worse)
    on_pixels = _flips_on_pixels(comparison, rows)
    sentences = [*on_pixels, *_verdicts(comparison, pixels=bool(on_pixels))]
    main = comparison.settings.get("main")
    robust = [r for r in rows if _is_main(r, main, "robust_auroc") and r["value"] is not None]
    new = [r for r in robust if not r["first"]]
    if new and len(robust) > len(new):
        best = max(new, key=lambda r: float(r["value"]))
        old = next(r["short_text"] for r in robust if r["first"])
        where = f" on the table {main}" if len(comparison.tables) > 1 else ""
        sentences.append(
            f"Robust AUROC{where}: {old} before, {best['short_text']} with {best['network']}"
            + (f", the best of {len(new)}." if len(new) > 1 else ".")
        )
    if comparison.replacements:
        names = list(dict.fromkeys(f"{r['concept']} ({r['student']})" for r in comparison.replacements))
        sentences.append(f"May have taken its place: {wording.listed(names)}.")
    of = f"{comparison.compared} tested changes"
    sentences.append(f"{worse} of {of} {'is' if worse == 1 else 'are'} for the worse." if worse else
                f"None of {of} is for the worse.")  # fmt: skip
    return " ".join(sentences)


def _verdicts(comparison: ComparisonRecord, *, pixels: bool) -> list[str]:
    """What the networks' own audits say of the concept, before and after."""
    first, others = comparison.networks[0], comparison.networks[1:]
    if first["verdict"] is None:
        return []
    concept = comparison.concept
    remaining = wording.listed([n["name"] for n in others if n["verdict"] == "shortcut"])
    rid = wording.listed([n["name"] for n in others if n["verdict"] not in ("shortcut", "not testable")])
    if first["verdict"] == "shortcut":
        gone = f"{concept} is no shortcut of {rid} any more." if rid else ""
        still = f"{concept} is still a shortcut of {remaining}." if remaining else ""
        return [sentence for sentence in (gone, still) if sentence]
    before = f"{concept} was not called a shortcut before: {first['verdict']}."
    if pixels:  # which these audits do not look at
        before = f"Without the pixels the verdict on it was: {first['verdict']}."
    return [before, *([f"It is one of {remaining}."] if remaining else [])]


def _flips_on_pixels(comparison: ComparisonRecord, rows: Sequence[JSON]) -> list[str]:
    """How many predictions follow the concept when it alone is moved in the images."""
    flips = [r for r in rows if r["metric"] == "pixel_flip_rate" and r["value"] is not None]
    before = next((r for r in flips if r["first"]), None)
    after = [f"{_percent(r)} with {r['network']}" for r in flips if not r["first"]]
    if before is None or not after:
        return []
    return [
        f"On the pixels {_percent(before)} of the predictions followed {comparison.concept} before, "
        f"{wording.listed(after)}."
    ]


def _percent(row: JSON) -> str:
    return f"{100 * float(row['value']):.0f} %"


def _chance(comparison: ComparisonRecord) -> str:
    n = comparison.compared
    return (
        f"Each of the {n} intervals leaves out zero by chance once in twenty times, half of them on "
        f"this side: about {n / 40:.0f} of these rows are to be expected where nothing changed. "
        "They are not independent, and none is corrected for their number."
    )


def _facts(comparison: ComparisonRecord) -> list[dict[str, str]]:
    settings = comparison.settings
    direction = "against" if settings.get("against") else "with"
    facts = [
        ("Concept", f"{comparison.concept}, goes {direction} {settings.get('positive_name')}"),
        ("Networks", wording.count(len(comparison.networks) - 1)),
    ]
    for table in comparison.tables:
        facts.append(
            (
                f"Table {table['name']}" if len(comparison.tables) > 1 else "Images",
                f"{wording.count(table['n_samples'])} images, {wording.count(table['n_groups'])} patients"
                if table["n_groups"] < table["n_samples"]
                else wording.count(table["n_samples"]),
            )
        )
    facts.append(("Resamples", wording.count(settings.get("n_bootstrap"))))
    return [{"label": label, "value": value} for label, value in facts]


def _overview(comparison: ComparisonRecord, rows: Sequence[JSON]) -> Record:
    """One line per network on the main table: what the field reports, and use at the decision layer."""
    main = comparison.settings.get("main")
    metrics = [m for m in OVERVIEW if any(_is_main(r, main, m) and r["value"] is not None for r in rows)]
    lines = []
    for network in comparison.networks:
        network_rows = [r for r in rows if r["network"] == network["name"]]
        cells = [next((r for r in network_rows if _is_main(r, main, m)), None) for m in metrics]
        used = [r for r in network_rows if r["part"] == "layer" and r["metric"] == "use"]
        decides = network["layers"][-1]["name"] if network["layers"] else None
        cells.append(next((r for r in used if r["detail"] == decides), None))
        verdict = network["verdict"]
        kind, label = wording.VERDICTS.get(verdict or "", ("untestable", "Not audited"))
        lines.append({"name": network["name"], "kind": kind, "verdict": label, "cells": cells})
    if not any(line["cells"][-1] for line in lines):
        for line in lines:
            line["cells"].pop()
        headings = metrics
    else:
        headings = [*metrics, "use"]
    columns = [{"label": METRICS[m][0], "hint": METRICS[m][1]} for m in headings]
    return {"columns": columns, "lines": lines}


def _is_main(row: JSON, main: object, metric: str) -> bool:
    return row["table"] == main and row["metric"] == metric and row["part"] in DRAWN


def _metrics(comparison: ComparisonRecord, rows: Sequence[JSON]) -> list[Record]:
    """Per metric its rows by table, networks in the order given."""
    order = {n["name"]: k for k, n in enumerate(comparison.networks)}
    groups = []
    for metric, (label, hint) in METRICS.items():
        metric_rows = [
            r for r in rows if r["metric"] == metric and r["part"] in DRAWN and r["value"] is not None
        ]
        tables = []
        for table in comparison.tables:
            table_rows = sorted(
                (r for r in metric_rows if r["table"] == table["name"]), key=lambda r: order[r["network"]]
            )
            if table_rows:
                tables.append({"name": table["name"], "rows": table_rows})
        if tables:
            groups.append({"metric": metric, "label": label, "hint": hint, "tables": tables})
    return groups


def _layers(comparison: ComparisonRecord, rows: Sequence[JSON]) -> list[Record]:
    """Per new network its layers with availability and use, and those of the biased network."""
    first = biased_name(comparison)
    by_key = {(r["network"], r["metric"], r["detail"]): r for r in rows if r["part"] == "layer"}

    def curve(network: JSON, metric: str) -> list[JSON]:
        layer_rows = [by_key.get((network["name"], metric, layer["name"])) for layer in network["layers"]]
        return [r for r in layer_rows if r is not None]

    entries = []
    for network in comparison.networks[1:]:
        old = next(n for n in comparison.networks if n["name"] == first)
        if not network["layers"] or not any(r["value"] is not None for r in curve(network, "use")):
            continue
        entries.append(
            {
                "name": network["name"],
                "same": [x["before"] for x in network["layers"]] == [x["name"] for x in old["layers"]],
                "before": {m: curve(old, m) for m in ("availability", "use")},
                "after": {m: curve(network, m) for m in ("availability", "use")},
                "layers": {"before": old["layers"], "after": network["layers"]},
            }
        )
    return entries


def _missing(rows: Sequence[JSON]) -> list[dict[str, str]]:
    """What could not be measured, each reason once with the tables it holds for."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["part"] == "layer":
            what = row["label"]
        else:
            what = f"{row['label']}, {row['detail']}" if row["detail"] else row["label"]
        tables = reasons.setdefault((what, row["note"].removeprefix("not measurable: ")), [])
        if row["table"] not in tables:
            tables.append(row["table"])
    return [
        {"what": f"{what} ({wording.listed(tables)})", "why": why} for (what, why), tables in reasons.items()
    ]
