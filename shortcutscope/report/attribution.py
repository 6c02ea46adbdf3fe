"""What the report says of the attribution: which one the relevances are, and what its check measured."""

from __future__ import annotations

from collections.abc import Mapping

from shortcutscope.report import wording
from shortcutscope.report.run_files import mapping, number, texts
from shortcutscope.types import JSON, Record

#: Figure of the check, its label, and what it should be.
FIGURES: Mapping[str, tuple[str, str]] = {
    "forward_error": ("Change of the scores", "over the largest one; the rules must not change them: 0"),
    "conservation": ("Relevance at the input", "over the score; 1 where neither biases nor rules keep any"),
    "absorbed_by_biases": ("Kept by biases and constants", "over the score; accounted for, no error"),
    "absorbed_by_rules": ("Kept by rules", "over the score; should be 0"),
    "remainder": ("Not accounted for", "over the score; more than 0 where something bypasses the rules"),
}

#: Operations that are shown, of those that kept most.
MAX_OPERATIONS = 3


def summarize_attribution(run: JSON) -> Record:
    """The attribution of a run in words and figures.

    Parameters
    ----------
    run : mapping
        ``run.json``; one without the key ``attribution`` was made with gradient x activation.

    Returns
    -------
    dict
        ``label``, ``requested``, ``fell_back``, ``reason``, ``figures`` of LRP's check (empty where there was
        none), ``passed`` and ``not_measured``.
    """
    record = mapping(run.get("attribution"))
    used, requested = str(record.get("used") or "gradient"), str(record.get("requested") or "gradient")
    checks = mapping(record.get("checks"))
    return {
        "label": label(used),
        "requested": label(requested),
        "fell_back": bool(record.get("reason")),
        "reason": str(record.get("reason") or ""),
        "passed": bool(checks.get("passed")),
        "figures": _figures(checks),
        "not_measured": [
            f"{', '.join(columns)}: not measured, since {why}."
            for why, columns in _by_reason(mapping(run.get("not_measured"))).items()
        ],
    }


def label(attribution: str) -> str:
    """An attribution in words.

    Examples
    --------
    >>> label("gradient"), label("lrp"), label("lrp:epsilon_plus")
    ('gradient × activation', 'LRP', 'LRP, epsilon_plus')
    """
    if attribution == "gradient":
        return "gradient × activation"
    return attribution.replace("lrp:", "LRP, ").replace("lrp", "LRP")


def _figures(checks: JSON) -> list[dict[str, str]]:
    rows = [
        {"key": key, "label": name, "value": _text(value), "hint": hint}
        for key, (name, hint) in FIGURES.items()
        if (value := number(checks.get(key))) is not None
    ]
    rows += [
        {
            "key": "operation",
            "label": f"{one.get('operation')} in {one.get('module') or 'the model itself'}",
            "value": _text(absorbed),
            "hint": "has no rule" if one.get("kind") == "no rule" else f"kept by its {one.get('kind')}",
        }
        for one in map(mapping, (checks.get("operations") or [])[:MAX_OPERATIONS])
        if (absorbed := number(one.get("absorbed"))) is not None
    ]
    # Of a model that was refused before the rules ran, nothing was measured.
    if checks.get("finite") is False and number(checks.get("forward_error")) is not None:
        rows.append({"key": "finite", "label": "NaN or infinite relevance", "value": "yes", "hint": "no"})
    rows += [
        {"key": "reason", "label": "Failed", "value": text, "hint": ""}
        for text in texts(checks.get("reasons"))
    ]
    return rows


def _text(value: float) -> str:
    """Three significant digits; what is tiny in powers of ten."""
    return (
        wording.decimal(value, 3) if value == 0 or abs(value) >= 0.001 else f"{value:.1e}".replace("-", "−")
    )


def _by_reason(not_measured: JSON) -> dict[str, list[str]]:
    """Reason -> columns."""
    reasons: dict[str, list[str]] = {}
    for column, why in not_measured.items():
        reasons.setdefault(str(why), []).append(column)
    return reasons
