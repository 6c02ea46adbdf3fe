"""How layers of two networks are compared, against what one computes by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shortcutscope.debias.distillation.matching import (
    FeatureMatch,
    Pair,
    attention,
    channel_scale,
    common_grid,
    kl,
    linear_cka,
    pair_layers,
    pooled,
    to_grid,
)
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer


def layer(name: str, channels: int, side: int, depth: float) -> Layer:
    return Layer(name, "Conv2d", "NCHW", (channels, side, side), depth, grid=(side, side))


STUDENT = [layer("a", 4, 8, 0.3), layer("b", 8, 4, 0.9)]
TEACHER = [layer("x", 6, 16, 0.2), layer("y", 8, 4, 0.5), layer("b", 12, 4, 0.8)]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_layer_goes_with_that_of_its_name_or_else_of_its_depth() -> None:
    pairs = pair_layers(STUDENT, TEACHER, {"a": 0.25, "b": 0.75})
    assert [(p.student.name, p.teacher.name, p.weight) for p in pairs] == [("a", "x", 0.25), ("b", "b", 0.75)]


def test_a_layer_of_weight_zero_is_left_out() -> None:
    assert [p.student.name for p in pair_layers(STUDENT, TEACHER, {"a": 0, "b": 1})] == ["b"]


@pytest.mark.parametrize(
    ("weights", "said"), [({"c": 1}, "no layer 'c'"), ({"a": -1}, "0 or more"), ({"a": 0}, "not all 0")]
)
def test_weights_that_cannot_be_met_are_refused(weights, said) -> None:
    with pytest.raises(InputError, match=said):
        pair_layers(STUDENT, TEACHER, weights)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(2, 4), st.floats(0.5, 8), st.booleans(), st.integers(0, 9))
def test_kl_is_the_sum_that_defines_it(n, k, temperature, reverse, seed) -> None:
    s, t = random(n, k, seed=seed), random(n, k, seed=seed + 100)
    first, second = (s, t) if reverse else (t, s)
    p, q = (torch.softmax(z.double() / temperature, 1) for z in (first, second))
    by_hand = sum(
        float(p[i, j] * (math.log(p[i, j]) - math.log(q[i, j]))) for i in range(n) for j in range(k)
    )
    assert float(kl(s, t, temperature, reverse=reverse)) == pytest.approx(
        temperature**2 * by_hand / n, rel=1e-3, abs=1e-5
    )


def test_kl_of_one_logit_is_that_of_two_classes() -> None:
    s, t = random(5, 1), random(5, 1, seed=1)
    zero = torch.zeros(5, 1)
    assert kl(s, t, 2.0) == pytest.approx(float(kl(torch.cat([zero, s], 1), torch.cat([zero, t], 1), 2.0)))


def test_attention_is_the_unit_norm_sum_of_squares() -> None:
    values = random(2, 3, 4, 5)
    by_hand = torch.stack([sum(image[c] ** 2 for c in range(3)).flatten() for image in values])
    by_hand = by_hand / by_hand.norm(dim=1, keepdim=True)
    torch.testing.assert_close(attention(values), by_hand)


def test_cka_ignores_rotation_and_scale_and_is_small_for_unrelated_features() -> None:
    a = random(200, 6)
    turned, _ = torch.linalg.qr(random(6, 6, seed=3))
    assert float(linear_cka(a, 3 * a @ turned + 5)) == pytest.approx(1, abs=1e-5)
    assert float(linear_cka(a, random(200, 6, seed=4))) < 0.1


def test_maps_are_averaged_to_the_coarser_grid() -> None:
    pair = Pair(STUDENT[0], TEACHER[0], 1.0)
    assert common_grid(pair) == (8, 8)
    values = random(2, 3, 16, 16)
    torch.testing.assert_close(to_grid(values, (8, 8)), nn.functional.avg_pool2d(values, 2))
    assert to_grid(values, (16, 16)) is values
    assert to_grid(random(2, 3, 8), (4,)).shape == (2, 3, 4)
    assert to_grid(random(2, 3, 8, 4, 6), (4, 4, 3)).shape == (2, 3, 4, 4, 3)


def test_probes_read_the_mean_and_the_maximum() -> None:
    values = random(2, 3, 4, 5)
    torch.testing.assert_close(pooled(values), torch.cat([values.mean((2, 3)), values.amax((2, 3))], 1))


def test_features_are_compared_in_units_of_their_spread() -> None:
    pair = Pair(layer("a", 4, 8, 0.3), layer("a", 4, 8, 0.3), 1.0)
    teacher = random(8, 4, 8, 8) * torch.tensor([1.0, 10.0, 0.1, 3.0])[:, None, None]
    scale = channel_scale(teacher)
    torch.testing.assert_close(scale, teacher.transpose(0, 1).flatten(1).std(1), atol=0.02, rtol=0.01)
    match = FeatureMatch(pair, scale)
    assert float(match(teacher, teacher)) == 0
    shifted = teacher + scale[:, None, None]
    assert float(match(shifted, teacher)) == pytest.approx(1, rel=1e-4)


def test_other_widths_pass_an_adapter_that_is_trained() -> None:
    match = FeatureMatch(Pair(STUDENT[1], TEACHER[2], 1.0), torch.ones(12))
    assert [tuple(p.shape) for p in match.parameters()] == [(12, 8), (12,)]
    match(random(2, 8, 4, 4), random(2, 12, 4, 4)).backward()
    assert all(p.grad is not None for p in match.parameters())


@pytest.mark.parametrize(("along", "expected"), [(0.0, 0.0), (1.0, 4.0), (3.0, 12.0)])
def test_a_difference_along_the_shortcut_counts_as_much_as_asked_for(along, expected) -> None:
    pair = Pair(layer("a", 4, 8, 0.3), layer("a", 4, 8, 0.3), 1.0)
    direction = torch.tensor([[0.6, 0.8, 0.0, 0.0]])
    match = FeatureMatch(pair, torch.ones(4), direction, along)
    teacher = random(2, 4, 8, 8)
    moved = teacher + 2 * direction[0][:, None, None]
    assert float(match(moved, teacher)) == pytest.approx(expected, abs=1e-4)


def test_a_difference_beside_the_shortcut_counts_whatever_is_asked_for() -> None:
    pair = Pair(layer("a", 4, 8, 0.3), layer("a", 4, 8, 0.3), 1.0)
    match = FeatureMatch(pair, torch.ones(4), torch.tensor([[0.6, 0.8, 0.0, 0.0]]), 0.0)
    teacher = random(2, 4, 8, 8)
    moved = teacher + torch.tensor([0.0, 0.0, 2.0, 0.0])[:, None, None]
    assert float(match(moved, teacher)) == pytest.approx(1.0, abs=1e-4)  # 2^2 in one of four channels
