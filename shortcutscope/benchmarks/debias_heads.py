"""Head volumes as a cohort of the debiasing benchmarks, with the phantom's bias in place of an artifact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from torch import Tensor

from shortcutscope.benchmarks.debias_data import AUDITED, Cohort, clean_and_biased
from shortcutscope.data.splits import holdout
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.pixel_masks import InputMasks
from shortcutscope.planting.artifacts.artifact import visible
from shortcutscope.planting.phantoms.heads import Bias, HeadRecipe, counterfactual, heads
from shortcutscope.types import Ints, Record

#: Kinds of bias, and what each is by construction.
KINDS: dict[str, str] = {"morphology": "localized", "intensity": "diffuse"}
#: Heads that training draws on, and held-out ones; sides of a volume in voxels.
N_TRAIN, N_HELD_OUT, SIDE = 1000, 600, 24


@dataclass(frozen=True)
class _Pair:
    """Every head without and with its bias."""

    kind: str
    without: ImageTable
    with_: ImageTable

    def drawn(self, rows: Ints, shares: tuple[float, float], seed: int) -> ImageTable:
        """Some heads, of which these shares of either class have the bias."""
        labels = self.without.frame["label"].to_numpy()[rows]
        carries = np.zeros(len(rows), np.int64)
        generator = np.random.default_rng([seed, 31])
        for value, share in enumerate(shares):
            members = np.flatnonzero(labels == value)
            carries[generator.permutation(members)[: round(share * len(members))]] = 1
        return self.chosen(rows, carries)

    def chosen(self, rows: Ints, carries: Ints) -> ImageTable:
        """Some heads, in memory, with the bias where it is asked for."""
        sides = (self.without, self.with_)
        images = np.stack([sides[c].image(r).numpy() for r, c in zip(rows.tolist(), carries, strict=True)])
        frame = self.without.frame.iloc[rows].drop(columns=["bias", "bias_latent", "split"])
        options: Record = {"dims": 3, "transform": self.without.transform}
        return ImageTable.from_arrays(images, frame.assign(**{self.kind: carries}), **options)

    def masks(self, table: ImageTable) -> InputMasks:
        """Exactly the voxels that the bias changes visibly, on the heads that have it."""
        row_of = {name: row for row, name in enumerate(self.without.frame["sample_id"])}
        ids, carries = table.frame["sample_id"].tolist(), table.frame[self.kind].to_numpy()

        def mask(row: int) -> Tensor | None:
            if not carries[row]:
                return None
            head = row_of[ids[row]]
            before, after = (side.image(head).numpy() for side in (self.without, self.with_))
            return torch.from_numpy(visible(before, after).any(axis=0))

        return mask


@lru_cache(maxsize=2)
def head_cohort(kind: str, seed: int, correlation: float, clean_fraction: float, *, other: bool) -> Cohort:
    """Heads of one seed, in which the bias goes with the disease in training.

    Parameters
    ----------
    kind
        A key of `KINDS`.
    seed, correlation, clean_fraction
        As in `shortcutscope.benchmarks.debias_data.make_cohort`.
    other
        Of another population: subjects differ in other directions.
    """
    table = heads(
        N_TRAIN + N_HELD_OUT,
        HeadRecipe(size=SIDE, bias=cast(Bias, kind), seed=seed, template_seed=int(other)),
        p_disease_given_bias=0.5,
    )
    pair = _Pair(kind, counterfactual(table, False), counterfactual(table, True))
    order = np.random.default_rng([seed, 29]).permutation(len(table))
    train, held_out = order[:N_TRAIN], order[N_TRAIN:]
    labels = table.frame["label"].to_numpy()
    clean, rest = (train[part] for part in clean_and_biased(labels[train], seed, clean_fraction))
    is_test = holdout(table.frame["group"].to_numpy()[held_out], labels[held_out], 1 - AUDITED, seed)
    tested, half = held_out[is_test], (0.5, 0.5)
    biased = pair.drawn(rest, (1 - correlation, correlation), seed)
    return Cohort(
        kind=kind,
        biased=biased,
        clean=pair.drawn(clean, half, seed + 1),
        unbiased=pair.drawn(rest, half, seed + 4),
        audited=pair.drawn(held_out[~is_test], half, seed + 2),
        test=pair.drawn(tested, half, seed + 3),
        without=pair.chosen(tested, np.zeros(len(tested), np.int64)),
        with_=pair.chosen(tested, np.ones(len(tested), np.int64)),
        masks=pair.masks(biased),
    )
