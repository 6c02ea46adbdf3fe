"""Hooks that see every layer's output, and every gradient when it arrives, and leave no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.layers import Layer

Visit = Callable[[Layer, Tensor], Tensor | None]
Pool = Callable[[Layer, Tensor, Tensor], dict[str, Tensor]]


@contextmanager
def visiting(model: nn.Module, layers: Sequence[Layer], visit: Visit) -> Iterator[None]:
    """Call `visit` with every layer's output, and put what it returns (if anything) in its place.

    Raises
    ------
    InputError
        The model has no such layer, or a layer is named twice.
    ModelError
        A layer runs twice in a forward pass, or not at all.
    """
    waiting = {layer.name for layer in layers}
    if len(waiting) != len(layers):
        raise InputError("a layer is named twice; name each layer once")

    def hook_for(layer: Layer) -> Callable[[nn.Module, object, object], object]:
        def hook(module: nn.Module, inputs: object, result: object) -> object:
            if layer.name not in waiting:
                raise ModelError(
                    f"layer {layer.name!r} runs more than once in a forward pass, so it has no one output; "
                    "name the layers around it, or give each use a module of its own"
                )
            waiting.remove(layer.name)
            replaced = visit(layer, layer.pick(result))
            return None if replaced is None else layer.replace(result, replaced)

        return hook

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(_module(model, layer.name).register_forward_hook(hook_for(layer)))
        yield
    if waiting:
        raise ModelError(
            f"layer {min(waiting)!r} did not run in the forward pass; if the model is compiled, give the "
            "original module (model._orig_mod), else leave the layer out"
        )


def _module(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise InputError(
            f"the model has no layer {name!r}; `find_layers(model, batch)` lists them"
        ) from error


@contextmanager
def parameters_without_gradient(model: nn.Module) -> Iterator[None]:
    """For models that are not lent out by `frozen`: else the graph would start at the first weight."""
    required = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in required:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in required:
            parameter.requires_grad_(True)


class _Root(torch.autograd.Function):
    """Starts a graph at a tensor that needs none so far.

    A leaf would do, were it not that the next operation may work in place, which a leaf forbids. The
    tensor counts as overwritten by this function instead, so it is no leaf and no copy is made.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, anchor: Tensor) -> Tensor:
        ctx.mark_dirty(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0].new_zeros(())


class Gradients:
    """Follows layers' outputs through the graph and pools each one's gradient when it arrives.

    Parameters
    ----------
    pool
        Takes the layer, its output and the gradient, both in the layer's own layout.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._anchors: list[Tensor] = []
        self._kept: dict[str, tuple[Layer, Tensor, int]] = {}
        self._pooled: dict[str, dict[str, Tensor]] = {}
        self._last = False

    def follow(self, layer: Layer, values: Tensor) -> Tensor | None:
        """Watch the gradient of `values`; returns what the model has to go on with, if that is new."""
        rooted = None
        if not values.requires_grad:
            anchor = torch.zeros((), device=values.device, requires_grad=True)
            self._anchors.append(anchor)
            rooted = values = _Root.apply(values.detach(), anchor)
        stored = values.detach()
        stored = stored.clone() if layer.overwritten else stored
        self._kept[layer.name] = (layer, stored, stored._version)
        values.register_hook(lambda gradient: self._arrive(layer.name, gradient))  # type: ignore[no-untyped-call]
        return rooted

    def pool(self, score: Tensor, last: bool) -> dict[str, dict[str, Tensor]]:
        """One backward pass from the scores (N,); the `last` one frees the graph."""
        if not score.requires_grad:
            raise ModelError(
                "the model's scores have no gradient with respect to its layers: it runs under no_grad, "
                "detaches its features or rounds them; scan it with relevance=False"
            )
        self.require_intact()
        self._pooled, self._last = {}, last
        torch.autograd.grad(score.sum(), self._anchors, retain_graph=not last, allow_unused=True)
        self._kept = {} if last else self._kept
        return self._pooled

    def require_intact(self) -> None:
        """Raise `ModelError` if an output that is followed was overwritten unannounced."""
        for layer, stored, version in self._kept.values():
            if stored._version != version:
                raise ModelError(
                    f"the output of layer {layer.name!r} is overwritten in place by a later operation, and "
                    "its Layer does not say so; find the layers again with find_layers on this very model, "
                    "or set Layer.overwritten"
                )

    def _arrive(self, name: str, gradient: Tensor) -> None:
        # The last backward pass lets go of each activation when it is done with it.
        layer, stored, _ = self._kept.pop(name) if self._last else self._kept[name]
        with torch.no_grad():
            self._pooled[name] = self._pool(layer, stored, gradient)
