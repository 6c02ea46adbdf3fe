from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from shortcutscope.debias.clarc.gradient_scale import GradientScale
from shortcutscope.errors import InputError


def losses(weight: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Gradients of lengths 5 and factor * 2."""
    return weight @ torch.tensor([3.0, 4.0]), factor * weight @ torch.tensor([0.0, 2.0])


@pytest.mark.parametrize("factor", [1e-8, 1.0, 1e9])
def test_the_weighted_penalty_pulls_as_hard_as_asked_whatever_its_unit(factor: float) -> None:
    weight = nn.Parameter(torch.ones(2))
    frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    task, penalty = losses(weight, factor)
    weighted = GradientScale(3.0)(task, penalty, [weight, frozen])
    (gradient,) = torch.autograd.grad(weighted, weight)
    torch.testing.assert_close(gradient.norm(), torch.tensor(15.0))


def test_it_is_fixed_after_the_first_batches_and_a_checkpoint_keeps_it() -> None:
    weight = nn.Parameter(torch.ones(2))
    scale = GradientScale(1.0, batches=2)
    assert scale.weight == 0
    for factor in (1.0, 3.0, 100.0, 1000.0):
        scale(*losses(weight, factor), [weight])
    assert scale.weight == pytest.approx(5 / 4)  # 5 over the mean of 2 and 6
    other = GradientScale(1.0, batches=2)
    other.load_state_dict(scale.state_dict())
    other(*losses(weight, 50.0), [weight])
    assert other.weight == scale.weight
    assert "first 2 batches" in scale.note


def test_a_running_average_follows() -> None:
    weight = nn.Parameter(torch.ones(2))
    scale = GradientScale(1.0, momentum=0.5, every=2)
    for factor in (1.0, 7.0, 3.0, 7.0):
        scale(*losses(weight, factor), [weight])
    assert int(scale.measured) == 2
    assert scale.weight == pytest.approx(5 / 4)


def test_batches_without_a_penalty_are_not_counted() -> None:
    weight = nn.Parameter(torch.ones(2))
    scale = GradientScale(1.0, batches=1)
    task, penalty = losses(weight, 0.0)
    scale(task, penalty, [weight])
    scale(task, torch.zeros(()), [weight])
    assert int(scale.measured) == 0
    scale(*losses(weight, 1.0), [weight])
    assert scale.weight == pytest.approx(2.5)


@pytest.mark.parametrize("options", [{"strength": -1}, {"batches": 0}, {"momentum": 1.0}, {"every": 0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="allowed are"):
        GradientScale(**{"strength": 1.0, **options})  # type: ignore[arg-type]
