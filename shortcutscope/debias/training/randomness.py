"""Random streams that depend on a seed and a place only: resumed training needs no state of generators."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["AUGMENTATION", "MODULES", "OBJECTIVE", "ORDER", "derived_seed", "generator_of"]

#: What is drawn: the samples' order, augmentation, what an objective draws, and dropout.
ORDER, AUGMENTATION, OBJECTIVE, MODULES = range(4)


def derived_seed(seed: int, *place: int) -> int:
    """A seed for one place (a stream, a step, a process), independent of those of all other places."""
    return int(np.random.SeedSequence((seed, *place)).generate_state(1, np.uint64)[0] >> 1)


def generator_of(seed: int, *place: int) -> torch.Generator:
    """A generator on the CPU in the state of :func:`derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, *place))
