"""Convolutions, linear layers, and the batch norm behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shortcutscope.attribution.lrp import provenance
from shortcutscope.attribution.lrp.affine import LinearMap, Matrix, convolution
from shortcutscope.attribution.lrp.functions import Affine, RuledAffine, Tap
from shortcutscope.attribution.lrp.operations.table import TABLE, Propagating, of_one, on
from shortcutscope.attribution.lrp.rules import Epsilon, Rule
from shortcutscope.errors import InputError, ModelError
from shortcutscope.types import Operation, Record


def _convolve(dims: int, transposed: bool) -> Operation:
    names = ["stride", "padding", "dilation", "groups"]
    if transposed:
        names = ["stride", "padding", "output_padding", "groups", "dilation"]

    def rule(
        run: Propagating,
        func: Operation,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *args: object,
        **kwargs: object,
    ) -> Tensor:
        weight = weight.detach()  # of an activation, as in dynamic convolutions, it is a gate
        x = input if input.dim() == dims + 2 else input.unsqueeze(0)
        options: Record = dict(zip(names, args, strict=False)) | kwargs
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

    return of_one(rule)


for _dims in (1, 2, 3):
    TABLE[f"conv{_dims}d"] = _convolve(_dims, transposed=False)
    TABLE[f"conv_transpose{_dims}d"] = _convolve(_dims, transposed=True)


@on("linear")
@of_one
def _linear(
    run: Propagating, func: Operation, input: Tensor, weight: Tensor, bias: Tensor | None = None
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
    run: Propagating,
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


@on("batch_norm")
@of_one
def _batch_norm(
    run: Propagating,
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
