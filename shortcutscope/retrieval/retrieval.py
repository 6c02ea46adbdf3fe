"""Retrieval: from about ten marked samples to a ranking of all, better with every round of answers.

The classifier learns from what a person said and from nothing else: no sample becomes a mark because it was
ranked high, since such refinement drifts. The unmarked samples serve as weak negatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, TypeVar, Unpack

import numpy as np
import pandas as pd

from shortcutscope.allowed import check_options
from shortcutscope.data.sample_names import as_ids
from shortcutscope.errors import InputError
from shortcutscope.files import read_json, write_atomically, write_json
from shortcutscope.options import READING, Running
from shortcutscope.probes.cav import CAV
from shortcutscope.probes.concept import Concept
from shortcutscope.retrieval.detecting.crops import Crops
from shortcutscope.retrieval.fusion import Fusion, fuse
from shortcutscope.retrieval.hits import Hits, pictures_of
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.places import EDGES
from shortcutscope.retrieval.progress import Advice, Drift, Precision, advise, drift, precision_at
from shortcutscope.retrieval.ranking import MIN_MARKS, Ranking, choose_views
from shortcutscope.retrieval.search import ALONE, FileSearch, Searched, View
from shortcutscope.retrieval.views import INPUT, LayerChoice, candidates, layer_names, read_views, views_of
from shortcutscope.scan.reading import Scan
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Floats, Ints

if TYPE_CHECKING:
    from torch import nn

    from shortcutscope.data.table import ImageTable

_T = TypeVar("_T")
Query = Literal["both", "rank", "uncertainty", "random"]
#: What is read of `Running`.
READ = ("batch_size", "progress", *READING)
QUERIES = ("both", "rank", "uncertainty", "random")


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


@dataclass(frozen=True, eq=False)
class _Learnt:
    """What the marks teach.

    Attributes
    ----------
    ranking
        By layers, and the filter bank on the images.
    trusting
        Whether it learnt from what was inferred.
    searched
        By what the images show at the resolution of their files.
    fusion
        Of both.
    """

    ranking: Ranking
    trusting: bool
    searched: Searched
    fusion: Fusion


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
        that recovers held-out marks best is taken, or those that do so nearly alike together. ``"layers"``
        or ``"places"`` for one of them.

    Raises
    ------
    InputError
        For too few or unknown marks, layers that were not scanned, images that lack samples, and boxes
        without images or outside them.
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
    ) -> None:
        check_options({"seed": seed})
        self.name, self.seed, self.path, self.notes = name, seed, path, tuple(notes)
        self._samples = scanned.samples
        self._ids = scanned.samples["sample_id"].astype(str).to_numpy()
        self._files = {} if images is None else images.files
        self.marks = marks.by_id(self._ids.tolist(), self._files)
        self._known = np.full(len(self._ids), np.nan) if known is None else np.asarray(known, np.float64)
        self._inferred = None if inferred is None else np.asarray(inferred, np.float64)
        running = running or Running()
        running.require_only("retrieval", *READ)
        self._images = images = None if images is None else images.keeping(running)
        self._asked: dict[str, str] = {}
        _ = self.known  # unknown ids are refused before anything is read
        self._search = FileSearch(images, self._ids.tolist(), scanned.samples["group"], view, running, seed)
        self._search.check(self.marks)
        names = layer_names(scanned, layers)
        self._views = read_views(scanned, names, images, cache=cache, running=running)
        self._offered = candidates(scanned, self._views) if layers == "auto" else [self._views.names]
        self.drifts: list[Drift] = []
        self._learnt = self._learn()

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
        return self._values(self.rests_on_inference)

    @property
    def scores(self) -> Floats:
        """``(N,)`` large for carriers; each sample's by a model that was not told its answer."""
        return self._learnt.fusion.scores

    @property
    def recovery(self) -> float:
        """AUROC of held-out marked carriers against the other samples of their class, a lower bound."""
        fusion = self._learnt.fusion
        by_layers = fusion.carried_by == "layers"
        return self._ranking.recovery if by_layers else fusion.recoveries[fusion.carried_by]

    @property
    def fusion(self) -> Fusion:
        """Which view the ranking is carried by, layers or places, and how well each recovers the marks."""
        return self._learnt.fusion

    @property
    def places(self) -> pd.DataFrame | None:
        """The surest place of every sample: sample_id, x0, y0, x1, y1 in pixels of its file.

        None where no place was searched for.
        """
        detection = self._learnt.searched.detection
        if detection is None:
            return None
        frame = pd.DataFrame(detection.places, columns=list(EDGES))
        frame.insert(0, "sample_id", self._ids)
        return frame

    @property
    def crops(self) -> Crops | None:
        """What the detector was taught by, kind by kind, to look at in Jupyter; None without a detector."""
        detection = self._learnt.searched.detection
        return None if detection is None else self._search.crops(detection)

    def keep(self, kinds: Sequence[int]) -> Retrieval:
        """Go on with some of the mined kinds of patches, by their numbers in :attr:`crops`; gives itself.

        Raises
        ------
        InputError
            Without mined patches, for numbers that there are not, and for none.
        """
        detection = self._learnt.searched.detection
        if detection is None or not (detection.mined or self._search.kept is not None):
            raise InputError(
                "keep() chooses among mined patches, and there are none: box a few in place of it"
            )
        known = range(len(detection.kinds))
        if not len(kinds) or any(kind not in known for kind in kinds):
            raise InputError(f"keep({list(kinds)}); allowed are some of {list(known)}")
        self._search.kept = [detection.kinds[kind] for kind in kinds]
        self._learnt = self._learn()
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
        rows = _interleaved(self.scores, np.flatnonzero(free), n, by, [self.seed, self.marks.rounds])
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
            learnt = self._learn()
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
        if self._learnt.searched.detection is not None:
            frame[list(EDGES)] = self._learnt.searched.detection.places.round(1)
        frame = frame.iloc[self.order].reset_index(drop=True)
        frame.insert(0, "rank", np.arange(1, len(frame) + 1))
        return frame

    def hits(self, k: int = 200) -> Hits:
        """The first k with their scores, and pictures where images were given."""
        check_options({"k": k})
        frame = self.to_frame().head(k)
        pictures = {} if self._images is None else pictures_of(self._images, frame["sample_id"])
        precision = self.precision_at(len(frame))
        notes = [*self.notes, str(precision)]
        notes += self._learnt.searched.notes
        if len(self.fusion.recoveries) > 1:
            notes.append(str(self.fusion))
        if not self.rests_on_inference:
            notes.append(str(self.advice))
        elif (self.known == 1).sum() < MIN_MARKS:
            notes.append("ranked by values that were inferred, not by marks: confirm some first")
        else:
            note = "learnt from inferred values, too: held-out marks are recovered no worse with them"
            notes += [note, str(self.advice)]
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

        See :func:`score_images` for the ranking by layers.
        """
        view, searched = self.fusion.carried_by, self._learnt.searched
        if view == "layers":
            return score_images(self.vector, self.views, model, data, running)
        running = running or Running()
        if view == ALONE:
            scores = searched.plain[ALONE].score(views_of(model, data, self._alone, running).features)
        else:
            scores = self._search.score(searched, view, data, running)
        return pd.Series(scores, index=pd.Index(data.frame["sample_id"].astype(str)), name="score")

    def save(self, folder: str | Path) -> Path:
        """Write the classifier by layers, its views, the marks and the ranking.

        :func:`open_classifier` reads ``vector.safetensors`` and ``views.json`` again, and
        :func:`score_images` scores images by them. A detector is not kept: the marks teach it again.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.vector.save(folder / "vector.safetensors")
        self.marks.save(folder / "marks.csv")
        ranked = self.to_frame()
        write_atomically(folder / "ranking.parquet", lambda file: ranked.to_parquet(file, index=False))
        write_json(folder / "views.json", {"name": self.name, "views": list(self.views)})
        return folder

    def _values(self, with_inferred: bool) -> Floats:
        marks = self.known
        if self._inferred is None or not with_inferred:
            return marks
        return np.where(np.isnan(marks), self._inferred, marks)

    @property
    def _alone(self) -> list[str]:
        """Views that the marked samples alone are told apart by: those of the network."""
        return [name for name in self._views.names if name != INPUT] or [INPUT]

    def _learn(self) -> _Learnt:
        ranking, trusting = self._rank()
        searched = self._search(self.marks, self._views.only(self._alone).features)
        scores = {"layers": ranking.scores, **searched.scores}
        if self._search.view == "places" and "places" in scores:
            scores = {"places": scores["places"]}
        return _Learnt(
            ranking, trusting, searched, fuse(scores, self.known, self._samples["label"].to_numpy())
        )

    def _rank(self) -> tuple[Ranking, bool]:
        """The ranking by layers, and whether it learnt from what was inferred."""
        if self._inferred is None:
            return self._by_layers(with_inferred=False), False
        helped = self._by_layers(with_inferred=True)
        if (self.known == 1).sum() < MIN_MARKS:
            return helped, True
        alone = self._by_layers(with_inferred=False)
        trusting = self._recovers(helped) >= self._recovers(alone)
        return (helped, True) if trusting else (alone, False)

    def _by_layers(self, *, with_inferred: bool) -> Ranking:
        labels, groups = self._samples["label"].to_numpy(), self._samples["group"].to_numpy()
        values = self._values(with_inferred)
        return choose_views(self._views, self._offered, values, labels, groups, seed=self.seed)

    def _recovers(self, ranking: Ranking) -> float:
        """Within-class AUROC of the marked carriers against all others, each scored without its own mark."""
        marked = (self.known == 1).astype(float)
        return float(within_class_auroc(marked, ranking.scores, self._samples["label"].to_numpy()))

    def __repr__(self) -> str:
        marks = self.known
        return (
            f"Retrieval({self.name!r}: {int((marks == 1).sum())} carriers and {int((marks == 0).sum())} "
            f"others marked among {len(marks)}, held-out marks recovered with AUROC {self.recovery:.2f})"
        )


def score_images(
    vector: CAV,
    views: Sequence[str],
    model: nn.Module,
    data: ImageTable,
    running: Running | None = None,
) -> pd.Series[float]:
    """Score new images by a saved classifier: a scan of the same layers of the same model.

    Parameters
    ----------
    vector, views
        Of a retrieval, or as :func:`open_classifier` reads them.
    model
        The network whose layers the views name; given back as it was.
    data
        New images.
    running
        How they are scanned.

    Raises
    ------
    InputError
        When a view has another width there: it is another model.
    """
    features = views_of(model, data, views, running)
    scores = vector.score(features.features, features.quantity)
    return pd.Series(scores, index=pd.Index(data.frame["sample_id"].astype(str)), name="score")


def open_classifier(folder: str | Path) -> tuple[CAV, tuple[str, ...]]:
    """Read the classifier and its views from what :meth:`Retrieval.save` wrote."""
    folder = Path(folder)
    return CAV.open(folder / "vector.safetensors"), tuple(read_json(folder / "views.json")["views"])


def _interleaved(scores: Floats, free: Ints, n: int, by: Query, seed: list[int]) -> dict[int, str]:
    """Rows to ask about, and which way of choosing chose each."""
    ways = {
        "rank": free[np.argsort(-scores[free], kind="stable")],
        "uncertainty": free[np.argsort(np.abs(scores[free]), kind="stable")],
        "random": np.random.default_rng(seed).permutation(free),
    }
    turns = ("rank", "rank", "uncertainty") if by == "both" else (by,)
    queues = {way: iter(ways[way].tolist()) for way in turns}
    reasons: dict[int, str] = {}
    while len(reasons) < min(n, len(free)):
        way = turns[len(reasons) % len(turns)]
        row = next(r for r in queues[way] if r not in reasons)
        reasons[row] = way
    return reasons
