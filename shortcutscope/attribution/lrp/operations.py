"""The operations that need a rule, by name, and their rules.

Sources: Bach et al. 2015 (identity rule of activations), Ali et al. 2022 (layer norm and attention weights as
constants), Achtibat et al. 2024 (bilinear products in halves, softmax by its gradient).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from shortcutscope.attribution.lrp import provenance
from shortcutscope.attribution.lrp.affine import LinearMap, Matrix, convolution
from shortcutscope.attribution.lrp.functions import (
    Affine,
    Gate,
    GateInPlace,
    GroupNormalized,
    Normalized,
    Rescale,
    RescaleInPlace,
    RuledAffine,
    Share,
    ShareInPlace,
    Tap,
    keep_rectified,
)
from shortcutscope.attribution.lrp.rules import Epsilon, Rule
from shortcutscope.errors import InputError, ModelError

if TYPE_CHECKING:
    from shortcutscope.attribution.lrp.mode import Propagation

Operation = Callable[..., Any]

#: Operation name -> what to call in its place, with the mode and the operation in front.
TABLE: dict[str, Operation] = {}


def follows(value: object) -> bool:
    """Whether relevance flows through a value: a tensor of the graph."""
    return isinstance(value, Tensor) and value.requires_grad


def _on(*names: str) -> Callable[[Operation], Operation]:
    def register(rule: Operation) -> Operation:
        TABLE.update(dict.fromkeys(names, rule))
        return rule

    return register


def _of_one(rule: Operation) -> Operation:
    """A rule of operations on one activation, which others of the same name (on constants) do not need."""

    @functools.wraps(rule)
    def applied(run: Propagation, func: Operation, input: Any, *args: Any, **kwargs: Any) -> Any:
        if not follows(input):
            return func(input, *args, **kwargs)
        return rule(run, func, input, *args, **kwargs)

    return applied


# Linear maps -----------------------------------------------------------------------------------------------


def _convolve(dims: int, transposed: bool) -> Operation:
    names = ["stride", "padding", "dilation", "groups"]
    if transposed:
        names = ["stride", "padding", "output_padding", "groups", "dilation"]

    def rule(
        run: Propagation,
        func: Operation,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        weight = weight.detach()  # of an activation, as in dynamic convolutions, it is a gate
        x = input if input.dim() == dims + 2 else input.unsqueeze(0)
        options = dict(zip(names, args, strict=False)) | kwargs
        linear = convolution(dims, weight, transposed=transposed, **options)
        y = _affine(
            run,
            run.composite.convolution,
            linear,
            weight,
            bias,
            x,
            lambda x: func(x, weight, bias, *args, **kwargs),
            lambda: func(x.detach(), weight, bias, *args, **kwargs),
        )
        return y if x is input else y.squeeze(0)

    return _of_one(rule)


for _dims in (1, 2, 3):
    TABLE[f"conv{_dims}d"] = _convolve(_dims, transposed=False)
    TABLE[f"conv_transpose{_dims}d"] = _convolve(_dims, transposed=True)


@_on("linear")
@_of_one
def _linear(
    run: Propagation, func: Operation, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    weight = weight.detach()
    return _affine(
        run,
        run.composite.linear,
        Matrix(),
        weight,
        bias,
        input,
        lambda x: func(x, weight, bias),
        lambda: func(input.detach(), weight, bias),
    )


def _affine(
    run: Propagation,
    rule: Rule,
    linear: LinearMap,
    weight: Tensor,
    bias: Tensor | None,
    x: Tensor,
    differentiable: Callable[[Tensor], Tensor],
    forward: Callable[[], Tensor],
) -> Tensor:
    leaf = provenance.reads_image(x) if run.composite.first is not None else None
    if leaf is None and isinstance(rule, Epsilon):
        return differentiable(x)
    call = Affine(linear, weight, bias, rule, run.composite.epsilon, x, run.saved)
    call.measure, call.rectified = run.measure, provenance.is_rectified(x)
    if leaf is not None:
        if leaf.shape != x.shape:
            raise InputError(
                f"composite {run.composite.name!r} gives relevance to the pixels that the first layer reads, "
                f"of shape {tuple(x.shape)}, but the input has shape {tuple(leaf.shape)}; use a composite "
                "without a rule for the first layer"
            )
        call.first = run.composite.first
    run.calls.append(call)
    output: Tensor = RuledAffine.apply(x, call, forward)
    return output


@_on("batch_norm")
@_of_one
def _batch_norm(
    run: Propagation,
    func: Operation,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    *rest: Any,
) -> Tensor:
    arguments = (weight, bias, running_mean, running_var, training, momentum, eps, *rest)
    if training or running_mean is None or running_var is None:
        raise ModelError(
            "a batch norm keeps no running statistics, so that samples depend on each other and the "
            "relevance of one of them is not defined; use track_running_stats=True, or another norm"
        )
    before: Affine | None = provenance.call_behind(input)
    if before is None or before.scale is not None:
        plain: Tensor = func(input, *arguments)
        return plain
    scale = torch.rsqrt(running_var + eps) * (1 if weight is None else weight)
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    call = Affine(
        before.linear,
        before.weight,
        before.bias,
        before.rule,
        before.epsilon,
        before.x,
        run.saved,
        scale,
        shift,
        before.first,
        run.measure,
        before.rectified,
    )
    run.calls.append(call)
    x = input.detach()
    output: Tensor = RuledAffine.apply(before.x, call, lambda: func(x, *arguments))
    if input._backward_hooks:
        output = Tap.apply(output, input, before)
    return output


# Normalizations --------------------------------------------------------------------------------------------


@_on("layer_norm")
@_of_one
def _layer_norm(
    run: Propagation,
    func: Operation,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *rest: Any,
) -> Tensor:
    x = input.detach()
    shape = list(normalized_shape)
    if torch.is_autocast_enabled(x.device.type):
        y = func(x, normalized_shape, weight, bias, eps, *rest)
        _, _, reciprocal = torch.native_layer_norm(x.float(), shape, None, None, eps)
    else:
        y, _, reciprocal = torch.native_layer_norm(x, shape, weight, bias, eps)
    dims = tuple(range(-len(shape), 0))
    output: Tensor = Normalized.apply(input, lambda: y, reciprocal, weight, dims)
    return output


@_on("rms_norm")
@_of_one
def _rms_norm(
    run: Propagation,
    func: Operation,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    x = input.detach()
    dims = tuple(range(-len(normalized_shape), 0))
    small = torch.finfo(x.dtype).eps if eps is None else eps
    reciprocal = torch.rsqrt(x.square().mean(dims, keepdim=True) + small)
    output: Tensor = Normalized.apply(
        input, lambda: func(x, normalized_shape, weight, eps), reciprocal, weight, ()
    )
    return output


@_on("group_norm")
@_of_one
def _group_norm(
    run: Propagation,
    func: Operation,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *rest: Any,
) -> Tensor:
    x = input.detach()
    return _by_group(input, num_groups, weight, eps, lambda: func(x, num_groups, weight, bias, eps, *rest))


@_on("instance_norm")
@_of_one
def _instance_norm(
    run: Propagation,
    func: Operation,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    *rest: Any,
) -> Tensor:
    arguments = (weight, bias, running_mean, running_var, use_input_stats, momentum, eps, *rest)
    if not use_input_stats:
        plain: Tensor = func(input, *arguments)
        return plain
    x = input.detach()
    return _by_group(input, input.shape[1], weight, eps, lambda: func(x, *arguments))


def _by_group(
    x: Tensor, groups: int, weight: Tensor | None, eps: float, forward: Callable[[], Tensor]
) -> Tensor:
    grouped = x.detach().reshape(len(x), groups, -1)
    reciprocal = torch.rsqrt(grouped.var(-1, unbiased=False, keepdim=True) + eps)
    output: Tensor = GroupNormalized.apply(x, forward, reciprocal, weight, groups)
    return output


# Elementwise functions -------------------------------------------------------------------------------------


def _elementwise(outside: Operation, in_place: type, free: type) -> Operation:
    """Rule of a function of each element; `outside` is its form that overwrites nothing."""

    def rule(run: Propagation, func: Operation, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if any(follows(value) for value in (*args, *kwargs.values())):
            raise ModelError(f"{outside.__name__} of two activations has no relevance rule")
        kwargs.pop("inplace", None)
        applied = lambda x: outside(x, *args, **kwargs)  # noqa: E731
        output: Tensor
        if getattr(func, "__name__", "").endswith("_") and not func.__name__.startswith("__"):
            output = in_place.apply(input, applied)  # type: ignore[attr-defined]
        else:
            output = free.apply(input, applied, run.saved)  # type: ignore[attr-defined]
        return output

    return _of_one(rule)


_backend = torch._C._nn
for _function in (
    *(_backend.gelu, _backend.silu, _backend.hardswish, _backend.mish, _backend.hardtanh, _backend.elu),
    *(_backend.softplus, _backend.relu6, torch.tanh, torch.selu, torch.celu),
    *(torch.clamp, torch.clamp_min, torch.clamp_max),
    *(torch.sqrt, torch.exp, torch.expm1, torch.log1p, torch.square, torch.erf, torch.sin),
):
    TABLE[_function.__name__] = _elementwise(_function, RescaleInPlace, Rescale)
for _function in (torch.sigmoid, _backend.hardsigmoid):
    TABLE[_function.__name__] = _elementwise(_function, GateInPlace, Gate)
TABLE["clip"] = TABLE["clamp"]


@_on("relu")
def _relu(run: Propagation, func: Operation, input: Tensor) -> Tensor:
    output: Tensor = func(input)
    call = provenance.call_behind(input)
    if call is not None and output is not input:
        keep_rectified(input.grad_fn, call, output)
    return output


@_on("pow")
def _pow(run: Propagation, func: Operation, base: Any, exponent: Any, **kwargs: Any) -> Tensor:
    if not follows(base) or not isinstance(exponent, int | float) or exponent <= 0:
        plain: Tensor = func(base, exponent, **kwargs)
        return plain
    if func.__name__ in ("pow_", "__ipow__"):
        output: Tensor = RescaleInPlace.apply(base, lambda x: torch.pow(x, exponent))
    else:
        output = Rescale.apply(base, lambda x: torch.pow(x, exponent), run.saved)
    return output


# Products --------------------------------------------------------------------------------------------------


def _shares(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Of the relevance of a product: none to a gate, nor to what is broadcast, else half each."""
    gate_a, gate_b = provenance.is_gate(a), provenance.is_gate(b)
    if gate_a != gate_b:
        return (0.0, 1.0) if gate_a else (1.0, 0.0)
    return 0.5, 0.5


def _shared(x: Tensor, share: float) -> Tensor:
    if share == 1:
        return x
    shared: Tensor = x.detach() if share == 0 else Share.apply(x, share)
    return shared


@_on("mul")
def _mul(run: Propagation, func: Operation, a: Any, b: Any, **kwargs: Any) -> Tensor:
    if not (follows(a) and follows(b)):
        plain: Tensor = func(a, b, **kwargs)
        return plain
    shares = _shares(a, b)
    if shares == (0.5, 0.5) and a.numel() != b.numel():
        shares = (0.0, 1.0) if a.numel() < b.numel() else (1.0, 0.0)
    second = _shared(b, shares[1])
    if getattr(func, "__name__", "") in ("mul_", "__imul__", "multiply_"):
        first: Tensor = a if shares[0] == 1 else ShareInPlace.apply(a, shares[0])
        if a is b:
            second = first.clone()
        output: Tensor = func(first, second, **kwargs)
        return output
    return torch.mul(_shared(a, shares[0]), second, **kwargs)


@_on("div")
def _div(run: Propagation, func: Operation, a: Any, b: Any, **kwargs: Any) -> Tensor:
    quotient: Tensor = func(a, b.detach() if follows(a) and follows(b) else b, **kwargs)
    return quotient


@_on("matmul", "bmm", "mm")
def _matmul(run: Propagation, func: Operation, a: Tensor, b: Tensor, **kwargs: Any) -> Tensor:
    if not (follows(a) and follows(b)):
        plain: Tensor = func(a, b, **kwargs)
        return plain
    gated = provenance.is_gate(a) != provenance.is_gate(b)
    shares = _shares(a, b) if run.composite.attention == "cp" else (0.5, 0.5)
    product: Tensor = func(_shared(a, shares[0]), _shared(b, shares[1]), **kwargs)
    if gated and run.on_attention is not None:
        run.on_attention(product)
    return product


@_on("baddbmm")
def _baddbmm(run: Propagation, func: Operation, c: Tensor, a: Tensor, b: Tensor, **kwargs: Any) -> Tensor:
    if follows(a) and follows(b):
        a, b = Share.apply(a, 0.5), Share.apply(b, 0.5)
    total: Tensor = func(c, a, b, **kwargs)
    return total


@_on("einsum")
def _einsum(run: Propagation, func: Operation, equation: str, *operands: Any) -> Tensor:
    tensors = (
        list(operands[0]) if len(operands) == 1 and not isinstance(operands[0], Tensor) else list(operands)
    )
    attended = False
    if sum(map(follows, tensors)) == 2 and len(tensors) == 2:
        attended = provenance.is_gate(tensors[0]) != provenance.is_gate(tensors[1])
        shares = _shares(*tensors) if run.composite.attention == "cp" else (0.5, 0.5)
        tensors = [_shared(t, share) for t, share in zip(tensors, shares, strict=True)]
    elif sum(map(follows, tensors)) > 2:
        raise ModelError(f"einsum {equation!r} of more than two activations has no relevance rule")
    total: Tensor = func(equation, *tensors)
    if attended and run.on_attention is not None:
        run.on_attention(total)
    return total


@_on("scaled_dot_product_attention")
def _attention(
    run: Propagation, func: Operation, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    if run.composite.attention == "cp":
        query, key = query.detach(), key.detach()
    else:
        query, key, value = (
            _shared(t, share) if follows(t) else t for t, share in ((query, 0.25), (key, 0.25), (value, 0.5))
        )
    output: Tensor = func(query, key, value, *args, **kwargs)
    if run.on_attention is not None:
        run.on_attention(output)
    return output


@_on("glu")
@_of_one
def _glu(run: Propagation, func: Operation, input: Tensor, dim: int = -1) -> Tensor:
    signal, gate = input.chunk(2, dim)
    return signal * torch.sigmoid(gate).detach()
