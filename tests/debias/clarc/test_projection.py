from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from model_states import model_state
from torch import Tensor, nn

from shortcutscope.debias.clarc.correction import fitted_in_turn
from shortcutscope.debias.clarc.projection import Erasure, LayerEdit, Projected, Shift
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.models.seeding import seeded
from shortcutscope.options import Running
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.scan.capture import capture_batch
from shortcutscope.scan.scanner import scan


def inplace_net() -> nn.Module:
    with seeded(3):
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 5, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 2),
        )


def images(n: int = 5, size: int = 8) -> Tensor:
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(1))


def shift_at(model: nn.Module, name: str, x: Tensor, *, intercept: float | None = None) -> LayerEdit:
    (layer,) = find_layers(model, x, name)
    v = torch.randn(layer.channels, generator=torch.Generator().manual_seed(2))
    gate = {} if intercept is None else {"weights": v, "intercept": torch.tensor(intercept)}
    return LayerEdit(layer, [Shift(v, torch.tensor(0.7), **gate)])


@pytest.mark.parametrize("name", ["1", "2", "4"])
def test_every_sample_scores_the_target_and_hooks_see_the_edited_output(name: str) -> None:
    model, x = inplace_net().eval(), images()
    edit = shift_at(model, name, x)
    wrapper = Projected(model, [edit])
    (layer,) = find_layers(wrapper, x, f"model.{name}")
    with frozen(wrapper):
        pools = capture_batch(wrapper, x, [layer], relevance=True)
    shift = edit.edits[0]
    assert isinstance(shift, Shift)
    scores = pools.activations[layer.name]["mean"] @ shift.direction
    torch.testing.assert_close(scores, torch.full((len(x),), 0.7), atol=1e-5, rtol=0)
    assert not torch.allclose(wrapper(x), model(x), atol=1e-4)


def test_only_gated_samples_are_moved_and_the_intercept_decides() -> None:
    model, x = inplace_net().eval(), images(40)
    (layer,) = find_layers(model, x, "2")
    v = torch.randn(6, generator=torch.Generator().manual_seed(2))
    with frozen(model):
        pooled = capture_batch(model, x, [layer], relevance=False).activations["2"]["mean"]
    intercept = -float((pooled @ v).median())
    gated = pooled @ v + intercept > 0
    assert 0 < int(gated.sum()) < len(x)
    assert not torch.equal(gated, pooled @ v > 0)  # without the intercept others would be moved
    wrapper = Projected(model, [shift_at(model, "2", x, intercept=intercept)])
    plain, edited = model(x), wrapper(x)
    assert torch.equal(edited[~gated], plain[~gated])
    assert (edited[gated] != plain[gated]).any(dim=1).all()


def test_the_model_is_left_as_it_was_also_in_training_mode_and_after_an_exception() -> None:
    model, x = inplace_net(), images()  # in training mode: its batch norm must not move
    wrapper = Projected(model, [shift_at(model, "1", x), shift_at(model, "4", x)])
    before = model_state(model)
    outputs = wrapper.eval()(x)
    wrapper.train()
    assert torch.equal(wrapper(x), outputs)
    with pytest.raises(RuntimeError):
        wrapper(torch.zeros(2, 3, 8, 8))
    assert model_state(model) == before
    assert wrapper.remove() is model
    assert torch.equal(wrapper(x), copy.deepcopy(model).eval()(x))


def test_gradients_flow_through_the_edits() -> None:
    model, x = inplace_net().eval(), images().requires_grad_()
    edit = shift_at(model, "4", x)
    (gradient,) = torch.autograd.grad(Projected(model, [edit])(x).sum(), x)
    assert gradient.abs().sum() > 0
    shift = edit.edits[0]
    assert isinstance(shift, Shift)
    # The output is deaf to the removed direction: what is left of a step along it is nothing.
    values = torch.randn(3, 5, 4)
    moved = values + 2.5 * shift.direction[:, None]
    torch.testing.assert_close(shift.edited(values), shift.edited(moved), atol=1e-5, rtol=0)


def test_saved_edits_and_state_dicts_come_back_to_the_bit(tmp_path: Path) -> None:
    model, x = inplace_net().eval(), images()
    (layer,) = find_layers(model, x, "4")
    erasure = Erasure(torch.randn(5, 2), torch.randn(2, 5), torch.randn(5))
    wrapper = Projected(model, [shift_at(model, "1", x, intercept=-0.2), LayerEdit(layer, [erasure])])
    expected = wrapper(x)
    opened = Projected.open(wrapper.save(tmp_path / "edits.safetensors"), copy.deepcopy(model))
    assert torch.equal(opened(x), expected)
    other = copy.deepcopy(wrapper)
    for buffer in other.layer_edits.buffers():
        buffer.zero_()
    other.load_state_dict(wrapper.state_dict())
    assert torch.equal(other(x), expected)
    with pytest.raises(InputError, match="lacks"):
        Projected.open(tmp_path / "edits.safetensors", nn.Sequential(nn.Flatten()))
    (tmp_path / "other").write_bytes(b"no edits")
    with pytest.raises(InputError, match="not a file of a network's edits"):
        Projected.open(tmp_path / "other", model)


def test_class_tokens_have_an_edit_of_their_own() -> None:
    layer = Layer("block", "Block", "tokens", (5, 3), 0.5, prefix_tokens=1, grid=(2, 2))
    patches, token = (Shift(torch.eye(3)[i], torch.tensor(float(i))) for i in (0, 1))
    given = torch.randn(4, 5, 3)
    edited = LayerEdit(layer, [patches, token]).edited(given)
    torch.testing.assert_close(edited[:, 0, 1], torch.ones(4))
    torch.testing.assert_close(edited[:, 1:, 0].mean(1), torch.zeros(4), atol=1e-6, rtol=0)
    assert torch.equal(edited[:, 0, [0, 2]], given[:, 0, [0, 2]])
    with pytest.raises(InputError, match="2 parts"):
        LayerEdit(layer, [patches])


def test_half_precision_outputs_keep_their_type() -> None:
    layer = Layer("x", "X", "NCHW", (3, 2, 2), 0.5, grid=(2, 2))
    edited = LayerEdit(layer, [Shift(torch.ones(3), torch.tensor(0.0))]).edited(
        torch.randn(2, 3, 2, 2).bfloat16()
    )
    assert edited.dtype == torch.bfloat16


def test_a_later_layer_is_fitted_behind_the_edits_before_it() -> None:
    model, x = inplace_net().eval(), images()
    layers = find_layers(model, x, ["1", "4"])
    seen = []

    def fit(network: nn.Module, layer: Layer) -> list[Erasure]:
        with frozen(network):
            seen.append(capture_batch(network, x, [layer], relevance=False).activations[layer.name]["mean"])
        zero = torch.zeros(layer.channels, layer.channels)
        return [Erasure(torch.eye(layer.channels), torch.eye(layer.channels), zero[0])]

    wrapper = fitted_in_turn(model, layers, fit)
    assert [edit.layer.name for edit in wrapper.layer_edits] == ["1", "4"]
    with frozen(model):
        unedited = capture_batch(model, x, layers, relevance=False).activations
    assert torch.equal(seen[0], unedited["1"]["mean"])
    assert not torch.allclose(seen[1], unedited["4"]["mean"])


def test_a_wrapped_model_is_scanned_like_any_other(tmp_path: Path) -> None:
    table = radiographs(12, size=32, seed=50)
    with seeded(0):
        model = thin_resnet18(width=4).eval()
    x = torch.stack([table[i][0] for i in range(4)])
    plain, edit = find_layers(model, x), shift_at(model, "blocks.7", x)
    wrapper = Projected(model, [edit])
    layers = find_layers(wrapper, x)
    assert [layer.name for layer in layers] == [f"model.{layer.name}" for layer in plain]
    before = model_state(wrapper)
    found = scan(wrapper, table, tmp_path / "scan", running=Running(batch_size=4, progress=False))
    assert model_state(wrapper) == before
    shift = edit.edits[0]
    assert isinstance(shift, Shift)
    scores = found.activation("model.blocks.7") @ shift.direction.numpy()
    np.testing.assert_allclose(scores, 0.7, atol=1e-4)


def test_what_cannot_be_an_edit_is_refused() -> None:
    with pytest.raises(InputError, match="length 0"):
        Shift(torch.zeros(3), torch.tensor(0.0))
    with pytest.raises(InputError, match="intercept"):
        Shift(torch.ones(3), torch.tensor(0.0), weights=torch.ones(3))
