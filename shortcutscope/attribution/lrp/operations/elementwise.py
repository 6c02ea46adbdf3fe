"""Functions of each element: activations by the identity rule (Bach et al. 2015), and gates."""

from __future__ import annotations

import torch
from torch import Tensor

from shortcutscope.attribution.lrp import provenance
from shortcutscope.attribution.lrp.functions import (
    GateRescale,
    GateRescaleInPlace,
    Rescale,
    RescaleInPlace,
    keep_rectified,
)
from shortcutscope.attribution.lrp.operations.table import TABLE, Propagating, follows, of_one, on
from shortcutscope.errors import ModelError
from shortcutscope.types import Operation


def _elementwise(outside: Operation, in_place: type, free: type) -> Operation:
    """Rule of a function of each element; `outside` is its form that overwrites nothing."""

    def rule(run: Propagating, func: Operation, input: Tensor, *args: object, **kwargs: object) -> Tensor:
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

    return of_one(rule)


_backend = torch._C._nn
for _function in (
    *(_backend.gelu, _backend.silu, _backend.hardswish, _backend.mish, _backend.hardtanh, _backend.elu),
    *(_backend.softplus, _backend.relu6, torch.tanh, torch.selu, torch.celu),
    *(torch.clamp, torch.clamp_min, torch.clamp_max),
    *(torch.sqrt, torch.exp, torch.expm1, torch.log1p, torch.square, torch.erf, torch.sin),
):
    TABLE[_function.__name__] = _elementwise(_function, RescaleInPlace, Rescale)
for _function in (torch.sigmoid, _backend.hardsigmoid):
    TABLE[_function.__name__] = _elementwise(_function, GateRescaleInPlace, GateRescale)
TABLE["clip"] = TABLE["clamp"]


@on("relu")
def _relu(run: Propagating, func: Operation, input: Tensor) -> Tensor:
    output: Tensor = func(input)
    call = provenance.call_behind(input)
    if call is not None and output is not input:
        keep_rectified(input.grad_fn, call, output)
    return output


@on("pow")
def _pow(run: Propagating, func: Operation, base: object, exponent: object, **kwargs: object) -> Tensor:
    if not follows(base) or not isinstance(exponent, int | float) or exponent <= 0:
        plain: Tensor = func(base, exponent, **kwargs)
        return plain
    if func.__name__ in ("pow_", "__ipow__"):
        output: Tensor = RescaleInPlace.apply(base, lambda x: torch.pow(x, exponent))
    else:
        output = Rescale.apply(base, lambda x: torch.pow(x, exponent), run.saved)
    return output
