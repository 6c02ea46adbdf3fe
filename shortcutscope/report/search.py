"""What the report says of the search for what nobody named: proposals, and what goes with the label."""

from __future__ import annotations

from collections.abc import Mapping

from shortcutscope.data.properties.names import measured_source
from shortcutscope.report import wording
from shortcutscope.report.run_files import mapping, number, texts
from shortcutscope.types import JSON, Record

#: Dropped proposals, and metadata columns, that are shown.
MAX_DROPPED = 10
MAX_COLUMNS = 25


def summarize_search(run: JSON, verdicts: Mapping[str, str]) -> Record:
    """The search of a run in words and figures.

    Parameters
    ----------
    run : mapping
        ``run.json``; one without the keys ``discovery`` and ``metadata`` searched for nothing.
    verdicts : mapping
        Name of a finding to its verdict in words.

    Returns
    -------
    dict
        ``searched``, ``looked_at``, ``proposals``, ``dropped``, ``dropped_note``, ``notes`` of the discovery;
        ``columns``, ``columns_note`` and ``classifier`` of the metadata; ``measured``, the columns that were
        measured of files and pictures.
    """
    discovery, metadata = mapping(run.get("discovery")), mapping(run.get("metadata"))
    same = mapping(discovery.get("same"))
    dropped = [mapping(row) for row in discovery.get("dropped") or []]
    columns = [mapping(row) for row in metadata.get("columns") or []]
    measured = [mapping(row) for row in mapping(run.get("measured")).get("columns") or []]
    return {
        "searched": bool(discovery),
        "looked_at": wording.count(discovery.get("looked_at")),
        "proposals": [
            {**_proposal(row), "outcome": same.get(row["name"]) or verdicts.get(row["name"], "not tested")}
            for row in map(mapping, discovery.get("proposals") or [])
        ],
        "dropped": [{**_proposal(row), "outcome": str(row["dropped"])} for row in dropped[:MAX_DROPPED]],
        "dropped_note": _more(len(dropped) - MAX_DROPPED, "weaker candidates"),
        "notes": texts(discovery.get("notes")),
        "columns": [_column(row) for row in columns[:MAX_COLUMNS]],
        "columns_note": _more(len(columns) - MAX_COLUMNS, "columns that go with the label less"),
        "measured": [{**_column(row), "from": _source(str(row["column"]))} for row in measured],
        "classifier": [_score(mapping(row)) for row in metadata.get("classifier") or []],
    }


def _proposal(row: JSON) -> dict[str, str]:
    views = texts(row.get("views"))
    shares = mapping(row.get("shares"))
    return {
        "name": str(row["name"]),
        "views": views[0] if views else wording.MISSING,
        "more_views": "; ".join(views[1:]),
        "shares": ", ".join(f"{wording.percent(number(v))} of class {k}" for k, v in shares.items()),
        "gap": wording.decimal(number(row.get("logit_gap"))),
        "strength": wording.decimal(number(row.get("strength"))),
    }


def _column(row: JSON) -> dict[str, str]:
    missing = row.get("kind") == "missing"
    return {
        "name": str(row["column"]),
        "kind": "whether it is missing" if missing else str(row["kind"]),
        "n": wording.count(row.get("n")),
        "cramers_v": wording.decimal(number(row.get("cramers_v"))),
        "auroc": wording.decimal(number(row.get("auroc"))),
        "q": wording.p_value(number(row.get("q"))),
    }


def _source(column: str) -> str:
    return measured_source(column) or wording.MISSING


def _score(row: JSON) -> dict[str, str]:
    values = {k: wording.decimal(number(row.get(k))) for k in ("balanced_accuracy", "auroc", "majority")}
    return {"split": str(row.get("split") or "all"), "n": wording.count(row.get("n")), **values}


def _more(count: int, what: str) -> str:
    return f"{count} {what} are in run.json." if count > 0 else ""
