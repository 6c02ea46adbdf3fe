"""The rules of layer-wise relevance propagation for linear maps.

A linear map y_j = sum_i x_i w_ij + b_j receives relevance R_j and hands it to its inputs. Every rule here
gives one factor to the positive contributions of an output and one to the negative ones,

    R_ij = p_j (x_i w_ij)+  +  n_j (x_i w_ij)-,

and its bias takes p_j b_j+ + n_j b_j-. A rule is therefore the pair (p, n), computed from the sums
z_j+ and z_j- of the positive and negative contributions, and from nothing else.

References
----------
Bach et al. 2015, PLoS ONE 10(7), equations 56-60 (epsilon, alpha-beta); Montavon et al. 2017, Pattern
Recognition 65 (z+, w-square, z-box); Montavon et al. 2019, Layer-Wise Relevance Propagation: An Overview
(gamma); Lapuschkin et al. 2019, Nature Communications 10 (flat). The gamma rule for signed inputs and outputs
is the generalised one of zennit (Anders et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from shortcutscope.attribution.lrp.affine import LinearMap


class Rule(Protocol):
    """How a linear map hands relevance to its inputs."""

    def factors(
        self, positive: Tensor, output: Tensor, relevance: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor | None]:
        """Factors p of the positive and n of the negative contributions; n is None where it is zero.

        Parameters
        ----------
        positive
            z+, the sum of the positive contributions, bias included; z- is `output` minus it.
        output, relevance
            y and its relevance R.
        epsilon
            Stabiliser relative to a sample's mean absolute denominator.
        """


@dataclass(frozen=True)
class Epsilon:
    """R_ij = x_i w_ij R_j / y_j: the gradient, so the operation needs nothing else."""

    def factors(
        self, positive: Tensor, output: Tensor, relevance: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor | None]:
        """See `Rule`."""
        share = shared(relevance, output, epsilon)
        return share, share


@dataclass(frozen=True)
class ZPlus:
    """All to the positive contributions, R_ij = (x_i w_ij)+ R_j / z_j+ (alpha 1, beta 0)."""

    def factors(
        self, positive: Tensor, output: Tensor, relevance: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor | None]:
        """See `Rule`."""
        return shared(relevance, positive, epsilon, unsigned=True), None


@dataclass(frozen=True)
class Gamma:
    """Contributions of the output's own sign count 1 + gamma times.

    Attributes
    ----------
    gamma
        0 is the epsilon rule; towards infinity it approaches z+ for positive outputs.
    """

    gamma: float = 0.25

    def factors(
        self, positive: Tensor, output: Tensor, relevance: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor | None]:
        """See `Rule`."""
        up = output > 0
        favoured = torch.where(up, positive, output - positive)
        share = shared(relevance, output + self.gamma * favoured, epsilon)
        p = share.addcmul(share, up.to(share.dtype), value=self.gamma)
        return p, (2 + self.gamma) * share - p  # the one is (1 + gamma) share where the other is share


@dataclass(frozen=True)
class AlphaBeta:
    """R_ij = alpha (x_i w_ij)+ R_j / z_j+ - beta (x_i w_ij)- R_j / z_j-, with alpha - beta = 1."""

    alpha: float = 2.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha - self.beta != 1 or self.beta < 0:
            raise ValueError(f"alpha {self.alpha} and beta {self.beta}: alpha - beta must be 1, beta >= 0")

    def factors(
        self, positive: Tensor, output: Tensor, relevance: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor | None]:
        """See `Rule`."""
        up = self.alpha * shared(relevance, positive, epsilon, unsigned=True)
        return up, -self.beta * shared(relevance, output - positive, epsilon)


class FirstRule(Protocol):
    """How the map that reads the image hands relevance to the pixels, whatever their values."""

    def relevance(
        self, x: Tensor, linear: LinearMap, weight: Tensor, relevance: Tensor, epsilon: float
    ) -> Tensor:
        """Relevance of the input, in the shape of `x`.

        Parameters
        ----------
        x, weight
            Input and weights of the map.
        linear
            The map.
        relevance
            Of the output.
        epsilon
            As in `Rule`.
        """


@dataclass(frozen=True)
class Flat:
    """An equal share to every input that an output sees."""

    def relevance(
        self, x: Tensor, linear: LinearMap, weight: Tensor, relevance: Tensor, epsilon: float
    ) -> Tensor:
        """See `FirstRule`."""
        return _by_weight(x, linear, torch.ones_like(weight), relevance, epsilon)


@dataclass(frozen=True)
class ZBox:
    """Shares in proportion to x_i w_ij - low w_ij+ - high w_ij-, for inputs between low and high.

    Attributes
    ----------
    low, high
        Range of the input *as the network sees it*, behind its normalisation: one value, or one for each
        channel. None: each channel's own range in the image.
    """

    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None

    def relevance(
        self, x: Tensor, linear: LinearMap, weight: Tensor, relevance: Tensor, epsilon: float
    ) -> Tensor:
        """See `FirstRule`."""
        # Within a sample: its relevance must not depend on what else is in the batch.
        positions = tuple(range(2, x.dim()))
        low = x.amin(positions, keepdim=True) if self.low is None else _per_channel(self.low, x)
        high = x.amax(positions, keepdim=True) if self.high is None else _per_channel(self.high, x)
        low, high = low.expand_as(x).contiguous(), high.expand_as(x).contiguous()
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        total = linear.apply(x, weight) - linear.apply(low, up) - linear.apply(high, down)
        share = shared(relevance, total, epsilon)
        return (
            x * linear.transpose(share, weight, x)
            - low * linear.transpose(share, up, x)
            - high * linear.transpose(share, down, x)
        )


def shared(relevance: Tensor, total: Tensor, epsilon: float, *, unsigned: bool = False) -> Tensor:
    """Relevance per contribution, R / z, with denominators pushed away from zero in their own direction.

    By `epsilon` times the mean absolute value within a sample: an absolute epsilon would swallow the
    relevance of networks whose activations are small. A sample of zeros takes nothing.

    Parameters
    ----------
    relevance, total
        R and z.
    epsilon
        Relative stabiliser.
    unsigned
        Totals are known not to be negative, which saves two passes over them.
    """
    mean = (total if unsigned else total.abs()).mean(tuple(range(1, total.dim())), keepdim=True)
    offset = (epsilon * mean).masked_fill_(mean == 0, torch.inf)
    return relevance / (total + offset if unsigned else torch.copysign(offset, total).add_(total))


def _by_weight(x: Tensor, linear: LinearMap, weight: Tensor, relevance: Tensor, epsilon: float) -> Tensor:
    total = linear.apply(torch.ones_like(x[:1]), weight)
    return linear.transpose(shared(relevance, total, epsilon), weight, x)


def _per_channel(values: float | tuple[float, ...], x: Tensor) -> Tensor:
    return x.new_tensor(values).reshape(1, -1, *[1] * (x.dim() - 2))
