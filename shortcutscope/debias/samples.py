"""What a student is trained on: the biased samples, and the clean ones among them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from shortcutscope.data.joining import joined
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.groups import balanced_weights, training_groups
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.teacher import require_clean
from shortcutscope.types import Floats

#: Share of clean samples in the steps of a student, where they take part. As they come, a tenth of the data
#: would be a tenth of the steps.
CLEAN_SHARE = 0.25


@dataclass(frozen=True)
class TrainingSamples:
    """What a student is trained on.

    Attributes
    ----------
    table
        The biased samples, and behind them the clean ones where these take part.
    carries
        (N,) the concept, where it is known.
    draws
        (N,) how often each is drawn; None for all alike.
    label_weights
        (N,) of their cross-entropy; None for all alike.
    """

    table: ImageTable
    carries: Floats | None = None
    draws: Tensor | None = None
    label_weights: Tensor | None = None

    @classmethod
    def of(cls, problem: DebiasProblem, clean_share: float = 0.0) -> TrainingSamples:
        """The biased samples, and clean ones as this share of what is drawn.

        Raises
        ------
        InputError
            Without clean samples of every class, where they are to take part.
        """
        if clean_share <= 0:
            return cls(problem.train, problem.carries)
        clean, n = require_clean(problem), len(problem.train)
        shares = (1 - clean_share) / n, clean_share / len(clean)
        draws = torch.cat([torch.full((n,), shares[0]), torch.full((len(clean),), shares[1])])
        carries, clean_carries = problem.carries, problem.clean_carries
        if carries is not None:
            carries = np.concatenate(
                [carries, np.full(len(clean), np.nan) if clean_carries is None else clean_carries]
            )
        return cls(joined(problem.train, clean), carries, draws)

    def with_clean_labels(self, problem: DebiasProblem, clean_share: float) -> TrainingSamples:
        """The labels of the clean samples alone are learnt."""
        weights = torch.zeros(len(self.table))
        weights[len(problem.train) :] = 1 / clean_share
        return replace(self, label_weights=weights)

    def group_balanced(self, problem: DebiasProblem, recipe: str) -> TrainingSamples:
        """All labels are learnt, and every group of label and concept weighs the same.

        Raises
        ------
        InputError
            Without concept labels; with an empty group.
        """
        together = replace(problem, train=self.table, carries=self.carries)
        return replace(self, label_weights=balanced_weights(training_groups(together, recipe), self.draws))
