"""Reductions of a layer's output over its positions, laid out so that nothing is copied on the way.

The reductions are chosen by measurement: on a CPU ``mean``, ``amax`` and ``sum`` over a flattened position
dimension run at memory speed in either memory format, while ``var_mean`` costs about sixty times as much
(Welford's update is not vectorised) and ``einsum`` over channels-last tensors fifty. The standard deviation
is therefore taken in two passes, which is also the numerically safe way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from shortcutscope.attribution.slope import full_precision
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer
from shortcutscope.models.layouts import channel_axis, token_order

ACTIVATION_STATS = ("mean", "max", "std")
#: Recorded besides for layers of tokens that begin with a class token.
CLASS_TOKEN = "class"
#: Of LRP, whose modified backward pass yields no derivative.
LRP_STATS = ("sum", "max")
#: Of gradient x activation.
RELEVANCE_STATS = (*LRP_STATS, "gradient")

#: Goes into a scan's identity: raise it when a statistic changes its meaning.
POOLING_VERSION = 2


def positions(layer: Layer, values: Tensor) -> tuple[Tensor, int]:
    """A layer's output with all its positions in one dimension, tokens without a place in front; a view, or
    a copy where they are elsewhere.

    Parameters
    ----------
    layer
        Says where the channels are.
    values
        The layer's output (or its gradient), in the layer's own layout.

    Returns
    -------
    view
        (N, P, C) or (N, C, P), whichever lies contiguously in memory; a vector has P = 1.
    dim
        The dimension of the positions, 1 or 2.
    """
    if layer.layout == "vector":
        return values.unsqueeze(1), 1
    if channel_axis(layer.layout) == -1:
        order = token_order(values.shape[1], layer.extra_tokens)
        return (values if order is None else values[:, order]).flatten(1, -2), 1
    channels_last = values.movedim(1, -1)
    if channels_last.is_contiguous() and not values.is_contiguous():
        return channels_last.flatten(1, -2), 1
    return values.flatten(2), 2


def from_positions(layer: Layer, view: Tensor, dim: int, like: Tensor) -> Tensor:
    """Undo `positions`: the tensor in the layer's own layout, in the shape and dtype of `like`."""
    view = view.to(like.dtype)
    order = token_order(like.shape[1], layer.extra_tokens)
    if order is not None:
        view = (view if dim == 1 else view.transpose(1, 2))[:, np.argsort(order)]
    if layer.layout == "vector" or channel_axis(layer.layout) == -1 or dim == 2:
        return view.reshape(like.shape)
    return view.reshape(len(like), *like.shape[2:], like.shape[1]).movedim(-1, 1)


def edited_output(layer: Layer, values: Tensor, edit: Callable[[Tensor], Tensor]) -> Tensor:
    """A layer's output in its own layout, after an edit of its positions.

    Parameters
    ----------
    layer, values
        As in `positions`.
    edit
        Takes the output with its positions flattened, (N, C, P), and returns as much. Computes in full
        precision.

    Raises
    ------
    InputError
        The edit changes the shape.
    """
    view, dim = positions(layer, values)
    flat = full_precision(view if dim == 2 else view.transpose(1, 2))
    with torch.autocast(values.device.type, enabled=False):
        edited = edit(flat)
    if edited.shape != flat.shape:
        raise InputError(
            f"the edit of layer {layer.name!r} returns shape {tuple(edited.shape)}; "
            f"it must keep {tuple(flat.shape)} (samples, channels, positions)"
        )
    return from_positions(layer, edited if dim == 2 else edited.transpose(1, 2), dim, values)


def pool_activation(layer: Layer, values: Tensor) -> dict[str, Tensor]:
    """Mean, maximum and standard deviation of every channel over the positions.

    Parameters
    ----------
    layer
        Describes `values`.
    values
        The layer's output.

    Returns
    -------
    pools
        ``"mean"``, ``"max"`` and ``"std"`` (of the population), each (N, C), at least float32; not to be
        written to, since those of a vector share their memory. Class and register tokens are left out:
        they have no place in the image. Where there are some, the first of them, the class token, is given
        besides as ``"class"``: it carries the decision.
    """
    if layer.layout == "vector":
        only = full_precision(values.detach()).clone()  # its own mean and maximum
        return {"mean": only, "max": only, "std": only.new_zeros(()).expand_as(only)}
    view, dim = positions(layer, values.detach())
    first = {}
    if layer.layout == "tokens" and layer.prefix_tokens:
        first = {CLASS_TOKEN: full_precision(view[:, 0]).clone()}
        view = view[:, layer.prefix_tokens :]
    view = full_precision(view)
    mean = view.mean(dim)
    variance = (view - mean.unsqueeze(dim)).square_().mean(dim)
    return {"mean": mean, "max": view.amax(dim), "std": variance.sqrt_(), **first}


def pool_relevance(
    layer: Layer, values: Tensor, gradient: Tensor, *, plain: bool = True
) -> dict[str, Tensor]:
    """Relevance of every channel, and the gradient itself, reduced over the positions.

    Parameters
    ----------
    layer
        Describes `values` and `gradient`.
    values, gradient
        The layer's output and what the backward pass gives for it: the derivative of the explained score,
        or, with LRP's rules, relevance / output.
    plain
        Whether ``gradient`` is the derivative.

    Returns
    -------
    pools
        ``"sum"`` of gradient x output (signed), its ``"max"``, and the sum of the plain ``"gradient"``, each
        (N, C), at least float32. Over *all* positions: in a transformer read out at its class token, that
        token carries the decision, and from some layer on all of it.
    """
    gradient = full_precision(gradient.detach())
    relevance = gradient * full_precision(values)
    if layer.layout == "vector":
        pools = {"sum": relevance, "max": relevance}
        return {**pools, "gradient": gradient.clone()} if plain else pools
    product, dim = positions(layer, relevance)
    pools = {"sum": product.sum(dim), "max": product.amax(dim)}
    if not plain:
        return pools
    slopes, slopes_dim = positions(layer, gradient)
    return {**pools, "gradient": slopes.sum(slopes_dim)}
