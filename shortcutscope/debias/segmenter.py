"""A classifier that says where: a decoder on a network's feature maps, and the class from its pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone reads)
from torch import Tensor, nn

from shortcutscope.attribution.hooks import visiting
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer, find_layers

_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INTERPOLATIONS = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Segmenter(nn.Module):
    """Two scores a pixel from the feature maps of a network, and from them two scores an image.

    The last layer of each resolution is projected to `width` channels, and from the coarsest to the finest
    each is enlarged and added to the next (Lin et al. 2017, feature pyramid); a 3x3 convolution and a 1x1
    convolution give the pixels' scores, as in the head of torchvision's FCN.

    The image's score is s, the mean over pixels of the foreground's softmax channel (Saab et al. 2022). A
    small lesion has a small s, so that "s > 1/2" would call it healthy: the two scores that are returned
    differ by ``slope * log(s / (1 - s)) + offset``, both fitted after the training. With a positive slope
    the order of the images is that of s.

    Parameters
    ----------
    backbone
        The network; its classifier is not used.
    layers
        Of the network, which tell positions apart; one a resolution.
    width
        Channels of the decoder.
    foreground
        Class that has something to segment, 0 or 1.

    Attributes
    ----------
    slope, offset
        Buffers.
    """

    slope: Tensor
    offset: Tensor

    def __init__(
        self, backbone: nn.Module, layers: Sequence[Layer], *, width: int = 32, foreground: int = 1
    ) -> None:
        super().__init__()
        axes = {len(layer.grid) for layer in layers}
        if len(axes) != 1 or not axes <= set(_CONVOLUTIONS) or not all(layer.spatial for layer in layers):
            raise InputError(
                f"the layers {[layer.name for layer in layers]} have the grids "
                f"{[layer.grid for layer in layers]}; a decoder needs layers that tell the same 1, 2 or 3 "
                "axes apart"
            )
        if width < 1 or foreground not in (0, 1):
            raise InputError(f"width={width}, foreground={foreground}; allowed are width >= 1, and 0 or 1")
        self._axes = axes.pop()
        convolution, norm = _CONVOLUTIONS[self._axes], _NORMS[self._axes]
        self.backbone = backbone
        # From the coarsest on.
        self.layers = tuple(sorted(layers, key=lambda layer: math.prod(layer.grid)))
        self.lateral = nn.ModuleList(convolution(layer.channels, width, 1) for layer in self.layers)
        self.head = nn.Sequential(
            convolution(width, width, 3, padding=1, bias=False),
            norm(width),
            nn.ReLU(),
            convolution(width, 2, 1),
        )
        self.foreground = foreground
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    @classmethod
    def around(
        cls, backbone: nn.Module, example: Tensor, *, width: int = 32, foreground: int = 1
    ) -> Segmenter:
        """A decoder on the last layer of each resolution; what leads on to the classifier is not trained.

        Raises
        ------
        InputError
            When no layer of the network tells positions apart.
        """
        spatial = [layer for layer in find_layers(backbone, example) if layer.spatial]
        if not spatial:
            raise InputError(
                f"no layer of {type(backbone).__name__} tells positions apart, so that nothing can be "
                "segmented in it; use a recipe that needs no positions"
            )
        last = {layer.grid: layer for layer in spatial}
        segmenter = cls(backbone, list(last.values()), width=width, foreground=foreground).to(example.device)
        segmenter._freeze_the_unused(example)
        return segmenter

    def _freeze_the_unused(self, example: Tensor) -> None:
        self.eval()
        parameters = [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]
        with torch.enable_grad():
            gradients = torch.autograd.grad(self.maps(example).sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)

    def maps(self, images: Tensor) -> Tensor:
        """Scores (N, 2, *grid) of background and foreground, on the finest layer's grid."""
        outputs: dict[str, Tensor] = {}

        def keep(layer: Layer, values: Tensor) -> Tensor:
            outputs[layer.name] = layer.channels_first(values)
            return values.clone()  # so that nothing behind it writes into what is kept

        with visiting(self.backbone, self.layers, keep):
            self.backbone(images)
        merged: Tensor | None = None
        for layer, project in zip(self.layers, self.lateral, strict=True):
            projected: Tensor = project(outputs[layer.name])
            merged = projected if merged is None else projected + enlarged(merged, projected.shape[2:])
        scores: Tensor = self.head(merged)
        return scores

    def log_odds(self, images: Tensor) -> Tensor:
        """``log(s / (1 - s))`` (N,), s the mean of the foreground's channel."""
        scores = self.maps(images).flatten(2)
        scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
        # The mean of both channels by their logarithms, since s may be as small as rounding.
        background, foreground = scores.log_softmax(dim=1).logsumexp(dim=2).unbind(dim=1)
        return foreground - background

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, 2) of the classes."""
        half = (self.slope * self.log_odds(images) + self.offset) / 2
        columns = (-half, half) if self.foreground == 1 else (half, -half)
        return torch.stack(columns, dim=1)


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (N, C, *grid) interpolated linearly to another grid."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=list(size), mode=_INTERPOLATIONS[maps.dim() - 2], align_corners=False)
