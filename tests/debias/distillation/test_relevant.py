from __future__ import annotations

import torch
from torch import nn

from shortcutscope.debias.distillation.matching import FeatureMatch, Pair, channel_scale
from shortcutscope.debias.distillation.relevant import relevant_directions
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import find_layers


class _Reads(nn.Module):
    """Eight channels, of which the answer reads two; a channel may be read by a shortcut, too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(8, 8, 1, bias=False)
        self.head = nn.Linear(8, 2, bias=False)
        with torch.no_grad():
            self.stem.weight.copy_(torch.eye(8)[:, :, None, None])
            self.head.weight.zero_()
            self.head.weight[1, 2], self.head.weight[1, 5] = 3.0, 1.0
            self.head.weight[0] = -self.head.weight[1]

    def forward(self, x):
        return self.head(torch.relu(self.stem(x)).mean((2, 3)))


def _layer(model, x):
    return next(layer for layer in find_layers(model, x, ["stem"]))


def test_the_directions_are_the_channels_that_are_read() -> None:
    x = torch.rand(40, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    model = _Reads().eval()
    layer = _layer(model, x[:2])
    found = relevant_directions(model, x, [layer], 1)["stem"]
    assert found.shape == (1, 8)
    # The direction of most relevance lies between what is there and how it is read.
    assert found[0, 2].abs() == found[0].abs().max()
    assert torch.allclose(found @ found.T, torch.eye(1), atol=1e-5)


def test_the_directions_hold_most_of_the_relevance_that_so_many_can() -> None:
    """No random subspace holds more of it (the oracle is the sum of the largest eigenvalues)."""
    from shortcutscope.attribution.slope import Explained, differentiate

    generator = torch.Generator().manual_seed(1)
    x = torch.rand(60, 8, 6, 6, generator=generator)
    model = _Reads().eval()
    layer = _layer(model, x[:2])
    with frozen(model) as network:
        slope = differentiate(network, x, Explained(), layer)
    scale = channel_scale(slope.values)[:, None, None]
    values, slopes = slope.values / scale, slope.gradient * scale
    flat, along = (v.movedim(1, -1).reshape(-1, 8) for v in (values, slopes))

    def held(directions):
        return float(((flat @ directions.T) * (along @ directions.T)).sum(1).mean())

    best = held(relevant_directions(model, x, [layer], 3)["stem"])
    for _ in range(50):
        other, _ = torch.linalg.qr(torch.randn(8, 3, generator=generator))
        assert held(other.T) <= best + 1e-5


def test_the_shortcuts_own_direction_is_taken_out() -> None:
    x = torch.rand(40, 8, 6, 6, generator=torch.Generator().manual_seed(2))
    model = _Reads().eval()
    layer = _layer(model, x[:2])
    own = torch.zeros(1, 8)
    own[0, 2] = 1
    directions = relevant_directions(model, x, [layer], 2, {"stem": own})["stem"]
    assert float((directions @ own.T).abs().max()) < 1e-5
    assert torch.allclose(directions @ directions.T, torch.eye(2), atol=1e-5)


def test_nothing_but_the_directions_is_compared() -> None:
    x = torch.rand(10, 8, 4, 4)
    layer = _layer(_Reads().eval(), x[:2])
    within = torch.eye(8)[[2, 5]]
    match = FeatureMatch(Pair(layer, layer, 1.0), torch.ones(8), within=within)
    other = x.clone()
    other[:, [0, 1, 3, 4, 6, 7]] += 1
    assert float(match(other, x)) == 0
    other[:, 2] += 1
    assert float(match(other, x)) == 0.5


def test_relevant_directions_are_distilled(problem) -> None:
    from shortcutscope.debias.recipes import RECIPES

    outcome = RECIPES["audited-distillation"](
        problem, form="relevant", along=0, directions=3, on_shortcut="warn"
    )
    assert outcome.details["form"] == "relevant"
