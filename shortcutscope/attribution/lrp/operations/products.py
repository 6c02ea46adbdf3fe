"""Products of activations: gates and attention weights are constants (Ali et al. 2022), else halves.

Achtibat et al. 2024 for bilinear products in halves and the softmax by its gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shortcutscope.attribution.lrp import provenance
from shortcutscope.attribution.lrp.functions import Share, ShareInPlace
from shortcutscope.attribution.lrp.operations.table import Propagating, follows, of_one, on
from shortcutscope.errors import ModelError
from shortcutscope.types import Operation


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


@on("mul")
def _mul(run: Propagating, func: Operation, a: Any, b: Any, **kwargs: object) -> Tensor:
    if not (follows(a) and follows(b)):
        plain: Tensor = func(a, b, **kwargs)
        return plain
    shares = _shares(a, b)
    if shares == (0.5, 0.5) and a.numel() != b.numel():
        shares = (0.0, 1.0) if a.numel() < b.numel() else (1.0, 0.0)
    second = _shared(b, shares[1])
    if getattr(func, "__name__", "") in ("mul_", "__imul__", "multiply_"):
        first = a if shares[0] == 1 else ShareInPlace.apply(a, shares[0])
        if a is b:
            second = first.clone()
    else:
        first, func = _shared(a, shares[0]), torch.mul
    product: Tensor = func(first, second, **kwargs)
    return product


@on("div")
def _div(run: Propagating, func: Operation, a: Any, b: Any, **kwargs: object) -> Tensor:
    quotient: Tensor = func(a, b.detach() if follows(a) and follows(b) else b, **kwargs)
    return quotient


@on("matmul", "bmm", "mm")
def _matmul(run: Propagating, func: Operation, a: Tensor, b: Tensor, **kwargs: object) -> Tensor:
    if not (follows(a) and follows(b)):
        plain: Tensor = func(a, b, **kwargs)
        return plain
    gated = provenance.is_gate(a) != provenance.is_gate(b)
    shares = _shares(a, b) if run.composite.attention == "cp" else (0.5, 0.5)
    product: Tensor = func(_shared(a, shares[0]), _shared(b, shares[1]), **kwargs)
    if gated and run.on_attention is not None:
        run.on_attention(product)
    return product


@on("baddbmm")
def _baddbmm(run: Propagating, func: Operation, c: Tensor, a: Tensor, b: Tensor, **kwargs: object) -> Tensor:
    if follows(a) and follows(b):
        a, b = Share.apply(a, 0.5), Share.apply(b, 0.5)
    total: Tensor = func(c, a, b, **kwargs)
    return total


@on("einsum")
def _einsum(run: Propagating, func: Operation, equation: str, *operands: Any) -> Tensor:
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


@on("scaled_dot_product_attention")
def _attention(
    run: Propagating,
    func: Operation,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *args: object,
    **kwargs: object,
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


@on("glu")
@of_one
def _glu(run: Propagating, func: Operation, input: Tensor, dim: int = -1) -> Tensor:
    signal, gate = input.chunk(2, dim)
    return signal * torch.sigmoid(gate).detach()
