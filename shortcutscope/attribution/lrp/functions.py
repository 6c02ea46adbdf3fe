"""Operations whose forward is the network's own and whose backward is a rule.

All keep one invariant: relevance of a tensor = tensor x gradient that arrives at it. Where a rule R_y -> R_x
is given, its gradient is g_x = R_x / x, written so that nothing is divided by x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from shortcutscope.attribution.lrp.affine import LinearMap
from shortcutscope.attribution.lrp.rules import FirstRule, Rule, shared
from shortcutscope.attribution.lrp.saved import SavedTensor, SavedTensors


@dataclass
class Affine:
    """One call of a convolution or linear layer, with the batch norm behind it where there is one.

    Attributes
    ----------
    linear, weight, bias
        The map.
    rule, epsilon
        How it hands on relevance.
    x
        The input, with its graph: a batch norm that follows is folded into a new call on it.
    saved
        Where to save input and output.
    scale, shift
        (C,) of the batch norm: y = scale (Wx + b) + shift.
    first
        Rule of the pixels, in place of `rule`.
    measure
        Take down what the bias absorbs.
    rectified
        The input is known to hold no negative value; else it is looked at.
    bias_relevance
        What the bias absorbed, after each backward pass.
    delivered
        Relevance of the input that `first` gives directly, after the backward pass.
    tapped
        Gradient that was shown to observers of the output but has gone to the input another way.
    """

    linear: LinearMap
    weight: Tensor
    bias: Tensor | None
    rule: Rule
    epsilon: float
    x: Tensor
    saved: SavedTensors
    scale: Tensor | None = None
    shift: Tensor | None = None
    first: FirstRule | None = None
    measure: bool = False
    rectified: bool = False
    bias_relevance: list[Tensor] = field(default_factory=list)
    delivered: Tensor | None = None
    tapped: Tensor | None = field(default=None, repr=False)

    def parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weights and bias with the batch norm folded in; made when needed, since they take memory."""
        if self.scale is None:
            return self.weight, self.bias
        bias = self.shift if self.bias is None or self.shift is None else self.shift + self.scale * self.bias
        return self.linear.scale_outputs(self.weight, self.scale), bias

    def output(self, x: Tensor) -> Tensor:
        """y, from the input."""
        weight, bias = self.parameters()
        y = self.linear.apply(x, weight)
        return y if bias is None else y + self.linear.over_channels(bias, y.dim())


class RuledAffine(torch.autograd.Function):
    """A linear map whose backward is its rule.

    Its node counts the operations that read the output (`readers`, see `Propagation.operate`): what reaches
    an output by its only reader is known without a look at it, for which the host would wait for the device.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Affine, run: Callable[[], Tensor]) -> Tensor:
        y = run()
        ctx.call, ctx.readers = call, 0
        ctx.x, ctx.y = call.saved.save(x), call.saved.save(y, output=True)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        call: Affine = ctx.call
        gradient = _own_share(call, gradients[0], ctx.readers)
        if gradient is None:
            return None, None, None
        # Mixed precision ran the forward pass; sums of contributions need the weights' own.
        x = ctx.x.get().to(call.weight.dtype)
        y = ctx.y.get(lambda: call.output(x)).to(call.weight.dtype)
        if ctx.y.rectified and ctx.readers > 1:
            # Something besides the ReLU read the output, and its gradient needs the negative values.
            y = call.output(x)
        relevance = y * gradient
        if call.first is not None:
            weight, _ = call.parameters()
            passing = call.first.relevance(x, call.linear, weight, relevance, call.epsilon)
            call.delivered = passing if call.delivered is None else call.delivered + passing
            return None, None, None
        return _propagate(call, x, y, relevance).to(gradient.dtype), None, None


def keep_rectified(node: Any, call: Affine, rectified: Tensor) -> None:
    """Keep a ReLU's output, which the network keeps anyway, in place of the output that it rectifies."""
    node.y = call.saved.save(rectified, output=True)
    node.y.rectified = True


def _own_share(call: Affine, gradient: Tensor, readers: int) -> Tensor | None:
    """The gradient without what was only shown at this output; None if nothing remains."""
    if call.tapped is None:
        return gradient
    rest = gradient - call.tapped
    call.tapped = None
    return rest if readers > 1 else None


def _propagate(call: Affine, x: Tensor, y: Tensor, relevance: Tensor) -> Tensor:
    """The gradient of the input under the call's rule.

    With the sums over |x| and |W|, the positive part of Wx is (Wx + |W||x|) / 2, so that a signed input
    costs one map forward and two back, and an input that is never negative one forward and one or two back.
    """
    linear, (weight, bias) = call.linear, call.parameters()
    # Elsewhere than on the CPU a look would cost more than the second map: the host waits for the device.
    unsigned = call.rectified or (x.device.type == "cpu" and bool(x.amin() >= 0))
    if unsigned:
        up = weight.clamp(min=0)
        positive = linear.apply(x, up)
    else:
        size = weight.abs()
        total = linear.apply(x.abs(), size)
        signed = y if bias is None else y - linear.over_channels(bias, y.dim())
        positive = (total + signed).div_(2).clamp_(min=0)
        # Where all contributions are of one sign, the other's sum is rounding, which nobody may share in.
        rounding = 16 * torch.finfo(y.dtype).eps * total
        no_positive, no_negative = positive <= rounding, total - positive <= rounding
    if bias is not None:
        positive += linear.over_channels(bias.clamp(min=0), y.dim())
    p, n = call.rule.factors(positive, y, relevance, call.epsilon)
    if call.measure and bias is not None:
        call.bias_relevance.append(_bias_relevance(linear, bias, p, n))
    if unsigned:
        if n is None:
            return linear.transpose(p, up, x)
        return linear.transpose(n, weight, x) + linear.transpose(p - n, up, x)
    p = p.masked_fill(no_positive, 0)
    n = None if n is None else n.masked_fill(no_negative, 0)
    mean = p / 2 if n is None else torch.lerp(n, p, 0.5)
    half = mean if n is None else p - mean
    along = linear.transpose(mean, weight, x)
    across = linear.transpose(half, size, x)
    return along.addcmul_(across, torch.copysign(x.new_ones(()), x))


def _bias_relevance(linear: LinearMap, bias: Tensor, p: Tensor, n: Tensor | None) -> Tensor:
    share = linear.over_channels(bias.clamp(min=0), p.dim()) * p
    if n is not None:
        share = share + linear.over_channels(bias.clamp(max=0), n.dim()) * n
    return share.sum()


class Tap(torch.autograd.Function):
    """Shows observers of a convolution's output the relevance that its batch norm's fold takes past it."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, passed: Tensor, call: Affine) -> Tensor:
        ctx.call = call
        ctx.y, ctx.passed = SavedTensor(y), SavedTensor(passed)
        return y.clone()  # no view, which the network could not overwrite

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        passed = ctx.passed.get()
        relevance = shared(gradients[0] * ctx.y.get(), passed, 1e-9)
        ctx.call.tapped = relevance
        return gradients[0], relevance, None


class Rescale(torch.autograd.Function):
    """An elementwise nonlinearity f, taken for the line from (0, f(0)) to (x, f(x)).

    Relevance passes unchanged where f(0) = 0; f(0) counts as a bias. This is the identity rule of LRP and the
    rescale rule of DeepLIFT for a reference of zero (Shrikumar et al. 2017).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Callable[[Tensor], Tensor], saved: SavedTensors) -> Tensor:
        ctx.f, ctx.x = f, saved.save(x)
        return f(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] * slope(ctx.f, ctx.x.get()), None, None


class RescaleInPlace(torch.autograd.Function):
    """`Rescale` for an operation that overwrites its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.f, ctx.x = f, x.detach().clone()
        x.copy_(f(x))
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * slope(ctx.f, ctx.x), None


def slope(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(f(x) - f(0)) / x, at zero the limit from the side that x is on."""
    origin = f(x.new_zeros(()))
    info = torch.finfo(x.dtype)
    # Where f(0) is not 0, the difference loses its digits long before x underflows.
    least = torch.where(origin == 0, x.new_full((), info.tiny**0.5), x.new_full((), info.eps**0.5))
    away = x.abs().clamp_(min=least).copysign_(x)
    return (f(away) - origin).div_(away)


class GateRescale(Rescale):
    """`Rescale` for a function whose values scale others: the graph then shows that it is a gate."""


class GateRescaleInPlace(RescaleInPlace):
    """`GateRescale` for an operation that overwrites its input."""


class Normalized(torch.autograd.Function):
    """(x - mean) / deviation x weight + bias, the deviation a constant (Ali et al. 2022)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        run: Callable[[], Tensor],
        reciprocal: Tensor,
        weight: Tensor | None,
        dims: tuple[int, ...],
    ) -> Tensor:
        ctx.reciprocal, ctx.weight, ctx.dims = reciprocal, weight, dims
        return run()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        gradient = gradients[0] if ctx.weight is None else gradients[0] * ctx.weight
        gradient = gradient * ctx.reciprocal
        if ctx.dims:
            gradient = gradient - gradient.mean(ctx.dims, keepdim=True)
        return gradient, None, None, None, None


class GroupNormalized(torch.autograd.Function):
    """Group and instance norm with a constant deviation: channels (N, C, ...) in groups."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, run: Callable[[], Tensor], reciprocal: Tensor, weight: Tensor | None, groups: int
    ) -> Tensor:
        ctx.reciprocal, ctx.weight, ctx.groups = reciprocal, weight, groups
        return run()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        gradient = gradients[0]
        if ctx.weight is not None:
            gradient = gradient * ctx.weight.view(1, -1, *[1] * (gradient.dim() - 2))
        grouped = gradient.reshape(len(gradient), ctx.groups, -1) * ctx.reciprocal
        grouped = grouped - grouped.mean(-1, keepdim=True)
        return grouped.view(gradient.shape), None, None, None, None


class Share(torch.autograd.Function):
    """Hands on a constant share of the relevance."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        ctx.share = share
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.share, None


class ShareInPlace(torch.autograd.Function):
    """`Share` for a tensor that is about to be overwritten."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        ctx.share = share
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.share, None
