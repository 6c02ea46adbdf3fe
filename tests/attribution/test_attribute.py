"""One signature: any batching gives the same, models are left alone, refusals and fallbacks say why."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from shortcutscope.attribution import attribute as module
from shortcutscope.attribution.attribute import attribute
from shortcutscope.attribution.lrp import get_composite, propagation
from shortcutscope.attribution.methods import METHODS
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.layers import find_layers

AT_INPUT = ["gradient_x_input", "integrated_gradients", "smoothgrad", "lrp"]
AT_LAYER = ["gradient_x_activation", "integrated_gradients", "smoothgrad", "grad_cam", "lrp"]
QUICK = {"integrated_gradients": {"steps": 3}, "smoothgrad": {"copies": 2}}


@pytest.mark.parametrize("method", AT_INPUT)
def test_relevance_of_the_input_in_any_batching(network, unchanged, method):
    model, x, _ = network
    unchanged(model)
    options = QUICK.get(method, {})
    whole = attribute(model, x, method=method, check=False, **options)
    parts = attribute(model, x, method=method, check=False, batch_size=2, **options)
    torch.testing.assert_close(whole.relevance, parts.relevance, rtol=1e-6, atol=1e-9)
    assert whole.relevance.shape == x.shape
    assert whole.maps().shape == whole.on_pixels().shape == (len(x), *x.shape[2:])
    assert (whole.requested, whole.reason, whole.layer) == (method, None, None)
    with frozen(model), torch.no_grad():
        logits = find_logits(model(x.clone()))
    if logits.shape[1] > 1:
        assert torch.equal(whole.target, logits.argmax(1))
        torch.testing.assert_close(whole.score, logits.amax(1))


@pytest.mark.parametrize("method", AT_LAYER)
def test_relevance_of_a_layer_in_any_batching(network, unchanged, method):
    model, x, name = network
    unchanged(model)
    (layer,) = find_layers(model, x, name)
    options = QUICK.get(method, {})
    whole = attribute(model, x, method=method, layer=name, check=False, **options)
    parts = attribute(model, x, method=method, layer=layer, check=False, batch_size=2, **options)
    torch.testing.assert_close(whole.relevance, parts.relevance, rtol=1e-6, atol=1e-9)
    assert whole.layer == layer
    assert whole.relevance.shape == (len(x), *layer.shape)
    assert whole.maps().shape == (len(x), *layer.grid)
    assert whole.on_pixels().shape == (len(x), *x.shape[2:])


@pytest.mark.parametrize("method", ["lrp:epsilon", "lrp:epsilon_plus", "lrp:epsilon_plus_flat"])
@pytest.mark.parametrize("at", ["input", "layer"])
def test_lrp_is_the_backward_pass_under_its_rules(make_network, method, at):
    model, x, name = make_network("resnet")
    found = attribute(model, x, method=method, layer=None if at == "input" else name, target=2, check=False)
    seen: list[Tensor] = []
    leaf = x.clone().requires_grad_()
    with frozen(model):
        hook = model.get_submodule(name).register_forward_hook(lambda *args: seen.append(args[-1]))
        with propagation(get_composite(method.partition(":")[2])) as run:
            logits = model(leaf)
        g_layer, g_input = torch.autograd.grad(logits[:, 2].sum(), (seen[0], leaf), materialize_grads=True)
        hook.remove()
    expected = run.input_relevance(leaf, g_input) if at == "input" else seen[0].detach() * g_layer
    torch.testing.assert_close(found.relevance, expected.detach(), rtol=1e-9, atol=1e-12)
    assert found.method == method


def test_lrp_says_which_composite_it_chose(make_network):
    relu, x, _ = make_network("resnet")
    gelu, y, _ = make_network("volume")
    assert attribute(relu, x, check=False).method == "lrp:epsilon_plus"
    assert attribute(gelu, y, check=False).method == "lrp:epsilon_gamma"


def test_lrp_takes_the_settings_of_its_composite(make_network):
    model, x, _ = make_network("vit")
    found = {
        attention: attribute(model, x, check=False, attention=attention).relevance
        for attention in ("cp", "attn")
    }
    assert not torch.allclose(found["cp"], found["attn"])
    named = attribute(model, x, composite="gamma", check=False)
    assert named.method == "lrp:gamma"


def test_lrp_brings_its_checks(make_network, unchanged):
    model, x, _ = make_network("resnet")
    unchanged(model)
    found = attribute(model, x)
    assert found.reason is None
    assert found.checks is not None
    assert found.checks.passed


@pytest.mark.parametrize("at", ["input", "layer"])
def test_a_failed_check_falls_back_and_says_so(make_network, unchanged, at):
    model, x, name = make_network("vit")
    unchanged(model)
    layer = None if at == "input" else name
    with pytest.warns(UserWarning, match="cannot be trusted"):
        found = attribute(model, x, method="zennit:epsilon_plus", layer=layer)
    expected = attribute(model, x, method="gradient_x_activation", layer=layer)
    assert found.requested == "zennit:epsilon_plus"
    assert found.method == ("gradient_x_input" if at == "input" else "gradient_x_activation")
    assert "zennit" in found.reason  # 0.5 fails on it, 1.0 conserves nothing
    assert torch.equal(found.relevance, expected.relevance)
    with pytest.raises(ModelError, match="zennit:epsilon_plus cannot be trusted"):
        attribute(model, x, method="zennit:epsilon_plus", layer=layer, strict=True)


def test_relevance_that_is_not_a_number_is_never_given(make_network, monkeypatch):
    class Root(nn.Module):
        """Its slope at zero is infinite, so gradient x input is NaN there."""

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).sqrt()[:, :2]

    x = torch.ones(3, 1, 2, 2)
    x[1] = 0
    with pytest.raises(ModelError, match="position 1"):
        attribute(Root(), x, method="gradient_x_input", batch_size=1)


def test_gradient_x_activation_adds_up_in_a_linear_network():
    model = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.Flatten(), nn.Linear(12, 2, bias=False))
    x = torch.randn(4, 2, 4, 4)
    for layer in (None, "0", "1"):
        found = attribute(model, x, method="gradient_x_activation", layer=layer)
        torch.testing.assert_close(found.relevance.flatten(1).sum(1), found.score, rtol=1e-4, atol=1e-6)


def test_targets_and_labels_keep_their_sample(make_network):
    model, x, _ = make_network("resnet")
    classes = torch.tensor([2, 0, 1])
    labelled = attribute(model, x, method="gradient_x_input", target="label", labels=classes, batch_size=2)
    listed = attribute(model, x, method="gradient_x_input", target=classes.tolist(), batch_size=2)
    assert torch.equal(labelled.target, classes)
    assert torch.equal(labelled.relevance, listed.relevance)
    for k, n in zip(classes.tolist(), range(3), strict=True):
        alone = attribute(model, x[n : n + 1], method="gradient_x_input", target=k)
        torch.testing.assert_close(alone.relevance[0], labelled.relevance[n])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_modes_do_not_matter(make_network, mode):
    model, x, _ = make_network("volume")
    expected = attribute(model, x, method="integrated_gradients", steps=3)
    with mode():
        found = attribute(model, x.clone(), method="integrated_gradients", steps=3)
    assert torch.equal(found.relevance, expected.relevance)


def test_the_batch_is_not_written_to(make_network):
    model, x, _ = make_network("overwriting")
    before = x.clone()
    for method in AT_INPUT:
        attribute(model, x, method=method, check=False, **QUICK.get(method, {}))
    assert torch.equal(x, before)
    assert not x.requires_grad


def test_half_precision_models_give_full_precision_relevance():
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)).bfloat16()
    found = attribute(model, torch.rand(2, 2, 2, 2).bfloat16(), method="gradient_x_activation", layer="2")
    assert found.relevance.dtype == found.score.dtype == torch.float32


def test_a_map_that_is_left_to_the_class_token_warns(make_network):
    model, x, _ = make_network("vit")
    found = attribute(model, x, method="gradient_x_activation", layer="encoder.layers.encoder_layer_1")
    assert found.prefix_share().tolist() == pytest.approx([1, 1, 1])
    with pytest.warns(UserWarning, match="class token"):
        assert not found.maps().any()


REFUSED = {
    "unknown method": ({"method": "gradcam"}, "did you mean 'grad_cam'"),
    "no string": ({"method": None}, "unknown"),
    "unknown composite": ({"method": "lrp:epsilon_minus"}, "epsilon_plus"),
    "unknown composite of zennit": ({"method": "zennit:gamma"}, "zennit has no"),
    "zennit without a composite": ({"method": "zennit"}, "zennit:<composite>"),
    "composite of a gradient": ({"method": "smoothgrad:epsilon"}, "unknown"),
    "composite named twice": ({"method": "lrp:gamma", "composite": "gamma"}, "leave out"),
    "unknown option": ({"method": "smoothgrad", "step": 3}, "copies, noise"),
    "option where there is none": ({"method": "grad_cam", "layer": "layer1", "relu": True}, "no options"),
    "attention": ({"method": "lrp", "attention": "softmax"}, "'cp' and 'attn'"),
    "no layer": ({"method": "grad_cam"}, "explains a layer"),
    "layer of an input method": ({"method": "gradient_x_input", "layer": "layer1"}, "explains the input"),
    "unknown layer": ({"layer": "layer9"}, "did you mean"),
    "several layers": ({"layer": "blocks"}, "name one"),
    "pattern": ({"layer": "layer*"}, "name one"),
    "class": ({"target": 3}, "class"),
    "negative class": ({"target": -1}, "class"),
    "word": ({"target": "every"}, "'predicted'"),
    "number of targets": ({"target": [0, 1]}, "target"),
    "number of labels": ({"target": "label", "labels": torch.tensor([0, 1])}, "one a sample"),
    "no labels": ({"target": "label"}, "label"),
    "batch size": ({"batch_size": 0}, "batch_size"),
    "task": ({"task": "regression"}, "task"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_any_work(make_network, unchanged, monkeypatch, case):
    model, x, _ = make_network("resnet")
    unchanged(model)

    def work(*_):
        raise AssertionError("work began")

    monkeypatch.setattr(module._Run, "explain", work)
    monkeypatch.setattr(module._Run, "examine", work)
    options, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        attribute(model, x, **options)


@pytest.mark.parametrize("x", [torch.zeros(0, 3, 8, 8), torch.zeros(8), torch.zeros(2, 3, 8, 8, dtype=int)])
def test_what_is_no_batch_is_refused(make_network, x):
    with pytest.raises(InputError, match="batch"):
        attribute(make_network("resnet")[0], x)


def test_wrapped_models_say_how_to_unwrap_them(make_network):
    model, x, _ = make_network("resnet")
    with pytest.raises(ModelError, match=r"\.module"):
        attribute(nn.DataParallel(model), x)


def test_the_model_is_given_back_after_an_exception(make_network, unchanged):
    model, x, _ = make_network("resnet")
    unchanged(model)
    nan = x.clone()
    nan[2] = float("nan")
    for method in METHODS:
        layer = "layer1" if method == "grad_cam" else None
        with pytest.raises(ModelError, match="NaN"):
            attribute(model, nan, method=method, layer=layer, check=False, batch_size=1)


def _class_token_network():
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(
            "vit_tiny_patch16_224", img_size=16, patch_size=8, depth=2, embed_dim=24, num_heads=2,
            num_classes=2, in_chans=1,
        ).eval()  # fmt: skip


LAYERED = sorted(name for name, method in METHODS.items() if method.takes_layer)


@pytest.mark.parametrize("method", LAYERED)
def test_m12_a_map_of_zeros_is_never_returned_without_a_word(method):
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    found = attribute(_class_token_network(), x, method=method, layer="blocks.1", check=False)
    with pytest.warns(UserWarning, match="earlier layer"):
        maps = found.maps()
    assert not maps.any()
    with pytest.warns(UserWarning, match="earlier layer"):
        found.on_pixels()
    earlier = attribute(_class_token_network(), x, method=method, layer="blocks.0", check=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert earlier.maps().flatten(1).any(1).all()


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"grad_cam"}))
def test_m12_a_sample_without_any_relevance_is_counted(method):
    class Gated(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(16, 2, bias=False)

        def forward(self, x):
            return self.fc(torch.relu(x.flatten(1)))

    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 1
    x[1] = -x[1]  # behind the rectifier, nothing is left of it
    options = {"noise": 0.0} if method == "smoothgrad" else {}
    found = attribute(Gated().eval(), x, method=method, check=False, target=1, **options)
    with pytest.warns(UserWarning, match="the map of 1 of 3 samples is zero"):
        assert found.maps().flatten(1).any(1).tolist() == [True, False, True]
