"""Where conditional relevance starts: channels of a layer, a direction in it, a head of an attention."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer
from shortcutscope.models.layouts import channel_axis


@dataclass(frozen=True)
class Channels:
    """Of a score's relevance, what passes through some channels of a layer, at all positions.

    Attributes
    ----------
    layer
        Name of the layer.
    channels
        Which of its channels.
    """

    layer: str
    channels: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(map(operator.index, self.channels)))

    @property
    def place(self) -> str:
        """Module whose output it concerns."""
        return self.layer

    def check(self, layer: Layer) -> None:
        """Raise `InputError` unless the layer has these channels."""
        outside = [c for c in self.channels if not 0 <= c < layer.channels]
        if outside or not self.channels:
            raise InputError(
                f"channels {outside} of layer {self.layer!r}: allowed are 0 to {layer.channels - 1}"
            )

    def masked(self, layer: Layer, gradient: Tensor) -> Tensor:
        """The gradient of the layer's output with all other channels cut off."""
        mask = torch.zeros(layer.channels, dtype=torch.bool, device=gradient.device)
        mask[list(self.channels)] = True
        shape = [1] * gradient.dim()
        shape[channel_axis(layer.layout)] = layer.channels
        # Not a product: a gradient that overflowed in another channel is none of this one's business.
        return gradient.where(mask.view(shape), gradient.new_zeros(()))


@dataclass(frozen=True)
class AttentionHead:
    """Of a score's relevance, what passes through one head of an attention.

    Attributes
    ----------
    module
        Name of the module in which the attention is computed, such as ``"blocks.3.attn"``: it, or what it
        contains, calls an attention once.
    head
        Which head.
    """

    module: str
    head: int

    @property
    def place(self) -> str:
        """Module in which it is computed."""
        return self.module

    def masked(self, gradient: Tensor, samples: int) -> Tensor:
        """The gradient of the attention's output with all other heads cut off.

        Parameters
        ----------
        gradient
            (B, heads, tokens, width), B a multiple of the samples where there are windows; or with samples
            and heads in one dimension, (B heads, tokens, width).
        samples
            Size of the batch.
        """
        by_head = gradient.reshape(samples, -1, *gradient.shape[1:]) if gradient.dim() == 3 else gradient
        heads = by_head.shape[-3]
        if not 0 <= self.head < heads:
            raise InputError(f"head {self.head} of {self.module!r}: allowed are 0 to {heads - 1}")
        masked = torch.zeros_like(by_head)
        masked.select(-3, self.head).copy_(by_head.select(-3, self.head))
        return masked.reshape(gradient.shape)


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction v in a layer's activations a, such as a concept activation vector.

    What is explained is the score sum of v . a over the positions; what lies above the layer plays no part.
    Each channel at each position starts with its own summand a v, with its sign. The usual start
    max(a, 0) v (Pahde et al. 2023) loses what a negative activation contributes, and a concept that *lowers*
    a channel (v < 0) starts with less negative relevance than other images: its evidence is missing.

    With a `reference` the summands are (a - reference) v, so that a lowered channel is positive evidence. LRP
    hands relevance on in proportion to what made an activation, and nothing made one that is zero: a summand
    whose activation is zero (behind a ReLU, say) cannot be carried down. It is left out, and
    `ConditionalRelevance.kept` tells how much that was. Where it is far from 1 take a layer in front of the
    rectification. A summand of a small activation is carried, but by large opposing contributions; rules for
    positive contributions (z+, gamma) keep these in bounds, epsilon does not.

    Attributes
    ----------
    layer
        Name of the layer.
    direction
        v (C,), a tensor or an array, as weights of the activations as they are: of a `CAV` fitted on the
        layer's mean activations its ``filter``, whose score differs by the intercept and the number of
        positions.
    reference
        Activation of samples without the concept, their mean: (C,) or for each position (C, *grid). None
        stands for zero, with which nothing is lost.
    tokens
        ``"grid"``: all that belong to positions; ``"class"``: the class token alone, of layers that have one.
    """

    layer: str
    direction: Tensor | np.ndarray
    reference: Tensor | np.ndarray | None = None
    tokens: Literal["grid", "class"] = "grid"

    @property
    def place(self) -> str:
        """Module whose output it concerns."""
        return self.layer

    def check(self, layer: Layer) -> None:
        """Raise `InputError` unless direction and reference fit the layer."""
        where = f"of layer {self.layer!r}"
        if tuple(self.direction.shape) != (layer.channels,):
            raise InputError(
                f"the direction {where} has shape {tuple(self.direction.shape)}; "
                f"it must be ({layer.channels},)"
            )
        if self.tokens not in ("grid", "class"):
            raise InputError(f"tokens is {self.tokens!r}; allowed are 'grid' and 'class'")
        if layer.extra_tokens:
            raise InputError(
                f"layer {self.layer!r} has tokens without a position elsewhere than in front; directions of "
                "such layers are not followed: name the embedding before they are added"
            )
        if self.tokens == "class" and not layer.prefix_tokens:
            raise InputError(f"layer {self.layer!r} has no class token; use tokens='grid'")
        allowed: list[tuple[int, ...]] = [(layer.channels,)]
        if self.tokens == "grid" and layer.grid:
            allowed.append((layer.channels, *layer.grid))
        if self.reference is not None and tuple(self.reference.shape) not in allowed:
            raise InputError(
                f"the reference {where} has shape {tuple(self.reference.shape)}; allowed are "
                f"{' and '.join(map(str, allowed))}"
            )
        for name, values in (("direction", self.direction), ("reference", self.reference)):
            if values is not None and not bool(torch.as_tensor(values).isfinite().all()):
                raise InputError(f"the {name} {where} holds NaN or infinite values")

    def start(self, layer: Layer, values: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """Where the backward pass begins.

        Parameters
        ----------
        layer
            Describes `values`.
        values
            a, in the layer's own layout.
        epsilon
            Activations are zero up to this share of their mean absolute value within a sample.

        Returns
        -------
        gradient
            In the shape of `values`; its product with them is the relevance that is carried.
        kept
            (N,), sum of |carried| / sum of |summand|; 1 where all summands are zero.
        """
        gradient = torch.zeros_like(values)
        into = self._chosen(layer, gradient)
        picked = self._chosen(layer, values.to(torch.promote_types(values.dtype, torch.float32)))
        channelwise = (-1, *[1] * (picked.dim() - 2))
        direction = torch.as_tensor(self.direction).to(picked).view(channelwise)
        if self.reference is None:
            into.copy_(direction.expand_as(picked))
            return gradient, picked.new_ones(len(picked))
        reference = torch.as_tensor(self.reference).to(picked)
        summands = (picked - (reference.view(channelwise) if reference.dim() == 1 else reference)) * direction
        each_sample = tuple(range(1, picked.dim()))
        size = picked.abs()
        carried = size > epsilon * size.mean(each_sample, keepdim=True)
        into.copy_(torch.where(carried, summands / torch.where(carried, picked, 1), 0))
        total = summands.abs().sum(each_sample)
        share = (summands.abs() * carried).sum(each_sample) / total
        return gradient, share.where(total > 0, torch.ones_like(total))

    def _chosen(self, layer: Layer, values: Tensor) -> Tensor:
        return values[:, 0] if self.tokens == "class" else layer.channels_first(values)


Condition = Channels | AttentionHead | Direction
