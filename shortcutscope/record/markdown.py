"""A run as Markdown: a section of a model card, and the lines of a risk file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shortcutscope.record.content import RunContent, RunFigure


def modelcard(content: RunContent) -> str:
    """Write a section on shortcuts for a model card.

    References
    ----------
    Mitchell et al. 2019, Model cards for model reporting. FAccT.
    """
    who = f"{content.samples} images" + (f" of {content.patients} patients" if content.patients else "")
    lines = [
        "## Shortcuts",
        "",
        f"{_text(content.headline)} Audited on {who} with shortcutscope {content.version}.",
        *(f"\n{_text(text)}" for text in content.advice),
        "",
        *_table(
            ("Concept", "Verdict", "Robust AUROC (95 %)", "Aligned AUROC (95 %)", "Use U (95 %)"),
            [
                (
                    line.name,
                    line.verdict,
                    *(_shown(line.figures, name) for name in ("robust_auroc", "aligned_auroc", "use")),
                )
                for line in content.concepts
            ],
        ),
        "",
        "Robust AUROC is that of the samples in which the concept disagrees with the label.",
        "",
        "### Subgroups",
        "",
        *_table(
            ("Part", "RunFigure", "Value (95 %)"),
            [(f.part or "all", f.name, _shown([f], f.name)) for f in content.figures],
        ),
        "",
        "### Limitations",
        "",
        *(f"- {_text(text)}" for text in content.limitations),
        *_run(content),
    ]
    return "\n".join(lines) + "\n"


def hazards(content: RunContent) -> str:
    """Write limitations and a line a hazard, as a file of risks by ISO 14971 has them."""
    failed = [line for line in content.concepts if line.failed]
    untested = [f"{line.name} was not tested: {line.reason}" for line in content.concepts if line.skipped]
    lines = [
        f"# Limitations and hazards of {_text(content.model)}",
        "",
        _text(content.headline),
        "",
        *_table(
            ("Hazard", "Cause", "Evidence", "Control"),
            [
                (f"Misclassification where {line.name} misleads", line.cause, line.sentence, line.control)
                for line in failed
            ],
        ),
        *([] if failed else ["No shortcut was found among the concepts that were tested."]),
        "",
        "## Limitations",
        "",
        *(f"- {_text(text)}" for text in (*content.advice, *content.limitations, *untested)),
        *_run(content),
    ]
    return "\n".join(lines) + "\n"


def methods(content: RunContent) -> str:
    """Write how the run was made, in complete sentences for a methods section, with references."""
    return str(content.methods)


def _run(content: RunContent) -> list[str]:
    digest = f", run `{content.digest}`" if content.digest else ""
    return ["", f"Model `{content.fingerprint}`{digest}."] if content.fingerprint else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    body = [f"| {' | '.join(_text(cell) for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |", *body]


def _shown(figures: Sequence[RunFigure], name: str) -> str:
    """The first figure of a name with its interval, as it is: readers round, records do not."""
    figure = next((f for f in figures if f.name == name), None)
    if figure is None:
        return ""
    ends = "" if figure.low is None or figure.high is None else f" ({figure.low!r} to {figure.high!r})"
    return f"{figure.value!r}{ends}"


def _text(value: str) -> str:
    """Other people's names as text on one line: no tables, headings, links or HTML come of them."""
    flat = " ".join(value.split())
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", flat)
