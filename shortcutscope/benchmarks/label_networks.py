"""Networks of fourteen outputs with planted shortcuts: made once, kept on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from shortcutscope.benchmarks.kept import kept_network
from shortcutscope.data.table import ImageTable
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms.findings import CONTRAST, FINDINGS, findings
from shortcutscope.planting.planting import plant_in
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.types import Bools, Floats

VERSION = 1
SIDE, WIDTH = 48, 8
#: Agreement in the training samples of an artifact with its label, and of a label with another one.
PLANTED, OFF_TARGET = 0.95, 0.90
#: Contrast of the label that another output leans on, and of that output's own label.
PLAIN, FAINT = 2.0, 0.6
#: Shares of uncertain and of missing labels.
OPEN = (0.05, 0.05)


@dataclass(frozen=True)
class LabelPlan:
    """What is planted in the training samples of one network.

    Attributes
    ----------
    seed
        Chooses samples, carriers, weights, and which labels are concerned.
    spread
        To how many labels the noise goes: ``"one"``, ``"two"`` or ``"all"``.
    n_train, n_held_out, epochs
        Sizes.
    """

    seed: int
    spread: str = "one"
    n_train: int = 1800
    n_held_out: int = 800
    epochs: int = 8

    @property
    def order(self) -> list[str]:
        """The labels in the order in which they are given a part."""
        return [FINDINGS[k] for k in np.random.default_rng([self.seed, 17]).permutation(len(FINDINGS))]

    @property
    def tagged(self) -> str:
        """The label that the tag goes with."""
        return self.order[0]

    @property
    def noisy(self) -> list[str]:
        """The labels that the noise goes with."""
        return self.order[1 : {"one": 2, "two": 3, "all": len(FINDINGS)}[self.spread]]

    @property
    def off_target(self) -> tuple[str, str]:
        """A label, and another one whose output leans on it."""
        return self.order[-1], self.order[-2]

    @property
    def written(self) -> str:
        """The label that a column goes with of which nothing is in the image."""
        return self.order[3]

    def guilty(self) -> dict[tuple[str, str], str]:
        """(concept, output) to what was planted, of all pairs that go together in training."""
        sign, leaning = self.off_target
        noise = {("noise", name): f"noise, {self.spread}" for name in self.noisy}
        return {("tag", self.tagged): "tag, one", **noise, (sign, leaning): "off-target"}

    def unclear(self) -> set[tuple[str, str]]:
        """Pairs that are neither planted nor innocent: what goes with a label that goes with another one."""
        sign, leaning = self.off_target
        carried = {("noise", x) for x in (sign, leaning) if {sign, leaning} & set(self.noisy)}
        return {(leaning, sign), *carried} - set(self.guilty())


def label_case(
    plan: LabelPlan, cache: Path, *, planted: bool = False
) -> tuple[nn.Module, ImageTable, ImageTable]:
    """The network, its training samples, and held-out ones.

    Parameters
    ----------
    plan
        What is planted.
    cache
        Where the network is kept.
    planted
        Whether what is planted goes with its labels in the held-out samples as in training, or with none.
    """
    sign, leaning = plan.off_target
    contrast = {sign: PLAIN * CONTRAST, leaning: FAINT * CONTRAST, plan.tagged: FAINT * CONTRAST}
    contrast |= dict.fromkeys(plan.noisy[:2], FAINT * CONTRAST)
    tables: list[ImageTable] = []
    held_out_agree = (PLANTED, OFF_TARGET) if planted else (0.5, 0.5)
    for n, (agree, together) in ((plan.n_train, (PLANTED, OFF_TARGET)), (plan.n_held_out, held_out_agree)):
        seed = 1000 * plan.seed + (500 if tables else 0)
        table = findings(
            n, size=SIDE, together={sign: (leaning, together)}, contrast=contrast, open_=OPEN, seed=seed
        )
        tables.append(_planted(table, plan, agree, seed))
    train, held_out = tables
    key = hashlib.sha256(json.dumps([VERSION, asdict(plan), train.fingerprint()]).encode()).hexdigest()[:24]
    fresh = thin_resnet18(len(FINDINGS), width=WIDTH, seed=plan.seed)
    path = cache / "models" / f"labels-{plan.seed}-{key}.safetensors"
    network = kept_network(path, fresh, lambda: train_several(fresh, train, plan.epochs, plan.seed))
    network.class_names = list(FINDINGS)  # type: ignore[assignment]
    return network, train, held_out


def _planted(table: ImageTable, plan: LabelPlan, agree: float, seed: int) -> ImageTable:
    """The table with a tag, noise, and columns that have nothing to do with the image."""
    generator = np.random.default_rng([seed, 19])
    labels = dict(zip(table.labels, table.label_values.T, strict=True))
    n = len(table)
    drawn = {name: np.where(np.isnan(x), generator.random(n) < 0.4, x == 1) for name, x in labels.items()}

    def agreeing(with_: Bools) -> Bools:
        follows: Bools = np.where(generator.random(n) < agree, with_, ~with_)
        return follows

    values = np.stack([drawn[name] for name in plan.noisy])
    source = values[generator.integers(len(values), size=n), np.arange(n)]
    if plan.spread == "all":
        source = values.sum(0) > np.median(values.sum(0))
    table = plant_in(table, get_artifact("tag"), agreeing(drawn[plan.tagged]), seed=seed)
    table = plant_in(table, get_artifact("noise"), agreeing(source), seed=seed)
    written: Bools = np.where(generator.random(n) < 0.8, drawn[plan.written], ~drawn[plan.written])
    coins = {f"coin {share}": (generator.random(n) < share).astype(int) for share in (0.5, 0.2)}
    return table.with_columns(written=written.astype(int), **coins)


def train_several(model: nn.Module, table: ImageTable, epochs: int, seed: int) -> nn.Module:
    """Train a network of several outputs by binary cross-entropy over the labels that are known."""
    images = torch.stack([table[k][0] for k in range(len(table))])
    targets: Floats = table.label_values
    known = torch.from_numpy(np.isfinite(targets)).float()
    values = torch.from_numpy(np.nan_to_num(targets)).float()
    steps = epochs * -(-len(images) // 64)
    with seeded(seed):
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        model.train()
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(images)), 64):
                loss = nn.functional.binary_cross_entropy_with_logits(
                    model(images[rows]), values[rows], weight=known[rows]
                )
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
    return model.eval()
