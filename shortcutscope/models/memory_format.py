"""In which memory format a network runs: channels last where it is faster and gives the same scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from shortcutscope.models.failures import first_line
from shortcutscope.models.frozen import frozen
from shortcutscope.models.outputs import entries

#: Difference of the scores in both formats, relative to the largest one, that is more than rounding.
TOLERANCE = {torch.float16: 0.1, torch.bfloat16: 0.1}
DEFAULT_TOLERANCE = 1e-2


@dataclass(frozen=True)
class MemoryFormat:
    """How images and weights are laid out.

    Attributes
    ----------
    layout
        torch's name for it.
    reason
        Why images stay contiguous, where channels last was tried; None else.
    """

    layout: torch.memory_format = torch.contiguous_format
    reason: str | None = None

    @classmethod
    def named(cls, name: str | None) -> Self:
        """The format that `str` gives this name, contiguous without one.

        Examples
        --------
        >>> MemoryFormat.named("channels last")
        MemoryFormat(layout=torch.channels_last, reason=None)
        """
        known = {str(cls(layout)): cls(layout) for layout in (torch.channels_last, torch.channels_last_3d)}
        return known.get(name or "", cls())

    def __call__(self, images: Tensor) -> Tensor:
        """The images in this format."""
        return images.contiguous(memory_format=self.layout)

    def apply(self, model: nn.Module) -> None:
        """Lay out a model's weights in this format."""
        model.to(memory_format=self.layout)

    def __str__(self) -> str:
        name = str(self.layout).removeprefix("torch.").removesuffix("_format").replace("_", " ")
        return name if self.reason is None else f"{name} ({self.reason})"


def choose_memory_format(
    model: nn.Module, images: Tensor, *others: nn.Module, training: bool = False
) -> MemoryFormat:
    """Channels last where images and weights allow it and every network gives the same scores in it.

    A network may depend on the format: ``x.view(len(x), -1)`` of a map fails in channels last, and
    ``x.as_strided(...)`` gives other values. It is tried once, forwards and backwards, on a few images.

    Parameters
    ----------
    model
        Given back as it was.
    images
        A few of those it will run on, (N, C, *spatial), where the model is.
    *others
        Further networks that are given the same images.
    training
        Whether the weights' gradients are wanted. Volumes are laid out channels last, too, then.

    Raises
    ------
    ModelError
        The model fails on the images in any format.
    """
    layout = {4: torch.channels_last, 5: torch.channels_last_3d if training else None}.get(images.dim())
    networks = (model, *others)
    # Module.to applies one format to all 4-D and 5-D parameters; a mixed network keeps its own.
    weights = [t for network in networks for t in [*network.parameters(), *network.buffers()]]
    if layout is None or any(t.dim() in (4, 5) and t.dim() != images.dim() for t in weights):
        return MemoryFormat()
    if training and images.device.type == "cpu" and any(map(_is_corrupted, networks)):
        return MemoryFormat()
    for network in networks:
        reason = _reason_against(network, images, layout)
        if reason is not None:
            return MemoryFormat(reason=f"in {str(layout).removeprefix('torch.')} the network {reason}")
    return MemoryFormat(layout)


def _is_corrupted(network: nn.Module) -> bool:
    """Whether oneDNN would write past its memory for some weight's gradient.

    It does on processors in channels last for strided 1x1 convolutions of fewer channels than a register
    holds, 8 or 16 (github.com/uxlfoundation/oneDNN/issues/6035, in torch 2.14): wrong gradients or an abort.
    """
    return any(
        isinstance(module, nn.Conv2d | nn.Conv3d)
        and max(module.kernel_size) == 1
        and max(module.stride) > 1
        and module.in_channels // module.groups < 16
        for module in network.modules()
    )


def _reason_against(model: nn.Module, images: Tensor, layout: torch.memory_format) -> str | None:
    devices = [images.device] if images.is_cuda else []
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        # A model that draws random numbers must leave the generator alone and see the same ones twice.
        with torch.random.fork_rng(devices):
            expected = _run(model, images)
        try:
            model.to(memory_format=layout)
            with torch.random.fork_rng(devices):
                scores = _run(model, images.contiguous(memory_format=layout))
        except Exception as error:  # whatever it is, the network runs without the format
            return f"fails: {first_line(error)}"
    for one, other in zip(expected, scores, strict=True):
        limit = TOLERANCE.get(one.dtype, DEFAULT_TOLERANCE) * one.abs().amax().clamp_min(1e-6)
        if one.shape != other.shape or bool(((one - other).abs() > limit).any()):
            return "gives other scores"
    return None


def _run(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Every floating-point tensor that the model returns; its backward pass runs, too."""
    leaf = images.detach().clone()
    if leaf.is_floating_point():
        leaf.requires_grad_()
    result = [t for t in _floats(model(leaf.clone())) if t.numel()]
    differentiable = [t.float().sum() for t in result if t.requires_grad]
    if differentiable:
        torch.autograd.grad(torch.stack(differentiable).sum(), leaf, allow_unused=True)
    return [t.detach() for t in result]


def _floats(result: object) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        if result.is_floating_point():
            yield result
        return
    for _, part in entries(result):
        yield from _floats(part)
