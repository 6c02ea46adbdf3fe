"""Cascading randomisation: what it does to the model, and whom it catches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_states import model_state
from torch import Tensor, nn

from shortcutscope.attribution import randomization
from shortcutscope.attribution.randomization import MEASURES, Cascade, model_randomization
from shortcutscope.attribution.slope import Explained
from shortcutscope.errors import InputError
from shortcutscope.planting.thin import thin_resnet18


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> nn.Module:
    return thin_resnet18(width=4)


def test_the_cascade_runs_from_output_to_input(model, x):
    before, generator = model_state(model), torch.random.get_rng_state()

    result = model_randomization(model, x, "gradient_x_input", cascade=Cascade(stages=4), progress=False)

    table = result.table
    assert model_state(model) == before
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert list(table.columns) == ["stage", "randomized", "module", "sample", "measure", "value"]
    assert len(table) == 4 * 3 * len(MEASURES)
    assert set(table["measure"]) == set(MEASURES)
    modules = table.drop_duplicates("stage").set_index("stage")["module"]
    assert modules[1] == "fc"
    assert modules[4] == "stem.0"
    assert table["value"].between(-1, 1).all()
    assert result.curves().shape == (4, 3)
    assert result.passed


def test_the_seed_decides(model, x):
    first, again, other = (
        model_randomization(
            model, x, "gradient_x_input", cascade=Cascade(stages=2, seed=seed), progress=False
        ).table["value"]
        for seed in (0, 0, 1)
    )
    assert first.equals(again)
    assert not np.allclose(first, other)


def test_a_map_of_the_image_alone_fails(x):
    class Bright(nn.Module):
        """However it is weighted, the relevance is the image."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([1.0, 2.0]))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).sum(1, keepdim=True) * self.scale

    result = model_randomization(Bright(), x, "gradient_x_input", explained=Explained(1), progress=False)

    assert not result.passed
    assert "shows the image more than the model" in result.reason
    assert result.table["value"].to_numpy() == pytest.approx(1)


def test_every_weight_is_drawn_once_and_keeps_its_size(model, x):
    twin = thin_resnet18(width=4)
    generator = torch.Generator().manual_seed(0)
    drawn: set[int] = set()
    for _, module in randomization._from_output(twin, x):
        randomization._randomize(module, generator, drawn)

    assert drawn == {id(parameter) for parameter in twin.parameters()}
    weight, original = twin.blocks[7].conv2.weight, model.blocks[7].conv2.weight
    assert weight.std().item() == pytest.approx(original.std().item(), rel=0.05)
    correlation = np.corrcoef(weight.detach().flatten().numpy(), original.detach().flatten().numpy())[0, 1]
    assert abs(correlation) < 0.1


def test_modules_whose_weights_the_parent_reads_keep_their_place():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)  # registered first, runs last
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.attention(x, x, x)[0].mean(1))

    names = [name for name, _ in randomization._from_output(Attention(), torch.randn(2, 3, 4))]

    assert names[0] == "fc"
    assert set(names[1:]) == {"attention", "attention.out_proj"}


def test_a_method_that_gives_nothing_on_the_random_model(model, x, monkeypatch):
    monkeypatch.setattr(randomization, "_explained_at_all", lambda explain: None)

    result = model_randomization(model, x, "gradient_x_input", cascade=Cascade(stages=1), progress=False)

    assert result.table["value"].isna().all()
    assert "nothing can be said" in result.reason


def test_refusals(model, x):
    with pytest.raises(InputError, match="stages is 0"):
        model_randomization(model, x, cascade=Cascade(stages=0))
    with pytest.raises(InputError, match="no parameters"):
        model_randomization(nn.Flatten(), x, "gradient_x_input", progress=False)
