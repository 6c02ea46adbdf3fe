"""Methods by gradients against finite differences, explicit loops, and captum where captum is right."""

import captum.attr
import pytest
import torch
from torch import Tensor, nn

from shortcutscope.attribution.gradient import GradCam, GradientXActivation, IntegratedGradients, SmoothGrad
from shortcutscope.attribution.hooks import visiting
from shortcutscope.attribution.slope import Explained, differentiate, layer_output
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.targets import find_logits, select_target
from shortcutscope.models.layers import Layer, find_layers


def score(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    with torch.no_grad():
        return select_target(find_logits(model(x.clone())), target)[0]


def score_from(model, x: Tensor, layer, values: Tensor, target: Tensor) -> Tensor:
    """The score with a layer's output replaced."""
    if layer is None:
        return score(model, values, target)
    with visiting(model, [layer], lambda *_: values.clone()):
        return score(model, x, target)


@pytest.fixture
def lent(network, unchanged):
    """A frozen network of each layout, a batch, a layer with a grid."""
    model, x, name = network
    unchanged(model)
    (layer,) = find_layers(model, x, name)
    with frozen(model):
        yield model, x, layer


@pytest.fixture(params=["input", "layer"])
def lent_at(lent, request):
    model, x, layer = lent
    return model, x, None if request.param == "input" else layer


def test_slope_is_the_limit_of_differences(lent_at):
    model, x, layer = lent_at
    slope = differentiate(model, x, Explained(), layer)
    values = x if layer is None else layer_output(model, x, layer)
    assert torch.equal(slope.values, values)
    assert torch.allclose(slope.score, score(model, x, slope.target))
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        step = 1e-5 * torch.randn(values.shape, generator=generator, dtype=values.dtype)
        ends = [score_from(model, x, layer, values + sign * step, slope.target) for sign in (1, -1)]
        expected = (ends[0] - ends[1]) / 2
        found = (slope.gradient * step).flatten(1).sum(1)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-11)


def test_gradient_x_activation_is_the_product(lent_at):
    model, x, layer = lent_at
    slope = differentiate(model, x, Explained(), layer)
    found = GradientXActivation().explain(model, x, Explained(), layer)
    assert torch.equal(found.relevance, slope.values * slope.gradient)


def test_integrated_gradients_add_up_to_the_difference(lent_at):
    model, x, layer = lent_at
    baseline = torch.full(x.shape[1:], 0.2, dtype=x.dtype)
    method = IntegratedGradients(steps=200, baseline=baseline, internal_batch_size=100)
    found = method.explain(model, x, Explained(), layer)
    start = baseline.expand_as(x)
    if layer is not None:
        start = layer_output(model, start, layer)
    difference = found.score - score_from(model, x, layer, start, found.target)
    torch.testing.assert_close(found.relevance.flatten(1).sum(1), difference, rtol=1e-2, atol=1e-3)


def test_integrated_gradients_are_a_sum_over_the_way(make_network, unchanged):
    model, x, name = make_network("volume")
    unchanged(model)
    (layer,) = find_layers(model, x, name)
    explained = Explained(1)
    with frozen(model):
        end, start = layer_output(model, x, layer), layer_output(model, torch.zeros_like(x), layer)
        expected, steps = torch.zeros_like(end), 400
        for k in range(steps):
            values = (start + (k + 0.5) / steps * (end - start)).requires_grad_()
            with visiting(model, [layer], lambda *_, values=values: values.clone()):
                total = find_logits(model(x.clone()))[:, 1].sum()
            expected += torch.autograd.grad(total, values)[0] / steps
        expected *= end - start
        found = IntegratedGradients().explain(model, x, explained, layer).relevance
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


def test_smoothgrad_without_noise_is_gradient_x_activation(lent_at):
    model, x, layer = lent_at
    clean = differentiate(model, x, Explained(), layer)
    still = SmoothGrad(copies=2, noise=0).explain(model, x, Explained(), layer)
    torch.testing.assert_close(still.relevance, clean.values * clean.gradient)


def test_smoothgrad_follows_its_seed(make_network, unchanged):
    model, x, _ = make_network("overwriting")
    unchanged(model)
    with frozen(model):
        maps = [SmoothGrad(2, seed=s).explain(model, x, Explained(), None).relevance for s in (0, 0, 1)]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


def test_the_noise_has_the_asked_size_and_belongs_to_the_image():
    class Quadratic(nn.Module):
        """Its gradient shows the noisy copies."""

        def forward(self, x: Tensor) -> Tensor:
            return x.square().sum((1, 2, 3)).unsqueeze(1) / 2

    x = torch.rand(2, 1, 60, 60, dtype=torch.float64) * torch.tensor([1.0, 4.0]).view(2, 1, 1, 1)
    method = SmoothGrad(copies=4, noise=0.3, times_values=False)
    noise = method.explain(Quadratic(), x, Explained(1), None).relevance - x
    width = x.amax((1, 2, 3)) - x.amin((1, 2, 3))
    torch.testing.assert_close(noise.std((1, 2, 3)), 0.3 * width / 2, rtol=0.05, atol=0)  # mean of four
    alone = method.explain(Quadratic(), x[1:], Explained(1), None).relevance - x[1:]
    assert torch.equal(alone, noise[1:])


def test_grad_cam_by_loops_over_channels(lent):
    model, x, layer = lent
    slope = differentiate(model, x, Explained(), layer)
    found = layer.channels_first(GradCam().explain(model, x, Explained(), layer).relevance)
    values, gradient = layer.channels_first(slope.values), layer.channels_first(slope.gradient)
    for n in range(len(x)):
        for c in range(layer.channels):
            torch.testing.assert_close(found[n, c], values[n, c] * gradient[n, c].mean())


def test_grad_cam_gives_prefix_tokens_nothing(make_network):
    model, x, name = make_network("vit")
    (layer,) = find_layers(model, x, name)
    with frozen(model):
        relevance = GradCam().explain(model, x, Explained(), layer).relevance
    assert layer.prefix_tokens == 1
    assert not relevance[:, 0].any()
    assert relevance[:, 1:].any()


@pytest.mark.parametrize("name", ["vgg", "resnet", "signal", "volume"])
def test_captum_agrees_on_channels_first_layers(make_network, name):
    model, x, layer_name = make_network(name)
    (layer,) = find_layers(model, x, layer_name)
    explained = Explained(1)
    with frozen(model):
        module = model.get_submodule(layer_name)
        leaf = x.clone().requires_grad_()
        select = 0 if name == "signal" else 1  # one score, of which class 1 is the positive side
        expected = {
            "input": captum.attr.InputXGradient(model).attribute(leaf, select),
            "activation": captum.attr.LayerGradientXActivation(model, module).attribute(leaf, select),
            "cam": captum.attr.LayerGradCam(model, module).attribute(leaf, select, attr_dim_summation=False),
            "integrated": captum.attr.LayerIntegratedGradients(model, module).attribute(
                leaf, torch.zeros_like(x), select, n_steps=10
            ),
        }
        found = {
            "input": GradientXActivation().explain(model, x, explained, None),
            "activation": GradientXActivation().explain(model, x, explained, layer),
            "cam": GradCam().explain(model, x, explained, layer),
            "integrated": IntegratedGradients(10).explain(model, x, explained, layer),
        }
    for key, reference in expected.items():
        torch.testing.assert_close(found[key].relevance, reference.detach(), rtol=1e-6, atol=1e-10)


def test_a_layer_without_effect_is_refused():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle, self.head = nn.Conv2d(1, 2, 1), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.idle(x)
            return self.head(x.flatten(1))

    layer = Layer("idle", "Conv2d", "NCHW", (2, 2, 2), 0.5, 0, (2, 2))
    x = torch.randn(3, 1, 2, 2)
    model = Idle()
    with pytest.raises(ModelError, match=r"layer 'idle'.*do not depend"), frozen(model):
        GradientXActivation().explain(model, x, Explained(), layer)


@pytest.mark.parametrize(
    "settings",
    [
        lambda: IntegratedGradients(steps=0),
        lambda: IntegratedGradients(internal_batch_size=0),
        lambda: SmoothGrad(copies=0),
        lambda: SmoothGrad(noise=-1),
        lambda: SmoothGrad(noise=float("nan")),
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError, match="upwards"):
        settings()


def test_a_baseline_of_another_shape_is_refused(make_network):
    model, x, _ = make_network("volume")
    with frozen(model), pytest.raises(InputError, match="baseline"):
        IntegratedGradients(baseline=torch.zeros(7)).explain(model, x, Explained(), None)


def test_models_without_gradients_are_refused():
    class Detached(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach()

    model = Detached(3, 2)
    with frozen(model), pytest.raises(ModelError, match="no gradient"):
        differentiate(model, torch.randn(2, 3), Explained())
