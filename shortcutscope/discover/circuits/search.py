"""Which channels of a layer to ablate, so that a concept's effect goes and the label's stays.

To first order the ablation of a set S of channels takes the sum of their effects from every margin. Of what
is left, carriers are shifted against others of their class by s, the classes stand apart by l, and samples
of one group (class, concept value) spread by sigma. For normal margins the worse of robust and aligned AUROC
is Phi(J / sqrt 2) with ``J = (l - |s|) / sigma``, smooth where an AUROC of 0 or 1 tells nothing. Channels are
switched one by one, whichever raises J most, in either direction; then the network is run, and the effects
are taken anew where it now stands. A step that does not raise the J that the network gives is halved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shortcutscope.discover.circuits.gates import ChannelReference
from shortcutscope.discover.circuits.problem import CircuitProblem
from shortcutscope.stats.metrics import aligned_auroc, balanced_auroc, robust_auroc
from shortcutscope.types import Floats, Ints

GateValues = npt.NDArray[np.bool_]
#: Gate (C,) -> margins (n,) and the channels' effects on them (n, C).
Run = Callable[[GateValues], tuple[Floats, Floats]]

#: How much a shift weighs against the classes' distance: from mild to strict, each from where the former led.
STRICTNESS = (0.5, 1.0, 3.0)
#: Smallest gain of J for which a channel is switched.
GAIN = 1e-3
#: Runs of the network for each strictness.
RUNS = 2
#: A choice is good that removes this share of the effect ...
ENOUGH = 0.9
#: ... and costs no more balanced AUROC than this.
ALLOWED = 0.01
#: Share of the effect that a point (.01) of balanced AUROC beyond it is worth.
PRICE = 0.1
#: Runs of the network for letting go of channels that are not needed.
PRUNINGS = 10
#: Layers that are searched thoroughly, of those that look best at first sight.
THOROUGH = 3


@dataclass(frozen=True, eq=False)
class ChannelCandidate:
    """A set of channels and what its ablation does on the samples it was found on.

    Attributes
    ----------
    layer
        Its name.
    keep
        (C,) False for the ablated channels.
    removed
        Share of the effect that is gone.
    drop
        What that costs, in balanced AUROC.
    """

    layer: str
    keep: GateValues
    removed: float
    drop: float

    @property
    def size(self) -> int:
        """Number of ablated channels."""
        return int((~self.keep).sum())

    @property
    def value(self) -> float:
        """Share removed, less the price of a drop beyond what is allowed."""
        return self.removed - PRICE * 100 * max(0.0, self.drop - ALLOWED)


@dataclass(frozen=True, eq=False)
class Judgement:
    """Tells how good an ablation is, from the margins it leaves.

    Attributes
    ----------
    y, a
        (n,) the label and the concept, 0 or 1.
    before
        (n,) margins of the unchanged network.
    """

    y: Floats
    a: Floats
    before: Floats

    def candidate(self, layer: str, keep: GateValues, after: Floats) -> ChannelCandidate:
        """What an ablation with these margins achieved."""
        whole = max(abs(self._gap(self.before)), 1e-9)
        drop = balanced_auroc(self.y, self.a, self.before) - balanced_auroc(self.y, self.a, after)
        return ChannelCandidate(layer, keep.copy(), 1 - abs(self._gap(after)) / whole, float(drop))

    def index(self, margins: Floats, strictness: float) -> float:
        """J of margins."""
        shift, distance, within = self.moments(margins[:, None])
        return float(_index(distance, shift, (within**2).mean(0), strictness)[0])

    def moments(self, values: Floats) -> tuple[Floats, Floats, Floats]:
        """Of columns (n, C): shift by the concept (C,), by the label (C,), and deviations from group means.

        The deviations (n, C) are scaled so that each group weighs the same in their mean square.
        """
        means = {}
        within = np.empty_like(values)
        for label in (0, 1):
            for carrier in (0, 1):
                member = (self.y == label) & (self.a == carrier)
                means[label, carrier] = values[member].mean(0)
                weight = np.sqrt(len(values) / (4 * member.sum()))
                within[member] = weight * (values[member] - means[label, carrier])
        shift = 0.5 * sum(means[label, 1] - means[label, 0] for label in (0, 1))
        distance = 0.5 * sum(means[1, carrier] - means[0, carrier] for carrier in (0, 1))
        return shift, distance, within

    def _gap(self, margins: Floats) -> float:
        return float(aligned_auroc(self.y, self.a, margins) - robust_auroc(self.y, self.a, margins))


def find_channels(
    problem: CircuitProblem,
    train: Ints,
    reference: ChannelReference,
    layers: Sequence[str],
    size: int | None = None,
) -> ChannelCandidate:
    """The layer, and its channels, whose ablation removes the effect at the least cost, on some samples.

    Every layer is tried with one set of channels; the best few are searched thoroughly.

    Parameters
    ----------
    problem
        The network and its samples.
    train
        Positions of the samples to choose on.
    reference
        Of these samples.
    layers
        Names.
    size
        Most channels.
    """
    network = problem.network
    full = {name: np.ones(network.layer(name).channels, bool) for name in layers}
    before, effects = network.effects(train, full, reference)
    judgement = Judgement(problem.y[train], problem.a[train], before)
    first = []
    for name in layers:
        keep = switch(before, effects[name], full[name], judgement, limit=size)
        if not keep.all():
            after = network.margins(train, {name: keep}, reference)
            first.append(judgement.candidate(name, keep, after))
    candidates = list(first)
    best = sorted(first, key=lambda c: -c.value)[:THOROUGH]
    for name in [c.layer for c in best]:

        def run(keep: GateValues, name: str = name) -> tuple[Floats, Floats]:
            margins, slopes = network.effects(train, {name: keep}, reference)
            return margins, slopes[name]

        candidates += search(run, judgement, name, (before, effects[name]), size)
    if not candidates:
        return _strongest(judgement, effects, full)
    candidate = best_of(candidates)
    shift = judgement.moments(effects[candidate.layer])[0]
    return prune(
        lambda keep: network.margins(train, {candidate.layer: keep}, reference), judgement, candidate, shift
    )


def _strongest(
    judgement: Judgement, effects: dict[str, Floats], full: dict[str, GateValues]
) -> ChannelCandidate:
    """Where no ablation promises anything: the last layer's channel with the largest effect."""
    name = list(effects)[-1]
    keep = full[name].copy()
    keep[int(np.argmax(np.abs(judgement.moments(effects[name])[0])))] = False
    return ChannelCandidate(name, keep, 0.0, 0.0)


def search(
    run: Run, judgement: Judgement, layer: str, start: tuple[Floats, Floats], limit: int | None = None
) -> list[ChannelCandidate]:
    """Sets of channels of one layer, each as the network was run with it.

    Parameters
    ----------
    run
        The network.
    judgement
        On the samples of `run`.
    layer
        Name, for the candidates.
    start
        What `run` gives with all channels let through.
    limit
        Most channels of a set.
    """
    margins, effects = start
    keep = np.ones(effects.shape[1], bool)
    candidates: list[ChannelCandidate] = []
    for strictness in STRICTNESS:
        step = len(keep)
        for _ in range(RUNS):
            proposed = switch(margins, effects, keep, judgement, strictness, step, limit)
            if (proposed == keep).all():
                break
            after, slopes = run(proposed)
            candidates.append(judgement.candidate(layer, proposed, after))
            if judgement.index(after, strictness) > judgement.index(margins, strictness) + GAIN:
                keep, margins, effects = proposed, after, slopes
            else:
                step = max(1, int((proposed != keep).sum()) // 4)
    return candidates


def switch(
    margins: Floats,
    effects: Floats,
    keep: GateValues,
    judgement: Judgement,
    strictness: float = 1.0,
    step: int | None = None,
    limit: int | None = None,
) -> GateValues:
    """The gates after switching channels for as long as J rises, to first order.

    Parameters
    ----------
    margins, effects, keep
        Where the network stands: (n,), (n, C) and (C,).
    judgement
        Of these samples.
    strictness
        Weight of the shift in J.
    step
        Most channels to switch.
    limit
        Most channels that may end up ablated.
    """
    width = len(keep)
    shifts, distances, within = judgement.moments(effects)
    shift, distance, spread = (m[..., 0] for m in judgement.moments(margins[:, None]))
    covariance = within.T @ within / len(within)
    with_margin = within.T @ spread / len(within)  # of each channel with what is left of the margin
    variance, diagonal = float((spread**2).mean()), np.diag(covariance).copy()
    signs = np.where(keep, -1.0, 1.0)
    current = float(_index(np.atleast_1d(distance), shift, np.array([variance]), strictness)[0])
    new = keep.copy()
    for _ in range(width if step is None else step):
        reached = _index(
            distance + signs * distances,
            shift + signs * shifts,
            variance + 2 * signs * with_margin + diagonal,
            strictness,
        )
        full = limit is not None and (~new).sum() >= limit
        # The last channel stays: a layer that is held altogether gives every sample the same margin.
        if full or new.sum() < 2:
            reached[new] = -np.inf
        best = int(np.argmax(reached))
        if not reached[best] > current + GAIN:
            break
        sign, current = signs[best], float(reached[best])
        variance += 2 * sign * with_margin[best] + diagonal[best]
        shift, distance = shift + sign * shifts[best], distance + sign * distances[best]
        with_margin = with_margin + sign * covariance[:, best]
        signs[best], new[best] = -sign, not new[best]
    return new


def prune(
    margins: Callable[[GateValues], Floats], judgement: Judgement, candidate: ChannelCandidate, shift: Floats
) -> ChannelCandidate:
    """Let go of channels that were ablated for their noise and do not carry the concept.

    Those with the smallest share in the concept's shift are let through first, as many at a time as the
    ablation stays good with.

    Parameters
    ----------
    margins
        The network: gate (C,) -> margins (n,).
    judgement
        On the samples of `margins`.
    candidate
        The set.
    shift
        (C,) by how much each channel shifts the carriers.
    """
    floor = min(ENOUGH, candidate.value)
    members = np.flatnonzero(~candidate.keep)
    waiting = members[np.argsort(np.abs(shift[members]), kind="stable")].tolist()
    chunk, runs = len(waiting) // 2, 0
    while chunk and len(waiting) > 1 and runs < PRUNINGS:
        chunk = min(chunk, len(waiting) - 1)
        keep = candidate.keep.copy()
        keep[waiting[:chunk]] = True
        smaller = judgement.candidate(candidate.layer, keep, margins(keep))
        runs += 1
        if smaller.value >= floor:
            candidate, waiting = smaller, waiting[chunk:]
        else:
            chunk //= 2
    return candidate


def best_of(candidates: list[ChannelCandidate]) -> ChannelCandidate:
    """The smallest share of a layer among the good ones; where none is good, the most valuable."""
    enough = min(ENOUGH, max(c.value for c in candidates))
    good = [c for c in candidates if c.value >= enough]
    return min(good, key=lambda c: (c.size / len(c.keep), -c.value))


def _index(distance: Floats, shift: Floats, variance: Floats, strictness: float) -> Floats:
    scale = np.sqrt(np.maximum(variance, 1e-12))
    result: Floats = (distance - strictness * np.abs(shift)) / scale
    return result
