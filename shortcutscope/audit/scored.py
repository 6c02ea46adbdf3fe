"""What a finding is concluded from: samples, the scores that a model gave them, and its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pandas as pd

from shortcutscope.models.layers import Layer
from shortcutscope.types import Floats


class ScoredSamples(Protocol):
    """A scan, or features with a head: who was scored how, and at which layer the decision is made."""

    @property
    def samples(self) -> pd.DataFrame:
        """One row per sample: sample_id, label, group, prediction."""
        ...

    @property
    def layers(self) -> Sequence[Layer]:
        """In execution order; the last is the decision layer."""
        ...

    @property
    def logits(self) -> Floats:
        """(N, K)."""
        ...

    @property
    def task(self) -> str:
        """As of a `Head`."""
        ...

    def margin(self, positive: int = 1) -> Floats:
        """By how much class `positive` is preferred, (N,)."""
        ...
