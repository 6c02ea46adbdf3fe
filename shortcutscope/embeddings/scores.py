"""Features with a head: the scores that findings on embeddings are concluded from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from shortcutscope.embeddings.heads import FoldHeads
from shortcutscope.models.heads.targets import margin, predicted_class
from shortcutscope.models.layers import Layer
from shortcutscope.types import Array, Floats, Ints

#: Name of the one layer.
FEATURES = "features"


@dataclass(frozen=True, eq=False)
class LinearScores:
    """Features with a head, as what findings are concluded from.

    Attributes
    ----------
    features
        (N, d)
    heads
        Of the features.
    samples
        sample_id, label, group and prediction of each.
    """

    features: Floats
    heads: FoldHeads
    samples: pd.DataFrame
    logits: Floats
    task: str
    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, features: Floats, heads: FoldHeads, frame: pd.DataFrame) -> LinearScores:
        """Of the samples of a table's frame, in its order."""
        logits = heads.logits(features)
        task = "binary" if logits.shape[1] == 1 else "multiclass"
        predicted = predicted_class(torch.from_numpy(logits), task).numpy()
        samples = frame[["sample_id", "label", "group"]].assign(prediction=predicted)
        layer = Layer(FEATURES, "Embedding", "vector", (features.shape[1],), 1.0)
        return cls(features, heads, samples, logits, task, (layer,))

    @property
    def labels(self) -> Ints:
        """(N,) class of each sample."""
        return self.samples["label"].to_numpy().astype(np.int64)

    @property
    def groups(self) -> Array:
        """(N,) patient of each sample."""
        return self.samples["group"].to_numpy()

    def margin(self, positive: int = 1) -> Floats:
        """By how much class `positive` is preferred, (N,)."""
        return self.margin_of(self.logits, positive)

    def margin_of(self, logits: Floats, positive: int) -> Floats:
        """The same of other scores (n, K)."""
        return np.asarray(margin(torch.from_numpy(logits), self.task, positive).numpy(), np.float64)
