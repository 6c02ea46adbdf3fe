from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_states import model_state
from torch import Tensor, nn

from shortcutscope.debias.clarc.gradient_scale import GradientScale
from shortcutscope.debias.clarc.rrr import RightReasons, absolute_cosine, explained, rrr
from shortcutscope.debias.objective import Batch
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.training.fit import Training
from shortcutscope.errors import InputError
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.planting import artifact_mask


def net(inplace: bool = True) -> nn.Module:
    with seeded(1):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=inplace),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.ReLU(inplace=inplace),
            nn.Flatten(),
            nn.Linear(100, 2),
        ).double()


def batch(n: int = 6) -> tuple[Batch, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 1, 5, 5, generator=generator, dtype=torch.float64)
    masks = torch.rand(n, 1, 5, 5, generator=generator) < 0.3
    return Batch(images, torch.arange(n) % 2, torch.arange(n)), masks


@pytest.mark.parametrize("slope", ["log-probabilities", "logits"])
def test_the_term_is_the_cosine_by_hand(slope: str) -> None:
    given, masks = batch()
    index = torch.tensor([0, -1, 2, 3, -1, 5])
    model = net().eval()
    objective = RightReasons(masks, index, GradientScale(1.0), slope=slope)  # type: ignore[arg-type]
    terms = objective(model, given)
    expected = []
    for i in (0, 2, 3, 5):
        x = given.images[i : i + 1].clone().requires_grad_()
        logits = model(x)
        y = logits.log_softmax(1).sum() if slope == "log-probabilities" else logits.sum()
        g = torch.autograd.grad(y, x)[0].abs().flatten().numpy()
        m = masks[i].flatten().numpy().astype(float)
        expected.append(g @ m / np.linalg.norm(g) / np.linalg.norm(m))
    assert float(terms["rrr"].detach()) / objective.scale.weight == pytest.approx(np.mean(expected), rel=1e-6)
    task = nn.functional.cross_entropy(model(given.images), given.labels)
    torch.testing.assert_close(terms["ce"], task)


def test_a_second_backward_pass_goes_through_inplace_rectifiers() -> None:
    given, masks = batch()
    gradients = []
    for inplace in (True, False):
        model = net(inplace)
        objective = RightReasons(masks, torch.arange(6), GradientScale(2.0))
        torch.autograd.backward(sum(objective(model, given).values()))
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    assert not given.images.requires_grad


def test_summed_logits_are_blind_where_log_probabilities_see() -> None:
    logits = torch.tensor([[2.0, -2.0]], requires_grad=True)
    along = torch.tensor([-1.0, 1.0])  # what cross-entropy changes
    for slope, seen in (("logits", 0.0), ("log-probabilities", 2 * np.tanh(2.0))):
        (gradient,) = torch.autograd.grad(explained(logits, slope).sum(), logits)  # type: ignore[arg-type]
        assert float(gradient[0] @ along) == pytest.approx(seen, abs=1e-6)
    single = torch.tensor([[4.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(explained(single, "log-probabilities").sum(), single)
    assert float(gradient) == pytest.approx(-np.tanh(2.0), abs=1e-6)
    signs = {
        float(explained(logits.detach(), "signed logits", torch.Generator().manual_seed(i)))
        for i in range(20)
    }
    assert signs == {-4.0, 0.0, 4.0}


def test_the_cosine_knows_no_length_and_survives_a_flat_gradient() -> None:
    g, m = torch.randn(3, 2, 4, 4), torch.rand(3, 1, 4, 4) > 0.5
    torch.testing.assert_close(absolute_cosine(g, m), absolute_cosine(1e-20 * g, m))
    flat = torch.zeros(1, 1, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(absolute_cosine(flat, torch.ones(1, 1, 2, 2)).sum(), flat)
    assert torch.isfinite(gradient).all()


def test_masks_are_shifted_with_their_images() -> None:
    masks = torch.zeros(4, 1, 9, 9, dtype=torch.bool)
    masks[:, :, 4, 3] = True
    objective = RightReasons(masks, torch.arange(4), GradientScale(1.0), shifts=2)
    for seed in range(6):
        given = Batch(
            masks.float(), torch.zeros(4), torch.arange(4), 0.0, torch.Generator().manual_seed(seed)
        )
        images, moved = objective._shifted(given, masks.float())
        assert torch.equal(images, moved)
        assert float(images.sum()) == 4


def with_masks(problem: DebiasProblem) -> DebiasProblem:
    carries = problem.train.frame["tag"].to_numpy()
    return replace(
        problem, masks=lambda row: artifact_mask(problem.train, row, "tag") if carries[row] else None
    )


def test_training_turns_the_gradient_out_of_the_masks(
    problem: DebiasProblem,
) -> None:
    given = with_masks(replace(problem, training=Training(steps=12, batch_size=32, precision="fp32")))
    before = model_state(problem.model)
    outcome = rrr(given, strength=30.0)
    assert model_state(problem.model) == before
    assert outcome.steps == 12
    assert not outcome.model.training
    rows = [i for i in range(40) if given.masks is not None and given.masks(i) is not None]
    x = torch.stack([given.train[i][0] for i in rows]).requires_grad_()
    masks = torch.stack([artifact_mask(given.train, i, "tag") for i in rows]).unsqueeze(1)
    cosines = [
        float(
            absolute_cosine(
                torch.autograd.grad(explained(m(x), "log-probabilities").sum(), x)[0], masks
            ).mean()
        )
        for m in (problem.model, outcome.model)
    ]
    assert cosines[1] < cosines[0]
    assert any("lambda is relative" in note for note in outcome.notes)


def test_what_it_lacks_is_said_before_anything_is_trained(problem: DebiasProblem) -> None:
    with pytest.raises(InputError, match="masks is None"):
        rrr(problem)
    with pytest.raises(InputError, match="none of the 96"):
        rrr(replace(problem, masks=lambda row: torch.zeros(32, 32) if row < 4 else None))
    with pytest.raises(InputError, match=r"has shape \(16, 16\)"):
        rrr(replace(problem, masks=lambda row: torch.ones(16, 16)))


class Attentive(nn.Module):
    """One head of attention over patches, computed by the fused function."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 24, 8, 8)
        self.qkv = nn.Linear(24, 72)
        self.head = nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        query, key, value = (part.unsqueeze(1) for part in self.qkv(tokens).chunk(3, dim=2))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value).squeeze(1)
        return self.head((tokens + mixed).mean(1))  # type: ignore[no-any-return]


def test_a_second_backward_pass_goes_through_fused_attention(problem: DebiasProblem) -> None:
    with seeded(0):
        model = Attentive().eval()
    masks = {row: artifact_mask(problem.train, row, "tag") for row in range(len(problem.train))}
    given = replace(problem, model=model, initial=None, masks=masks.get)
    outcome = rrr(given, strength=1.0)
    moved = outcome.model.qkv.weight - given.model.qkv.weight  # type: ignore[union-attr, operator]
    assert torch.isfinite(moved).all()
    assert float(moved.detach().abs().max()) > 0  # type: ignore[union-attr]


def test_batch_norm_stays_as_it_was_unless_it_is_to_be_trained(problem: DebiasProblem) -> None:
    masks = {row: artifact_mask(problem.train, row, "tag") for row in range(len(problem.train))}
    given = replace(problem, masks=masks.get)
    before = {k: v for k, v in given.model.state_dict().items() if ".bn" in k}
    held, trained = rrr(given), rrr(given, batch_norm="trained")
    same = [
        all(torch.equal(value, outcome.model.state_dict()[name]) for name, value in before.items())
        for outcome in (held, trained)
    ]
    assert same == [True, False]
    assert all(parameter.requires_grad for parameter in held.model.parameters())
    assert any("batch norm" in note for note in held.notes)
    with pytest.raises(InputError, match="fresh"):
        rrr(given, start="fresh", batch_norm="held")
