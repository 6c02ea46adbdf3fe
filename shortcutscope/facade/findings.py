"""A finding, and what can be done about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
from torch import nn

from shortcutscope.allowed import check_options
from shortcutscope.audit.appearance.contrast import FOLDER as CONTRASTS
from shortcutscope.audit.appearance.contrast import ContrastSheet
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.identity import refuse_other_data, refuse_other_model
from shortcutscope.audit.run_directory import read_record
from shortcutscope.data.table import ImageTable
from shortcutscope.discover.circuits import Circuit, Judging, Searching, find_circuit
from shortcutscope.errors import InputError
from shortcutscope.files import read_frame, slug
from shortcutscope.masks.annotation import AnnotateOptions, annotate_finding
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.named import annotate_marked, annotate_named
from shortcutscope.options import Running
from shortcutscope.pixels.intervening import InterveneOptions
from shortcutscope.pixels.of_findings import intervene_on_finding, open_pixel_test
from shortcutscope.pixels.result import PixelTest
from shortcutscope.probes.concept import Concept
from shortcutscope.report.charts.contrast import draw_contrast
from shortcutscope.report.charts.plots import draw_depth
from shortcutscope.report.notebook import show_finding
from shortcutscope.retrieval.findings import retrieval_of
from shortcutscope.retrieval.hits import Hits
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.retrieval import Retrieval, RetrievalOptions
from shortcutscope.scan.reading import Scan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Finding", "annotate"]


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
