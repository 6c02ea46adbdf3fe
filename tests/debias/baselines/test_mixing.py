from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shortcutscope.debias.baselines.mixing import Mixup, lisa, lisa_partners, mixed_losses, mixup
from shortcutscope.debias.objective import Batch, cross_entropies
from shortcutscope.errors import InputError


@pytest.fixture
def labels(problem) -> np.ndarray:
    return problem.train.frame["label"].to_numpy()


@pytest.mark.parametrize("n_scores", [1, 3])
def test_mixed_loss_follows_a_loop(n_scores: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 1, 2, 3, generator=generator)
    labels = torch.tensor([0, 1, 1, 0])
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, n_scores))
    partners, share = torch.tensor([1, 3, 2, 0]), torch.tensor([0.2, 1.0, 0.5, 0.7])
    batch = Batch(images, labels, torch.arange(4))
    losses = []
    for i, (j, t) in enumerate(zip(partners.tolist(), share.tolist(), strict=True)):
        z = model((t * images[i] + (1 - t) * images[j])[None])
        own, other = cross_entropies(z, labels[[i]]), cross_entropies(z, labels[[j]])
        losses.append(t * own + (1 - t) * other)
    assert torch.allclose(
        mixed_losses(cross_entropies, model, batch, partners, share), torch.cat(losses).mean()
    )


def test_mixup_draws_from_the_batchs_generator_alone() -> None:
    images, labels = torch.randn(6, 3), torch.tensor([0, 1] * 3)
    model = nn.Linear(3, 2)

    def loss(seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        batch = Batch(images, labels, torch.arange(6), 0.0, generator)
        return float(Mixup(1.0)(model, batch)["ce_mixed"].detach())

    state = torch.get_rng_state()
    assert loss(1) == loss(1) != loss(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_partners_share_the_label_or_the_concept_and_differ_in_the_other() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 0])
    carries = torch.tensor([0, 1, 1, 0, 1, 0, 0, -1])
    index = torch.where(carries < 0, -1, 2 * labels + carries)
    drawn = {"label": set(), "concept": set()}
    for seed in range(200):
        for strategy, pairs in drawn.items():
            partners = lisa_partners(labels, index, strategy, torch.Generator().manual_seed(seed))
            pairs |= set(enumerate(partners.tolist()))

    def expected(fits) -> set[tuple[int, int]]:
        pairs = {(i, j) for i in range(7) for j in range(7) if fits(i, j)}
        return pairs | {(i, i) for i in range(8) if i not in {first for first, _ in pairs}}

    assert drawn["label"] == expected(lambda i, j: labels[i] == labels[j] and carries[i] != carries[j])
    assert drawn["concept"] == expected(lambda i, j: labels[i] != labels[j] and carries[i] == carries[j])
    assert (7, 7) in drawn["label"]
    assert (5, 5) in drawn["label"]


def test_recipes(problem, labels) -> None:
    assert mixup(problem).steps == 2
    carries = problem.carries.copy()
    carries[0] = float("nan")
    outcome = lisa(replace(problem, carries=carries))
    assert outcome.steps == 2
    assert "1 of 96 samples is not known: they stay unmixed" in outcome.notes[0]
    with pytest.raises(InputError, match="'label 0 with the concept'"):
        lisa(replace(problem, carries=labels.astype(float)))
