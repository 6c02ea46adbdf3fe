from __future__ import annotations

import pytest
import torch
from torch import nn

from shortcutscope.debias.baselines.failure import LearningFromFailure, generalised, lff
from shortcutscope.debias.objective import Batch, cross_entropies


@pytest.mark.parametrize("n_scores", [1, 3])
def test_generalised_cross_entropy_and_its_gradient(n_scores: int) -> None:
    labels = torch.tensor([0, 1, 1, 0, 1])
    z = torch.randn(5, n_scores, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z.requires_grad_(True)
    losses = cross_entropies(z, labels)
    p = torch.exp(-losses).detach()
    assert torch.allclose(generalised(losses, 0.7), (1 - p**0.7) / 0.7)
    (plain,) = torch.autograd.grad(losses.sum(), z, retain_graph=True)
    (amplified,) = torch.autograd.grad(generalised(losses, 0.7).sum(), z)
    assert torch.allclose(amplified, (p**0.7).unsqueeze(1) * plain)


def test_relative_difficulty_follows_a_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(6, 3, generator=generator)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    biased, wanted = nn.Linear(3, 3), nn.Linear(3, 3)
    objective = LearningFromFailure(biased, labels, decay=0.7)
    averages = [[0.0] * 6, [0.0] * 6]
    for rows in ([0, 1, 2], [0, 2, 5, 4]):
        index = torch.tensor(rows)
        seen = [[value != 0 for value in line] for line in averages]
        terms = objective(wanted, Batch(images[index], labels[index], index))
        losses = [cross_entropies(net(images), labels).tolist() for net in (biased, wanted)]
        for net in range(2):
            for row in rows:
                old = averages[net][row]
                averages[net][row] = 0.7 * old + (1 - 0.7 * seen[net][row]) * losses[net][row]
        expected = 0.0
        for row in rows:
            same = [other for other in range(6) if labels[other] == labels[row]]
            b, d = (averages[net][row] / max(averages[net][other] for other in same) for net in range(2))
            expected += b / (b + d) * losses[1][row] / len(rows)
        assert float(terms["ce"].detach()) == pytest.approx(expected, rel=1e-5)


def test_the_biased_network_is_trained_along_and_all_is_in_the_checkpoint() -> None:
    objective = LearningFromFailure(nn.Linear(2, 2), torch.tensor([0, 1]))
    assert set(objective.state_dict()) == {"biased.weight", "biased.bias", "averages", "seen"}
    assert len(list(objective.parameters())) == 2


def test_recipe(problem) -> None:
    outcome = lff(problem)
    assert outcome.steps == 2
    assert {"ce", "biased"} <= set(outcome.history[-1])
