import dataclasses

import pytest
import torch
from captum.attr import LayerActivation, LayerGradientXActivation
from model_states import model_state
from torch import nn

from shortcutscope.attribution.attribute import attribute
from shortcutscope.attribution.hooks import visiting
from shortcutscope.attribution.lrp import default_composite, get_composite
from shortcutscope.attribution.slope import Explained
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.scan.capture import (
    NonFiniteScanError,
    capture_batch,
    forward_edited,
)

ACTIVATION = ("mean", "max", "std")
RELEVANCE = ("sum", "max", "gradient")


class Scores(nn.Module):
    """A model that returns its scores as a tensor, as captum wants it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return find_logits(self.model(x))


def by_position(layer: Layer, values: torch.Tensor) -> torch.Tensor:
    """(N, C, P) in the slowest and most obvious way; prefix tokens come first."""
    if layer.layout == "vector":
        return values[:, :, None]
    if layer.layout in ("tokens", "NHWC"):
        values = values.movedim(-1, 1)
    return values.contiguous().reshape(len(values), values.shape[1], -1)


def reference(model, x, layer: Layer, target: int):
    """Captum, one layer at a time, then pooled by the definitions."""
    scores, module = Scores(model), model.get_submodule(layer.name)
    a = LayerActivation(scores, module).attribute(x.clone())
    r = LayerGradientXActivation(scores, module).attribute(x.clone().requires_grad_(), target=target)
    a, r = (value[0] if isinstance(value, tuple) else value for value in (a, r))
    a, r = by_position(layer, a.detach()), by_position(layer, r.detach())
    patches = a[:, :, layer.prefix_tokens :]
    pools = {
        "mean": patches.mean(2), "max": patches.amax(2), "std": patches.std(2, correction=0),
        "sum": r.sum(2),
    }  # fmt: skip
    return pools, r


def assert_equal(a, b, **tolerance):
    torch.testing.assert_close(a, b, **({"rtol": 1e-9, "atol": 1e-12} | tolerance))


def assert_same_pools(a, b, rows=slice(None), **tolerance):
    assert a.activations.keys() == b.activations.keys()
    for layer in b.activations:
        for stat in ACTIVATION:
            assert_equal(a.activations[layer][stat], b.activations[layer][stat][rows], **tolerance)
        for stat in RELEVANCE:
            assert_equal(a.relevances[layer][stat], b.relevances[layer][stat][rows], **tolerance)


def test_equals_captum_layer_by_layer(network):
    model, x = network
    layers = find_layers(model, x)
    assert len(layers) >= 2
    with frozen(model):
        pools = capture_batch(model, x, layers, Explained(1))
        assert_equal(pools.logits, find_logits(model(x)))
        for layer in layers:
            expected, relevance = reference(model, x, layer, target=1)
            for stat in ACTIVATION:
                assert_equal(pools.activations[layer.name][stat], expected[stat])
            assert_equal(pools.relevances[layer.name]["sum"], expected["sum"])
            # Captum divides nothing out, so the maximum is taken of its full map.
            assert_equal(pools.relevances[layer.name]["max"], relevance.amax(2))


def raise_first_channel(by):
    return lambda flat: flat + by * torch.eye(1, flat.shape[1], dtype=flat.dtype)[..., None]


def test_gradient_is_the_effect_of_raising_a_channel_everywhere(network):
    model, x = network
    layers = find_layers(model, x)
    step = 1e-6
    with frozen(model):
        pools = capture_batch(model, x, layers, Explained(2))
        for layer in layers[:: max(1, len(layers) // 3)]:
            up = forward_edited(model, x, layer, raise_first_channel(step))[:, 2]
            down = forward_edited(model, x, layer, raise_first_channel(-step))[:, 2]
            slope = (up - down) / (2 * step)
            assert_equal(pools.relevances[layer.name]["gradient"][:, 0], slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["resnet", "vgg", "swin", "vit"])
def test_memory_format_does_not_matter(make_network, name):
    model, x = make_network(name)
    layers = find_layers(model, x)
    with frozen(model):
        expected = capture_batch(model, x, layers)
        model.to(memory_format=torch.channels_last)
        assert_same_pools(
            capture_batch(model, x.contiguous(memory_format=torch.channels_last), layers), expected
        )


def test_batch_size_does_not_matter(network):
    model, x = network
    layers = find_layers(model, x)
    with frozen(model):
        whole = capture_batch(model, x, layers)
        for part in (slice(0, 1), slice(1, 4), slice(4, 5)):
            assert_same_pools(capture_batch(model, x[part], layers), whole, rows=part)


def test_every_class_in_one_forward_pass(resnet):
    model, x = resnet
    layers = find_layers(model, x)
    forwards = []
    with frozen(model):
        model.register_forward_hook(lambda *_: forwards.append(1))
        pools = capture_batch(model, x, layers, Explained("every"))
        assert len(forwards) == 1
        assert pools.target.tolist() == model(x).argmax(1).tolist()
        for k in range(3):
            single = capture_batch(model, x, layers, Explained(k))
            for layer in layers:
                for stat in RELEVANCE:
                    values = pools.relevances[layer.name][stat]
                    assert values.shape == (5, 3, layer.channels)
                    assert_equal(values[:, k], single.relevances[layer.name][stat])


def test_a_class_per_sample_and_labels(resnet):
    model, x = resnet
    layers = find_layers(model, x)
    classes = torch.tensor([0, 2, 1, 1, 0])
    with frozen(model):
        every = capture_batch(model, x, layers, Explained("every"))
        given = capture_batch(model, x, layers, Explained(classes))
        labels = capture_batch(model, x, layers, Explained("label", labels=classes))
    assert_same_pools(given, labels)
    assert given.target.tolist() == classes.tolist()
    for layer in layers:
        assert_equal(
            given.relevances[layer.name]["sum"], every.relevances[layer.name]["sum"][torch.arange(5), classes]
        )


def test_single_score_explains_the_predicted_side():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 1)).double().eval()
    nn.init.zeros_(model[3].bias)
    x = 4 * torch.randn(8, 1, 4, 4, dtype=torch.float64)
    layers = find_layers(model, x)
    with frozen(model):
        predicted = capture_batch(model, x, layers)
        positive = capture_batch(model, x, layers, Explained(1))
        every = capture_batch(model, x, layers, Explained("every"))
    sign = torch.where(predicted.logits[:, 0] > 0, 1.0, -1.0).double()
    assert len(sign.unique()) == 2
    for layer in layers:
        assert_equal(
            predicted.relevances[layer.name]["sum"], sign[:, None] * positive.relevances[layer.name]["sum"]
        )
        assert every.relevances[layer.name]["sum"].shape == (8, 2, layer.channels)


def test_outputs_overwritten_in_place_are_recorded_as_they_were(overwriting):
    model, twin, x = overwriting
    layers = find_layers(model, x)
    assert any(layer.overwritten for layer in layers)
    before = x.clone()
    with frozen(model), frozen(twin):
        pools = capture_batch(model, x, layers, Explained(0))
        expected = capture_batch(
            twin, x, find_layers(twin, x, [layer.name for layer in layers]), Explained(0)
        )
    assert_same_pools(pools, expected)
    assert torch.equal(x, before)  # the model normalises its input in place


def test_in_place_modules_that_are_not_switched_off(make_network):
    model, x = make_network("vgg")
    layers = find_layers(model, x, "0.*")
    with frozen(model):
        expected = capture_batch(model, x, layers, Explained(0))
    convolutions = [dataclasses.replace(layer, overwritten=True) for layer in layers]
    assert_same_pools(capture_batch(model, x, convolutions, Explained(0)), expected)
    with pytest.raises(ModelError, match=r"'0\.0' is overwritten in place"):
        capture_batch(model, x, layers, Explained(0))


def test_parameters_that_require_gradients_change_nothing(resnet):
    model, x = resnet
    layers = find_layers(model, x)
    with frozen(model):
        expected = capture_batch(model, x, layers)
    before = model_state(model)
    assert_same_pools(capture_batch(model, x, layers), expected)
    assert model_state(model) == before
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_activations_alone(resnet):
    model, x = resnet
    layers = find_layers(model, x)
    with frozen(model):
        pools = capture_batch(model, x, layers, Explained("every"), relevance=False)
        expected = capture_batch(model, x, layers)
    assert pools.relevances == {}
    assert not pools.logits.requires_grad
    for layer in layers:
        assert_equal(pools.activations[layer.name]["std"], expected.activations[layer.name]["std"])


def test_nothing_returned_holds_the_graph(resnet):
    model, x = resnet
    with frozen(model):
        pools = capture_batch(model, x, find_layers(model, x))
    tensors = [pools.logits, *(t for d in pools.relevances.values() for t in d.values())]
    assert not any(t.requires_grad for t in tensors)


def test_brain_floats_are_pooled_in_full_precision():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 2)
    ).eval()
    x = torch.rand(3, 1, 8, 8)
    layers = find_layers(model, x)
    with frozen(model):
        full = capture_batch(model, x, layers, Explained(0))
        half = capture_batch(model, x, layers, Explained(0), autocast=torch.bfloat16)
    for layer in layers:
        for stats in (half.activations[layer.name], half.relevances[layer.name]):
            assert all(values.dtype == torch.float32 for values in stats.values())
        a, b = half.activations[layer.name]["mean"], full.activations[layer.name]["mean"]
        assert_equal(a, b, rtol=0.02, atol=0.01)


def test_layer_without_influence_on_the_explained_score_has_zero_relevance(make_network):
    model, x = make_network("dict")
    layers = [*find_layers(model, x, ["stem"]), *find_layers(model, x, ["aux"], output="aux")]
    with frozen(model):
        pools = capture_batch(model, x, layers)
    assert pools.relevances["stem"]["sum"].abs().min() > 0
    assert pools.activations["aux"]["mean"].abs().min() > 0
    for stat in RELEVANCE:
        assert_equal(pools.relevances["aux"][stat], torch.zeros(5, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": torch.tensor([0, 1])}, InputError, r"\(2,\) are given for a batch of 5"),
        ({"target": torch.tensor([0, 1])}, InputError, "one class per sample"),
        ({"target": "label"}, InputError, "labels"),
        ({"target": 3}, InputError, "lies outside the model's 3 classes"),
        ({"target": "label", "labels": torch.tensor([0, 1, 2, 3, 0])}, InputError, "label 3 lies outside"),
        ({"target": "best"}, InputError, "allowed are"),
    ],
)
def test_targets_that_do_not_fit(resnet, options, error, message):
    model, x = resnet
    layers = find_layers(model, x)
    before = model_state(model)
    with pytest.raises(error, match=message):
        capture_batch(model, x, layers, Explained(**options))
    assert model_state(model) == before


def test_nan_scores_name_their_positions(resnet):
    model, x = resnet
    layers = find_layers(model, x)
    before = model_state(model)
    x[3] = float("nan")
    x[1] = float("inf")
    with pytest.raises(NonFiniteScanError, match="positions 1, 3") as caught:
        capture_batch(model, x, layers).on_host()
    assert caught.value.rows == (1, 3)
    assert model_state(model) == before


def test_layers_that_cannot_be_recorded(resnet):
    model, x = resnet
    layer = find_layers(model, x)[0]
    before = model_state(model)
    with pytest.raises(InputError, match="no layer 'nowhere'"):
        capture_batch(model, x, [dataclasses.replace(layer, name="nowhere")])
    with pytest.raises(InputError, match="named twice"):
        capture_batch(model, x, [layer, layer])
    assert model_state(model) == before

    relu = nn.ReLU()
    reused = nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu, nn.Flatten()).eval()
    image = torch.rand(2, 3, 6, 6)
    with pytest.raises(ModelError, match="runs more than once"):
        capture_batch(reused, image, [dataclasses.replace(layer, name="1")])
    spare = nn.Sequential(nn.Conv2d(3, 2, 6), nn.Flatten()).eval()
    spare.add_module("unused", nn.Identity())
    spare.forward = lambda x: spare[1](spare[0](x))
    with pytest.raises(ModelError, match="'unused' did not run"):
        capture_batch(spare, image, [dataclasses.replace(layer, name="unused")])


def test_training_mode_is_refused(resnet):
    model, x = resnet
    layers = find_layers(model, x)
    model.train()
    with pytest.raises(ModelError, match="training mode"):
        capture_batch(model, x, layers)


def test_model_without_gradients_is_refused(resnet):
    model, x = resnet
    layers = find_layers(model, x)
    forward = model.forward
    model.forward = lambda x: torch.round(forward(x)).detach()
    with pytest.raises(ModelError, match="relevance=False"):
        capture_batch(model, x, layers)


def test_layers_are_seen_channels_first(network):
    model, x = network
    layers, seen = find_layers(model, x), {}

    def see(layer, values):
        seen[layer.name] = layer.channels_first(values)

    with frozen(model):
        with torch.no_grad(), visiting(model, layers, see):
            model(x)
        expected = capture_batch(model, x, layers, relevance=False)
    for layer in layers:
        assert seen[layer.name].shape == (5, layer.channels, *layer.grid)
        mean = seen[layer.name].reshape(5, layer.channels, -1).mean(2)
        assert_equal(mean, expected.activations[layer.name]["mean"])


def test_editing_nothing_changes_nothing(network):
    model, x = network
    with frozen(model):
        expected = find_logits(model(x))
        for layer in find_layers(model, x):
            assert_equal(forward_edited(model, x, layer, lambda flat: flat * 1), expected)


@pytest.mark.parametrize("name", ["resnet", "swin", "vit"])
def test_edit_reaches_every_position_of_one_channel(make_network, name):
    model, x = make_network(name)
    layer = find_layers(model, x)[1]
    channel_axis = -1 if layer.layout in ("tokens", "NHWC") else 1

    def erase(flat):
        assert flat.shape[:2] == (5, layer.channels)
        edited = flat.clone()
        edited[:, 0] = 0
        return edited

    def erase_in_place(module, inputs, output):
        edited = output.clone()
        edited.select(channel_axis, 0).zero_()
        return edited

    with frozen(model):
        for form in (torch.contiguous_format, torch.channels_last):
            edited = forward_edited(model, x.contiguous(memory_format=form), layer, erase)
            handle = model.get_submodule(layer.name).register_forward_hook(erase_in_place)
            assert_equal(edited, model(x))
            handle.remove()
            assert not torch.allclose(edited, model(x))


def test_edit_must_keep_the_shape(resnet):
    model, x = resnet
    before = model_state(model)
    with pytest.raises(InputError, match="must keep"):
        forward_edited(model, x, find_layers(model, x)[0], lambda flat: flat[:, :1])
    assert model_state(model) == before


@pytest.mark.parametrize("method", ["gradient_x_activation", "lrp:epsilon_gamma"])
@pytest.mark.filterwarnings("ignore:in layer .* the relevance lies on the class token")
def test_pools_are_what_attribution_gives_for_the_layer(network, method):
    model, x = network
    composite = get_composite("epsilon_gamma") if method.startswith("lrp") else None
    with frozen(model):
        layers = find_layers(model, x)
        pools = capture_batch(model, x, layers, composite=composite)
        for layer in layers:
            expected = attribute(model, x, method=method, layer=layer, check=False)
            relevance = by_position(layer, expected.relevance)
            found = pools.relevances[layer.name]
            assert_equal(found["sum"], relevance.sum(2), rtol=1e-7, atol=1e-10)
            assert_equal(found["max"], relevance.amax(2), rtol=1e-7, atol=1e-10)
            assert expected.maps().shape == (5, *layer.grid)


# LRP

#: Inside a residual branch: only part of the relevance passes through it.
IN_A_BRANCH = {"1.0.conv1.2"}


def without_constants(model):
    """Take away all that keeps relevance by design: biases, running means and what is added to tokens."""
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "pos_embed", "pos_embedding", "cls_token", "class_token")):
            nn.init.zeros_(parameter)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.zero_()


@pytest.mark.parametrize("composite", ["epsilon", "default"])
def test_lrp_of_every_layer_sums_to_the_explained_score(network, composite):
    model, x = network
    without_constants(model)
    layers = [layer for layer in find_layers(model, x) if layer.name not in IN_A_BRANCH]
    with frozen(model):
        rules = default_composite(model, x) if composite == "default" else get_composite(composite)
        plain = capture_batch(model, x, layers, Explained(1))
        pools = capture_batch(model, x, layers, Explained(1), composite=rules)
    assert torch.equal(pools.logits, plain.logits)
    # Four channels are few for z+: some outputs have no positive part that could pass their relevance on.
    rtol = 1e-2 if rules.name == "epsilon_plus" else 1e-4
    for layer in layers:
        assert_equal(pools.activations[layer.name]["std"], plain.activations[layer.name]["std"])
        assert set(pools.relevances[layer.name]) == {"sum", "max"}
        assert_equal(pools.relevances[layer.name]["sum"].sum(1), pools.logits[:, 1], rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet", "vgg", "signal"])
def test_lrp_with_the_epsilon_rule_is_gradient_x_activation_in_relu_networks(make_network, name):
    model, x = make_network(name)
    layers = find_layers(model, x, "all")
    with frozen(model):
        plain = capture_batch(model, x, layers, Explained(1))
        pools = capture_batch(model, x, layers, Explained(1), composite=get_composite("epsilon"))
    for layer in layers:
        for stat in ("sum", "max"):
            assert_equal(pools.relevances[layer.name][stat], plain.relevances[layer.name][stat])


def test_z_plus_is_what_its_formula_says():
    torch.manual_seed(0)
    first, second = nn.Conv1d(6, 5, 1), nn.Conv1d(5, 4, 1)
    model = nn.Sequential(
        nn.Unflatten(1, (6, 1)), first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)
    ).double().eval()  # fmt: skip
    x = torch.rand(3, 6, dtype=torch.float64)
    layers = find_layers(model, x, ["1", "2", "4"])
    with frozen(model):
        pools = capture_batch(model, x, layers, Explained(1), composite=get_composite("epsilon_plus"))
    weight, bias = second.weight[..., 0].detach(), second.bias.detach()
    a = model[:3](x).detach()[..., 0]
    b = model[:5](x).detach()[..., 0]
    relevance = b * model[6].weight[1].detach()  # the epsilon rule at the linear layer
    assert_equal(pools.relevances["4"]["sum"], relevance)
    parts = a[:, None] * weight.clamp(min=0)  # (N, outputs, inputs); a is not negative
    whole = parts.sum(2, keepdim=True) + bias.clamp(min=0)[:, None]
    shares = torch.where(whole > 0, parts / whole, 0)  # an output without a positive part is never positive
    expected = (shares * relevance[..., None]).sum(1)
    for name in ("1", "2"):  # a ReLU passes relevance on
        assert_equal(pools.relevances[name]["sum"], expected, rtol=1e-4, atol=1e-7)


def test_lrp_of_every_class_in_one_forward_pass(resnet):
    model, x = resnet
    layers, rules = find_layers(model, x), get_composite("epsilon_plus")
    with frozen(model):
        every = capture_batch(model, x, layers, Explained("every"), composite=rules)
        for k in range(3):
            single = capture_batch(model, x, layers, Explained(k), composite=rules)
            for layer in layers:
                for stat in ("sum", "max"):
                    found = every.relevances[layer.name][stat][:, k]
                    assert_equal(found, single.relevances[layer.name][stat])


def test_lrp_sees_outputs_as_they_were_before_they_are_overwritten(overwriting):
    model, twin, x = overwriting
    layers, rules = find_layers(model, x), get_composite("epsilon_plus")
    before = model_state(model)
    with frozen(model), frozen(twin):
        pools = capture_batch(model, x, layers, Explained(0), composite=rules)
        names = [layer.name for layer in layers]
        expected = capture_batch(twin, x, find_layers(twin, x, names), Explained(0), composite=rules)
    for name in names:
        for stat in ("sum", "max"):
            assert_equal(pools.relevances[name][stat], expected.relevances[name][stat])
    assert model_state(model) == before


@pytest.mark.parametrize("name", ["resnet", "vit", "signal"])
def test_lrp_does_not_depend_on_batch_size_and_memory_format(make_network, name):
    model, x = make_network(name)
    layers, rules = find_layers(model, x), get_composite("epsilon_gamma")
    with frozen(model):
        whole = capture_batch(model, x, layers, composite=rules)
        one = capture_batch(model, x[3:4], layers, composite=rules)
        model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        other = capture_batch(model, x, layers, composite=rules)
    for layer in layers:
        for stat in ("sum", "max"):
            expected = whole.relevances[layer.name][stat]
            assert_equal(one.relevances[layer.name][stat], expected[3:4], rtol=1e-6, atol=1e-9)
            assert_equal(other.relevances[layer.name][stat], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet", "vit", "swin"])
def test_lrp_in_mixed_precision(make_network, name):
    model, x = make_network(name)
    model, x = model.float(), x.float()
    layers = find_layers(model, x)
    with frozen(model):
        rules = default_composite(model, x)
        full = capture_batch(model, x, layers, Explained(0), composite=rules)
        half = capture_batch(model, x, layers, Explained(0), composite=rules, autocast=torch.bfloat16)
        plain = capture_batch(model, x, layers, Explained(0), autocast=torch.bfloat16)
    assert torch.equal(half.logits, plain.logits)
    for layer in layers[1:]:
        a, b = (pools.relevances[layer.name]["sum"] for pools in (half, full))
        assert a.dtype == torch.float32
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.95
