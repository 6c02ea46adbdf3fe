"""What marks teach: rankings by layers and by the files' own pixels, and both together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shortcutscope.retrieval.fusion import Fusion, fuse
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.ranking import MIN_MARKS, Ranking, choose_views
from shortcutscope.retrieval.representation import FEATURES, Representation
from shortcutscope.retrieval.search import PICTURE, PLACES, FileSearch, Searched
from shortcutscope.retrieval.views import INPUT, Views
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Floats

#: AUROC above chance on natural artifacts: pictures as a whole have twice that of layers, places that were
#: boxed nearly all of it.
USUAL_OF = {PICTURE: 0.22, PLACES: 0.35}
#: Layers, whitened, are told apart by themselves, and are part of what pictures as a whole are told apart by.
CONTAINED = {"layers": PICTURE}


@dataclass(frozen=True, eq=False)
class Learnt:
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
        Of all.
    beside
        By a representation of the user's choice; None without one.
    """

    ranking: Ranking
    trusting: bool
    searched: Searched
    fusion: Fusion
    beside: Ranking | None = None

    @property
    def recovery(self) -> float:
        """AUROC of held-out marked carriers against the other samples of their class, a lower bound."""
        carrying = self.fusion.carried_by
        of_layers = {"layers": self.ranking, FEATURES: self.beside}.get(carrying)
        return self.fusion.recoveries[carrying] if of_layers is None else of_layers.recovery

    @property
    def places(self) -> Floats | None:
        """``(N, 4)`` the surest place of each sample in pixels of its file; None where none was searched for.

        Around the surest line where lines were boxed and rank better than places.
        """
        weights, lines = self.fusion.weights, self.searched.lines
        if lines is not None and weights.get(PICTURE, 0) > weights.get(PLACES, 0):
            return lines.places
        return None if self.searched.detection is None else self.searched.detection.places


@dataclass(frozen=True, eq=False)
class Learning:
    """The samples that marks are learnt from.

    Attributes
    ----------
    views
        What samples are ranked by.
    offered
        Sets of views to choose from.
    samples
        Table with label and group.
    search
        Of the images.
    inferred
        ``(N,)`` values that were inferred, or None.
    seed
        Of folds and draws.
    representation
        Another one to rank by, or None.
    """

    views: Views
    offered: Sequence[tuple[str, ...]]
    samples: pd.DataFrame
    search: FileSearch
    inferred: Floats | None
    seed: int
    representation: Representation | None = None

    @property
    def alone(self) -> list[str]:
        """Views that the marked samples alone are told apart by: those of the network."""
        return [name for name in self.views.names if name != INPUT] or [INPUT]

    def values(self, known: Floats, with_inferred: bool) -> Floats:
        """``(N,)`` what is known, and where nothing is, what was inferred."""
        if self.inferred is None or not with_inferred:
            return known
        return np.where(np.isnan(known), self.inferred, known)

    def learn(self, marks: Marks, known: Floats) -> Learnt:
        """Learn from marks, and from values that are known without asking."""
        ranking, trusting = self._rank(known)
        searched = self.search(marks, self.views.only(self.alone).features)
        scores = {"layers": ranking.scores, **searched.scores}
        beside = None
        if self.representation is not None:
            values = self.values(known, trusting)
            beside = self._ranked(self.representation.views, self.representation.offered, values)
            scores[FEATURES] = beside.scores
        if self.search.view in ("places", FEATURES) and self.search.view in scores:
            scores = {self.search.view: scores[self.search.view]}
        labels = self.samples["label"].to_numpy()
        fusion = fuse(scores, known, labels, searched.mined, USUAL_OF, CONTAINED)
        return Learnt(ranking, trusting, searched, fusion, beside)

    def _rank(self, known: Floats) -> tuple[Ranking, bool]:
        """The ranking by layers, and whether it learnt from what was inferred."""
        if self.inferred is None:
            return self._by_layers(known), False
        helped = self._by_layers(self.values(known, with_inferred=True))
        if (known == 1).sum() < MIN_MARKS:
            return helped, True
        alone = self._by_layers(known)
        trusting = self._recovers(known, helped) >= self._recovers(known, alone)
        return (helped, True) if trusting else (alone, False)

    def _by_layers(self, values: Floats) -> Ranking:
        return self._ranked(self.views, self.offered, values)

    def _ranked(self, views: Views, offered: Sequence[tuple[str, ...]], values: Floats) -> Ranking:
        labels, groups = self.samples["label"].to_numpy(), self.samples["group"].to_numpy()
        return choose_views(views, offered, values, labels, groups, seed=self.seed)

    def _recovers(self, known: Floats, ranking: Ranking) -> float:
        """Within-class AUROC of the marked carriers against all others, each scored without its own mark."""
        marked = (known == 1).astype(float)
        return float(within_class_auroc(marked, ranking.scores, self.samples["label"].to_numpy()))
