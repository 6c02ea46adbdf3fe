"""Every rule against a slow oracle: the layer as an explicit matrix, the equation a sum over its entries.

Sources: Bach et al. 2015 (epsilon, alpha-beta), Montavon et al. 2017 (z+, w-square, z-box), Montavon et al.
2019 and Andeol et al. 2021 (gamma and its form for signed inputs and outputs), Lapuschkin et al. 2019 (flat).
"""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from shortcutscope.attribution.lrp import get_composite, propagation
from shortcutscope.attribution.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, ZBox, ZPlus

# torch's own, once per process, about the copy that an even "same" kernel costs.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

LAYERS = {
    "linear": (lambda bias: nn.Linear(6, 5, bias=bias), (6,)),
    "linear on tokens": (lambda bias: nn.Linear(4, 3, bias=bias), (3, 4)),
    "conv1d": (lambda bias: nn.Conv1d(2, 3, 3, bias=bias), (2, 7)),
    "conv2d": (lambda bias: nn.Conv2d(2, 3, 3, bias=bias), (2, 5, 4)),
    "conv3d": (lambda bias: nn.Conv3d(2, 2, 2, bias=bias), (2, 3, 3, 2)),
    "padded": (lambda bias: nn.Conv2d(2, 3, 3, padding=1, bias=bias), (2, 4, 4)),
    "strided": (lambda bias: nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=bias), (2, 6, 5)),
    "dilated": (lambda bias: nn.Conv2d(2, 2, 2, dilation=2, padding=1, bias=bias), (2, 5, 5)),
    "same": (lambda bias: nn.Conv2d(2, 2, (4, 3), padding="same", bias=bias), (2, 4, 5)),
    "grouped": (lambda bias: nn.Conv2d(4, 6, 3, groups=2, padding=1, bias=bias), (4, 3, 4)),
    "depthwise": (lambda bias: nn.Conv2d(3, 3, 3, groups=3, padding=1, bias=bias), (3, 4, 4)),
    "pointwise": (lambda bias: nn.Conv2d(3, 4, 1, bias=bias), (3, 3, 3)),
    "transposed 1d": (lambda bias: nn.ConvTranspose1d(2, 3, 3, stride=2, bias=bias), (2, 4)),
    "transposed 2d": (
        lambda bias: nn.ConvTranspose2d(2, 3, 3, 2, padding=1, output_padding=1, bias=bias),
        (2, 3, 3),
    ),
    "transposed grouped": (lambda bias: nn.ConvTranspose2d(4, 6, 2, groups=2, bias=bias), (4, 3, 2)),
    "transposed 3d": (lambda bias: nn.ConvTranspose3d(2, 2, 2, bias=bias), (2, 2, 2, 2)),
}
RULES = [Epsilon(), ZPlus(), Gamma(0.25), Gamma(3.0), AlphaBeta(2.0, 1.0), AlphaBeta(1.0, 0.0)]
FIRST_RULES = [Flat(), ZBox(-2.5, 3.0)]


class Matrix:
    """A layer as y_j = sum_i W_ij x_i + b_j, found by applying it to a basis."""

    def __init__(self, layer: nn.Module, shape: tuple[int, ...]):
        size = int(torch.tensor(shape).prod())
        basis = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
        with torch.no_grad():
            self.bias = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
            self.weight = layer(basis).flatten(1) - self.bias
            # Rounding errors of the difference are no weights.
            self.weight[self.weight.abs() < 1e-14] = 0

    def relevance(self, rule: object, x: Tensor, weight: Tensor, epsilon: float = 1e-6) -> Tensor:
        """Sample by sample, of the output relevance y * weight."""
        rows = [
            self._of_one(rule, xi.flatten(), gi.flatten(), epsilon) for xi, gi in zip(x, weight, strict=True)
        ]
        return torch.stack(rows).view_as(x)

    def _of_one(self, rule: object, x: Tensor, g: Tensor, epsilon: float) -> Tensor:
        W, b = self.weight, self.bias
        C = x[:, None] * W  # contribution of input i to output j
        y = C.sum(0) + b
        R = y * g
        if isinstance(rule, Epsilon):
            return _shared(C, y, R, 0)
        if isinstance(rule, ZPlus):
            return _shared(C.clamp(min=0), C.clamp(min=0).sum(0) + b.clamp(min=0), R, epsilon)
        if isinstance(rule, AlphaBeta):
            positive = _shared(C.clamp(min=0), C.clamp(min=0).sum(0) + b.clamp(min=0), R, epsilon)
            negative = _shared(C.clamp(max=0), C.clamp(max=0).sum(0) + b.clamp(max=0), R, epsilon)
            return rule.alpha * positive - rule.beta * negative
        if isinstance(rule, Gamma):
            # y > 0: inputs >= 0 with w + gamma w+, inputs < 0 with w + gamma w-; both raise what is positive.
            up, b_up = C + rule.gamma * C.clamp(min=0), b + rule.gamma * b.clamp(min=0)
            down, b_down = C + rule.gamma * C.clamp(max=0), b + rule.gamma * b.clamp(max=0)
            return torch.where(y > 0, up, down) @ _share(
                torch.where(y > 0, up.sum(0) + b_up, down.sum(0) + b_down), R, epsilon
            )
        if isinstance(rule, Flat):
            C = (W != 0).double()
        elif isinstance(rule, ZBox):
            C = C - W.clamp(min=0) * rule.low - W.clamp(max=0) * rule.high
        else:
            raise AssertionError(rule)
        return _shared(C, C.sum(0), R, epsilon)


def _shared(contributions: Tensor, total: Tensor, relevance: Tensor, epsilon: float) -> Tensor:
    """sum_j C_ij / z_j R_j."""
    return contributions @ _share(total, relevance, epsilon)


def _share(total: Tensor, relevance: Tensor, epsilon: float) -> Tensor:
    """R_j / z_j, with the stabiliser relative to the mean |z_j|; nothing where all z_j are zero."""
    total = total + torch.where(total >= 0, 1, -1) * epsilon * total.abs().mean()
    return torch.where(total == 0, 0, relevance / total)


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert torch.isfinite(found).all()
    error = (found - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"relative difference {error:.1e}"


def make_layer(name: str, bias: bool, seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    build, shape = LAYERS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = build(bias)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_()
    return layer.double().eval().requires_grad_(False), shape


def make_norm(layer: nn.Module, seed: int, **options: object) -> nn.Module:
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    kinds = {nn.Linear: nn.BatchNorm1d, nn.Conv1d: nn.BatchNorm1d, nn.ConvTranspose1d: nn.BatchNorm1d,
             nn.Conv3d: nn.BatchNorm3d, nn.ConvTranspose3d: nn.BatchNorm3d}  # fmt: skip
    norm = kinds.get(type(layer), nn.BatchNorm2d)(channels, **options).double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    norm.running_mean.normal_(0, 1, generator=generator)
    norm.running_var.uniform_(0.3, 2, generator=generator)
    if norm.affine:
        # Signed: a negative scale turns the positive weights into the negative ones.
        norm.weight.normal_(0, 1, generator=generator)
        norm.bias.normal_(0, 1, generator=generator)
    return norm


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("name", LAYERS)
def test_rule_is_the_published_sum(name, rule, bias, compose, input_relevance):
    for seed in (0, 1):
        layer, shape = make_layer(name, bias, seed)
        oracle = Matrix(layer, shape)
        for x in (
            draw(seed + 10, 2, *shape),
            draw(seed + 20, 2, *shape).abs(),
            -draw(seed + 30, 2, *shape).abs(),
        ):
            weight = draw(seed + 40, *layer(x).shape)
            y, found = input_relevance(compose(rule), layer, x, weight)
            assert torch.equal(y, layer(x))
            assert_near(found, oracle.relevance(rule, x, weight), 1e-9)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("rule", FIRST_RULES, ids=repr)
@pytest.mark.parametrize("name", LAYERS)
def test_first_layer_rule_is_the_published_sum(name, rule, bias, compose, input_relevance):
    layer, shape = make_layer(name, bias, 0)
    oracle = Matrix(layer, shape)
    x = draw(1, 2, *shape).clamp(-2.5, 3.0)
    weight = draw(2, *layer(x).shape)
    y, found = input_relevance(compose(ZPlus(), rule), layer, x, weight)
    assert torch.equal(y, layer(x))
    assert_near(found, oracle.relevance(rule, x, weight), 1e-9)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("name", LAYERS)
def test_batch_norm_behind_a_layer_is_fused_with_it(name, rule, compose, input_relevance):
    if name == "linear on tokens":
        pytest.skip("a batch norm takes channels second, tokens have them last")
    for bias, affine in ((True, True), (False, True), (True, False)):
        layer, shape = make_layer(name, bias, 3)
        norm = make_norm(layer, 4, affine=affine)
        fused = fused_layer(layer, norm)
        x = draw(5, 2, *shape)
        weight = draw(6, *layer(x).shape)
        expected = Matrix(fused, shape).relevance(rule, x, weight)
        y, found = input_relevance(compose(rule), nn.Sequential(layer, norm), x, weight)
        assert torch.equal(y, norm(layer(x)))
        assert_near(found, expected, 1e-9)


@pytest.mark.parametrize("rule", FIRST_RULES, ids=repr)
def test_batch_norm_behind_the_first_layer_is_fused_with_it(rule, compose, input_relevance):
    layer, shape = make_layer("conv2d", True, 3)
    norm = make_norm(layer, 4)
    x = draw(5, 2, *shape).clamp(-2.5, 3.0)
    weight = draw(6, *layer(x).shape)
    expected = Matrix(fused_layer(layer, norm), shape).relevance(rule, x, weight)
    _, found = input_relevance(compose(ZPlus(), rule), nn.Sequential(layer, norm), x, weight)
    assert_near(found, expected, 1e-9)


def fused_layer(layer: nn.Module, norm: nn.Module) -> nn.Module:
    if not norm.affine:
        # torch's fusion of convolutions wants the parameters that an affine norm has.
        given, norm = norm, copy.deepcopy(norm)
        norm.weight = nn.Parameter(torch.ones_like(given.running_mean), requires_grad=False)
        norm.bias = nn.Parameter(torch.zeros_like(given.running_mean), requires_grad=False)
    if isinstance(layer, nn.Linear):
        fused = fuse_linear_bn_eval(layer, norm)
    elif getattr(layer, "transposed", False):
        # torch's own fusion does not know groups of transposed convolutions.
        fused = copy.deepcopy(layer)
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        per_group = scale.view(layer.groups, 1, -1).expand(-1, layer.in_channels // layer.groups, -1)
        shape = (layer.in_channels, -1, *(1,) * len(layer.kernel_size))
        fused.weight = nn.Parameter(layer.weight * per_group.reshape(shape), requires_grad=False)
        bias = 0 if layer.bias is None else layer.bias
        fused.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias, requires_grad=False)
    else:
        fused = fuse_conv_bn_eval(layer, norm)
    return fused.requires_grad_(False)


def test_a_norm_is_fused_only_with_what_it_normalises(compose, input_relevance):
    """Something between the convolution and the norm, or a second reader of the convolution."""
    layer, shape = make_layer("padded", True, 0)
    norm = make_norm(layer, 1)
    x = draw(2, 2, *shape)
    weight = draw(3, 2, 3, 4, 4)
    alone = Matrix(layer, shape)

    def with_relu(t):
        return norm(torch.relu(layer(t)))

    scale = (norm.weight * (norm.running_var + norm.eps).rsqrt()).view(-1, 1, 1)
    behind = weight * scale * (layer(x) > 0)
    _, found = input_relevance(compose(ZPlus()), with_relu, x, weight)
    # Where the ReLU is zero there is no relevance, and the value counts in the stabiliser's scale only.
    assert_near(found, alone.relevance(ZPlus(), x, behind), 1e-6)

    def read_twice(t):
        h = layer(t)
        return norm(h) + h

    fused = Matrix(fused_layer(layer, norm), shape)
    _, found = input_relevance(compose(ZPlus()), read_twice, x, weight)
    assert_near(found, fused.relevance(ZPlus(), x, weight) + alone.relevance(ZPlus(), x, weight), 1e-9)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_default_stabiliser_moves_relevance_by_less_than_1e_5(rule, compose, input_relevance):
    """On a layer of ordinary size, where no denominator is near zero."""
    layer = nn.Linear(128, 32).double().requires_grad_(False)
    for seed, parameter in enumerate(layer.parameters()):
        parameter.copy_(draw(seed, *parameter.shape))
    x, weight = draw(2, 2, 128), draw(3, 2, 32)
    composite = compose(rule, epsilon=get_composite("epsilon_plus").epsilon)
    _, found = input_relevance(composite, layer, x, weight)
    assert_near(found, Matrix(layer, (128,)).relevance(rule, x, weight, epsilon=0), 1e-5)


@pytest.mark.parametrize("rule", [*RULES, Flat()], ids=repr)
def test_stabiliser_follows_the_scale_of_the_layer(rule, compose, input_relevance):
    """An absolute one swallows the relevance of layers with small outputs (EfficientNet's depthwise ones)."""
    layer, shape = make_layer("depthwise", False, 0)
    x = draw(1, 2, *shape)
    weight = draw(2, *layer(x).shape)
    composite = compose(rule) if rule in RULES else compose(ZPlus(), rule)
    _, expected = input_relevance(composite, layer, x, weight)
    for scale in (1e-12, 1e9):
        _, found = input_relevance(composite, layer, scale * x, weight)
        assert_near(found / scale, expected, 1e-9)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_an_empty_image_has_no_relevance_and_no_nan(rule, bias, compose, input_relevance):
    layer, shape = make_layer("padded", bias, 0)
    x = draw(1, 3, *shape)
    x[1] = 0
    _, found = input_relevance(compose(rule, epsilon=1e-6), layer, x, torch.ones(3, 3, 4, 4).double())
    assert torch.isfinite(found).all()
    assert not found[1].any()
    assert found[0].any()
    assert found[2].any()


@pytest.mark.parametrize("rule", [ZPlus(), Gamma(0.25), AlphaBeta(2.0, 1.0)], ids=repr)
def test_conservation_without_bias(rule, compose, input_relevance):
    """Every rule hands on exactly what it got, sample by sample."""
    layer, shape = make_layer("padded", False, 0)
    x = draw(1, 4, *shape)
    # A positive and a negative contribution everywhere, without which alpha-beta has nothing to share by.
    y, found = input_relevance(compose(rule), layer, x, draw(2, *layer(x).shape))
    given_out = (y * draw(2, *y.shape)).flatten(1).sum(1)
    assert torch.allclose(found.flatten(1).sum(1), given_out, rtol=1e-4)


@pytest.mark.parametrize("rule", FIRST_RULES, ids=repr)
def test_first_layer_rules_conserve_and_stay_at_the_input(rule, compose, input_relevance):
    """The rule belongs to the layer that reads the image, not to the second one; biases absorb nothing."""
    first, shape = make_layer("padded", True, 0)
    second = nn.Conv2d(3, 2, 3, padding=1, bias=False).double().requires_grad_(False)
    model = nn.Sequential(first, nn.ReLU(), second)
    x = draw(1, 2, *shape).clamp(-2.5, 3.0)
    weight = draw(2, 2, 2, 4, 4)
    _, found = input_relevance(compose(ZPlus(), rule), model, x, weight)
    hidden = torch.relu(first(x))
    between = Matrix(second, (3, 4, 4)).relevance(ZPlus(), hidden, weight)
    g = torch.where(hidden > 0, between / hidden, 0)
    assert_near(found, Matrix(first, shape).relevance(rule, x, g), 1e-9)
    assert torch.allclose(found.sum(), between.sum(), rtol=1e-4)


def test_box_can_differ_between_channels_and_is_each_image_s_own_range_by_default(compose, input_relevance):
    layer, shape = make_layer("conv2d", True, 0)
    x = draw(1, 2, *shape).clamp(-2, 2)
    weight = draw(2, *layer(x).shape)

    def box(low: Tensor, high: Tensor) -> ZBox:
        """With a column of bounds, one for each input of the matrix."""
        return ZBox(*(t.view(2, 1, 1).expand(shape).reshape(-1, 1) for t in (low, high)))

    low, high = torch.tensor([-2.0, -3.0]).double(), torch.tensor([2.0, 2.5]).double()
    _, found = input_relevance(compose(ZPlus(), ZBox((-2.0, -3.0), (2.0, 2.5))), layer, x, weight)
    assert_near(found, Matrix(layer, shape).relevance(box(low, high), x, weight), 1e-9)

    _, found = input_relevance(compose(ZPlus(), ZBox()), layer, x, weight)
    for i in range(2):
        own = box(x[i].amin((1, 2)), x[i].amax((1, 2)))
        expected = Matrix(layer, shape).relevance(own, x[i : i + 1], weight[i : i + 1])
        assert_near(found[i : i + 1], expected, 1e-9)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_memory_format_and_precision_do_not_matter(rule, compose, input_relevance):
    layer, shape = make_layer("strided", True, 0)
    x = draw(1, 2, *shape)
    weight = draw(2, *layer(x).shape)
    expected = Matrix(layer, shape).relevance(rule, x, weight)
    channels_last = x.to(memory_format=torch.channels_last)
    _, found = input_relevance(
        compose(rule), layer.to(memory_format=torch.channels_last), channels_last, weight
    )
    assert_near(found, expected, 1e-9)
    _, found = input_relevance(compose(rule, epsilon=1e-6), layer.float(), x.float(), weight.float())
    assert found.dtype == torch.float32
    assert_near(found.double(), expected, 1e-3)


def test_strided_views_are_read_right(compose, input_relevance):
    layer, _ = make_layer("linear on tokens", True, 0)
    x = draw(1, 2, 4, 3)
    weight = draw(2, 2, 3, 3)
    for rule in RULES:
        _, found = input_relevance(compose(rule), lambda t: layer(t.transpose(1, 2)), x, weight)
        expected = Matrix(layer, (3, 4)).relevance(rule, x.transpose(1, 2).contiguous(), weight)
        assert_near(found, expected.transpose(1, 2), 1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("x", [[-1.0, -0.3], [-0.1, -0.7], [1.0, 0.3], [1.0, -0.3]])
def test_rounding_errors_are_no_contributions(x, dtype, compose, input_relevance):
    """One output: the stabiliser's scale is that of the error, so that only an exact zero hides it."""
    layer = nn.Linear(2, 1, bias=False, dtype=dtype).requires_grad_(False)
    layer.weight.copy_(torch.tensor([[0.7, 0.9]]))
    image = torch.tensor([x], dtype=dtype)
    oracle = Matrix(copy.deepcopy(layer).double(), (2,))
    for rule in (ZPlus(), AlphaBeta(2.0, 1.0)):
        weight = torch.ones(1, 1, dtype=dtype)
        _, found = input_relevance(compose(rule), layer, image, weight)
        expected = oracle.relevance(rule, image.double(), weight.double())
        assert (found - expected).abs().max() <= 1e-5


@st.composite
def convolutions(draw_from):
    groups = draw_from(st.sampled_from([1, 2]))
    kernel = draw_from(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw_from(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw_from(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    spare = draw_from(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = tuple(
        max(1, d * (k - 1) + 1 - 2 * p) + s
        for k, d, p, s in zip(kernel, dilation, padding, spare, strict=True)
    )
    options = {
        "kernel_size": kernel,
        "stride": draw_from(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": draw_from(st.booleans()),
    }
    channels = [groups * draw_from(st.integers(1, 2)) for _ in range(2)]
    return channels, options, size, draw_from(st.integers(0, 1000))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(convolution=convolutions(), rule=st.sampled_from([*RULES, *FIRST_RULES]))
def test_any_convolution(convolution, rule, compose, input_relevance):
    (channels_in, channels_out), options, size, seed = convolution
    layer = nn.Conv2d(channels_in, channels_out, **options).double().requires_grad_(False)
    for index, parameter in enumerate(layer.parameters()):
        parameter.copy_(draw(seed + index, *parameter.shape))
    shape = (channels_in, *size)
    x = draw(seed + 2, 2, *shape).clamp(-2.5, 3.0)
    weight = draw(seed + 3, *layer(x).shape)
    composite = compose(rule) if rule in RULES else compose(ZPlus(), rule)
    _, found = input_relevance(composite, layer, x, weight)
    expected = Matrix(layer, shape).relevance(rule, x, weight)
    assert torch.isfinite(found).all()
    assert (found - expected).abs().max() <= 1e-6 * max(expected.abs().max(), 1e-9)


def test_relevance_of_every_tensor_is_tensor_times_gradient(compose):
    """The invariant that the layers are read by: two layers, the tensor between them read from the graph."""
    first, shape = make_layer("padded", True, 0)
    second = nn.Conv2d(3, 2, 3, padding=1).double().requires_grad_(False)
    x = draw(1, 2, *shape).requires_grad_()
    weight = draw(2, 2, 2, 4, 4)
    for rule in RULES:
        with propagation(compose(rule)):
            before = first(x)
            hidden = torch.relu(before)
            y = second(hidden)
        g_before, g_hidden = torch.autograd.grad(y, [before, hidden], weight)
        expected = Matrix(second, (3, 4, 4)).relevance(rule, hidden.detach(), weight)
        assert_near((g_hidden * hidden).detach(), expected, 1e-9)
        assert_near((g_before * before).detach(), expected, 1e-9)
