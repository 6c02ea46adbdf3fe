"""An audit, and what can be seen of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from shortcutscope.audit import stages
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.record import AuditRecord
from shortcutscope.audit.seal import changed_files, seal
from shortcutscope.discover.embedding import embed
from shortcutscope.errors import InputError
from shortcutscope.facade.findings import Finding
from shortcutscope.facade.giving import giving
from shortcutscope.files import write_atomically
from shortcutscope.processes import is_main
from shortcutscope.record.content import content_of
from shortcutscope.record.formats import FORMATS
from shortcutscope.report.charts.plots import draw_costs
from shortcutscope.report.embedding import draw_embedding
from shortcutscope.report.html import write_report
from shortcutscope.report.notebook import show_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Audit", "audit"]


@dataclass(frozen=True, repr=False)
class Audit(AuditRecord):
    """A finished audit, and what can be seen of it. Attributes: see `AuditRecord`.

    Examples
    --------
    >>> audit = ss.Audit.open("run")
    >>> len(audit), "tag" in audit, [finding.name for finding in audit.shortcuts]
    (3, True, ['tag'])
    >>> audit.finding("coin").verdict, audit.changed_files()
    ('not encoded', [])
    >>> page = audit.report("report.html")
    >>> figure = audit.map("tag")  # doctest: +SKIP
    """

    findings: tuple[Finding, ...]

    of_finding: ClassVar[type[FindingRecord]] = Finding

    def finding(self, name: str) -> Finding:
        """The finding of a name, see `AuditRecord.finding`."""
        finding = super().finding(name)
        assert isinstance(finding, Finding)
        return finding

    @property
    def shortcuts(self) -> tuple[Finding, ...]:
        """The findings whose verdict is ``shortcut``."""
        return tuple(f for f in self.findings if f.verdict == "shortcut")

    def __contains__(self, name: object) -> bool:
        """Whether there is a finding of that name, or of several labels an output of it."""
        return name in self.outputs or any(name == f.name or name in f.same for f in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        """Findings, those that cost most first."""
        return iter(self.findings)

    def __len__(self) -> int:
        """Number of findings."""
        return len(self.findings)

    def __bool__(self) -> bool:
        """An audit is one, also without findings."""
        return True

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw what each concept costs: AUROC where it agrees with the label, and where it does not.

        Parameters
        ----------
        ax
            Where to draw; by default on a figure of its own.

        Examples
        --------
        >>> ss.Audit.open("runs/derm").plot().savefig("costs.png")  # doctest: +SKIP
        """
        return draw_costs(self.findings, ax)

    def map(
        self,
        finding: str | None = None,
        layer: str | None = None,
        *,
        by: str = "relevance",
        seed: int = 0,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw the samples laid out by UMAP, for the eye alone.

        Parameters
        ----------
        finding
            Whose carriers to show; by default those of the first finding, if there is any.
        layer
            By default the last one scanned.
        by
            ``"relevance"`` or ``"activation"`` of the layer.
        seed
            Of the layout.
        ax
            Where to draw; by default on a figure of its own.
        """
        if by not in ("relevance", "activation"):
            raise InputError(f"by={by!r}; allowed are 'relevance' and 'activation'")
        scanned = self.scan
        place = scanned.layer(layer) if layer else scanned.layers[-1]
        rows, points = embed(getattr(scanned, by)(place), seed=seed)
        shown = self.finding(finding) if finding else next(iter(self.findings), None)
        ids = scanned.samples["sample_id"]
        values = shown.concept.aligned_to(ids).values[rows] if shown else None
        title = f"{by} at {place.name}" + (f": {shown.name}" if shown else "")
        labels = scanned.samples["label"].to_numpy()[rows]
        classes = self.run.get("data", {}).get("classes") or ()
        return draw_embedding(points, labels, values, classes=classes, title=title, ax=ax)

    def report(self, path: str | Path | None = None, *, progress: bool = True) -> Path:
        """Write the report, one self-contained HTML file (by default ``report.html`` in the run).

        Of several labels it has a page for each, whose progress is shown.
        """
        return write_report(self.path, Path(path) if path else None, progress=progress)

    def record(self, format: str, path: str | Path | None = None) -> str:
        """What was found, as a record that other tools read; every figure is that of ``findings.json``.

        Parameters
        ----------
        format
            See :data:`shortcutscope.record.formats.FORMATS`: ``"junit"``, ``"cyclonedx"``, ``"modelcard"``,
            ``"huggingface"``, ``"fda"``, ``"methods"`` or ``"markdown"``.
        path
            File to write; None for none.

        Returns
        -------
        str
            The text.

        Raises
        ------
        InputError
            For an unknown format.

        Examples
        --------
        >>> ss.Audit.open("runs/derm").record("junit", "shortcuts.xml")  # doctest: +SKIP
        """
        text = FORMATS[format](content_of(self))
        if path is not None:
            write_atomically(Path(path), lambda file: file.write(text.encode()))
        return text

    def methods(self) -> str:
        """Text for a methods section: how the run was made, in sentences with its figures, and references.

        Examples
        --------
        >>> print(ss.Audit.open("runs/derm").methods())  # doctest: +SKIP
        """
        return self.record("methods")

    def changed_files(self, digest: str | None = None) -> list[str]:
        """What of the run is not as the audit left it, in words; empty where all is.

        Parameters
        ----------
        digest
            SHA-256 of its ``SHA256SUMS``, as a record of the run has it.

        Raises
        ------
        InputError
            When the run has no checksums.
        """
        own = changed_files(self.path, digest)
        return own + [f"{name}: {x}" for name, one in self.outputs.items() for x in changed_files(one.path)]

    def _repr_html_(self) -> str:
        return show_run(self.path, repr(self))


def _sealed(record: AuditRecord) -> Audit:
    """The audit with what can be done with it; from now on its results are not changed unseen."""
    done = Audit.open(record.path)
    if is_main():
        for folder in (*(one.path for one in done.outputs.values()), done.path):
            seal(folder)
    return done


audit = giving(stages.audit, _sealed)
