"""The report as HTML: one self-contained file, and the same as a fragment for a notebook.

Data come from `summarize`, figures from `figures`, pictures from `gallery`; the templates lay them out.
Everything is escaped by default: names of concepts, files and samples are other people's text.
"""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from shortcutscope.compare.result import FILE, ComparisonRecord
from shortcutscope.files import write_atomically
from shortcutscope.progress import progress_bar, stage, total_progress
from shortcutscope.report import figures
from shortcutscope.report.cards import IN_A_LINE
from shortcutscope.report.charts import subgroups as subgroup_figures
from shortcutscope.report.charts.contrast import draw_sheet
from shortcutscope.report.comparison import render_comparison
from shortcutscope.report.environment import environment
from shortcutscope.report.gallery import read_gallery
from shortcutscope.report.outputs import output_reports, summarize_outputs
from shortcutscope.report.pixels import read_pairs
from shortcutscope.report.summary import summarize
from shortcutscope.types import JSON, Record

FINDING_FIGURES = (
    *("availability", "use", "cell_map", "zones", "lit", "layer_maps", "gallery", "contrast", "pixels"),
)


def render(run_dir: str | Path) -> str:
    """The report of a run as one HTML page that loads nothing from anywhere.

    Raises
    ------
    InputError
        When the run is unfinished or misses files; see `summarize`.
    """
    return _render("page.html", run_dir, uid="ss", page=True)


def render_fragment(run_dir: str | Path) -> str:
    """The same report without its script, for the shadow root of a notebook's element."""
    return _render("fragment.html", run_dir, uid="ss", page=False)


def write_report(run_dir: str | Path, path: str | Path | None = None, *, progress: bool = False) -> Path:
    """Write the report, whole or not at all; of several labels beside it a page for each output.

    Parameters
    ----------
    run_dir : path
        A finished run.
    path : path, optional
        Where to; by default ``report.html`` in the run directory.
    progress : bool
        Whether to show how many pages of several labels are written.

    Returns
    -------
    Path
    """
    goal = Path(path) if path is not None else Path(run_dir) / "report.html"
    if pages := output_reports(run_dir):
        with total_progress({"report": 1.0}, progress=progress), stage("report"):
            for folder in progress_bar(pages, desc="report", progress=progress, unit="page"):
                write_report(folder)
    content = _render("page.html", run_dir, uid="ss", page=True, beside=goal.parent).encode()
    write_atomically(goal, lambda file: file.write(content))
    return goal


def _render(template: str, run_dir: str | Path, *, uid: str, page: bool, beside: Path | None = None) -> str:
    if output_reports(run_dir):
        together = summarize_outputs(run_dir, beside)
        return (
            environment()
            .get_template(template)
            .render(report=together, body="outputs.html", uid=uid, page=page)
        )
    report = summarize(run_dir)
    page_template = environment().get_template(template)
    return page_template.render(
        report=report,
        figures=draw(report, uid),
        compared=compared(Path(run_dir)),
        body="body.html",
        uid=uid,
        page=page,
    )


def compared(run: Path) -> Markup | None:
    """Before and after, where networks were compared in this run.

    Raises
    ------
    InputError
        When the comparison is damaged.
    """
    if not (run / FILE).exists():
        return None
    # The template escapes what it is given.
    return Markup(render_comparison(ComparisonRecord.open(run / FILE), page=False, inside=True))


def draw(report: JSON, uid: str) -> Record:
    """All figures of a report.

    Parameters
    ----------
    report : mapping
        From `summarize`.
    uid : str
        Prefix of all ids.

    Returns
    -------
    dict
        ``availability``, ``use``, ``subgroups`` (SVG or None) and ``findings``, id to its figures.
    """
    heatmaps = report["heatmaps"]
    mapped = bool(heatmaps["concepts"] and heatmaps["layers"])
    used = mapped and any(v is not None for row in heatmaps["use"] for v in row)
    return {
        "availability": figures.availability_heatmap(heatmaps, f"{uid}-availability") if mapped else None,
        "use": figures.use_heatmap(heatmaps, f"{uid}-use") if used else None,
        "subgroups": subgroup_figures.forest(report["subgroups"], f"{uid}-subgroups"),
        "findings": {f["id"]: draw_finding(f, f"{uid}-{f['id']}") for f in report["findings"]},
    }


def draw_finding(finding: JSON, uid: str) -> dict[str, Markup | Record | list[Record] | None]:
    """Figures of one finding; what was not measured is not drawn."""
    markup: dict[str, Markup | Record | list[Record] | None] = dict.fromkeys(FINDING_FIGURES)
    if not finding["drawn"]:
        return markup
    if finding["contrast"] is not None and finding["kind"] not in IN_A_LINE:
        markup["contrast"] = draw_sheet(Path(finding["contrast"]), finding["classes"], f"{uid}-contrast")
    curves, extent, concept = finding["curves"], finding["extent"], finding["name"]
    if any(v is not None for v in curves["auroc"]):
        markup["availability"] = figures.availability_curve(finding, f"{uid}-availability")
    if any(v is not None for v in curves["use"]):
        markup["use"] = figures.use_curve(finding, f"{uid}-use")
    if extent["cell_map"] is not None:
        markup["cell_map"] = figures.cell_map(extent, f"{uid}-cells", concept)
    if extent["statistic"] is not None:
        markup["zones"] = figures.extent_zones(extent, f"{uid}-zones", concept)
    markup["lit"] = figures.lit_curve(extent, f"{uid}-lit", concept)
    markup["layer_maps"] = figures.layer_maps(extent, f"{uid}-layers", concept)
    if finding["gallery"] is not None:
        gallery = read_gallery(Path(finding["gallery"]))
        top = gallery["top"]
        bar = None if top is None else figures.relevance_bar(top, f"{uid}-relevance")
        markup["gallery"] = {**gallery, "bar": bar}
    if finding["pixels"] and finding["pixels"]["pictures"]:
        markup["pixels"] = read_pairs(Path(finding["pixels"]["pictures"]))
    return markup
