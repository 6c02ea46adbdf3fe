"""One finding as pure data: verdict, the three questions behind it, cost, extent, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from shortcutscope.data.pictures import KINDS
from shortcutscope.report import wording
from shortcutscope.report.cards import column_of, place_of
from shortcutscope.report.contrast import classes_of, summarize_appearance
from shortcutscope.report.pixels import summarize_pixels
from shortcutscope.report.run_files import RunFiles, interval, mapping, number, texts
from shortcutscope.types import JSON, Record

EFFECTS = {
    "robust_auroc": ("Robust AUROC", "AUROC where the concept disagrees with the label"),
    "aligned_auroc": ("Aligned AUROC", "AUROC where the concept agrees with the label"),
    "auroc_gap": ("Gap", "aligned minus robust AUROC: what the shortcut costs"),
    "worst_group_accuracy": ("Worst group", "accuracy in the worst of the class x concept groups"),
    "balanced_auroc": ("Balanced AUROC", "AUROC with every class x concept group weighted alike"),
    "flip_rate": ("Flip rate", "share of predictions that change when the concept is taken out"),
}
CURVES = ("auroc", "auroc_low", "auroc_high", "null_mean", "null_high", "use", "use_low", "use_high")
CORRELATIONS = ("95/5", "80/20", "70/30", "60/40")


def summarize_finding(
    finding: JSON, files: RunFiles, zones: Mapping[str, float] | None, position: int
) -> Record:
    """Plain data of one finding.

    Parameters
    ----------
    finding : mapping
        An entry of ``findings.json``; any value may be null.
    files : RunFiles
        The run it belongs to.
    zones : mapping or None
        Limits of the extent verdict.
    position : int
        Rank, for anchors.
    """
    name, verdict = str(finding["name"]), str(finding.get("verdict"))
    kind, label = wording.verdict_label(finding)
    depths = _depths(files)
    gallery, contrast = files.gallery(name), files.contrast(name)
    return {
        "id": f"finding-{position}",
        "name": name,
        "column": column_of(finding),
        "origin": wording.origin(str(finding.get("origin") or "")),
        "description": str(finding.get("description") or ""),
        "verdict": verdict,
        "kind": kind,
        "label": label,
        "testable": verdict != "not testable",
        "drawn": verdict != "not testable",
        "sentence": wording.sentence(finding),
        "reason": str(finding.get("reason") or ""),
        "where": wording.where(finding, depths),
        "cost": wording.cost(mapping(finding.get("effect"))) if kind == "shortcut" else None,
        "checks": _checks(finding) if verdict != "not testable" else [],
        "used": {"threshold": number(mapping(finding.get("used")).get("threshold"))},
        "effect": _effect(finding),
        "association": _association(finding, files),
        "power": _power(finding),
        "counts": _counts(finding),
        "weights": _weights(finding, depths),
        "curves": _curves(files.profile, name),
        "extent": _extent(finding, zones, files),
        "gallery": None if gallery is None else str(gallery),
        "looks": wording.looks(finding),
        "appearance": summarize_appearance(finding),
        "contrast": None if contrast is None else str(contrast),
        "place": place_of(finding),
        "classes": classes_of(files.run),
        "beside": wording.beside(finding),
        "pixels": summarize_pixels(finding, files.pixel_pictures(name)),
        "notes": texts(finding.get("notes")),
    }


def _depths(files: RunFiles) -> dict[str, float]:
    layers = [mapping(layer) for layer in files.run.get("layers") or []]
    return {str(x["name"]): d for x in layers if "name" in x and (d := number(x.get("depth"))) is not None}


def _checks(finding: JSON) -> list[Record]:
    """The questions that make a shortcut, each with its answer and the evidence in one line."""
    encoded, used = mapping(finding.get("encoded")), mapping(finding.get("used"))
    association = mapping(finding.get("association"))
    return [
        {"question": "Is it encoded?", "value": encoded.get("value"), "text": _encoded_text(encoded)},
        {"question": "Is it used?", "value": used.get("value"), "text": _used_text(used)},
        {
            "question": "Does it go with the label?",
            "value": association.get("value"),
            "text": _association_text(association),
        },
        *_beside_check(mapping(finding.get("beside"))),
    ]


def _beside_check(beside: JSON) -> list[Record]:
    """A fourth question, of concepts that go with others; a no acquits."""
    statement, ends = beside.get("statement"), interval(beside.get("interval"))
    if not statement:
        return []
    value = {"beyond": True, "explained by": False}.get(str(statement))
    text = f"{statement} {wording.listed(texts(beside.get('with')))}"
    effect = number(beside.get("effect"))
    if effect is not None:
        text += f"; {equation('U', wording.decimal(effect))}"
        text += f" ({wording.between(ends)})" if ends else ""
    cost = mapping(beside.get("cost"))
    price, ends = number(cost.get("value")), interval(cost.get("interval"))
    if price is not None:
        text += f"; costs {wording.decimal(price)} AUROC" + (f" ({wording.between(ends)})" if ends else "")
        text += " with what is used as well held fixed"
    more = number(beside.get("needed"))
    text += f"; about {wording.count(more)} more samples that differ are needed" if more is not None else ""
    return [{"question": "Is it used beyond others?", "value": value, "text": text}]


def _encoded_text(encoded: JSON) -> str:
    auroc = number(encoded.get("auroc"))
    if auroc is None:
        return "not measured"
    ends, layer = interval(encoded.get("interval")), encoded.get("layer")
    text = f"AUROC {wording.decimal(auroc)}" + (f" ({wording.between(ends)})" if ends else "")
    return text + (f" at {layer}" if layer else "") + _significance(encoded)


def _used_text(used: JSON) -> str:
    effect = number(used.get("effect"))
    if effect is None:
        return "not measured"
    ends, limit, layer = interval(used.get("interval")), number(used.get("threshold")), used.get("layer")
    text = equation("U", wording.decimal(effect)) + (f" ({wording.between(ends)})" if ends else "")
    text += f" at {layer}" if layer else ""
    text += f", threshold {wording.decimal(limit)}" if limit is not None else ""
    flips = number(used.get("flip_rate"))
    return text + (f"; {wording.percent(flips)} of the predictions flip" if flips is not None else "")


def _association_text(association: JSON) -> str:
    phi = number(association.get("phi"))
    if phi is None:
        return "not measured"
    source = association.get("source")
    where = f" in the {source}" if source else ""
    return equation("φ", wording.decimal(phi)) + where + _significance(association)


def _significance(tested: JSON) -> str:
    for key in ("q", "p"):
        value = number(tested.get(key))
        if value is not None:
            return f", {equation(key, wording.p_value(value))}"
    return ""


def equation(symbol: str, value: str) -> str:
    """``q = 0.01`` or ``q < 0.001``, never broken over two lines."""
    text = f"{symbol} {value}" if value.startswith("<") else f"{symbol} = {value}"
    return text.replace(" ", "\u00a0")


def _effect(finding: JSON) -> list[Record]:
    effect = mapping(finding.get("effect"))
    rows = []
    for key, (label, hint) in EFFECTS.items():
        entry = mapping(effect.get(key))
        value, ends = number(entry.get("value")), interval(entry.get("interval"))
        if key == "flip_rate" and value is None:
            value = number(mapping(finding.get("used")).get("flip_rate"))
        show = wording.percent if key == "flip_rate" else wording.decimal
        interval_text = "" if ends is None else f"{show(ends[0])} to {show(ends[1])}"
        n, why = number(entry.get("n")), str(entry.get("why") or "")
        rows.append(
            {
                "key": key,
                "label": label,
                "hint": hint,
                "why": why,
                "value": value,
                "text": "not measured" if why else show(value),
                "interval_text": interval_text,
                "count_text": "" if n is None else f"n\u00a0=\u00a0{wording.count(n)}",
            }
        )
    return rows


def _association(finding: JSON, files: RunFiles) -> Record:
    """Carriers in every class: shares between 0 and 1, or counts where an audit wrote counts."""
    association = mapping(finding.get("association"))
    names = texts(mapping(files.run.get("data")).get("classes"))
    carriers = {
        str(k): v
        for k, raw in mapping(association.get("carriers_by_class")).items()
        if (v := number(raw)) is not None
    }
    shares = all(v <= 1 for v in carriers.values())
    largest = 1.0 if shares else max(carriers.values(), default=1.0)
    classes = []
    for key, value in carriers.items():
        label = names[int(key)] if key.isdigit() and int(key) < len(names) else f"class {key}"
        text = wording.percent(value) if shares else wording.count(value)
        classes.append(
            {"label": label, "value": value, "text": text, "width": round(100 * value / largest, 1)}
        )
    return {"source": str(association.get("source") or ""), "classes": classes}


def _power(finding: JSON) -> Record:
    power = mapping(finding.get("power"))
    values = {key: number(power.get(key)) for key in CORRELATIONS}
    any_value = any(v is not None for v in values.values())
    return {
        "sentence": wording.power_sentence(finding),
        "smallest": wording.decimal(number(power.get("smallest_effect"))),
        "rows": [{"label": k, "value": v, "text": wording.percent(v)} for k, v in values.items()]
        if any_value
        else [],
    }


def _counts(finding: JSON) -> list[dict[str, str]]:
    labels = {
        "known": "samples with a known value",
        "carriers": "carry it",
        "conflicting": "disagree with the label",
        "groups": "patients",
    }
    counted = mapping(finding.get("n_samples"))
    return [
        {"label": label, "value": wording.count(counted[key])}
        for key, label in labels.items()
        if number(counted.get(key)) is not None
    ]


def _weights(finding: JSON, depths: Mapping[str, float]) -> list[Record]:
    """Layers that the audit would work on, from input to output."""
    weights = {str(k): w for k, v in mapping(finding.get("layers")).items() if (w := number(v)) is not None}
    ordered = sorted(weights, key=lambda layer: depths.get(layer, 1.0))
    return [
        {"layer": layer, "value": weights[layer], "text": wording.percent(weights[layer])}
        for layer in ordered
    ]


def _curves(profile: pd.DataFrame, name: str) -> dict[str, list[Any]]:
    """A concept's rows of the profile, from input to output."""
    rows = profile[profile["concept"].astype(str) == name]
    if "depth" in rows:
        rows = rows.sort_values("depth", kind="stable")
    curves: dict[str, list[Any]] = {"layers": [str(layer) for layer in rows["layer"]]}
    for key in CURVES:
        curves[key] = [number(v) for v in rows[key].tolist()] if key in rows else [None] * len(rows)
    return curves


def _extent(finding: JSON, zones: Mapping[str, float] | None, files: RunFiles) -> Record:
    evidence = mapping(finding.get("evidence"))
    statistic, ends = number(finding.get("extent_statistic")), interval(finding.get("extent_interval"))
    extent = str(finding.get("extent") or "undetermined")
    kind = KINDS.get(_axes(evidence.get("cell_map")), "image")
    by_layer = {str(k): mapping(v) for k, v in mapping(evidence.get("layers")).items()}
    names = [str(mapping(x).get("name")) for x in files.run.get("layers") or []]
    order = [x for x in names if x in by_layer] + [x for x in by_layer if x not in names]
    layers = [
        {
            "layer": name,
            "statistic": number(by_layer[name].get("statistic")),
            "cell_map": grid(by_layer[name].get("cell_map")),
        }
        for name in order
    ]
    return {
        "verdict": extent,
        "label": extent,
        "kind": kind,
        "text": wording.EXTENTS.get(extent, extent).format(kind=kind),
        "reason": _sentence(finding.get("extent_reason")),
        "statistic": statistic,
        "statistic_text": wording.percent(statistic),
        "interval": ends,
        "interval_text": "" if ends is None else f"{wording.percent(ends[0])} to {wording.percent(ends[1])}",
        "zones": None if zones is None else dict(zones),
        "cell_map": grid(evidence.get("cell_map")),
        "layers": layers,
        "participation": _participation(mapping(evidence.get("participation"))),
        "places": _places(mapping(evidence.get("places"))),
    }


def _sentence(text: object) -> str:
    clause = str(text or "").strip()
    return clause[:1].upper() + clause[1:] + ("" if not clause or clause.endswith(".") else ".")


def _participation(values: JSON) -> list[dict[str, str]]:
    numbers = {str(k): v for k, raw in values.items() if (v := number(raw)) is not None}
    return [
        {"label": k.replace("present=", "present:\u00a0"), "text": wording.decimal(v, 3)}
        for k, v in numbers.items()
    ]


def _places(values: JSON) -> list[dict[str, str]]:
    known = [(label, number(values.get(key))) for key, label in wording.PLACES.items()]
    return [{"label": label, "text": wording.decimal(v, 2)} for label, v in known if v is not None]


def grid(value: Any) -> list[list[float | None]] | None:
    """A map of numbers as a picture, or None where there is none that can be drawn as one.

    That of a signal is one row; the slices of a volume lie beside and below each other, empty cells between.
    """
    axes = _axes(value)
    if axes == 1:
        value = [value]
    elif axes == 3:
        value = _laid_out(value)
    if not isinstance(value, list) or not value or not all(isinstance(row, list) and row for row in value):
        return None
    if len({len(row) for row in value}) != 1 or any(isinstance(cell, list) for row in value for cell in row):
        return None
    return [[number(cell) for cell in row] for row in value]


def _axes(value: object) -> int:
    """How deeply lists are nested, by their first entries; 0 for no list and for an empty one."""
    return 1 + _axes(value[0]) if isinstance(value, list) and value else 0


def _laid_out(slices: Sequence[Any]) -> list[list[Any]] | None:
    """Slices (D, H, W) in rows of equal length, an empty line between two; None where they are not equal."""
    try:
        values = np.array(slices, dtype=float)
    except (TypeError, ValueError):
        return None
    columns = int(np.ceil(np.sqrt(len(values))))
    height, width = values.shape[1] + 1, values.shape[2] + 1
    laid = np.full((-(-len(values) // columns) * height, columns * width), np.nan)
    for k, one in enumerate(values):
        top, left = k // columns * height, k % columns * width
        laid[top : top + height - 1, left : left + width - 1] = one
    rows: list[list[Any]] = laid[:-1, :-1].tolist()
    return rows
