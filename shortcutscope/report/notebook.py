"""Reports as elements of a notebook: isolated from its page, rendered once for each state of the run."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.compare.result import FILE as COMPARISON
from shortcutscope.compare.result import ComparisonRecord
from shortcutscope.embeddings.result import EmbeddingsAuditRecord
from shortcutscope.report.attribution import summarize_attribution
from shortcutscope.report.comparison import render_comparison
from shortcutscope.report.embeddings import render_embeddings
from shortcutscope.report.environment import environment
from shortcutscope.report.finding import summarize_finding
from shortcutscope.report.html import draw_finding, render_fragment
from shortcutscope.report.outputs import output_reports
from shortcutscope.report.run_files import read_run
from shortcutscope.report.summary import extent_zones
from shortcutscope.show import parts
from shortcutscope.show.isolation import isolated, sheet

#: Reports whose HTML is kept, of the runs shown last.
KEPT = 4
#: What a report is made of besides; a change of any of these renders it anew.
_MADE_OF = ("run.json", "findings.json", "profile.parquet", "subgroups.json", COMPARISON, "pixels", "masks")

State = tuple[tuple[str, int, int], ...]


def show_run(run: Path, plain: str) -> str:
    """The report of a run."""
    return _shown(_run_html(run, _state(run)), plain)


def show_comparison(record: ComparisonRecord, plain: str) -> str:
    """What changed from one network to others."""
    return _shown(render_comparison(record, page=False), plain)


def show_embeddings(record: EmbeddingsAuditRecord, plain: str) -> str:
    """An audit of embeddings."""
    return _shown(render_embeddings(record, page=False), plain)


def show_finding(finding: FindingRecord) -> str:
    """A finding as the report has it; of one that was read from no run what it says of itself."""
    if finding.run is None:
        text = f"{finding.verdict}, {finding.extent}"
        return sheet(
            parts.heading(finding.name, text),
            parts.notes([t for t in (finding.looks, finding.reason, *finding.notes) if t]),
            plain=repr(finding),
        )
    return _shown(_finding_html(finding.home(), finding.name, _state(finding.home())), repr(finding))


def _shown(html: str, plain: str) -> str:
    script, _, _ = environment().loader.get_source(environment(), "report.js")  # type: ignore[union-attr]
    return isolated(html, plain, script=script)


@lru_cache(maxsize=KEPT)
def _run_html(run: Path, state: State) -> str:
    return render_fragment(run)


@lru_cache(maxsize=4 * KEPT)
def _finding_html(run: Path, name: str, state: State) -> str:
    files = read_run(run)
    position = next(i for i, entry in enumerate(files.findings) if entry["name"] == name)
    summary = summarize_finding(files.findings[position], files, extent_zones(files.run), position)
    return (
        environment()
        .get_template("finding_alone.html")
        .render(
            finding=summary,
            report={"attribution": summarize_attribution(files.run)},
            figures={"findings": {summary["id"]: draw_finding(summary, "ss")}},
            page=False,
            uid="ss",
            first=True,
        )
    )


def _state(run: Path) -> State:
    """When each file that a report is made of was written last."""
    files = [run / name for name in _MADE_OF]
    files += [path for folder in files[-2:] if folder.is_dir() for path in sorted(folder.rglob("*.json"))]
    files += [part / name for part in output_reports(run) for name in _MADE_OF]
    stats = [(path, path.stat()) for path in files if path.exists()]
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats)
