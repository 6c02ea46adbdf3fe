"""The linear part of convolutions and linear layers: apply it, transpose it, with any weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

#: Along each axis, or along all of them.
Steps = int | Sequence[int]


class LinearMap(Protocol):
    """A map that is linear in its input for given weights, without a bias."""

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """Image of `x`."""

    def transpose(self, u: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """The adjoint map at `u`, an image; `x` gives the shape of the result."""

    def scale_outputs(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Weights whose images are multiplied by `scale` (C,), channel by channel."""

    def over_channels(self, values: Tensor, dim: int) -> Tensor:
        """Values (C,) of the output channels, shaped to broadcast over an image of `dim` dimensions."""


@dataclass(frozen=True)
class Matrix:
    """A linear layer: weights (C_out, C_in), channels in the last dimension."""

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `LinearMap`."""
        return functional.linear(x, weight)

    def transpose(self, u: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """See `LinearMap`."""
        return torch.matmul(u, weight)

    def scale_outputs(self, weight: Tensor, scale: Tensor) -> Tensor:
        """See `LinearMap`."""
        return weight * scale[:, None]

    def over_channels(self, values: Tensor, dim: int) -> Tensor:
        """See `LinearMap`."""
        return values


@dataclass(frozen=True)
class Convolution:
    """A convolution in one to three dimensions, also transposed: channels in the second dimension.

    Attributes
    ----------
    uneven
        Zeros around the input beyond `padding`, as in ``functional.pad``: for ``padding="same"`` of an even
        kernel, whose two sides differ. Empty otherwise.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    uneven: tuple[int, ...] = ()

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `LinearMap`."""
        return torch.convolution(
            self._padded(x),
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
        )

    def transpose(self, u: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """See `LinearMap`."""
        gradient: Tensor = torch.ops.aten.convolution_backward(
            u,
            self._padded(x),
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
            [True, False, False],
        )[0]
        return functional.pad(gradient, [-zeros for zeros in self.uneven]) if self.uneven else gradient

    def _padded(self, x: Tensor) -> Tensor:
        return functional.pad(x, self.uneven) if self.uneven else x

    def scale_outputs(self, weight: Tensor, scale: Tensor) -> Tensor:
        """See `LinearMap`."""
        if not self.transposed:
            return weight * scale.view(-1, *[1] * (weight.dim() - 1))
        # Transposed weights are (C_in, C_out / groups, ...), a block of input channels for each group.
        grouped = weight.view(self.groups, -1, *weight.shape[1:])
        per_group = scale.view(self.groups, 1, -1, *[1] * (weight.dim() - 2))
        return (grouped * per_group).flatten(0, 1)

    def over_channels(self, values: Tensor, dim: int) -> Tensor:
        """See `LinearMap`."""
        return values.view(-1, *[1] * len(self.stride))


def convolution(
    dims: int,
    weight: Tensor,
    *,
    stride: Steps = 1,
    padding: Any = 0,
    dilation: Steps = 1,
    groups: int = 1,
    output_padding: Steps = 0,
    transposed: bool = False,
) -> Convolution:
    """The map of ``torch.conv1d`` and its kin, from their arguments."""
    stride, dilation = _each(stride, dims), _each(dilation, dims)
    uneven: tuple[int, ...] = ()
    if padding == "valid":
        padding = 0
    elif padding == "same":
        total = [d * (size - 1) for d, size in zip(dilation, weight.shape[2:], strict=True)]
        if any(t % 2 for t in total):
            sides = [(t // 2, t - t // 2) for t in reversed(total)]
            padding, uneven = 0, tuple(side for pair in sides for side in pair)
        else:
            padding = [t // 2 for t in total]
    padded = _each(padding, dims)
    return Convolution(stride, padded, dilation, transposed, _each(output_padding, dims), groups, uneven)


def _each(value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * dims if len(values) == 1 else values
