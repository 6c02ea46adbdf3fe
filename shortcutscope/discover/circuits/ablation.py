"""Ablation: what becomes of a shortcut's effect when channels are held at what they are without it.

An ablated channel is held, at every position, at its mean over samples without the concept, both classes
weighing the same (mean ablation; Wang et al. 2023, "Interpretability in the wild"). The edit is the same for
every sample, so nobody needs to know who carries the concept. How much of the effect is gone says little by
itself: sets of the same size, drawn at random or chosen by magnitude, tell what any ablation does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import pandas as pd

from shortcutscope.discover.circuits.gates import ChannelReference, Gated, Keep
from shortcutscope.discover.circuits.problem import CircuitProblem, gap
from shortcutscope.stats.metrics import aligned_auroc, balanced_auroc, robust_auroc
from shortcutscope.types import JSON, Floats, Ints, Record

#: An effect below this, in AUROC, is too small for a share of it to mean anything.
MIN_GAP = 0.02


@dataclass(frozen=True)
class Effect:
    """The shortcut's effect before and after an ablation, on samples on which nothing was chosen.

    Attributes
    ----------
    size
        Number of ablated channels (a mean over halves, where these differ).
    gap_before, gap_after
        Aligned minus robust AUROC, counted in the direction in which the effect was on the fitting samples.
    balanced_before, balanced_after
        AUROC with the same weight on each of the four groups (class, concept value).
    worst_after
        The lower one of aligned and robust AUROC after the ablation.
    """

    size: float
    gap_before: float
    gap_after: float
    balanced_before: float
    balanced_after: float
    worst_after: float

    @property
    def removed(self) -> float | None:
        """Share of the effect that is gone; an effect turned around counts as one that is left.

        None where there was none to remove (`MIN_GAP`).
        """
        return 1 - abs(self.gap_after) / self.gap_before if self.gap_before >= MIN_GAP else None

    @property
    def balanced_drop(self) -> float:
        """What the ablation costs, in balanced AUROC."""
        return self.balanced_before - self.balanced_after

    @classmethod
    def measure(cls, before: Floats, after: Floats, y: Floats, a: Floats, sign: int, size: int) -> Self:
        """From margins (n,) with and without ablation, labels and concept (n,) in {0, 1}."""
        return cls(
            float(size),
            sign * gap(y, a, before),
            sign * gap(y, a, after),
            float(balanced_auroc(y, a, before)),
            float(balanced_auroc(y, a, after)),
            min(float(aligned_auroc(y, a, after)), float(robust_auroc(y, a, after))),
        )

    @classmethod
    def averaged(cls, effects: Sequence[Effect]) -> Self:
        """Mean of every figure."""
        return cls(**{key: float(np.mean([getattr(e, key) for e in effects])) for key in asdict(effects[0])})


@dataclass(frozen=True)
class Ablation:
    """What an ablation removes, beside sets of the same size in the same layers.

    Attributes
    ----------
    circuit
        The channels in question.
    random
        One for every draw. Drawn from all channels of a layer, those in question included: of a set of more
        than half a layer, no second one is disjoint.
    magnitude
        The channels with the largest mean absolute activation.
    n_samples
        How many it was judged on.
    """

    circuit: Effect
    random: tuple[Effect, ...]
    magnitude: Effect
    n_samples: int

    @property
    def random_mean(self) -> Effect:
        """Mean over the draws."""
        return Effect.averaged(self.random)

    @property
    def beats_others(self) -> bool:
        """Whether the worse of aligned and robust AUROC ends higher than with either other set.

        A set that destroys the decision removes the effect as well, and one that misses it costs nothing;
        this figure is low for both.
        """
        others = max(self.random_mean.worst_after, self.magnitude.worst_after)
        return self.circuit.worst_after > others

    def to_frame(self) -> pd.DataFrame:
        """One row for each set; of the random ones their mean, and the range of what they remove."""
        rows = {"circuit": self.circuit, "random": self.random_mean, "magnitude": self.magnitude}
        frame = pd.DataFrame(
            [
                {"set": name, **asdict(e), "removed": e.removed, "balanced_drop": e.balanced_drop}
                for name, e in rows.items()
            ]
        ).set_index("set")
        shares = [e.removed for e in self.random if e.removed is not None]
        frame["removed_low"] = frame["removed_high"] = frame["removed"].astype(float)
        if shares:
            frame.loc["random", ["removed_low", "removed_high"]] = [min(shares), max(shares)]
        return frame

    def to_json(self) -> Record:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: JSON) -> Self:
        """What `to_json` gave."""
        random = tuple(Effect(**e) for e in entry["random"])
        return cls(Effect(**entry["circuit"]), random, Effect(**entry["magnitude"]), int(entry["n_samples"]))

    @classmethod
    def averaged(cls, parts: Sequence[Ablation]) -> Self:
        """The ablations of two halves as one."""
        draws = zip(*(part.random for part in parts), strict=True)
        return cls(
            Effect.averaged([part.circuit for part in parts]),
            tuple(Effect.averaged(draw) for draw in draws),
            Effect.averaged([part.magnitude for part in parts]),
            sum(part.n_samples for part in parts),
        )


def judge(
    problem: CircuitProblem,
    channels: Mapping[str, Sequence[int]],
    train: Ints,
    test: Ints,
    *,
    reference: ChannelReference | None = None,
    draws: int = 5,
    seed: int = 0,
) -> Ablation:
    """Ablate channels and, for comparison, sets of the same size.

    Parameters
    ----------
    problem
        The network and its samples.
    channels
        Layer name -> channels.
    train
        Positions of the samples that references, magnitudes and the effect's direction come from.
    test
        Positions of the samples that the effect is measured on.
    reference
        Of `train`, where it is known already.
    draws, seed
        Random sets.
    """
    held_values = problem.reference(train) if reference is None else reference
    y, a = problem.y[test], problem.a[test]
    before = problem.network.margins(test)
    sign = problem.sign(train, problem.network.margins(train))
    size = sum(map(len, channels.values()))
    generator = np.random.default_rng([seed, 37])

    def effect(removed: Mapping[str, Sequence[int]]) -> Effect:
        keep = keeping(problem.network, removed)
        return Effect.measure(before, problem.network.margins(test, keep, held_values), y, a, sign, size)

    def drawn() -> dict[str, Sequence[int]]:
        widths = {name: len(held_values.magnitude[name]) for name in channels}
        return {n: generator.choice(widths[n], len(c), replace=False).tolist() for n, c in channels.items()}

    largest = {n: np.argsort(-held_values.magnitude[n])[: len(c)].tolist() for n, c in channels.items()}
    return Ablation(
        effect(channels), tuple(effect(drawn()) for _ in range(draws)), effect(largest), len(test)
    )


def keeping(network: Gated, removed: Mapping[str, Sequence[int]]) -> Keep:
    """Gates (C,) of the layers concerned: False for removed channels."""
    keep = {}
    for name, channels in removed.items():
        gate = np.ones(network.layer(name).channels, bool)
        gate[list(channels)] = False
        keep[name] = gate
    return keep
