from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from shortcutscope.debias.baselines.loss_sampling import environments, evals, losses_at_both_ends
from shortcutscope.errors import InputError


def penalty(shares: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """IRMv1 penalties of both environments, by automatic differentiation, of soft assignments."""
    scale = torch.ones((), dtype=logits.dtype, requires_grad=True)
    losses = F.cross_entropy(logits * scale, labels, reduction="none")
    total = torch.zeros((), dtype=logits.dtype)
    for share in (shares, 1 - shares):
        (slope,) = torch.autograd.grad((losses * share).mean(), scale, create_graph=True)
        total = total + slope**2
    return total


@pytest.mark.parametrize("seed", range(3))
def test_environments_are_where_gradient_ascent_on_the_penalty_ends(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(40, 3, generator=generator, dtype=torch.double)
    labels = torch.randint(0, 3, (40,), generator=generator)
    exact = environments(logits, labels)
    best = float(penalty(exact.double(), logits, labels).detach())
    w = torch.randn(40, generator=generator, dtype=torch.double).requires_grad_(True)
    ascent = torch.optim.Adam([w], lr=0.05)
    for _ in range(800):
        ascent.zero_grad()
        (-penalty(w.sigmoid(), logits, labels)).backward()
        ascent.step()
    assert float(penalty(w.sigmoid().round().detach(), logits, labels).detach()) <= best + 1e-12
    agree = float((w.sigmoid().round().bool() == exact).double().mean())
    assert max(agree, 1 - agree) > 0.95


def test_of_two_classes_they_are_right_and_wrong() -> None:
    logits = torch.tensor([[2.0], [-1.0], [3.0], [-2.0]])
    assert environments(logits, torch.tensor([1, 1, 0, 0])).tolist() == [False, True, True, False]


def test_both_ends_of_every_class_are_taken() -> None:
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 0.1, 0.2, 0.3, 0.4])
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1])
    assert np.flatnonzero(losses_at_both_ends(losses, labels, 1)).tolist() == [0, 4, 5, 8]


def test_size_and_penalty_are_chosen_on_the_other_half(problem, tables) -> None:
    outcome = evals(replace(problem, validation=tables["held_out"]), sizes=(4, 8, 500), penalties=(0.01, 1.0))
    assert outcome.details["size"] in (4, 8)
    assert outcome.details["penalty"] in (0.01, 1.0)
    assert torch.equal(outcome.model.stem[0].weight, problem.model.stem[0].weight)
    assert outcome.steps == 0


def test_few_samples_give_the_largest_sets_that_there_are(problem) -> None:
    outcome = evals(problem)
    assert any(note.startswith("k is ") and "fewer than 2 x 50" in note for note in outcome.notes)
    with pytest.raises(InputError, match="sizes or penalties is empty"):
        evals(problem, sizes=[])
