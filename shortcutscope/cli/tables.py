"""What the commands print: tables for people, on a terminal or in a log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shortcutscope.files import to_json
from shortcutscope.machine import available_memory
from shortcutscope.probes.together.beside import describe

if TYPE_CHECKING:
    import pandas as pd

    from shortcutscope.audit.cost import AuditEstimate
    from shortcutscope.audit.finding import FindingRecord
    from shortcutscope.facade import Audit, Comparison, EmbeddingsAudit, Finding
    from shortcutscope.models.layers import Layer

_WORST = 10
#: Names that a row of an output says of what it uses besides.
NAMED = 4
# The verdict is always written out: colour only helps those who see it.
STYLES = {
    "shortcut": "bold red",
    "used on the pixels, a picture property": "bold yellow",
    "used on the pixels": "bold yellow",
    "encoded and used, may be the label": "yellow",
    "encoded and used, no cost measured": "yellow",
    "encoded and used, a picture property": "yellow",
    "encoded and used, not associated": "yellow",
    "explained by another concept": "default",
    "encoded, not used": "default",
    "not encoded": "default",
    "not testable": "dim",
}


def print_verdicts(console: Console, audit: Audit, report: Path) -> None:
    """Print a row per concept, what the reader must know, and where to look."""
    concluded = audit.conclusion
    for text in concluded.undecided:
        console.print(f"not decided: {text}", style="bold yellow", markup=False, highlight=False)
    console.print(output_table(audit) if audit.outputs else verdict_table(audit))
    for text in audit.run.get("warnings", []):
        console.print(f"warning: {text}", style="yellow", markup=False, highlight=False)
    for column, reason in audit.run.get("refused_columns", {}).items():
        console.print(f"column {column!r} was not tested: {reason}", markup=False, highlight=False)
    for finding in () if audit.outputs else audit.findings:
        if finding.same:
            line = f"{finding.name} stands for {', '.join(finding.same)}, too: they part the samples alike"
            console.print(line, markup=False, highlight=False)
    for finding in () if audit.outputs else audit.findings:
        clause = describe(finding.beside)
        if clause and finding.beside["statement"] != "beyond":
            verb = "" if clause.startswith("cannot") else "is "
            console.print(f"{finding.name} {verb}{clause}", markup=False, highlight=False)
    for name, reason in audit.run.get("discovery", {}).get("same", {}).items():
        console.print(f"{name} {reason}", markup=False, highlight=False)
    count = len(audit.shortcuts)
    told = {0: "no shortcut found", 1: "1 shortcut found"}.get(count, f"{count} shortcuts found")
    open_ = ", and some could not be decided (see the top)" if concluded.undecided else ""
    of = f"pairs of concept and output (of {len(audit.outputs)})" if audit.outputs else "concepts"
    console.print(f"{told} among {len(audit.findings)} {of}{open_}", style="bold", highlight=False)
    console.print(f"assumed: {concluded.assumption}", markup=False, highlight=False)
    if concluded.exit_code == 3:
        console.print("exit code 3: no shortcut is claimed, but it could not be decided", highlight=False)
    console.print(f"relevance: {audit.attribution}", markup=False, highlight=False)
    console.print(f"report:  {report}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"results: {audit.path}", markup=False, highlight=False, soft_wrap=True)


def output_table(audit: Audit) -> Table:
    """Build the table of several labels: a row for each output, with what it uses."""
    table = Table(title="Verdicts by output")
    for column in ("output", "with it", "AUROC", "shortcuts (AUROC cost)", "used besides", "conclusion"):
        table.add_column(column, overflow="fold")
    entries = {entry["name"]: entry for entry in audit.run["outputs"]}
    for name, entry in entries.items():
        size = f"{entry['positives']} of {entry['known']}"
        if name in audit.not_audited:
            table.add_row(name, size, "-", "-", "-", f"not audited: {audit.not_audited[name]}", style="dim")
            continue
        one = audit.outputs[name]
        used = [f for f in one.findings if f.verdict.startswith(("encoded and used", "used"))]
        shortcuts = ", ".join(f"{f.title} ({_measurements(f)[-1]})" for f in one.shortcuts)
        area = entry["performance"].get("auroc")
        row = [
            name,
            size,
            "-" if area is None else f"{area:.2f}",
            shortcuts or "-",
            _some([f.name for f in used]),
            one.conclusion.outcome,
        ]
        table.add_row(*(Text(text, style="bold red" if one.shortcuts else "default") for text in row))
    return table


def _some(names: Sequence[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more or "-"


def verdict_table(audit: Audit) -> Table:
    """Build the table of verdicts, ranked by what they cost."""
    table = Table(title="Verdicts, by cost")
    table.add_column("concept", overflow="fold")
    table.add_column("verdict", overflow="fold")
    for column in ("extent", "encoded", "used", "phi", "AUROC cost"):
        table.add_column(column, no_wrap=True)
    for finding in audit.findings:
        style = STYLES[finding.verdict]
        row = [finding.title, finding.statement, _extent(finding), *_measurements(finding)]
        table.add_row(*(Text(text, style=style) for text in row))
    return table


def _extent(finding: Finding) -> str:
    return finding.extent if finding.verdict.startswith(("shortcut", "encoded", "explained", "used")) else "-"


def _measurements(finding: FindingRecord) -> list[str]:
    """Availability, effect of use, association, and AUROC lost where the concept contradicts the label.

    The last with the samples of the smallest group that it rests on.
    """
    gap: Mapping[str, Any] = finding.effect.get("auroc_gap") or {}
    values = (
        finding.encoded.get("auroc"),
        finding.used.get("effect"),
        finding.association.get("phi"),
    )
    cost = f"{gap['value']:.2f} (n {gap.get('n', '?')})" if gap.get("value") is not None else "-"
    return [*("-" if value is None else f"{value:.2f}" for value in values), cost]


def print_reasons(console: Console, audit: Audit) -> None:
    """Print why each verdict is what it is, and what the reader should know besides."""
    for finding in audit.findings:
        of = f"{finding.output}, " if audit.outputs and finding.output else ""
        console.print(f"{of}{finding.title}: {finding.reason}", markup=False, highlight=False)
        for note in finding.notes:
            console.print(f"  {note}", markup=False, highlight=False)


def print_json(audit: Audit, report: Path) -> None:
    """Print outcome, exit code and a row a finding as one JSON object on standard output."""
    concluded = audit.conclusion
    content = {
        "outcome": concluded.outcome,
        "exit_code": 2 if audit.shortcuts else concluded.exit_code,
        "undecided": list(concluded.undecided),
        "assumption": concluded.assumption,
        "run": str(audit.path),
        "report": str(report),
        "findings": to_json(audit.to_frame().to_dict("records")),
    }
    print(json.dumps(content, ensure_ascii=False, allow_nan=False))


def print_embeddings(console: Console, audit: EmbeddingsAudit, report: Path) -> None:
    """Print a table of verdicts per encoder, what the reader must know, and where to look."""
    concluded = audit.conclusion

    def tell(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False)

    for text in concluded.undecided:
        tell(f"not decided: {text}", "bold yellow")
    for encoder in audit:
        table = Table(title=f"{encoder.name}: verdicts, by cost")
        table.add_column("concept", overflow="fold")
        table.add_column("verdict", overflow="fold")
        for column in ("encoded", "used", "phi", "AUROC cost"):
            table.add_column(column, no_wrap=True)
        for finding in encoder.findings:
            row = [finding.name, finding.verdict, *_measurements(finding)]
            table.add_row(*(Text(text, style=STYLES[finding.verdict]) for text in row))
        console.print(table)
        tell(f"{encoder.name}: {encoder.n_features} features; head: {encoder.head}")
        for note in encoder.notes:
            tell(f"{encoder.name}: {note}")
    for text in audit.run["warnings"]:
        tell(f"warning: {text}", "yellow")
    for column, reason in audit.run["refused_columns"].items():
        tell(f"column {column!r} was not tested: {reason}")
    tell(f"assumed: {concluded.assumption}")
    if concluded.exit_code == 3:
        tell("exit code 3: nothing was found, but it could not be decided")
    console.print(f"report:  {report}", markup=False, highlight=False, soft_wrap=True)


#: Metrics of the printed comparison, in this order.
COMPARED = (
    "robust_auroc", "worst_group_accuracy", "balanced_auroc", "delta_tpr", "flip_rate", "pixel_flip_rate",
    "levelled_auroc", "ece",
)  # fmt: skip


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print what got worse, then a table for each set of samples with the metrics that matter most."""
    worse = comparison.worse
    told = f"{len(worse)} of {comparison.compared} changes are for the worse"
    console.print(told, style="bold", highlight=False)
    for row in worse.head(_WORST).to_dict("records"):
        what = f"{row['metric']} {row['detail'] or ''}".strip()
        how = row["note"] if row["part"] == "verdict" else f"{row['change']:+.3f}"
        line = f"worse: {row['network']}, {row['table']}: {what} {how}"
        console.print(line, style="yellow", markup=False, highlight=False)
    for one in comparison.development:
        console.print(f"development data: {one['text']}", style="yellow", markup=False, highlight=False)
    for one in comparison.replacements:
        console.print(f"replacement: {one['text']}", style="yellow", markup=False, highlight=False)
    for samples in comparison.tables:
        console.print(comparison_table(comparison, samples["name"]))
    said = {one["text"] for one in comparison.development}
    for note in comparison.notes:
        if note in said:
            continue
        console.print(note, markup=False, highlight=False)


def comparison_table(comparison: Comparison, samples: str) -> Table:
    """A column per network: the verdict on the concept, and each metric with its 95 % interval."""
    table = Table(title=f"Before and after, by {comparison.concept}, on {samples}")
    table.add_column("")
    frame = comparison.frame
    whole = frame[frame["table"].eq(samples) & (frame["detail"].isna() | frame["detail"].eq(""))]
    for network in comparison.networks:
        table.add_column(network["name"], overflow="fold")
    table.add_row("verdict", *(network["verdict"] or "-" for network in comparison.networks))
    for metric in COMPARED:
        own = whole[whole["metric"].eq(metric)]
        cells = [_with_interval(own[own["network"].eq(network["name"])]) for network in comparison.networks]
        if set(cells) != {"-"}:
            table.add_row(metric.replace("_", " "), *cells)
    return table


def _with_interval(rows: pd.DataFrame) -> str:
    if rows.empty or rows["value"].isna().all():
        return "-"
    row = rows.iloc[0]
    interval = f" ({row['low']:.2f}-{row['high']:.2f})" if row["low"] == row["low"] else ""
    return f"{row['value']:.3f}{interval}" + (f", {row['note']}" if row["note"] else "")


def print_layers(console: Console, layers: Sequence[Layer]) -> None:
    """Print a row per layer, in the order in which they run."""
    table = Table(title=f"{len(layers)} layers")
    for column in ("depth", "name", "kind", "layout", "shape"):
        table.add_column(column, overflow="fold")
    for layer in layers:
        shape = " x ".join(str(n) for n in layer.shape)
        table.add_row(f"{layer.depth:.2f}", Text(layer.name), layer.kind, layer.layout, shape)
    console.print(table)


def print_estimate(console: Console, estimate: AuditEstimate) -> None:
    """Print what an audit would cost, stage by stage."""
    scan = estimate.scan

    def tell(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False)

    tell(f"scan: about {_duration(scan.seconds)}, {_size(scan.bytes)} on disk")
    tell(f"layers: {len(scan.layers)}" + (f" ({scan.layer_choice})" if scan.layer_choice else ""))
    tell(f"memory format: {scan.memory_format}")
    stages = ", ".join(f"{name} {_duration(seconds)}" for name, seconds in estimate.stages.items())
    tell(
        f"all stages: at most about {_duration(estimate.seconds)}, if all {estimate.n_concepts} concepts are "
        f"encoded ({stages}); what is discovered comes on top"
    )
    tell(f"memory of the statistics: about {_size(estimate.memory)}")
    free = available_memory()
    if free is not None and estimate.memory > free:
        tell(f"warning: {_size(free)} of memory are free, so that this audit will be refused", "yellow")
    tell(f"relevance: {scan.attribution}")
    if scan.attribution.warning:
        tell(f"warning: {scan.attribution.warning}", "yellow")
    console.print("nothing was written (--dry-run)")


def print_environment(console: Console, sections: Mapping[str, Mapping[str, str]]) -> None:
    """Print the sections of ``shortcutscope doctor``."""
    for title, entries in sections.items():
        table = Table(title=title, show_header=False, min_width=60)
        for name, value in entries.items():
            table.add_row(Text(name), Text(value))
        console.print(table)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
