"""The slope of a model's score at the input or at one layer, by one forward and one backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from shortcutscope.attribution.hooks import Gradients, visiting
from shortcutscope.errors import ModelError
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import Target, find_logits, require_finite, select_target
from shortcutscope.models.layers import Layer


@dataclass(frozen=True)
class Explained:
    """Which score of a model is explained.

    Attributes
    ----------
    target, labels, task
        See `shortcutscope.models.heads.targets.select_target`.
    output
        Which part of the model's output holds the scores, see `find_logits`.
    """

    target: Target = "predicted"
    labels: Tensor | None = None
    task: str = "auto"
    output: Output = None

    def logits(self, result: object) -> Tensor:
        """All scores (N, K) in what the model returned, at least float32.

        Raises
        ------
        ModelError
            NaN or infinite scores.
        """
        logits = find_logits(result, self.output)
        require_finite(logits.detach())
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def scores(self, result: object) -> tuple[Tensor, Tensor]:
        """The explained score (N,) and its class (N,)."""
        return self.select(self.logits(result))

    def select(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The same from scores (N, K) that were found already."""
        return select_target(logits, self.target, self.labels, self.task)

    def of_classes(self, classes: Tensor) -> Explained:
        """The scores of given classes (N,), such as those that were predicted for the images as they are."""
        return replace(self, target=classes, labels=None)


@dataclass(frozen=True)
class Slope:
    """The explained score's derivative at the input or at a layer.

    Attributes
    ----------
    values, gradient
        The input (or the layer's output) and the derivative with respect to it, at least float32.
    score, target
        (N,) the explained score and its class.
    """

    values: Tensor
    gradient: Tensor
    score: Tensor
    target: Tensor

    @property
    def relevance(self) -> Tensor:
        """Gradient x values."""
        return self.gradient * self.values


def differentiate(
    model: nn.Module,
    x: Tensor,
    explained: Explained,
    layer: Layer | None = None,
    forward: AbstractContextManager[object] | None = None,
) -> Slope:
    """One forward and one backward pass.

    Parameters
    ----------
    model
        In evaluation mode, its parameters without gradients.
    x
        A batch (N, ...).
    explained
        The score.
    layer
        Where; None for the input.
    forward
        Entered for the forward pass alone, such as a relevance propagation that swaps the backward of
        operations.

    Raises
    ------
    ModelError
        The model gives no gradient, or NaN or infinite scores.
    """
    forward = nullcontext() if forward is None else forward
    if layer is None:
        leaf = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            with forward:
                result = model(leaf.clone())  # a copy, since a model may normalise its input in place
            score, target = explained.scores(result)
        require_gradient(score)
        # None where a relevance rule of the first layer gives nothing to the gradient.
        (input_gradient,) = torch.autograd.grad(score.sum(), leaf, allow_unused=True)
        gradient = torch.zeros_like(leaf) if input_gradient is None else input_gradient
        return Slope(full_precision(leaf.detach()), full_precision(gradient), score.detach(), target)
    arrived: list[tuple[Tensor, Tensor]] = []

    def keep(layer: Layer, values: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        arrived.append((full_precision(values), full_precision(gradient)))
        return {}

    gradients = Gradients(keep)
    with torch.enable_grad():
        with visiting(model, [layer], gradients.follow), forward:
            result = model(x.detach().clone())
        score, target = explained.scores(result)
        require_gradient(score, layer)
        gradients.pool(score, last=True)
    return Slope(*arrived[0], score.detach(), target)


def require_gradient(score: Tensor, layer: Layer | None = None) -> None:
    """Refuse scores that are no differentiable function of where the graph starts.

    Raises
    ------
    ModelError
        Says what such models do.
    """
    if not score.requires_grad:
        start = "its input" if layer is None else f"the output of layer {layer.name!r}"
        raise ModelError(
            f"the model's scores have no gradient with respect to {start}: they do not depend on it, or the "
            "model runs under no_grad, detaches its features or rounds them; nothing can be attributed there"
        )


def layer_output(model: nn.Module, x: Tensor, layer: Layer) -> Tensor:
    """A layer's output, without a graph, safe from being overwritten."""
    outputs: list[Tensor] = []

    def visit(layer: Layer, values: Tensor) -> None:
        outputs.append(values.clone())

    with torch.no_grad(), visiting(model, [layer], visit):
        model(x.clone())
    return outputs[0]


def full_precision(values: Tensor) -> Tensor:
    """Half and brain floats as float32: sums over thousands of positions need the bits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
