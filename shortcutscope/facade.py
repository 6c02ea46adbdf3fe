"""What can be done with results: the one place that knows all stages.

Records (`shortcutscope.audit.finding.FindingRecord` and others) are data and know nothing of the stages that
come after them. The classes here are those records, with what users do with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, singledispatch, wraps
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, ParamSpec, TypedDict, TypeVar, Unpack

import numpy as np
from torch import nn

from shortcutscope.allowed import check_options
from shortcutscope.audit import stages
from shortcutscope.audit.appearance.contrast import FOLDER as CONTRASTS
from shortcutscope.audit.appearance.contrast import ContrastSheet
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.identity import refuse_other_data, refuse_other_model
from shortcutscope.audit.record import AuditRecord
from shortcutscope.audit.run_directory import read_record
from shortcutscope.audit.seal import changed_files, seal
from shortcutscope.compare import amplification, before_after
from shortcutscope.compare.amplification import AmplificationRecord
from shortcutscope.compare.result import ComparisonRecord
from shortcutscope.data.table import ImageTable
from shortcutscope.discover.circuits import Circuit, Judging, Searching, find_circuit
from shortcutscope.discover.embedding import embed
from shortcutscope.embeddings import stages as embedding_stages
from shortcutscope.embeddings.result import EmbeddingsAuditRecord
from shortcutscope.errors import InputError
from shortcutscope.files import read_frame, slug, write_atomically
from shortcutscope.masks.annotation import AnnotateOptions, annotate_finding
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.named import annotate_marked, annotate_named
from shortcutscope.options import Running
from shortcutscope.pixels.intervening import InterveneOptions
from shortcutscope.pixels.of_findings import intervene_on_finding, open_pixel_test
from shortcutscope.pixels.result import PixelTest
from shortcutscope.probes.concept import Concept
from shortcutscope.processes import is_main
from shortcutscope.record.content import content_of
from shortcutscope.record.formats import FORMATS
from shortcutscope.report.charts.contrast import draw_contrast
from shortcutscope.report.charts.plots import draw_amplification, draw_costs, draw_depth, draw_metric
from shortcutscope.report.comparison import write_comparison
from shortcutscope.report.embedding import draw_embedding
from shortcutscope.report.embeddings import draw_encoders, write_embeddings
from shortcutscope.report.html import write_report
from shortcutscope.report.notebook import show_comparison, show_embeddings, show_finding, show_run
from shortcutscope.retrieval.findings import retrieval_of
from shortcutscope.retrieval.hits import Hits
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.retrieval import Retrieval, RetrievalOptions
from shortcutscope.review.hits import review_hits
from shortcutscope.review.masks import review_masks
from shortcutscope.review.order import Order
from shortcutscope.scan.reading import Scan

if TYPE_CHECKING:
    from anywidget import AnyWidget
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Amplification", "Audit", "Comparison", "EmbeddingsAudit", "Finding", "amplification_curve", "annotate",
    "audit", "audit_embeddings", "compare", "review",
]  # fmt: skip

P = ParamSpec("P")
Record = TypeVar("Record")
Result = TypeVar("Result")


class Finding(FindingRecord):
    """The verdict on one concept, and what can be done about it. Attributes: see `FindingRecord`.

    A table of several labels is taken for the one whose output the finding is about.

    Examples
    --------
    >>> finding = audit["tag"]
    >>> finding.plot().savefig("depth.png")
    >>> finding.plot_contrast().savefig("carriers.png")
    >>> ranked = finding.retrieval(running=quiet)
    >>> finding.retrieve(3, running=quiet).name
    'tag'
    >>> finding.pixel_test is None
    True
    >>> circuit = finding.circuit(model, data, edges=False, running=quiet)
    >>> masks = finding.annotate(model, data)  # doctest: +SKIP
    >>> test = finding.intervene(model, data, masks=masks)  # doctest: +SKIP
    >>> carriers = finding.label(model, others)  # doctest: +SKIP
    """

    def _own(self, data: ImageTable) -> ImageTable:
        return data.for_label(self.output) if data.labels and self.output is not None else data

    def circuit(
        self,
        model: nn.Module,
        data: ImageTable,
        *,
        layers: str | Sequence[str] = "auto",
        size: int | None = None,
        edges: bool = True,
        judging: Judging | None = None,
        running: Running | None = None,
    ) -> Circuit:
        """The channels that carry it towards the decision, tested by ablation.

        Parameters
        ----------
        model, data
            Those that were audited.
        layers, size, edges, judging, running
            As in `shortcutscope.discover.circuits.find_circuit`; the class is the audited one.

        Raises
        ------
        InputError
            For a finding that was not read from a run, or another table.
        """
        refuse_other_model(self.home(), model)
        data = self._own(data).keeping(running)
        refuse_other_data(self.home(), data)
        judging = judging or Judging()
        if judging.positive is None:
            judging = replace(judging, positive=int(self.association.get("positive", 1)))
        return find_circuit(
            model,
            Scan.open(self.home() / "scan"),
            data,
            self.concept,
            searching=Searching(layers, size, edges),
            judging=judging,
            running=running,
        )

    def _repr_html_(self) -> str:
        return show_finding(self)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw over the depth of the network how well it is read, and how far the output depends on it.

        Parameters
        ----------
        ax
            Where to draw; by default on a figure of its own.

        Raises
        ------
        InputError
            For a finding that was not read from a run, and one of which nothing was measured.
        """
        return draw_depth(read_frame(self.home() / "profile.parquet"), self.name, ax)

    def _sheet(self) -> Path | None:
        path = self.home() / CONTRASTS / f"{slug(self.name)}.npz"
        return path if path.is_file() else None

    def plot_contrast(self) -> Figure:
        """Draw carriers beside samples without it that are alike otherwise, and the means of both sides.

        Labels count alike on both sides, so that the difference of the means is not the label's.

        Raises
        ------
        InputError
            For a finding that was not read from a run, or whose run holds no such pictures.
        """
        path = self._sheet()
        if path is None:
            raise InputError(
                f"{self.home()} holds no pictures of {self.name!r}: no carrier of it is known, or the run is "
                "of an earlier version, and the same audit into the same folder adds them"
            )
        classes = read_record(self.home()).get("data", {}).get("classes") or ()
        title = f"{self.name} ({self.looks})" if self.looks else self.name
        return draw_contrast(ContrastSheet.open(path), title=title, classes=classes)

    def retrieval(self, *, marks: Marks | None = None, **options: Unpack[RetrievalOptions]) -> Retrieval:
        """The ranking of the audited samples by this finding, to be asked for queries and given marks.

        ``options`` are those of `shortcutscope.retrieval.retrieval.Retrieval`, such as ``layers``, and
        ``images`` (the audited table), by which small artifacts are found better.

        Raises
        ------
        InputError
            For a finding that was not read from a run.
        """
        images = options.get("images")
        if images is not None:
            options["images"] = self._own(images)
        return retrieval_of(self.home(), self.name, marks=marks, **options)

    def annotate(
        self,
        model: nn.Module,
        data: ImageTable,
        samples: Hits | Sequence[str] | None = None,
        *,
        marks: Marks | None = None,
        out: str | Path | None = None,
        **options: Unpack[AnnotateOptions],
    ) -> MaskSet:
        """Draw a mask of it on every image that carries it; the masks are kept in the run.

        Parameters
        ----------
        model, data
            Those that were audited.
        samples
            Hits, or ids, of those whose masks are wanted; None for all.
        marks
            Of a person; with boxes on about ten images these say where, at the resolution of the files.
        out
            Folder of the masks; by default ``masks/<finding>`` in the run.
        **options
            Of `shortcutscope.masks.annotation.annotate`, such as ``drawing`` and ``running``.

        Raises
        ------
        InputError
            For a diffuse finding, one that was not read from a run, or another model.
        """
        ids = samples.ids if isinstance(samples, Hits) else samples
        if marks is None:
            return annotate_finding(self, model, self._own(data), ids, out=out, **options)
        return annotate_marked(self.home(), self, model, self._own(data), ids, marks, out, **options)

    def intervene(
        self,
        model: nn.Module,
        data: ImageTable,
        *,
        masks: MaskSet | str | Path | None = None,
        out: str | Path | None = None,
        **options: Unpack[InterveneOptions],
    ) -> PixelTest:
        """Take it out of the pixels, put it into them, and see whether the output follows; kept in the run.

        Parameters
        ----------
        model, data
            Those that were audited.
        masks
            Of its carriers; by default those that :meth:`annotate` drew in the run. Without masks images of
            each side are moved to the other by the transfer that makes them most alike.
        out
            Folder of the result; by default ``pixels`` in the run, and then the findings say it, too.
        **options
            Of `shortcutscope.pixels.intervening.intervene`: ``intervening``, ``statistics``, ``running``.

        Raises
        ------
        InputError
            For a finding that was not read from a run, another model or other data, and a localized one
            without masks.
        """
        return intervene_on_finding(self, model, self._own(data), masks=masks, out=out, **options)

    @property
    def pixel_test(self) -> PixelTest | None:
        """What :meth:`intervene` kept in the run; None where there is nothing."""
        return open_pixel_test(self)

    def retrieve(
        self, k: int = 200, *, marks: Marks | None = None, **options: Unpack[RetrievalOptions]
    ) -> Hits:
        """The ``k`` samples that carry it most surely; ``options`` as for :meth:`retrieval`."""
        return self.retrieval(marks=marks, **options).hits(k)

    def label(
        self,
        model: nn.Module,
        data: ImageTable,
        *,
        confidence: float = 0.9,
        marks: Marks | None = None,
        **options: Unpack[RetrievalOptions],
    ) -> Concept:
        """Which images of another table carry it, for debiasing on images that were not audited.

        They are scored by what the audited samples' values, or a person's marks (``marks=``), taught; the
        doubtful between the two groups of scores are unknown. What 1 means is what it meant in the audit.
        Where the table has the column that the concept was read from, ``finding.concept.on(data.frame)``
        reads it alike, without scores.

        Parameters
        ----------
        model
            The audited one.
        data
            For example the training images.
        confidence
            As in `Concept.from_scores`.
        marks, **options
            Of :meth:`retrieval`; ``running`` also says how these images are scanned.

        Raises
        ------
        InputError
            When the scores do not fall into two groups.
        """
        check_options({"confidence": confidence})
        refuse_other_model(self.home(), model)
        running = options.get("running") or Running()
        data = self._own(data).keeping(running)
        refuse_other_data(self.home(), data)
        options["running"] = replace(running, device=None, precision="fp32")  # a ranking runs no network
        scores = self.retrieval(marks=marks, **options).score(model, data, running)
        frame = data.frame
        labels, ids = frame["label"].to_numpy(), frame["sample_id"].to_numpy(np.str_)
        return Concept.from_scores(
            self.name,
            scores.to_numpy(),
            ids,
            labels=labels,
            confidence=confidence,
            origin=self.origin if marks is None else "marked",
            description=self.description,
        )


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

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report, one self-contained HTML file (by default ``report.html`` in the run)."""
        return write_report(self.path, Path(path) if path else None)

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


class Comparison(ComparisonRecord):
    """What changed from the biased network to each of the others. Attributes: see `ComparisonRecord`.

    Examples
    --------
    >>> compared = ss.compare(audit, student, test, model=model, concept="tag")  # doctest: +SKIP
    >>> compared.plot("balanced_auroc").savefig("before_after.png")  # doctest: +SKIP
    >>> compared.report("before_after.html")  # doctest: +SKIP
    """

    def plot(
        self, metric: str = "balanced_auroc", *, table: str | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw a metric of every network with its interval.

        Parameters
        ----------
        metric
            One of ``self.frame["metric"]``.
        table
            Samples that it was measured on; by default the main ones.
        ax
            Where to draw; by default on a figure of its own.

        Raises
        ------
        InputError
            For a metric that was not measured on them.
        """
        return draw_metric(self, metric, table, ax)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML file."""
        return write_comparison(self, Path(path))

    @cached_property
    def _shown(self) -> str:
        return show_comparison(self, repr(self))

    def _repr_html_(self) -> str:
        return self._shown


class EmbeddingsAudit(EmbeddingsAuditRecord):
    """An audit of embeddings, and what can be seen of it. Attributes: see `EmbeddingsAuditRecord`.

    Examples
    --------
    >>> embeddings = ss.audit_embeddings("features.npz", "samples.csv", label="label")  # doctest: +SKIP
    >>> embeddings.plot().savefig("encoders.png")  # doctest: +SKIP
    >>> embeddings.report("encoders.html")  # doctest: +SKIP
    """

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw encoders by concepts: how well each is encoded, and the verdicts."""
        return draw_encoders(self, ax)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML file."""
        return write_embeddings(self, Path(path))

    @cached_property
    def _shown(self) -> str:
        return show_embeddings(self, repr(self))

    def _repr_html_(self) -> str:
        return self._shown


class Amplification(AmplificationRecord):
    """How networks do that were trained at growing correlations. Attributes: see `AmplificationRecord`."""

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """Draw accuracy where the concept goes against the label, and where it agrees with it.

        Parameters
        ----------
        ax
            Where to draw; by default on a figure of its own.
        """
        return draw_amplification(self, ax)


def _giving(run: Callable[P, Record], result: Callable[[Record], Result]) -> Callable[P, Result]:
    """A stage whose record comes with what can be done with it."""

    @wraps(run)
    def stage(*args: P.args, **kwargs: P.kwargs) -> Result:
        return result(run(*args, **kwargs))

    return stage


def _comparison(record: ComparisonRecord) -> Comparison:
    return Comparison(**{f.name: getattr(record, f.name) for f in fields(record)})


def _amplification(record: AmplificationRecord) -> Amplification:
    return Amplification(**{f.name: getattr(record, f.name) for f in fields(record)})


def _embeddings_audit(record: EmbeddingsAuditRecord) -> EmbeddingsAudit:
    return EmbeddingsAudit(**{f.name: getattr(record, f.name) for f in fields(record)})


def _sealed(record: AuditRecord) -> Audit:
    """The audit with what can be done with it; from now on its results are not changed unseen."""
    done = Audit.open(record.path)
    if is_main():
        for folder in (*(one.path for one in done.outputs.values()), done.path):
            seal(folder)
    return done


audit = _giving(stages.audit, _sealed)
compare = _giving(before_after.compare, _comparison)
amplification_curve = _giving(amplification.amplification_curve, _amplification)
audit_embeddings = _giving(embedding_stages.audit_embeddings, _embeddings_audit)


def annotate(
    run: str | Path,
    name: str,
    model: nn.Module,
    data: ImageTable,
    samples: Hits | Sequence[str] | None = None,
    *,
    marks: Marks | None = None,
    out: str | Path | None = None,
    **options: Unpack[AnnotateOptions],
) -> MaskSet:
    """Draw masks of a finding of a run, or of something that was not audited, by marks.

    Parameters
    ----------
    run
        Run directory of an audit.
    name
        Of a finding, or with marks a new one.
    model, data
        Those that were audited.
    samples
        Hits, or ids, of those whose masks are wanted; None for all.
    marks
        Of a person; with boxes on about ten images these say where, at the resolution of the files.
    out
        Folder of the masks; by default ``masks/<name>`` in the run.
    **options
        Of `shortcutscope.masks.annotation.annotate`, such as ``drawing`` and ``running``.

    Raises
    ------
    InputError
        For a name that is no finding and that there are no marks of, boxes outside their images or that do
        not say where, a diffuse finding without boxes, or another model.

    Examples
    --------
    >>> marks = ss.read_marks("marks.csv", ids)  # doctest: +SKIP
    >>> masks = ss.annotate("runs/cxr", "stamps", model, data, marks=marks)  # doctest: +SKIP
    """
    ids = samples.ids if isinstance(samples, Hits) else samples
    return annotate_named(run, name, model, data, ids, marks=marks, out=out, **options)


class ReviewOptions(TypedDict, total=False):
    """Who reviews, and of masks which ones and how they are shown."""

    who: str
    when: str
    samples: Sequence[str] | None
    order: Order | None
    count: int | None
    opacity: float


@singledispatch
def review(what: Hits | MaskSet, *data: ImageTable, **options: Unpack[ReviewOptions]) -> AnyWidget:
    """A grid in Jupyter in which a person accepts and rejects, by click or by keyboard.

    ``review(hits)`` hands the answers to the retrieval that the hits came from, see
    `shortcutscope.review.hits.review_hits`; ``review(masks, data)`` keeps them with the masks, see
    `shortcutscope.review.masks.review_masks`. Needs the extra ``jupyter``.

    Raises
    ------
    InputError
        For anything else.

    Examples
    --------
    >>> ss.review(finding.retrieve(60, images=data))  # doctest: +SKIP
    >>> ss.review(masks, data)  # doctest: +SKIP
    """
    raise InputError(f"what can be reviewed are Hits and a MaskSet, not {type(what).__name__}")


review.register(Hits, review_hits)
review.register(MaskSet, review_masks)
