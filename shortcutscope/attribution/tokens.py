"""From a layer's relevance to the pixel grid, whatever the layer's layout.

A `Layer` knows its layout, its grid and how many of its tokens belong to no position, so nobody has to name
a reshape: tokens of a vision transformer, windows of a Swin transformer (whose layers are channels-last
maps), signals and volumes all come back as maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer
from shortcutscope.models.layouts import channel_axis

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


def on_grid(layer: Layer, relevance: Tensor) -> Tensor:
    """Relevance of a layer's positions.

    Parameters
    ----------
    layer
        Describes `relevance`.
    relevance
        In the layer's own layout, (N, ...).

    Returns
    -------
    maps
        (N, *grid), summed over channels; class, distillation and register tokens are left out, see
        `prefix_share`. (N,) for a vector.

    Raises
    ------
    InputError
        The relevance does not have the layer's shape.
    """
    _require_shape(layer, relevance)
    return layer.channels_first(relevance).sum(1)


def prefix_share(layer: Layer, relevance: Tensor) -> Tensor:
    """Share of the absolute relevance that lies on prefix tokens, and so on no map.

    Parameters
    ----------
    layer, relevance
        As in `on_grid`.

    Returns
    -------
    share
        (N,) in 0..1; 0 for layers without prefix tokens and samples without relevance. 1 from the last
        block of a transformer that is read out at its class token: take an earlier layer for a map.
    """
    _require_shape(layer, relevance)
    if not layer.prefix_tokens:
        return relevance.new_zeros(len(relevance))
    per_token = relevance.sum(2).abs()
    total = per_token.sum(1)
    share = per_token[:, layer.tokens_without_position].sum(1) / total
    return torch.where(total > 0, share, torch.zeros_like(share))


def on_pixels(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps on the grid of the image, by linear interpolation between the centres of the cells.

    Parameters
    ----------
    maps
        (N, *grid), as `on_grid` gives them.
    size
        Of the image: (H, W), (D, H, W) or (L,).

    Returns
    -------
    maps
        (N, *size). Values stay what they were, so a finer map adds up to more.

    Raises
    ------
    InputError
        Maps without positions (of a vector), or with another number of dimensions than the image.
    """
    dims = maps.dim() - 1
    if dims not in _INTERPOLATION:
        raise InputError(
            f"maps of shape {tuple(maps.shape)} have no positions (a vector layer's relevance has none); "
            "choose a layer with a grid"
        )
    if len(size) != dims:
        raise InputError(
            f"maps on a grid of {tuple(maps.shape[1:])} do not fit an image of {tuple(size)}; where tokens "
            "were read as a row instead of a grid, find the layer again with "
            "find_layers(..., layouts={name: 'tokens:p'}), p being its number of prefix tokens"
        )
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    fine: Tensor = functional.interpolate(
        maps[:, None], size=tuple(size), mode=_INTERPOLATION[dims], align_corners=False
    )
    return fine[:, 0]


def _require_shape(layer: Layer, relevance: Tensor) -> None:
    shape = tuple(relevance.shape[1:])
    # A convolutional network also takes images of another size than the one its layers were found with.
    fixed = layer.layout in ("tokens", "vector")
    axis = channel_axis(layer.layout)
    fits = shape == layer.shape if fixed else len(shape) == len(layer.shape)
    if not fits or relevance.shape[axis] != layer.channels:
        raise InputError(
            f"relevance of shape {tuple(relevance.shape)} is no batch of layer {layer.name!r}, whose output "
            f"is {layer.shape} per sample"
        )
