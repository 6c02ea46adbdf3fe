"""The report on several labels as pure data: concepts by outputs, and where each output's page is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from shortcutscope.audit.outputs import LABEL
from shortcutscope.audit.record import AuditRecord
from shortcutscope.audit.run_directory import read_record
from shortcutscope.report import wording
from shortcutscope.report.attribution import summarize_attribution
from shortcutscope.report.methods import methods_of
from shortcutscope.report.run_files import mapping, number, read_run, texts
from shortcutscope.report.search import summarize_search
from shortcutscope.report.summary import facts_of, provenance_of, sentence_case, title_of
from shortcutscope.types import JSON, Record

PAGE = "report.html"


def output_reports(run_dir: str | Path) -> list[Path]:
    """The run directories of the outputs of an audit of several labels; empty where there is one label."""
    folder = Path(run_dir)
    if not (folder / "run.json").is_file():
        return []
    entries = read_record(folder).get("outputs") or ()
    return [folder / entry["folder"] for entry in entries if entry.get("folder")]


def summarize_outputs(run_dir: str | Path, beside: Path | None = None) -> Record:
    """Everything that the first page on several labels says.

    Parameters
    ----------
    run_dir
        A finished run directory of several labels.
    beside
        The folder that the page lies in, from which the outputs' pages are linked; None for no links.

    Returns
    -------
    dict
        ``title``, ``headline``, ``undecided``, ``facts``, ``warnings``, ``assumptions``, ``outputs`` (one
        a label), ``concepts`` (each with a cell per output), ``legend``, ``search``, ``attribution``,
        ``provenance``, ``methods`` (text).

    Raises
    ------
    InputError
        When the run is missing files or is unfinished.
    """
    files, audit = read_run(run_dir), AuditRecord.open(run_dir)
    run, concluded = files.run, audit.conclusion
    outputs = [_output(entry, audit, beside) for entry in run["outputs"]]
    headline = _headline(files.findings, len(audit.outputs))
    attribution = summarize_attribution(run)
    return {
        "title": title_of(run),
        "headline": f"Not decided. {headline}" if concluded.outcome == "not decided" else headline,
        "undecided": [sentence_case(text) for text in concluded.undecided],
        "facts": [*facts_of(run), {"label": "Labels", "value": str(len(outputs))}],
        "created": str(run.get("created") or ""),
        "version": str(run.get("version") or ""),
        "warnings": [sentence_case(text) for text in texts(run.get("warnings"))],
        "assumptions": [sentence_case(t) for t in (*texts(run.get("assumptions")), concluded.assumption)],
        "outputs": outputs,
        "concepts": _concepts(files.findings, [entry["name"] for entry in outputs]),
        "legend": _legend(),
        "search": _search(run, files.findings),
        "attribution": attribution,
        "provenance": provenance_of(run),
        "methods": str(methods_of(run, files.findings, title_of(run))),
    }


def _output(entry: JSON, audit: AuditRecord, beside: Path | None) -> Record:
    name = str(entry["name"])
    one = audit.outputs.get(name)
    link = None
    if one is not None and beside is not None:
        link = Path(os.path.relpath(one.path / PAGE, beside)).as_posix()
    return {
        "name": name,
        "link": link,
        "positives": wording.count(entry.get("positives")),
        "known": wording.count(entry.get("known")),
        "auroc": wording.decimal(number(mapping(entry.get("performance")).get("auroc")), 3),
        "conclusion": str(entry.get("not_audited") or "") if one is None else one.conclusion.outcome,
        "shortcuts": [] if one is None else [f.name for f in one.shortcuts],
        "audited": one is not None,
    }


def _concepts(findings: Sequence[JSON], outputs: Sequence[str]) -> list[Record]:
    """A row per concept, those with most shortcuts first, labels behind the others."""
    rows: dict[str, dict[str, JSON]] = {}
    for finding in findings:
        rows.setdefault(str(finding["name"]), {})[str(finding.get("output"))] = finding
    concepts = [
        {
            "name": name,
            "title": wording.title(next(iter(by_output.values()))),
            "is_label": all(f.get("origin") == LABEL for f in by_output.values()),
            "shortcuts": sum(f.get("verdict") == "shortcut" for f in by_output.values()),
            "cells": [_cell(name, output, by_output) for output in outputs],
        }
        for name, by_output in rows.items()
    ]
    return sorted(concepts, key=lambda row: (row["is_label"], -row["shortcuts"], row["name"]))


def _cell(name: str, output: str, by_output: Mapping[str, JSON]) -> Record | None:
    """What one output makes of one concept; None where that is its own label, or it was not audited."""
    finding = by_output.get(output)
    if finding is None:
        return None
    kind, label = wording.VERDICTS[str(finding["verdict"])]
    use = number(mapping(finding.get("used")).get("effect"))
    phi = number(mapping(finding.get("association")).get("phi"))
    return {
        "kind": kind,
        "label": label,
        "use": wording.decimal(use),
        "phi": wording.decimal(phi),
        "cost": wording.cost(mapping(finding.get("effect"))) if kind == "shortcut" else None,
        "text": f"{name} at {output}: {label}. {finding.get('reason') or ''}".strip(),
    }


def _search(run: JSON, findings: Sequence[JSON]) -> Record:
    """What was looked for unnamed, with what came of a proposal at each of its outputs."""
    verdicts: dict[str, list[str]] = {}
    for finding in findings:
        label = wording.VERDICTS[str(finding["verdict"])][1]
        verdicts.setdefault(str(finding["name"]), []).append(f"{finding.get('output')}: {label}")
    told = {name: "; ".join(outcomes) for name, outcomes in verdicts.items()}
    return summarize_search({"discovery": run.get("discovery")}, told)


def _legend() -> list[dict[str, str]]:
    """Icons and what they mean; some verdicts share one."""
    labels: dict[str, list[str]] = {}
    for kind, label in wording.VERDICTS.values():
        labels.setdefault(kind, []).append(label)
    return [{"kind": kind, "label": " or ".join(some)} for kind, some in labels.items()]


def _headline(findings: Sequence[JSON], n_outputs: int) -> str:
    shortcuts = [f for f in findings if f.get("verdict") == "shortcut"]
    of = f"{wording.plural(n_outputs, 'output')}"
    if not shortcuts:
        return f"No shortcut was found at any of {of}."
    concerned = {str(f.get("output")) for f in shortcuts}
    off_target = sum(f.get("origin") == LABEL for f in shortcuts)
    text = f"{wording.plural(len(shortcuts), 'shortcut')} at {len(concerned)} of {of}"
    named = wording.listed([f"{wording.title(f)} for {f.get('output')}" for f in shortcuts[:3]])
    more = f" and {len(shortcuts) - 3} more" if len(shortcuts) > 3 else ""
    off = (
        f" {off_target} of them {'is' if off_target == 1 else 'are'} off-target: the label of another output."
    )
    return f"{text}: {named}{more}." + (off if off_target else "")
