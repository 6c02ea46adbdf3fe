"""The report as pure data: every number and sentence that a page shows, and nothing of how it looks.

`summarize` turns a run directory into plain dicts, lists, strings and numbers. Figures and templates only
lay them out, so that what a report says can be tested without HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from shortcutscope.audit.conclusion import conclude_audit
from shortcutscope.compare.result import FILE as COMPARISON
from shortcutscope.files import read_json
from shortcutscope.models.heads.head import Head
from shortcutscope.report import wording
from shortcutscope.report.attribution import summarize_attribution
from shortcutscope.report.cards import advice, arrange, next_steps
from shortcutscope.report.finding import summarize_finding
from shortcutscope.report.masks import summarize_masks
from shortcutscope.report.methods import methods_of
from shortcutscope.report.preprocessing import summarize_preprocessing
from shortcutscope.report.run_files import RunFiles, interval, mapping, number, read_run, texts
from shortcutscope.report.search import summarize_search
from shortcutscope.report.subgroups import summarize_subgroups
from shortcutscope.types import JSON, Record

#: Figures per finding and rows of a heat map stop here; tables go on.
MAX_DRAWN = 30
#: Rows of the profile table on the page; ``profile.parquet`` has them all.
MAX_PROFILE_ROWS = 600

PERFORMANCE = {
    "auroc": ("AUROC", "area under the ROC curve; mean over classes where there are more than two"),
    "accuracy": ("Accuracy", "share of samples predicted right"),
    "balanced_accuracy": ("Balanced accuracy", "mean of the classes' recalls"),
    "ece": ("Calibration error", "expected calibration error: mean distance of confidence and accuracy"),
}

#: Key of a profile column (or of the two ends of an interval), its heading, decimal places.
PROFILE_COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("auroc", "AUROC", 2),
    ("auroc_low auroc_high", "95 %", 2),
    ("null_high", "null 95 %", 2),
    ("naive_auroc", "naive", 2),
    ("q", "q", 3),
    ("use", "use U", 2),
    ("use_low use_high", "95 %", 2),
    ("use_p", "p of use", 3),
    ("use_flip_rate", "flips", 2),
    ("extent_statistic", "lit cells", 2),
    ("effective_rank", "rank", 0),
    ("weight", "weight", 2),
)


def summarize(run_dir: str | Path) -> Record:
    """Everything a report says about a run.

    Parameters
    ----------
    run_dir : path
        A finished run directory.

    Returns
    -------
    dict
        Plain data: ``title``, ``headline``, ``undecided``, ``facts``, ``warnings``, ``assumptions``,
        ``performance``,
        ``attribution`` (see `summarize_attribution`), ``findings`` (see `summarize_finding`), ``cards``,
        ``folded``, ``lines`` and ``rest`` (see `arrange`), ``advice``, ``steps``, ``masks`` (see
        `summarize_masks`), ``zones``, ``heatmaps``, ``effects``, ``power``, ``profile``, ``refused``,
        ``preprocessing`` (see `summarize_preprocessing`), ``search`` (see `summarize_search`), ``subgroups``
        (see `summarize_subgroups`), ``provenance``, ``methods`` (text).

    Raises
    ------
    InputError
        When the run is missing files or is unfinished; the text names the stage to run.
    """
    files = read_run(run_dir)
    run = files.run
    attribution = summarize_attribution(run)
    zones = extent_zones(run)
    findings = [summarize_finding(f, files, zones, i) for i, f in enumerate(files.findings)]
    for finding in findings[MAX_DRAWN:]:
        finding["drawn"] = False
    concluded = conclude_audit(files.findings, run)
    headline, masks = wording.headline(files.findings), summarize_masks(files.path)
    return {
        "title": title_of(run),
        "headline": f"Not decided. {headline}" if concluded.outcome == "not decided" else headline,
        "undecided": [sentence_case(text) for text in concluded.undecided],
        "facts": facts_of(run),
        "attribution": attribution,
        "created": str(run.get("created") or ""),
        "version": str(run.get("version") or ""),
        "warnings": [*map(sentence_case, texts(run.get("warnings"))), *_gallery_warning(run)],
        "assumptions": [
            sentence_case(text) for text in (*texts(run.get("assumptions")), concluded.assumption)
        ],
        "performance": _performance(run),
        "findings": findings,
        **arrange(findings),
        "advice": advice(files.findings, concluded.undecided),
        "steps": next_steps(
            files.findings,
            concluded.undecided,
            masked=[entry["name"] for entry in masks],
            compared=_compared(files.path),
        ),
        "masks": masks,
        "drawn_note": _cap(min(len(findings), MAX_DRAWN), len(findings), "concepts", "the tables have all"),
        "zones": zones,
        "heatmaps": _heatmaps(files, findings),
        "effects": [f for f in findings if any(e["value"] is not None for e in f["effect"])],
        "power": [f for f in findings if f["power"]["rows"]],
        "profile": _profile(files),
        "preprocessing": summarize_preprocessing(run),
        "refused": [
            {"name": str(k), "reason": str(v or "")} for k, v in mapping(run.get("refused_columns")).items()
        ],
        "search": summarize_search(run, {f["name"]: f["label"] for f in findings}),
        "subgroups": summarize_subgroups(files),
        "provenance": provenance_of(run),
        "methods": str(methods_of(run, files.findings, title_of(run))),
    }


def _compared(run: Path) -> list[str]:
    """The concept by which networks were compared in this run."""
    path = run / COMPARISON
    return [str(mapping(read_json(path)).get("concept"))] if path.exists() else []


def extent_zones(run: JSON) -> dict[str, float] | None:
    """Limits of the extent verdict as the audit applied them, or None where it did not record them."""
    limits = mapping(mapping(run.get("settings")).get("extent"))
    low, high = number(limits.get("localized_below")), number(limits.get("diffuse_above"))
    if low is None or high is None:
        return None
    zones = {"localized_below": low, "diffuse_above": high}
    limit = number(limits.get("lit_above"))
    return zones if limit is None else {**zones, "lit_above": limit}


def title_of(run: JSON) -> str:
    """What was audited, by the name that was given it, else by that of its source without its modules."""
    model = mapping(run.get("model"))
    spec = str(model.get("spec") or model.get("class") or "model")
    module, colon, factory = spec.partition(":")
    return str(model.get("name") or (factory if colon and "." in module else spec))


def facts_of(run: JSON) -> list[dict[str, str]]:
    """The line under the title: what was audited, at a glance."""
    data = mapping(run.get("data"))
    classes = texts(data.get("classes"))
    groups = number(data.get("n_groups"))
    facts = [
        ("Images", wording.count(data.get("n_samples"))),
        ("Patients", wording.count(groups) if groups is not None else "not given"),
        (
            "Classes",
            ", ".join(classes)
            if 0 < len(classes) <= 4
            else str(len(classes))
            if classes
            else wording.MISSING,
        ),
        ("Date", str(run.get("created") or wording.MISSING)[:10]),
    ]
    return [{"label": label, "value": value} for label, value in facts if value != wording.MISSING]


def sentence_case(text: str) -> str:
    """Warnings are written as clauses for the command line; a page shows sentences."""
    clause = text.strip()
    return clause[:1].upper() + clause[1:] + ("" if clause.endswith((".", "!", "?")) else ".")


def _gallery_warning(run: JSON) -> list[str]:
    state = mapping(mapping(run.get("stages")).get("gallery")).get("state", "done")
    if state in ("done", "skipped"):
        return []
    return [f"The gallery stage is {state}: pictures may be missing. Run the same audit again to draw them."]


def _performance(run: JSON) -> list[Record]:
    metrics = mapping(run.get("performance"))
    rows = []
    for key, (label, hint) in PERFORMANCE.items():
        value = number(metrics.get(key))
        if value is not None:
            rows.append(
                {"key": key, "label": label, "hint": hint, "value": value, "text": wording.decimal(value, 3)}
            )
    return rows


def _layer_names(files: RunFiles) -> list[str]:
    """Layers from input to output."""
    names = [str(layer["name"]) for layer in files.run.get("layers") or [] if mapping(layer).get("name")]
    return names or list(dict.fromkeys(map(str, files.profile["layer"])))


def _heatmaps(files: RunFiles, findings: Sequence[JSON]) -> Record:
    """Concepts x layers, with each cell's own null; cells without a measurement are None."""
    tested = [f for f in findings if f["curves"]["layers"]]
    selection = tested[:MAX_DRAWN]
    layers = _layer_names(files)

    def grid(key: str) -> list[list[float | None]]:
        rows = []
        for finding in selection:
            curves = finding["curves"]
            by_layer = dict(zip(curves["layers"], curves[key], strict=True))
            rows.append([by_layer.get(layer) for layer in layers])
        return rows

    thresholds = [f["used"]["threshold"] for f in selection if f["used"]["threshold"] is not None]
    return {
        "concepts": [f["name"] for f in selection],
        "layers": layers,
        "auroc": grid("auroc"),
        "null_high": grid("null_high"),
        "use": grid("use"),
        "threshold": max(thresholds) if thresholds else None,
        "note": _cap(len(selection), len(tested), "tested concepts", "the profile table lists more"),
    }


def _cap(count: int, total: int, what: str, rest: str) -> str:
    return "" if count == total else f"Showing the first {count} of {total} {what}; {rest}."


def _profile(files: RunFiles) -> Record:
    """The tidy table with its numbers formatted, and raw for sorting."""
    rank = {str(f["name"]): i for i, f in enumerate(files.findings)}
    ranks = files.profile["concept"].astype(str).map(rank).fillna(len(rank))
    frame = files.profile.iloc[ranks.argsort(kind="stable")]
    columns = [c for c in PROFILE_COLUMNS if all(k in frame and frame[k].notna().any() for k in c[0].split())]
    order = {name: i for i, name in enumerate(_layer_names(files))}
    rows = []
    for record in frame.head(MAX_PROFILE_ROWS).to_dict("records"):
        layer = str(record["layer"])
        first: list[Record] = [
            {"text": str(record["concept"]), "sort": str(record["concept"])},
            {"text": layer, "sort": order.get(layer, len(order))},
        ]
        rows.append(first + [_profile_cell([record[k] for k in keys.split()], n) for keys, _, n in columns])
    return {
        "columns": [
            {"label": "concept", "numeric": False},
            {"label": "layer", "numeric": True},
            *({"label": label, "numeric": True} for _, label, _ in columns),
        ],
        "rows": rows,
        "note": _cap(len(rows), len(frame), "rows", "profile.parquet in the run directory has all"),
    }


def _profile_cell(values: Sequence[object], places: int) -> Record:
    """Text of a number, or of an interval, and what it is sorted by."""
    value = number(values[0])
    if len(values) == 2:
        text = wording.between(interval(list(values)), places).replace(" to ", "–") or wording.MISSING
    else:
        text = wording.p_value(value) if places == 3 else wording.decimal(value, places)
    return {"text": text, "sort": "" if value is None else value}


def _scores(run: JSON) -> str | None:
    """Which scores were read, where it is not simply those that the model returns."""
    head = Head.from_json(run.get("head"))
    return str(head) if head.changes else None


def provenance_of(run: JSON) -> Record:
    """How a run came to be."""
    model, data = mapping(run.get("model")), mapping(run.get("data"))
    value_range = interval(data.get("value_range"))
    facts = [
        ("shortcutscope", run.get("version")),
        ("Created", run.get("created")),
        ("Device", run.get("device")),
        ("Seed", run.get("seed")),
        ("Model", model.get("spec")),
        ("Model class", model.get("class")),
        ("Parameters", wording.count(model.get("parameters"))),
        ("Layers scanned", len(run.get("layers") or [])),
        ("Scores", _scores(run)),
        ("Transform", data.get("transform")),
        ("Value range", f"{value_range[0]:g} to {value_range[1]:g}" if value_range else None),
    ]
    stages = {str(name): mapping(stage) for name, stage in mapping(run.get("stages")).items()}
    seconds = {name: number(stage.get("seconds")) for name, stage in stages.items()}
    return {
        "command": str(run.get("command") or ""),
        "made": [{"label": k, "value": str(v)} for k, v in facts if v not in (None, "", wording.MISSING)],
        "fingerprints": [
            {"label": label, "short": str(value)[:12], "full": str(value)}
            for label, value in (("Model", model.get("fingerprint")), ("Data", data.get("fingerprint")))
            if value
        ],
        "environment": [
            {"label": str(k), "value": str(v)}
            for k, v in mapping(run.get("environment")).items()
            if v is not None
        ],
        "settings": [{"label": k, "value": v} for k, v in _flat(mapping(run.get("settings")))],
        "stages": [
            {
                "name": name,
                "state": str(stage.get("state", "unknown")),
                "seconds": seconds[name],
                "text": wording.duration(seconds[name]),
            }
            for name, stage in stages.items()
        ],
        "total": wording.duration(sum(s or 0.0 for s in seconds.values())),
        "skipped": [
            {"sample": str(row[0] or "unknown"), "reason": str(row[1] or "")}
            for row in data.get("skipped") or []
            if isinstance(row, list | tuple) and len(row) == 2
        ],
    }


def _flat(settings: JSON, prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", "not set" if value is None else str(value)))
    return rows
