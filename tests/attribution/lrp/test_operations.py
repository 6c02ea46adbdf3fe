"""Every family of operations against its formula, written out with `detach`.

Where relevance is a gradient times the tensor, a rule is the gradient of another function: an oracle computes
that one with ordinary autograd. Sources: Bach et al. 2015 (identity rule), Ali et al. 2022 (norms and
attention weights as constants), Achtibat et al. 2024 (products in halves), Shrikumar et al. 2017 (the line
through (0, f(0))).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from shortcutscope.attribution.lrp import propagation
from shortcutscope.attribution.lrp.rules import Epsilon, Gamma, ZPlus


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_gradients(function: Callable[..., Tensor], *inputs: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """What ordinary autograd gives; zeros where nothing arrives."""
    inputs = tuple(tensor.detach().clone().requires_grad_() for tensor in inputs)
    found = torch.autograd.grad(function(*inputs), inputs, weight, allow_unused=True)
    return tuple(torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True))


@pytest.fixture
def agree(compose, gradients):
    """Whether a function under the rules has the gradients of its oracle, and still its own values."""

    def check(function, oracle, *inputs: Tensor, rule=None, attention="cp", tolerance=1e-10):
        # With a graph: without one, the library's attention takes a path of other rounding.
        expected = function(*(t.clone().requires_grad_() for t in inputs)).detach()
        weight = draw(99, *expected.shape)
        result, found = gradients(
            compose(rule or Epsilon(), attention=attention), function, *inputs, weight=weight
        )
        assert torch.equal(result, expected), "the forward is not the network's own"
        for index, (g, e) in enumerate(
            zip(found, plain_gradients(oracle, *inputs, weight=weight), strict=True)
        ):
            scale = e.abs().max().clamp(min=1e-3)
            error = (g - e).abs().max() / scale
            assert error <= tolerance, f"input {index}: relative difference {error:.1e}"

    return check


# Activations -----------------------------------------------------------------------------------------------

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "tanh": torch.tanh,
    "tanh method": lambda x: x.tanh(),
    "elu": lambda x: F.elu(x, alpha=0.7),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, alpha=1.3),
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.8),
    "softplus": F.softplus,
    "softplus beta": lambda x: F.softplus(x, beta=2.0),
    "clamp": lambda x: x.clamp(0, 6),
    "clamp min": lambda x: torch.clamp(x, min=0),
    "clamp keyword max": lambda x: torch.clamp(x, max=0.4),
}


def line_from_zero(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """x -> f(0) + slope x with the slope through (x, f(x)) taken for a constant."""

    def oracle(x: Tensor) -> Tensor:
        with torch.no_grad():
            origin = f(torch.zeros_like(x))
            slope = (f(x.detach()) - origin) / x
        return slope * x + origin

    return oracle


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_passes_its_relevance_on(name, agree):
    f = ACTIVATIONS[name]
    agree(f, line_from_zero(f), 2 * draw(0, 3, 40))


@pytest.mark.parametrize(
    "module",
    [nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Mish(), nn.Tanh(), nn.ELU(), nn.SELU(), nn.CELU(), nn.ReLU6(),
     nn.Hardtanh(-1, 2), nn.Softplus()],
    ids=repr,
)  # fmt: skip
def test_activation_modules(module, agree):
    agree(module, line_from_zero(module), 2 * draw(0, 3, 40))


@pytest.mark.parametrize(
    "name",
    [
        "silu",
        "hardswish",
        "mish",
        "elu",
        "selu",
        "celu",
        "relu6",
        "hardtanh",
        "hardtanh_method",
        "tanh",
        "clamp",
    ],
)
@pytest.mark.parametrize("statement", [False, True], ids=["expression", "statement"])
def test_activation_in_place(name, statement, agree):
    """The tensor is changed for all who hold it, whether they use the returned one or not."""
    overwriting = {
        "tanh": torch.tanh_,
        "clamp": lambda x: x.clamp_(-0.5, 0.5),
        "hardtanh_method": torch.nn.functional.hardtanh_,
    }
    outside = {"tanh": torch.tanh, "clamp": lambda x: x.clamp(-0.5, 0.5), "hardtanh_method": F.hardtanh}
    act = overwriting.get(name) or (lambda x: getattr(F, name)(x, inplace=True))
    f = outside.get(name) or getattr(F, name)

    def in_place(x: Tensor) -> Tensor:
        h = x * 1.5
        if statement:
            act(h)
        else:
            h = act(h)
        return h * 2

    agree(in_place, lambda x: 2 * line_from_zero(f)(x * 1.5), 2 * draw(0, 3, 40))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_near_zero(name, dtype, compose, gradients):
    """The slope there is the derivative; f(x)/x as it stands loses its digits, or divides by zero."""
    f = ACTIVATIONS[name]
    tiny = torch.tensor([1e-40, 1e-30, 1e-20, 1e-12, 1e-9, 1e-7, 1e-5], dtype=torch.float64)
    x = torch.cat([tiny, -tiny])
    (expected,) = plain_gradients(f, x, weight=torch.ones_like(x))  # exact: no derivative changes so near
    _, (found,) = gradients(compose(Epsilon()), f, x.to(dtype))
    kept = x.to(dtype) != 0
    tolerance = 1e-4 if dtype == torch.float64 else 2e-3
    assert (found.double() - expected)[kept].abs().max() <= tolerance


@pytest.mark.parametrize(
    "f", [torch.sqrt, torch.square, lambda x: x**2, lambda x: x.pow(3.0), lambda x: x**0.5]
)
def test_powers(f, agree, compose, gradients):
    agree(f, line_from_zero(f), draw(0, 3, 20).abs())
    _, (found,) = gradients(compose(Epsilon()), f, torch.zeros(4).double())
    assert not (found * torch.zeros(4)).isnan().any()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_at_zero(name, compose, gradients):
    _, (found,) = gradients(compose(Epsilon()), ACTIVATIONS[name], torch.tensor([0.0, -0.0]).double())
    assert torch.isfinite(found).all()
    assert (found >= -1e-12).all()
    assert (found <= 1.8).all()  # selu's slope on the left is 1.76


RELUS = {
    "F": F.relu,
    "torch": torch.relu,
    "method": lambda x: x.relu(),
    "module": nn.ReLU(),
    "F in place": lambda x: F.relu(1 * x, inplace=True),
    "F.relu_": lambda x: F.relu_(1 * x),
    "torch.relu_": lambda x: torch.relu_(1 * x),
    "method in place": lambda x: (1 * x).relu_(),
    "module in place": lambda x: nn.ReLU(inplace=True)(1 * x),
    "clamp_": lambda x: (1 * x).clamp_(min=0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "maximum with zero": lambda x: torch.maximum(x, torch.zeros(())),
    "where": lambda x: torch.where(x > 0, x, 0),
}


@pytest.mark.parametrize("name", RELUS)
def test_every_spelling_of_relu(name, agree):
    agree(RELUS[name], lambda x: x * (x > 0), draw(0, 3, 20))


@pytest.mark.parametrize("f", [lambda x: F.leaky_relu(x, 0.2), nn.LeakyReLU(), nn.PReLU().double()])
def test_piecewise_linear_through_zero_keeps_its_gradient(f, agree):
    if isinstance(f, nn.Module):
        f.requires_grad_(False)
    agree(f, f, draw(0, 3, 20))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.avg_pool2d(x, 2),
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: F.pixel_shuffle(x, 2),
        lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"),
        lambda x: torch.roll(x, 1, 2).flip(3),
        lambda x: x.mean((2, 3)) - 3 * x.sum((2, 3)),
        lambda x: x[:, [2, 0, 0]].transpose(1, 2).reshape(2, -1),
        lambda x: F.dropout(x, 0.5, training=False),
        lambda x: torch.amax(x, (2, 3)),
        lambda x: x @ torch.arange(8.0).double().view(4, 2),
        lambda x: torch.arange(8.0).double() / 7 * F.unfold(x, 2).transpose(1, 2)[..., :8],
    ],
)
def test_linear_and_selecting_operations_keep_their_gradient(f, agree):
    agree(f, f, draw(0, 2, 4, 4, 4))


# Normalizations --------------------------------------------------------------------------------------------


def constant_deviation(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    """(x - mean) / deviation, the deviation detached."""
    deviation = torch.sqrt(x.var(dims, unbiased=False, keepdim=True) + eps).detach()
    return (x - x.mean(dims, keepdim=True)) / deviation


@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(affine, agree):
    weight, bias = (draw(1, 3, 6), draw(2, 3, 6)) if affine else (None, None)

    def oracle(x):
        y = constant_deviation(x, (-2, -1), 1e-5)
        return y if weight is None else y * weight + bias

    agree(lambda x: F.layer_norm(x, (3, 6), weight, bias), oracle, draw(0, 2, 3, 6))
    agree(
        lambda x: F.layer_norm(x, (6,), None, None, 1e-2),
        lambda x: constant_deviation(x, (-1,), 1e-2),
        draw(0, 2, 3, 6),
    )


def test_layer_norm_with_one_of_weight_and_bias(agree):
    for weight, bias in ((draw(1, 6), None), (None, draw(2, 6))):

        def oracle(x, weight=weight, bias=bias):
            y = constant_deviation(x, (-1,), 1e-5)
            return (y if weight is None else y * weight) + (0 if bias is None else bias)

        agree(lambda x, w=weight, b=bias: F.layer_norm(x, (6,), w, b), oracle, draw(0, 2, 3, 6))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm(groups, affine, agree):
    norm = nn.GroupNorm(groups, 4, affine=affine).double().requires_grad_(False)
    for index, parameter in enumerate(norm.parameters()):
        parameter.copy_(draw(index, 4))

    def oracle(x):
        y = constant_deviation(x.view(2, groups, -1), (-1,), norm.eps).view_as(x)
        return y * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1) if affine else y

    agree(norm, oracle, draw(5, 2, 4, 3, 3))


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm(affine, agree):
    norm = nn.InstanceNorm2d(4, affine=affine).double().eval().requires_grad_(False)
    for index, parameter in enumerate(norm.parameters()):
        parameter.copy_(draw(index, 4))

    def oracle(x):
        y = constant_deviation(x, (2, 3), norm.eps)
        return y * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1) if affine else y

    agree(norm, oracle, draw(5, 2, 4, 3, 3))


def test_instance_norm_with_running_statistics_is_linear(agree):
    norm = nn.InstanceNorm2d(4, track_running_stats=True).double().eval()
    norm.running_mean.copy_(draw(0, 4))
    norm.running_var.copy_(draw(1, 4).abs())
    agree(norm, norm, draw(5, 2, 4, 3, 3))


@pytest.mark.parametrize("affine", [True, False])
def test_rms_norm(affine, agree):
    weight = draw(1, 6) if affine else None

    def oracle(x):
        y = x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-4).detach()
        return y if weight is None else y * weight

    agree(lambda x: F.rms_norm(x, (6,), weight, 1e-4), oracle, draw(0, 2, 3, 6))


def test_norms_written_out_are_those_of_the_library(agree):
    x = draw(0, 2, 5, 6)

    def oracle(t):
        return constant_deviation(t, (-1,), 1e-5)

    def by_division(t):
        return (t - t.mean(-1, keepdim=True)) / torch.sqrt(t.var(-1, unbiased=False, keepdim=True) + 1e-5)

    def by_rsqrt(t):
        return (t - t.mean(-1, keepdim=True)) * torch.rsqrt(t.var(-1, unbiased=False, keepdim=True) + 1e-5)

    agree(by_division, oracle, x)
    agree(by_rsqrt, oracle, x)
    agree(lambda t: F.normalize(t, dim=-1), lambda t: t / t.norm(dim=-1, keepdim=True).detach(), x)


def test_batch_norm_without_a_layer_in_front_is_linear(agree):
    norm = nn.BatchNorm2d(4).double().eval().requires_grad_(False)
    norm.running_mean.copy_(draw(0, 4))
    norm.running_var.copy_(draw(1, 4).abs())
    agree(norm, norm, draw(5, 2, 4, 3, 3), rule=ZPlus())


# Products --------------------------------------------------------------------------------------------------

GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "method": lambda x: x.sigmoid(),
    "F.sigmoid": F.sigmoid,
    "module": nn.Sigmoid(),
    "hardsigmoid": F.hardsigmoid,
    "softmax": lambda x: F.softmax(x, 1),
    "in place": lambda x: (1 * x).sigmoid_(),
    "hardsigmoid in place": lambda x: F.hardsigmoid(1 * x, inplace=True),
    "in place as a statement": lambda x: _after(x * 1, torch.sigmoid_),
    "half of twice": lambda x: 2 * torch.sigmoid(x) / 2,
    "reshaped": lambda x: torch.sigmoid(x.flatten(1)).view(x.shape).transpose(1, 2).transpose(1, 2),
    "one of a chunk": lambda x: torch.sigmoid(torch.cat([x, x], 1)).chunk(2, 1)[1],
}


def _after(x: Tensor, statement: Callable[[Tensor], object]) -> Tensor:
    statement(x)
    return x


@pytest.mark.parametrize("name", GATES)
def test_a_gate_takes_no_relevance(name, agree):
    gate = GATES[name]
    x, h = draw(0, 2, 3, 4), draw(1, 2, 3, 4)

    def oracle(x, h):
        return x * gate(h).detach()

    agree(lambda x, h: x * gate(h), oracle, x, h)
    agree(lambda x, h: gate(h) * x, oracle, x, h)
    agree(lambda x, h: torch.mul(gate(h), x), oracle, x, h)
    agree(lambda x, h: (1 * x).mul_(gate(h)), oracle, x, h)


def _imul(x: Tensor, gate: Tensor) -> Tensor:
    y = x * 1
    y *= gate
    return y


def test_squeeze_and_excite(agree):
    """The gate is a function of the signal itself, one number per channel."""
    reduce, expand = draw(1, 2, 3), draw(2, 3, 2)

    def gate(x):
        return torch.sigmoid(F.linear(F.relu(F.linear(x.mean((2, 3)), reduce)), expand))[:, :, None, None]

    x = draw(0, 2, 3, 4, 4)
    agree(lambda x: x * gate(x), lambda x: x * gate(x).detach(), x)
    agree(lambda x: x * gate(x).expand_as(x), lambda x: x * gate(x).detach(), x)
    agree(lambda x: _imul(x, gate(x)), lambda x: x * gate(x).detach(), x)


def test_product_of_two_signals_in_halves(agree):
    a, b = draw(0, 2, 5), draw(1, 2, 5)

    def halves(a, b):
        return (a * b.detach() + a.detach() * b) / 2

    agree(lambda a, b: a * b, halves, a, b)
    agree(lambda a, b: _imul(a, b), halves, a, b)
    agree(lambda a: a * a, lambda a: a * a.detach(), a)
    agree(lambda a: _imul(a, a), lambda a: a * a.detach(), a)
    # Two gates are two signals to each other.
    agree(
        lambda a, b: torch.sigmoid(a) * torch.sigmoid(b),
        lambda a, b: halves(line_from_zero(torch.sigmoid)(a), line_from_zero(torch.sigmoid)(b)),
        a,
        b,
    )


def test_product_with_a_constant_keeps_its_gradient(agree):
    scale = draw(1, 3, 1, 1)
    agree(lambda x: x * scale * 0.5, lambda x: x * scale * 0.5, draw(0, 2, 3, 4, 4))
    agree(lambda x: torch.rsub(x, 1) * 2, lambda x: (1 - x) * 2, draw(0, 2, 3))


def test_a_sigmoid_that_gates_nothing(agree):
    agree(torch.sigmoid, line_from_zero(torch.sigmoid), draw(0, 3, 5))


def test_division_by_an_activation(agree):
    x, d = draw(0, 2, 5), draw(1, 2, 5).abs() + 0.5

    def oracle(x, d):
        return x / d.detach()

    agree(lambda x, d: x / d, oracle, x, d)
    agree(lambda x, d: torch.div(x, d), oracle, x, d)
    agree(lambda x, d: (1 * x).div_(d), oracle, x, d)
    agree(lambda x, d: _idiv(x, d), oracle, x, d)
    agree(lambda x, d: x * (1 / d), oracle, x, d)
    agree(lambda x, d: x * d.reciprocal(), oracle, x, d)


def _idiv(x: Tensor, d: Tensor) -> Tensor:
    y = x * 1
    y /= d
    return y


def test_glu_is_a_signal_and_a_gate(agree):
    x = draw(0, 2, 6, 3)

    def oracle(x):
        signal, gate = x.chunk(2, 1)
        return signal * torch.sigmoid(gate).detach()

    agree(lambda x: F.glu(x, 1), oracle, x)
    agree(lambda x: F.glu(x, dim=1), oracle, x)
    agree(nn.GLU(1), oracle, x)
    agree(
        lambda x: F.glu(x),
        lambda x: x.chunk(2, -1)[0] * torch.sigmoid(x.chunk(2, -1)[1]).detach(),
        draw(0, 2, 6),
    )


# Attention -------------------------------------------------------------------------------------------------


def explicit(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1) @ v


def by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("bhqk,bhkd->bhqd", torch.softmax(scores, -1), v)


def by_bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    weights = F.softmax(torch.bmm(q, k.transpose(1, 2)) / math.sqrt(q.shape[-1]), dim=-1)
    return torch.bmm(F.dropout(weights, 0.1, training=False), v).unflatten(0, (2, 2))


ATTENTIONS = {
    "fused": F.scaled_dot_product_attention,
    "explicit": explicit,
    "einsum": by_einsum,
    "bmm": by_bmm,
    "scaled query": lambda q, k, v: (q * q.shape[-1] ** -0.5 @ k.mT).softmax(dim=-1) @ v,
    "matmul": lambda q, k, v: torch.matmul(torch.softmax(torch.matmul(q, k.mT) / 2, -1), v),
}


def cp(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return explicit(q.detach(), k.detach(), v)


def quarters(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """AttnLRP: softmax by its gradient, each product in halves: 1/2 for v, 1/2 x 1/2 for q and k."""

    def scaled(t: Tensor, share: float) -> Tensor:
        return t.detach() + share * (t - t.detach())

    return lambda q, k, v: function(scaled(q, 0.25), scaled(k, 0.25), scaled(v, 0.5))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention(name, agree):
    q, k, v = draw(0, 2, 2, 5, 4), draw(1, 2, 2, 5, 4), draw(2, 2, 2, 5, 4)
    agree(ATTENTIONS[name], cp, q, k, v)
    agree(ATTENTIONS[name], quarters(explicit), q, k, v, attention="attn")


def test_attention_with_a_mask_and_a_cause(agree):
    q, k, v = draw(0, 2, 2, 5, 4), draw(1, 2, 2, 5, 4), draw(2, 2, 2, 5, 4)
    mask = draw(3, 5, 5)
    causal = torch.full((5, 5), -math.inf).triu(1).double()
    for function, m in (
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask), mask),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.0), mask),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), causal),
        (lambda q, k, v: explicit(q, k, v, mask), mask),
    ):
        agree(function, lambda q, k, v, m=m: explicit(q.detach(), k.detach(), v, m), q, k, v)
        oracle = quarters(lambda q, k, v, m=m: explicit(q, k, v, m))
        agree(function, oracle, q, k, v, attention="attn")


@pytest.mark.parametrize("attention", ["cp", "attn"])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("own_inputs", [True, False])
def test_multi_head_attention_module(own_inputs, need_weights, attention, agree):
    """The library's module, which has a fused path of its own, against the formula."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.MultiheadAttention(8, 2, batch_first=True).double().eval().requires_grad_(False)
    module.in_proj_bias.copy_(draw(0, 24))

    def oracle(x, y):
        weights, biases = module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(t, w, b).unflatten(-1, (2, 4)).transpose(1, 2)
            for t, w, b in zip((x, y, y), weights, biases, strict=True)
        )
        inner = cp if attention == "cp" else quarters(explicit)
        return module.out_proj(inner(q, k, v).transpose(1, 2).flatten(2))

    def run(x, y):
        return module(x, y, y, need_weights=need_weights)[0]

    x, y = draw(1, 2, 5, 8), draw(2, 2, 5, 8)
    if own_inputs:
        agree(lambda x: run(x, x), lambda x: oracle(x, x), x, attention=attention)
    else:
        agree(run, oracle, x, y, attention=attention)


def test_softmax_alone_keeps_its_gradient(agree):
    for f in (lambda x: x.softmax(-1), lambda x: F.softmax(x, 1), nn.Softmax(-1)):
        agree(f, f, draw(0, 2, 5, 4))


def test_product_of_matrices_of_signals_in_halves(agree):
    a, b = draw(0, 2, 3, 4), draw(1, 2, 4, 5)

    def halves(a, b):
        return (a @ b.detach() + a.detach() @ b) / 2

    for f in (
        torch.matmul,
        torch.bmm,
        lambda a, b: a @ b,
        lambda a, b: torch.einsum("nij,njk->nik", a, b),
        lambda a, b: torch.einsum("nij,njk->nik", [a, b]),
    ):
        for attention in ("cp", "attn"):
            agree(f, halves, a, b, attention=attention)


# Graphs ----------------------------------------------------------------------------------------------------


def frozen_conv(seed: int, width_in: int = 3, width: int = 3, kernel: int = 3) -> nn.Conv2d:
    layer = nn.Conv2d(width_in, width, kernel, padding=kernel // 2).double().requires_grad_(False)
    layer.weight.copy_(draw(seed, *layer.weight.shape))
    layer.bias.copy_(draw(seed + 1, width))
    return layer


@pytest.fixture
def same_relevance(compose, gradients):
    """Whether two spellings of a network have the same values and relevance, under rules that save."""

    def check(first, second, x):
        for rule in (Epsilon(), ZPlus(), Gamma(0.25)):
            weight = draw(9, *second(x).shape)
            a, (found,) = gradients(compose(rule), first, x, weight=weight)
            b, (expected,) = gradients(compose(rule), second, x, weight=weight)
            assert torch.allclose(a, b, rtol=1e-12)
            assert torch.allclose(a, second(x), rtol=1e-12)
            assert (found - expected).abs().max() <= 1e-6 * expected.abs().max(), rule

    return check


def test_fan_out_and_residual_connections_add_relevance(compose, gradients):
    """Through h = conv(x), y = h + f(h): what arrives at h is the sum of both ways."""
    conv, other = frozen_conv(0), frozen_conv(2)
    x, weight = draw(4, 2, 3, 5, 5), draw(5, 2, 3, 5, 5)
    composite = compose(ZPlus())
    h = conv(x).relu()
    _, (through,) = gradients(composite, other, h, weight=weight)
    _, (both,) = gradients(composite, lambda h: h + other(h), h, weight=weight)
    assert torch.allclose(both, weight + through)
    _, (twice,) = gradients(composite, lambda h: other(h) - 2 * other(h), h, weight=weight)
    assert torch.allclose(twice, -through)


def test_concatenation_splits_relevance(compose, gradients):
    conv = frozen_conv(0, width_in=6)
    a, b, weight = draw(3, 2, 3, 4, 4), draw(4, 2, 3, 4, 4), draw(5, 2, 3, 4, 4)
    composite = compose(ZPlus())
    _, (whole,) = gradients(composite, conv, torch.cat([a, b], 1), weight=weight)
    for join in (lambda a, b: torch.cat([a, b], 1), lambda a, b: torch.stack([a, b], 1).flatten(1, 2)):
        _, parts = gradients(composite, lambda a, b, join=join: conv(join(a, b)), a, b, weight=weight)
        assert torch.allclose(torch.cat(parts, 1), whole)


def test_a_layer_used_twice_is_two_layers(same_relevance):
    conv, copy, act = frozen_conv(0), frozen_conv(0), nn.ReLU()
    same_relevance(
        lambda x: act(conv(act(conv(x)))),
        lambda x: torch.relu(copy(torch.relu(conv(x)))),
        draw(3, 2, 3, 5, 5),
    )


def test_sum_in_place_then_relu_in_place(same_relevance):
    """The saved output of the convolution must not become that of the sum: every ResNet does this."""
    conv, second = frozen_conv(0), frozen_conv(2)

    def overwriting(x):
        h = conv(x)
        h += x
        h = torch.relu_(h)
        k = second(h)
        k += h
        return F.relu(k, inplace=True)

    def plain(x):
        h = torch.relu(conv(x) + x)
        return torch.relu(second(h) + h)

    same_relevance(overwriting, plain, draw(4, 2, 3, 5, 5))


@pytest.mark.parametrize(
    "overwrite",
    [
        lambda h: h.mul_(0.3),
        lambda h: h.add_(1.0).relu_(),
        lambda h: h.sub_(0.5),
        lambda h: h.relu_(),
        lambda h: h.mul_(2.0).add_(1.0),
        lambda h: F.silu(h, inplace=True),
        lambda h: F.hardtanh_(h, 0, 6),
        lambda h: h[:, 1:].mul_(2.0),
        lambda h: h.flatten(2).relu_(),
        lambda h: h.__setitem__((slice(None), 0), 0.0),
        lambda h: h.copy_(h * 0.7),
        lambda h: h.masked_fill_(h > 1, 0.0),
        lambda h: h.clamp_(min=0),
        lambda h: h.neg_(),
    ],
)
def test_what_was_saved_survives_being_overwritten(overwrite, same_relevance):
    """Of a convolution's output, before and after another layer reads it."""
    conv, second = frozen_conv(0), frozen_conv(2)

    def overwriting(x):
        h = conv(x)
        overwrite(h)
        k = second(h)
        overwrite(k)
        return h + k

    def plain(x):
        h = conv(x).clone()
        overwrite(h)
        k = second(h).clone()
        overwrite(k)
        return h + k

    same_relevance(overwriting, plain, draw(4, 2, 3, 5, 5))


def test_input_normalised_in_place(same_relevance):
    conv = frozen_conv(0)

    def overwriting(x):
        x = x.clone()
        x.sub_(0.5).div_(0.25)
        return conv(x)

    same_relevance(overwriting, lambda x: conv((x - 0.5) / 0.25), draw(4, 2, 3, 5, 5))


@pytest.mark.parametrize("relu", [torch.relu, lambda h: torch.relu_(h + 0)])
def test_a_relu_is_not_the_only_reader_of_its_input(relu, same_relevance):
    """Relevance of the negative values, which the ReLU's output does not know."""
    conv, norm = frozen_conv(0), nn.BatchNorm2d(3).double().eval().requires_grad_(False)
    norm.running_mean.copy_(draw(7, 3))

    def read_by_both(x):
        h = norm(conv(x))
        return relu(h) - 0.3 * h + h[:, :1]

    def copied(x):
        h = norm(conv(x)) * 1
        return relu(h * 1) - 0.3 * h + h[:, :1]

    same_relevance(read_by_both, copied, draw(4, 2, 3, 5, 5))
    x = draw(4, 2, 3, 5, 5)
    x[0] = 0  # one sample's relevance must not hide another's
    same_relevance(read_by_both, copied, x)


def test_a_view_is_read_before_a_relu_overwrites_it(same_relevance):
    """The map's output has one reader, the view, and loses its negative values through it."""
    conv = frozen_conv(0)

    def overwriting(x):
        h = conv(x).flatten(2)
        before = h * 0.3
        h.relu_()
        return before + h

    def plain(x):
        h = conv(x).flatten(2)
        return h * 0.3 + torch.relu(h)

    same_relevance(overwriting, plain, draw(4, 2, 3, 5, 5))


def test_batch_norm_and_relu_in_place_behind_a_convolution(same_relevance):
    conv = frozen_conv(0)
    norm = nn.BatchNorm2d(3).double().eval().requires_grad_(False)
    norm.running_mean.copy_(draw(7, 3))
    norm.bias.copy_(draw(8, 3))

    def overwriting(x):
        h = norm(conv(x))
        h += x
        return torch.relu_(h)

    same_relevance(overwriting, lambda x: torch.relu(norm(conv(x)) + x), draw(4, 2, 3, 5, 5))


def test_a_saved_sum_of_thirty_three_blocks_conserves(compose):
    """Stale outputs multiply from block to block; the sum of relevance shows it."""
    convs = [frozen_conv(2 * i) for i in range(6)]
    for conv in convs:
        conv.bias.zero_()
        conv.weight.mul_(0.3)
    x = draw(50, 2, 3, 5, 5).abs().requires_grad_()
    with propagation(compose(ZPlus())):
        h = 1 * x
        for conv in convs:
            k = conv(h)
            k += h
            h = torch.relu_(k)
        score = h.sum((1, 2, 3))
    (g,) = torch.autograd.grad(score.sum(), x)
    assert torch.allclose((x * g).sum((1, 2, 3)), score, rtol=1e-3)


def test_a_plain_gradient_when_there_is_no_composite(gradients):
    conv, x, weight = frozen_conv(0), draw(1, 2, 3, 4, 4), draw(2, 2, 3, 4, 4)

    def f(x):
        return F.gelu(conv(x)) * torch.sigmoid(x)

    _, (found,) = gradients(None, f, x, weight=weight)
    (expected,) = plain_gradients(f, x, weight=weight)
    assert torch.equal(found, expected)
