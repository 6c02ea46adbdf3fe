"""What every used concept is beside those that it goes with, and what it costs beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from shortcutscope.probes.association import Association
from shortcutscope.probes.blocks import Blocks
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.probes.together.beside import HeldFixed, UsedConcepts
from shortcutscope.probes.together.matched_cost import MOST_MATCHED, matched_cost
from shortcutscope.probes.together.partial_patterns import pattern_cosine
from shortcutscope.types import Array, Floats, Ints, Record


@dataclass(frozen=True, eq=False)
class Represented:
    """Samples as a network, or an encoder with its head, has them.

    Attributes
    ----------
    labels, groups
        ``(N,)``.
    layers
        Gives the features of each layer.
    margins
        ``(N,)`` of a class.
    """

    labels: Ints
    groups: Array
    layers: Callable[[], Iterable[Blocks]]
    margins: Callable[[int], Floats]


@dataclass(frozen=True)
class Resampling:
    """How costs are resampled: how often, from which seed, and the smallest cell that is compared."""

    n_bootstrap: int
    seed: int
    smallest: int


def besides(
    samples: Represented,
    values: Mapping[str, Floats],
    alone: Mapping[str, float],
    held: Mapping[str, HeldFixed],
    associations: Mapping[str, Association],
    *,
    threshold: float,
    resampling: Resampling,
) -> dict[str, Record]:
    """What every used concept is beside the others that it goes with.

    Parameters
    ----------
    samples
        All that the concepts were tested on.
    values
        ``(N,)`` of each concept.
    alone
        The encoded ones that are used, to their effect with nothing held fixed.
    held
        Concept to its effect with others held fixed.
    associations
        With the label.
    threshold
        Of use.
    resampling
        Of the costs.

    Returns
    -------
    dict
        See `shortcutscope.probes.together.beside.UsedConcepts.statements`; and ``cost``, with those that are
        used as well held fixed, None where none of them is.
    """

    def cosine(a: str, b: str) -> float:
        phi = dict(zip(held[a].others, held[a].phi, strict=True))[b]
        pair = np.column_stack([values[a], values[b]])
        halves = make_folds(samples.labels, samples.groups, pair, n_folds=2, seed=resampling.seed)
        return float(np.sign(phi)) * pattern_cosine(samples.layers(), pair, samples.labels, halves)

    statements = UsedConcepts(alone, held, threshold, cosine).statements()
    for name, said in statements.items():
        rivals = [values[other] for other in said["with"] if other in alone][:MOST_MATCHED]
        said["cost"] = None
        if rivals:
            said["cost"] = matched_cost(
                values[name],
                np.column_stack(rivals),
                (samples.labels, samples.groups, samples.margins(associations[name].positive)),
                associations[name],
                n_bootstrap=resampling.n_bootstrap,
                seed=resampling.seed,
                smallest=resampling.smallest,
            )
    return statements
