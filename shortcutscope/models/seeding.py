"""Random weights and masks from a known state, with the global generators left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block from a known state of torch's generators and put their former state back.

    Torch initialises weights and draws dropout masks from the global generators only; this keeps such code
    reproducible without changing what the caller draws next.

    Parameters
    ----------
    seed
        State inside the block.
    """
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        yield
