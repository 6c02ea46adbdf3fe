"""Layer, group, instance and RMS norm: the deviation is a constant (Ali et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from shortcutscope.attribution.lrp.functions import GroupNormalized, Normalized
from shortcutscope.attribution.lrp.operations.table import Propagating, of_one, on
from shortcutscope.types import Operation


@on("layer_norm")
@of_one
def _layer_norm(
    run: Propagating,
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


@on("rms_norm")
@of_one
def _rms_norm(
    run: Propagating,
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


@on("group_norm")
@of_one
def _group_norm(
    run: Propagating,
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


@on("instance_norm")
@of_one
def _instance_norm(
    run: Propagating,
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
