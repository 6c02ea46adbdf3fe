"""Retrieval: from about ten marked samples to a ranking of all, better with every round of answers.

The classifier learns from what a person said and from nothing else: no sample becomes a mark because it was
ranked high, since such refinement drifts. The unmarked samples serve as weak negatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack

import numpy as np
import pandas as pd

from shortcutscope.allowed import check_options
from shortcutscope.data.sample_names import as_ids
from shortcutscope.errors import InputError
from shortcutscope.files import write_atomically, write_json
from shortcutscope.options import READING, Running
from shortcutscope.probes.cav import CAV
from shortcutscope.probes.concept import Concept
from shortcutscope.retrieval.detecting.choice import kept_kinds
from shortcutscope.retrieval.detecting.crops import Crops
from shortcutscope.retrieval.detecting.detection import Kind
from shortcutscope.retrieval.detecting.sheet import read_kept
from shortcutscope.retrieval.fusion import Fusion
from shortcutscope.retrieval.hits import Hits, pictures_of
from shortcutscope.retrieval.learning import Learning
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.notes import notes_of
from shortcutscope.retrieval.places import EDGES
from shortcutscope.retrieval.progress import Advice, Drift, Precision, advise, drift, precision_at
from shortcutscope.retrieval.queries import QUERIES, Query, choose_queries
from shortcutscope.retrieval.ranking import Ranking
from shortcutscope.retrieval.representation import FEATURES, FeatureSource, Representation
from shortcutscope.retrieval.saved import score_images
from shortcutscope.retrieval.search import PICTURE, FileSearch, View
from shortcutscope.retrieval.views import LayerChoice, candidates, layer_names, read_views, views_of
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Floats, Ints

if TYPE_CHECKING:
    from torch import nn

    from shortcutscope.data.table import ImageTable

_T = TypeVar("_T")
#: What is read of `Running`.
READ = ("batch_size", "progress", *READING)


class RetrievalOptions(TypedDict, total=False):
    """The options of `Retrieval`."""

    known: Floats | None
    inferred: Floats | None
    name: str
    layers: LayerChoice
    images: ImageTable | None
    cache: Path | None
    path: Path | None
    notes: Sequence[str]
    seed: int
    running: Running | None
    view: View
    crops: str | Path | None
    features: FeatureSource | None


class Retrieval:
    """A ranking of all scanned samples that answers to marks.

    Parameters
    ----------
    scanned
        Of the samples.
    marks
        What a person said: at least five carriers, ten are advised, in the class where the artifact is rare.
    known
        ``(N,)`` values that are known without asking (1, 0, NaN), in the order of the scan; marks outweigh
        them.
    inferred
        ``(N,)`` values that nobody knows, but that something gave reason to suppose, such as a proposal's.
        They never count as marks. As soon as five carriers are marked, what is learnt with and without them
        is compared on the marks, held out, and they are dropped unless they help.
    name
        Of what is looked for.
    layers
        ``"early"`` (the first half), ``"all"``, names, or ``"auto"``: the set among these, with and without
        the images, that recovers held-out marks best.
    images
        The table that was scanned; hits have pictures then. A filter bank of images is ranked by, too,
        which sees small artifacts that a network's pooled activations miss; volumes and signals have none.
    cache
        Folder that keeps the filter bank, so that the images are read once.
    path
        CSV file that every round of answers is written to.
    notes
        What a reader of the hits should know.
    seed
        Of folds and draws; the same marks and seed give the same ranking.
    running
        How images are read, and whether a bar is shown meanwhile.
    view
        ``"auto"``: where marks have boxes, a detector that they teach searches the images at the resolution
        of their files; where they have none and the files show more than the model's input, it searches for
        patches that the marked carriers have and others lack, and borders are looked at, too. The ranking
        that recovers held-out marks best is taken, or those that do so nearly alike together. ``"layers"``,
        ``"places"`` or ``"features"`` for one of them.
    crops
        Folder of mined crops whose table a person filled: these are searched for, see :meth:`take_crops`.
    features
        Another representation to rank by beside the network's, such as a foundation model: a network, which
        is shown the images; a pair of a network and the table that it reads; or its features ``(N, d)``, an
        array in the order of the scan, or a DataFrame, npz or Parquet file with sample ids.

    Raises
    ------
    InputError
        For a scan of several labels, too few or unknown marks, layers that were not scanned, images or
        features that lack samples, and boxes without images or outside them.

    Examples
    --------
    >>> ranked = ss.Retrieval.from_concept(scan, audit["tag"].concept, running=quiet)
    >>> ranked.values.shape, ranked.scores.shape, len(ranked.order)
    ((120,), (120,), 120)
    >>> ranked.precision_at(10), ranked.next_queries(2)  # doctest: +SKIP
    >>> known, recovery, fusion, views = ranked.known, ranked.recovery, ranked.fusion, ranked.views
    >>> advice, drift, places, crops = ranked.advice, ranked.drift, ranked.places, ranked.crops
    >>> inferred, vector, images_ = ranked.rests_on_inference, ranked.vector, ranked.images
    >>> hits, table = ranked.hits(5), ranked.to_frame()
    >>> folder = ranked.save("corner")
    >>> ranked = ranked.mark({"s0-0003": True, "s0-0004": False}, who="M. K.")
    >>> concept, scores = ranked.to_concept(), ranked.score(model, others)  # doctest: +SKIP
    >>> searched = ss.Retrieval.from_marks(scan, carriers, images=data)  # doctest: +SKIP
    >>> searched.keep([0]), searched.drop(crops=[3]), searched.take_crops("crops")  # doctest: +SKIP
    """

    def __init__(
        self,
        scanned: Scan,
        marks: Marks,
        *,
        known: Floats | None = None,
        inferred: Floats | None = None,
        name: str = "marked",
        layers: LayerChoice = "early",
        images: ImageTable | None = None,
        cache: Path | None = None,
        path: Path | None = None,
        notes: Sequence[str] = (),
        seed: int = 0,
        running: Running | None = None,
        view: View = "auto",
        crops: str | Path | None = None,
        features: FeatureSource | None = None,
    ) -> None:
        check_options({"seed": seed})
        scanned.require_one_label("a retrieval")
        self.name, self.seed, self.path, self.notes = name, seed, path, tuple(notes)
        self._samples = scanned.samples
        self._ids = scanned.samples["sample_id"].astype(str).to_numpy()
        self._files = {} if images is None else images.files
        self.marks = marks.by_id(self._ids.tolist(), self._files)
        self._known = np.full(len(self._ids), np.nan) if known is None else np.asarray(known, np.float64)
        running = running or Running()
        running.require_only("retrieval", *READ)
        self._images = images = None if images is None else images.keeping(running)
        self._asked: dict[str, str] = {}
        _ = self.known  # unknown ids are refused before anything is read
        self._search = FileSearch(images, self._ids.tolist(), scanned.samples["group"], view, running, seed)
        self._search.check(self.marks)
        representation = self._representation(features, view, cache, running)
        if crops is not None:
            self._search.kept = self._kept_in(crops)
        names = layer_names(scanned, layers)
        views = read_views(scanned, names, images, cache=cache, running=running)
        offered = candidates(scanned, views) if layers == "auto" else [views.names]
        given = None if inferred is None else np.asarray(inferred, np.float64)
        self._learning = Learning(views, offered, scanned.samples, self._search, given, seed, representation)
        self.drifts: list[Drift] = []
        self._learnt = self._learning.learn(self.marks, self.known)

    def _representation(
        self, source: FeatureSource | None, view: View, cache: Path | None, running: Running
    ) -> Representation | None:
        if source is None:
            if view == FEATURES:
                raise InputError('view="features" ranks by another representation: give features=')
            return None
        if view in ("layers", "places"):
            raise InputError(f'view={view!r} does not rank by features=; take view="auto" or "features"')
        made = Representation.of(source, self._ids.tolist(), self._images, cache=cache, running=running)
        self.notes = (*self.notes, *made.notes)
        return made

    @classmethod
    def from_marks(
        cls,
        scanned: Scan,
        carriers: Sequence[str],
        others: Sequence[str] = (),
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Begin with samples that a person marked as carriers, and as free of the artifact.

        ``options`` are those of the class.
        """
        return cls(scanned, Marks.of(carriers, others), **options)

    @classmethod
    def from_concept(cls, scanned: Scan, concept: Concept, **options: Unpack[RetrievalOptions]) -> Retrieval:
        """Begin with what a concept knows; of one inferred from marks, with the marks alone.

        ``options`` are those of the class.
        """
        aligned = concept.aligned_to(scanned.samples["sample_id"])
        values = aligned.values if aligned.marks is None else aligned.marks
        basis: RetrievalOptions = {"name": concept.name}
        if aligned.origin == "discovered" and aligned.marks is None:
            basis["inferred"] = values
        else:
            basis["known"] = values
        basis.update(options)
        return cls(scanned, Marks(), **basis)

    @property
    def known(self) -> Floats:
        """``(N,)`` 1, 0 or NaN: what a person said, and where nobody said anything, what was known before."""
        answers = self.marks.aligned_to(self._ids)
        return np.where(np.isnan(answers), self._known, answers)

    @property
    def values(self) -> Floats:
        """``(N,)`` 1, 0 or NaN that the ranking learns from: what is known, or was inferred if it helps."""
        return self._learning.values(self.known, self.rests_on_inference)

    @property
    def scores(self) -> Floats:
        """``(N,)`` large for carriers; each sample's by a model that was not told its answer."""
        return self._learnt.fusion.scores

    @property
    def recovery(self) -> float:
        """AUROC of held-out marked carriers against the other samples of their class, a lower bound."""
        return self._learnt.recovery

    @property
    def fusion(self) -> Fusion:
        """Which view the ranking is carried by, layers or places, and how well each recovers the marks."""
        return self._learnt.fusion

    @property
    def places(self) -> pd.DataFrame | None:
        """The surest place of every sample: sample_id, x0, y0, x1, y1 in pixels of its file.

        None where no place was searched for.
        """
        places = self._learnt.places
        if places is None:
            return None
        frame = pd.DataFrame(places, columns=list(EDGES))
        frame.insert(0, "sample_id", self._ids)
        return frame

    @property
    def crops(self) -> Crops | None:
        """What the detector was taught by, kind by kind, to look at in Jupyter; None without a detector."""
        detection = self._learnt.searched.detection
        return None if detection is None else self._search.crops(detection)

    def keep(self, kinds: Sequence[int] = (), *, crops: Sequence[int] = ()) -> Retrieval:
        """Go on with some of the mined patches; gives itself.

        Parameters
        ----------
        kinds
            Numbers of kinds in :attr:`crops`, all crops of which are kept.
        crops
            Numbers of single crops, the rows of ``crops.frame``, that are kept, too.

        Raises
        ------
        InputError
            Without mined patches, for numbers that there are not, and for none.
        """
        return self._search_for(kept_kinds(self._learnt.searched.detection, kinds, crops))

    def drop(self, kinds: Sequence[int] = (), *, crops: Sequence[int] = ()) -> Retrieval:
        """Go on without some of the mined patches; gives itself. The parameters are those of :meth:`keep`."""
        return self._search_for(kept_kinds(self._learnt.searched.detection, kinds, crops, drop=True))

    def take_crops(self, folder: str | Path) -> Retrieval:
        """Go on with the crops that a person kept in the table of `write_crops`; gives itself.

        Raises
        ------
        InputError
            For a table without answers, or of other samples, and without images to search.
        """
        return self._search_for(self._kept_in(folder))

    def _kept_in(self, folder: str | Path) -> list[Kind]:
        if self._images is None or self._search.view == "layers":
            raise InputError('crops are searched for in the images: give them, and no view="layers"')
        return read_kept(folder, self._ids.tolist())

    def _search_for(self, kinds: list[Kind]) -> Retrieval:
        self._search.kept = kinds
        self._learnt = self._learning.learn(self.marks, self.known)
        return self

    @property
    def rests_on_inference(self) -> bool:
        """Whether the ranking learnt from values that were inferred."""
        return self._learnt.trusting

    @property
    def vector(self) -> CAV:
        """The classifier of all marks, for new samples; ``save`` keeps it."""
        return self._ranking.vector

    @property
    def views(self) -> tuple[str, ...]:
        """Layers, and ``"input"`` for the filter bank, that are ranked by."""
        return self._ranking.views

    @property
    def _ranking(self) -> Ranking:
        return self._learnt.ranking

    @property
    def drift(self) -> Drift | None:
        """How the latest round changed the ranking; None before any."""
        return self.drifts[-1] if self.drifts else None

    @property
    def advice(self) -> Advice:
        """Whether to go on marking, and the figures behind it."""
        answers = self.marks.answers
        latest = answers[(answers["round"] == self.marks.rounds) & (answers["query"] == "rank")]
        return advise(self.recovery, latest["value"].dropna().to_numpy(float), self.drift)

    def next_queries(self, n: int = 15, by: Query = "both", *, within: int | None = None) -> list[str]:
        """Ids of unmarked samples to look at next, of the classes that are learnt in.

        Parameters
        ----------
        n
            How many; fewer where fewer are left.
        by
            ``"rank"`` asks for the best-ranked, which finds carriers; ``"uncertainty"`` for those nearest to
            the border, which teaches the classifier; ``"both"`` two of the first kind for one of the second;
            ``"random"`` for any, which makes the interval of the precision narrow.
        within
            Only among the first ``within`` of the whole ranking, whatever their class.

        Raises
        ------
        InputError
            For a number below 1 or another word.
        """
        if n < 1 or by not in QUERIES:
            raise InputError(f"next_queries({n}, by={by!r}); n must be at least 1 and by one of {QUERIES}")
        free = np.isnan(self.known)
        if within is None:
            free &= np.isin(self._samples["label"].to_numpy(), self._ranking.classes)
        else:
            free &= np.isin(np.arange(len(free)), self.order[:within])
        rows = choose_queries(self.scores, np.flatnonzero(free), n, by, [self.seed, self.marks.rounds])
        reasons = {str(self._ids[row]): why for row, why in rows.items()}
        self._asked.update(reasons)
        return list(reasons)

    @property
    def images(self) -> ImageTable | None:
        """The samples' images, where they were given."""
        return self._images

    def mark(
        self,
        answers: Mapping[str, bool | None],
        *,
        boxes: Mapping[str, Sequence[Sequence[float]]] | None = None,
        who: str = "",
        when: str = "",
    ) -> Retrieval:
        """Take a round of answers and rank again.

        Parameters
        ----------
        answers
            Sample id, or name of the image's file, to True (carries it), False (free of it) or None (takes a
            former mark back).
        boxes
            Where: the same names of carriers to boxes (x0, y0, x1, y1) or clicks (x, y) in pixels of the
            file, in place of those that they had; a sample that is not in `answers` is thereby a carrier.
        who, when
            Kept as given; nothing is filled in.

        Returns
        -------
        Retrieval
            Itself, for chaining.

        Raises
        ------
        InputError
            For unknown ids, and boxes outside their images; the marks are then as they were.
        """
        places = dict(boxes or {})
        answers = {**{name: True for name, several in places.items() if len(several)}, **answers}
        if not answers and not places:
            return self
        answers, places = (self._by_id(answers), self._by_id(places))
        before = self.marks
        self.marks = before.after(answers, self._asked, boxes=places, who=who, when=when)
        try:
            self.marks.aligned_to(self._ids)
            self._search.check(self.marks)
            learnt = self._learning.learn(self.marks, self.known)
        except InputError:
            self.marks = before
            raise
        inside = np.isin(self._samples["label"].to_numpy(), learnt.ranking.classes)
        n_carriers = int((self.known[inside] == 1).sum())
        scores = learnt.fusion.scores
        self.drifts.append(drift(self.scores[inside], scores[inside], self.marks.rounds, n_carriers))
        self._learnt = learnt
        if self.path is not None:
            self.marks.save(self.path)
        return self

    def _by_id(self, given: Mapping[str, _T]) -> dict[str, _T]:
        ids = as_ids(given, self._ids.tolist(), self._files)
        return dict(zip(ids, given.values(), strict=True))

    @property
    def order(self) -> Ints:
        """Rows of the scan, best first."""
        return np.argsort(-self.scores, kind="stable")

    def precision_at(self, k: int) -> Precision:
        """Share of carriers among the first k, with an interval from the marks among them."""
        if not 1 <= k <= len(self._ids):
            raise InputError(f"precision_at({k}); allowed are 1 to {len(self._ids)}")
        answers = self.marks.answers
        queried = np.isin(self._ids, answers.loc[answers["query"] != "", "sample_id"])
        # A value known without asking was not chosen for what it is, so it tells of its neighbours.
        return precision_at(k, self.order, self.known, queried | ~np.isnan(self._known), seed=self.seed)

    def to_frame(self) -> pd.DataFrame:
        """All samples, best first: rank, sample_id, score, mark, then label, group and split.

        With a detector also the surest place of each: x0, y0, x1, y1 in pixels of the file.
        """
        frame = self._samples[["sample_id", "label", "group", "split"]].copy()
        frame.insert(1, "score", self.scores)
        frame.insert(2, "mark", self.known)
        if self._learnt.places is not None:
            frame[list(EDGES)] = self._learnt.places.round(1)
        frame = frame.iloc[self.order].reset_index(drop=True)
        frame.insert(0, "rank", np.arange(1, len(frame) + 1))
        return frame

    def hits(self, k: int = 200) -> Hits:
        """The first k with their scores, and pictures where images were given."""
        check_options({"k": k})
        frame = self.to_frame().head(k)
        pictures = {} if self._images is None else pictures_of(self._images, frame["sample_id"])
        precision = self.precision_at(len(frame))
        notes = [*self.notes, str(precision), *notes_of(self._learnt, self.known, self._ids, self.advice)]
        return Hits(self.name, frame, tuple(notes), pictures, retrieval=self)

    def to_concept(self, *, confidence: float = 0.9) -> Concept:
        """A concept of all samples, of which the doubtful are unknown: what was marked as it was marked.

        Parameters
        ----------
        confidence
            As in `Concept.from_scores`.

        Raises
        ------
        InputError
            When the scores do not fall into two groups.
        """
        labels = self._samples["label"].to_numpy()
        concept = Concept.from_scores(
            self.name, self.scores, self._ids, labels=labels, confidence=confidence, origin="marked"
        )
        marks = self.marks.aligned_to(self._ids)
        return replace(concept, values=np.where(np.isnan(marks), concept.values, marks), marks=marks)

    def score(self, model: nn.Module, data: ImageTable, running: Running | None = None) -> pd.Series[float]:
        """Scores of new images by sample id, by the view that carries the ranking.

        See :func:`shortcutscope.retrieval.saved.score_images` for the ranking by layers.
        """
        view, searched = self.fusion.carried_by, self._learnt.searched
        beside, representation = self._learnt.beside, self._learning.representation
        if view == FEATURES and beside is not None and representation is not None:
            return representation.score(beside, data, running)
        if view == "layers":
            return score_images(self.vector, self.views, model, data, running)
        running = running or Running()
        if view == PICTURE:
            layers = views_of(model, data, self._learning.alone, running).features
            scores = self._search.score_pictures(searched, layers, data, running)
        else:
            scores = self._search.score_places(searched, data, running)
        return pd.Series(scores, index=pd.Index(data.frame["sample_id"].astype(str)), name="score")

    def save(self, folder: str | Path) -> Path:
        """Write the classifier by layers, its views, the marks and the ranking.

        :func:`shortcutscope.retrieval.saved.open_classifier` reads ``vector.safetensors`` and ``views.json``
        again, and `score_images` there scores images by them. A detector is not kept: the marks teach it.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.vector.save(folder / "vector.safetensors")
        self.marks.save(folder / "marks.csv")
        ranked = self.to_frame()
        write_atomically(folder / "ranking.parquet", lambda file: ranked.to_parquet(file, index=False))
        write_json(folder / "views.json", {"name": self.name, "views": list(self.views)})
        return folder

    def __repr__(self) -> str:
        marks = self.known
        return (
            f"Retrieval({self.name!r}: {int((marks == 1).sum())} carriers and {int((marks == 0).sum())} "
            f"others marked among {len(marks)}, held-out marks recovered with AUROC {self.recovery:.2f})"
        )
