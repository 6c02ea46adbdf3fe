"""Which unmarked samples to ask a person about next."""

from __future__ import annotations

from typing import Literal

import numpy as np

from shortcutscope.types import Floats, Ints

Query = Literal["both", "rank", "uncertainty", "random"]
QUERIES = ("both", "rank", "uncertainty", "random")


def choose_queries(scores: Floats, free: Ints, n: int, by: Query, seed: list[int]) -> dict[int, str]:
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
