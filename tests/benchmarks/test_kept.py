"""Networks that are trained once."""

import torch
from torch import nn

from shortcutscope.benchmarks.kept import kept_network


def test_a_network_is_made_once(tmp_path):
    made = []

    def make() -> nn.Module:
        made.append(nn.Linear(3, 2))
        return made[-1]

    first, second = (kept_network(tmp_path / "a.safetensors", nn.Linear(3, 2), make) for _ in range(2))
    assert len(made) == 1
    assert not first.training
    for network in (first, second):
        assert torch.equal(network.weight, made[0].weight)
