"""The directions of a layer that a teacher's relevance uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from shortcutscope.attribution.slope import Explained, differentiate
from shortcutscope.debias.distillation.matching import channel_scale
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import Layer

__all__ = ["relevant_directions"]

#: Inputs that are run at a time.
BATCH = 32


def relevant_directions(
    teacher: nn.Module,
    inputs: Tensor,
    layers: Sequence[Layer],
    count: int,
    shortcuts: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Principal relevant components of a network's layers (Chormai et al. 2024, PRCA).

    Of all subspaces of a layer's channels the one that holds most of the relevance ``a . c`` of the predicted
    class, `a` the output and `c` the slope of the score, over samples and positions: the eigenvectors of
    ``E[a c' + c a']`` of the largest eigenvalues.

    Parameters
    ----------
    teacher
        Given back as it was.
    inputs
        (N, C, *spatial).
    layers
        Of the teacher.
    count
        Directions of each layer; fewer where it has fewer channels.
    shortcuts
        By layer: orthonormal directions (k, C) of a shortcut among standardised channels, taken out.

    Returns
    -------
    dict
        Name of a layer to orthonormal directions (count, C) among its standardised channels.
    """
    directions = {}
    with frozen(teacher) as network:
        for layer in layers:
            values, slopes = _at(network, inputs, layer)
            scale = channel_scale(values)
            flat, slope = (x.transpose(0, 1).flatten(1).T.double().cpu() for x in (values, slopes))
            spread = scale.double().cpu()
            flat, slope = flat / spread, slope * spread
            moment = flat.T @ slope / len(flat)
            vectors = torch.linalg.eigh(moment + moment.T).eigenvectors.flip(1)
            own = (shortcuts or {}).get(layer.name)
            if own is not None:
                own = own.double().cpu()
                # The shortcut's own are taken out first, so that as many others are left.
                free = torch.eye(len(spread), dtype=torch.float64) - own.T @ own
                moment = free @ (moment + moment.T) @ free
                vectors = torch.linalg.eigh(moment).eigenvectors.flip(1)
            directions[layer.name] = vectors[:, :count].T.float().contiguous()
    return directions


def _at(network: nn.Module, inputs: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
    """The layer's output and the slope of the predicted class's score, (N, C, *grid) both."""
    explained = Explained()
    slopes = [differentiate(network, part, explained, layer) for part in torch.split(inputs, BATCH)]
    values, gradients = (torch.cat([getattr(one, name) for one in slopes]) for name in ("values", "gradient"))
    return layer.channels_first(values), layer.channels_first(gradients)
