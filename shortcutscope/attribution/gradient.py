"""Attribution methods by gradients.

Every method is a small frozen dataclass of its settings. It explains one score a sample (`Explained`) of a
batch, at the input or at a layer, in the layer's own layout. Models are expected as
`shortcutscope.models.frozen.frozen` lends them out; `attribute` does that.

captum's gradient methods select a column of what a model returns and hook modules that return plain tensors,
so dictionaries of outputs, single-score models, blocks that return tuples and outputs that are overwritten in
place would each need a wrapper, and the score a second forward pass. One pass of our own hooks serves all;
captum's quadrature, which is its own merit, is used for integrated gradients. The tests hold the rest to
captum's results where captum is right.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from shortcutscope.attribution.hooks import visiting
from shortcutscope.attribution.slope import (
    Explained,
    differentiate,
    full_precision,
    layer_output,
    require_gradient,
)
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer
from shortcutscope.models.layouts import channel_axis

if TYPE_CHECKING:
    from shortcutscope.attribution.checks import Checks


@dataclass(frozen=True)
class Explanation:
    """What a method gives for one batch.

    Attributes
    ----------
    relevance
        Like the input, or like the layer's output.
    score, target
        (N,) the explained score and its class.
    """

    relevance: Tensor
    score: Tensor
    target: Tensor


class Method:
    """An attribution method with its settings.

    Attributes
    ----------
    takes_input, takes_layer
        Whether it explains the input, and layers.
    dispensable
        Whether gradient x activation may stand in for it where it is wrong.
    """

    takes_input: ClassVar[bool] = True
    takes_layer: ClassVar[bool] = True
    dispensable: ClassVar[bool] = False

    def explain(self, model: nn.Module, x: Tensor, explained: Explained, layer: Layer | None) -> Explanation:
        """Explain one batch.

        Parameters
        ----------
        model
            Frozen.
        x
            A batch (N, ...).
        explained
            The score.
        layer
            None for the input.
        """
        raise TypeError(f"{type(self).__name__} explains nothing")

    def examine(self, model: nn.Module, x: Tensor, explained: Explained) -> MethodCheck:
        """Whether the method is right for this model, judged by a few images."""
        return MethodCheck()


@dataclass(frozen=True)
class MethodCheck:
    """What speaks against a method on a model.

    Attributes
    ----------
    reasons
        Empty if nothing does.
    checks
        What was measured, where a method has such.
    """

    reasons: tuple[str, ...] = ()
    checks: Checks | None = None


@dataclass(frozen=True)
class GradientXActivation(Method):
    """Gradient x activation of a layer, gradient x input at the input (Ancona et al. 2018).

    The first-order share of each value in the score; exact for networks that are linear on the way from
    the value to zero, as ReLU networks without biases are.
    """

    def explain(self, model: nn.Module, x: Tensor, explained: Explained, layer: Layer | None) -> Explanation:
        """See `Method`."""
        slope = differentiate(model, x, explained, layer)
        return Explanation(slope.relevance, slope.score, slope.target)


@dataclass(frozen=True)
class GradientXInput(GradientXActivation):
    """Gradient x input (Shrikumar et al. 2016), of the input only."""

    takes_layer: ClassVar[bool] = False


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients (Sundararajan et al. 2017): the gradient averaged on the way from a baseline.

    At a layer the way is from the layer's output for the baseline image to its output for the image, with
    everything that does not pass through the layer as the image has it. Completeness: relevance adds up to
    the score's difference between the two ends.

    Attributes
    ----------
    steps
        Points on the way, by Gauss-Legendre quadrature.
    baseline
        The image to start from: a number, or a tensor of one sample's shape (or one that broadcasts to
        it), in the units of the model's input. 0 is the middle of a standardised image and the black of
        one in 0..1.
    internal_batch_size
        How many images pass through the model at once, at least the batch itself.
    """

    steps: int = 32
    baseline: float | Tensor = 0.0
    internal_batch_size: int = 16

    def __post_init__(self) -> None:
        _require_positive("steps", self.steps)
        _require_positive("internal_batch_size", self.internal_batch_size)

    def explain(self, model: nn.Module, x: Tensor, explained: Explained, layer: Layer | None) -> Explanation:
        """See `Method`."""
        from captum.attr import IntegratedGradients as Quadrature  # its import takes a second

        end, start = x, self._baseline(x)
        with torch.no_grad():
            score, target = explained.scores(model(x.clone()))
            if layer is not None:
                end, start = layer_output(model, x, layer), layer_output(model, start, layer)
        explained_classes = explained.of_classes(target)

        # captum repeats the images and classes as often as it repeats the values.
        def scores(values: Tensor, images: Tensor, classes: Tensor) -> Tensor:
            with nullcontext() if layer is None else visiting(model, [layer], lambda _, __: values.clone()):
                result = model(values.clone() if layer is None else images.clone())
            score, _ = explained_classes.of_classes(classes).scores(result)
            require_gradient(score, layer)
            return score

        relevance: Tensor = Quadrature(scores).attribute(
            end,
            start.expand_as(end),
            additional_forward_args=(x, target),
            n_steps=self.steps,
            method="gausslegendre",
            internal_batch_size=max(self.internal_batch_size, len(x)),
        )
        return Explanation(full_precision(relevance.detach()), score, target)

    def _baseline(self, x: Tensor) -> Tensor:
        """One image (1, ...)."""
        baseline = torch.as_tensor(self.baseline, dtype=x.dtype, device=x.device)
        try:
            return baseline.detach().expand_as(x[:1]).clone()
        except RuntimeError as error:
            raise InputError(
                f"baseline has shape {tuple(baseline.shape)}; give a number, or a tensor that broadcasts to "
                f"one sample, {tuple(x.shape[1:])}"
            ) from error


@dataclass(frozen=True)
class SmoothGrad(Method):
    """SmoothGrad (Smilkov et al. 2017): the gradient averaged over noisy copies of the image.

    captum's NoiseTunnel draws from the global generator and lets the noise depend on how samples are
    batched. Here each image's noise follows from the seed and the image alone.

    Attributes
    ----------
    copies
        How many.
    noise
        Standard deviation as a share of the image's own range (maximum - minimum).
    times_values
        Multiply the mean gradient by the image (or the layer's output), so that relevance is a share of
        the score as for the other methods. False gives the mean gradient itself, as in the paper.
    seed
        Of the noise.
    """

    copies: int = 25
    noise: float = 0.15
    times_values: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _require_positive("copies", self.copies)
        if not (self.noise >= 0 and math.isfinite(self.noise)):
            raise InputError(f"noise is {self.noise!r}; it is a share of the image's range, from 0 upwards")

    def explain(self, model: nn.Module, x: Tensor, explained: Explained, layer: Layer | None) -> Explanation:
        """See `Method`."""
        with torch.no_grad():
            values = x if layer is None else layer_output(model, x, layer)
            score, target = explained.scores(model(x.clone()))
        explained_classes = explained.of_classes(target)
        generators = [_generator(image, self.seed) for image in x]
        total = torch.zeros_like(full_precision(values))
        for _ in range(self.copies):
            noisy = torch.stack(
                [self._noisy(image, generator) for image, generator in zip(x, generators, strict=True)]
            )
            total += differentiate(model, noisy, explained_classes, layer).gradient
        mean = total / self.copies
        return Explanation(mean * full_precision(values) if self.times_values else mean, score, target)

    def _noisy(self, image: Tensor, generator: torch.Generator) -> Tensor:
        # Drawn on the CPU, so that it is the same on every device.
        noise = torch.randn(image.shape, generator=generator, dtype=torch.float32).to(image)
        return image + self.noise * (image.max() - image.min()) * noise


@dataclass(frozen=True)
class GradCam(Method):
    """Grad-CAM (Selvaraju et al. 2017): activation x the channel's gradient averaged over positions.

    Relevance keeps its channels and its sign; the paper's map is ``maps().clamp(min=0)``.

    captum's LayerGradCam takes dimension 1 for the channels and the others for positions, which is right
    for channels-first maps only: on tokens it averages over channels, on channels-last maps over rows, and
    prefix tokens (class, distillation, register) count as positions. Here they have no part: they are not
    averaged over, and their relevance is zero.
    """

    takes_input: ClassVar[bool] = False

    def explain(self, model: nn.Module, x: Tensor, explained: Explained, layer: Layer | None) -> Explanation:
        """See `Method`."""
        assert layer is not None
        slope = differentiate(model, x, explained, layer)
        weights = layer.channels_first(slope.gradient)
        weights = weights.flatten(2).mean(2) if weights.dim() > 2 else weights
        ones = [1] * (slope.values.dim() - 2)
        last = channel_axis(layer.layout) == -1
        weights = weights.view(len(x), *ones, -1) if last else weights.view(len(x), -1, *ones)
        relevance = weights * slope.values
        if layer.prefix_tokens:
            relevance[:, layer.tokens_without_position] = 0
        return Explanation(relevance, slope.score, slope.target)


def _generator(image: Tensor, seed: int) -> torch.Generator:
    """A generator that depends on the seed and the image, and not on its place in a batch."""
    content = image.detach().cpu().double().contiguous().numpy().tobytes()
    digest = hashlib.sha256(f"{seed}:".encode() + content).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _require_positive(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; it is a whole number from 1 upwards")
