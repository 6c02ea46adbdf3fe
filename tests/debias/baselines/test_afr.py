from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from shortcutscope.debias.baselines.afr import afr, afr_weights, fit_towards
from shortcutscope.debias.baselines.held_out_head import held_out_head
from shortcutscope.errors import InputError
from shortcutscope.planting.thin import thin_resnet18


def test_weights_are_those_of_the_paper(problem) -> None:
    head = held_out_head(problem, "afr")
    weights = afr_weights(head, 3.0)
    p = head.logits.softmax(1)
    expected = torch.tensor(
        [
            torch.exp(-3 * p[i, y]) / (head.labels == y).sum()
            for i, y in enumerate(head.labels.tolist())
        ]
    )  # fmt: skip
    torch.testing.assert_close(weights, (expected / expected.sum()).double(), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("n_scores", [1, 2])
def test_the_fit_is_where_gradient_descent_ends(n_scores: int, problem) -> None:
    head = held_out_head(replace(problem, model=thin_resnet18(width=4, num_classes=n_scores).eval()), "afr")
    weights = afr_weights(head, 4.0)
    weight, bias = fit_towards(head, weights, 0.2)
    w, b = (x.clone().requires_grad_(True) for x in (head.weight, head.bias))
    descent = torch.optim.SGD([w, b], lr=0.02)
    for _ in range(3000):
        descent.zero_grad()
        z = head.features @ w.T + b
        if n_scores == 1:
            losses = F.binary_cross_entropy_with_logits(z[:, 0], head.labels.double(), reduction="none")
        else:
            losses = F.cross_entropy(z, head.labels, reduction="none")
        loss = (
            (weights * losses).sum()
            + 0.2 * ((w - head.weight) ** 2).sum()
            + 0.2 * ((b - head.bias) ** 2).sum()
        )
        loss.backward()
        descent.step()
    torch.testing.assert_close(weight, w.detach(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(bias, b.detach(), rtol=1e-3, atol=1e-4)


def test_a_large_penalty_keeps_the_layer_and_none_of_the_backbone_moves(problem) -> None:
    kept = afr(problem, penalty=1e6)
    torch.testing.assert_close(kept.model.fc.weight, problem.model.fc.weight, rtol=1e-3, atol=1e-4)
    moved = afr(problem, penalty=0.0)
    assert not torch.allclose(moved.model.fc.weight, problem.model.fc.weight, atol=1e-2)
    assert torch.equal(moved.model.stem[0].weight, problem.model.stem[0].weight)
    assert moved.steps == 0
    assert 0 < moved.details["share_heavier"] < 1


def test_several_values_are_chosen_among_on_clean_samples(problem) -> None:
    outcome = afr(problem, gamma=[1.0, 8.0], penalty=[0.0, 0.2])
    assert outcome.details["gamma"] in (1.0, 8.0)
    assert any("the best of 4 pairs on 32 clean samples" in note for note in outcome.notes)
    with pytest.raises(InputError, match="4 pairs of gamma and penalty by the worst group of clean"):
        afr(replace(problem, clean=None, clean_carries=None), gamma=[1.0, 8.0], penalty=[0.0, 0.2])
    with pytest.raises(InputError, match="gamma or penalty is empty"):
        afr(problem, gamma=[])
