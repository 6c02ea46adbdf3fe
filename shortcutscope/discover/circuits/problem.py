"""What a circuit is sought and judged on: a gated network, samples of all four groups, halves by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from shortcutscope.data.splits import grouped_folds
from shortcutscope.data.table import ImageTable
from shortcutscope.discover.circuits.gates import ChannelReference, Gated
from shortcutscope.errors import InputError
from shortcutscope.models.heads.head import Output
from shortcutscope.options import OptionGroup
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.batches import batches
from shortcutscope.scan.reading import Scan
from shortcutscope.stats.metrics import aligned_auroc, robust_auroc
from shortcutscope.types import Floats, Ints

#: Fewest samples of each of the four groups (class, concept value): halves have to hold some of each.
MIN_GROUP = 8


@dataclass(frozen=True)
class Judging(OptionGroup):
    """What a circuit, or an ablation, is judged on.

    Attributes
    ----------
    positive
        Class whose margin is followed; by default 1, and of a finding the one that it was audited for.
    samples
        Most samples, as many of each group (class, concept value) as there are. Their images are held in
        memory.
    draws
        Random sets of channels that an ablation is compared with.
    seed
        Of samples, halves and random sets.

    Raises
    ------
    InputError
        A number of draws below 1.

    Examples
    --------
    >>> ss.Judging(samples=200, draws=10).draws
    10
    """

    positive: int | None = None
    samples: int = 800
    draws: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 1:
            raise InputError(f"draws={self.draws}: it must be 1 or more")

    @property
    def side(self) -> int:
        """The class whose margin is followed."""
        return 1 if self.positive is None else self.positive


@dataclass(frozen=True)
class Searching(OptionGroup):
    """Where a circuit is sought, and what of it.

    Attributes
    ----------
    layers
        Names of scanned layers, or ``"auto"`` for all of them. Channels of convolutions, features of tokens
        and of vectors are nodes; heads of an attention are not.
    size
        Most channels of the ablated set; None for no limit.
    edges
        Whether to compute the edges: some twenty passes over a few images.

    Raises
    ------
    InputError
        A size below 1.
    """

    layers: str | Sequence[str] = "auto"
    size: int | None = None
    edges: bool = True


@dataclass(frozen=True, eq=False)
class CircuitProblem:
    """A network, the samples it is judged on, and who of them carries the concept.

    Attributes
    ----------
    network
        With gates on the channels of the layers in question; holds the images.
    y, a
        (n,) 1 for the positive class, and for carriers.
    halves
        (n,) 0 or 1; a patient is in one of them.
    rows
        (n,) rows of the table.
    """

    network: Gated
    y: Floats
    a: Floats
    halves: Ints
    rows: Ints

    def of_half(self, half: int) -> Ints:
        """Positions of a half."""
        return np.flatnonzero(self.halves == half)

    def reference(self, within: Ints) -> ChannelReference:
        """Activations of the samples without the concept, class by class."""
        return self.network.reference(
            [within[(self.y[within] == label) & (self.a[within] == 0)] for label in (0, 1)]
        )

    def sign(self, within: Ints, margin: Floats) -> int:
        """Which way the effect goes: 1 where carriers are taken for the positive class."""
        return 1 if gap(self.y[within], self.a[within], margin) >= 0 else -1


def gap(y: Floats, a: Floats, margin: Floats) -> float:
    """Aligned minus robust AUROC: the effect of a shortcut that goes with ``y = 1``."""
    return float(aligned_auroc(y, a, margin)) - float(robust_auroc(y, a, margin))


def circuit_problem(
    model: nn.Module,
    scan: Scan,
    table: ImageTable,
    concept: Concept,
    layers: Sequence[str],
    judging: Judging,
    *,
    batch_size: int = 64,
    output: Output = None,
) -> CircuitProblem:
    """Choose samples of all four groups (class, concept value), and read their images.

    Parameters
    ----------
    model
        Lent out by `frozen`.
    scan, table
        The scan, and a table with at least the images it was made of.
    concept
        Of these samples.
    layers
        Names of scanned layers.
    judging
        Which samples, and the class whose margin is judged.
    batch_size, output
        As elsewhere.

    Raises
    ------
    InputError
        A table that lacks scanned samples, a layer that was not scanned, too few samples of a group.
    """
    positive, samples, seed = judging.side, judging.samples, judging.seed
    ids = scan.samples["sample_id"].astype(str).to_numpy()
    table = scan.rows_of(table)
    values = concept.aligned_to(ids).values
    y = (scan.samples["label"].to_numpy() == positive).astype(float)
    generator = np.random.default_rng([seed, 31])
    rows = _balanced_rows(y, values, max(samples // 4, MIN_GROUP), generator, concept.name, positive)
    groups = scan.samples["group"].to_numpy()[rows]
    halves = grouped_folds(groups, y[rows] * 2 + values[rows], 2, seed)
    _require_all_groups(halves, y[rows], values[rows], concept.name)
    images = torch.cat([x for x, _, _ in batches(table.take(rows), batch_size)])
    network = Gated(
        model, images, [scan.layer(name) for name in layers], task=scan.task, positive=positive,
        batch_size=batch_size, output=scan.same_head(output),
    )  # fmt: skip
    return CircuitProblem(network, y[rows], values[rows], halves, rows)


def _balanced_rows(
    y: Floats, values: Floats, most: int, generator: np.random.Generator, name: str, positive: int
) -> Ints:
    """Rows of at most so many samples of each of the four groups."""
    parts = []
    for label in (0, 1):
        for carrier in (0, 1):
            members = np.flatnonzero((y == label) & (values == carrier))
            if len(members) < MIN_GROUP:
                which = f"class {positive}" if label else f"classes other than {positive}"
                raise InputError(
                    f"concept {name!r}: {len(members)} samples of {which} "
                    f"{'with' if carrier else 'without'} it are too few; {MIN_GROUP} are needed to tell its "
                    "effect from the label's, so add samples or choose another class"
                )
            parts.append(generator.permutation(members)[:most])
    return np.sort(np.concatenate(parts))


def _require_all_groups(halves: Ints, y: Floats, values: Floats, name: str) -> None:
    for half in (0, 1):
        if len(set(zip(y[halves == half], values[halves == half], strict=True))) < 4:
            raise InputError(
                f"concept {name!r}: patients cannot be halved so that either half holds all four "
                "groups (class, concept value); samples of more patients are needed"
            )
