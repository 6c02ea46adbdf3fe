"""Where a backward pass is interrupted: the tensors under a condition, taken down while the network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from shortcutscope.attribution.lrp import provenance
from shortcutscope.attribution.lrp.composites import Composite
from shortcutscope.attribution.lrp.conditions import AttentionHead, Channels, Condition, Direction
from shortcutscope.attribution.lrp.functions import Affine
from shortcutscope.attribution.lrp.mode import Propagation
from shortcutscope.attribution.lrp.scope import ModuleScope
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.layers import Layer
from shortcutscope.types import Arguments, Operation, Record


@dataclass(eq=False)
class Passage:
    """The tensors at which the backward pass is interrupted for a condition.

    There are two where a batch norm is folded into the convolution under condition: relevance that comes
    through the batch norm passes at its output, channel by channel the same, the rest at the convolution's.
    """

    condition: Condition
    layer: Layer | None
    tensor: Tensor | None = None  # while the network runs
    edges: list[GradientEdge] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    folded: Affine | None = None

    def reach(self, tensor: Tensor) -> None:
        """The network has got there."""
        if not tensor.requires_grad:
            raise ModelError(
                f"{self.condition.place!r} has no gradient with respect to the model's input: the model runs "
                "under no_grad, detaches its features or rounds them"
            )
        self.tensor = tensor
        self._add(tensor)

    def fold(self, output: Tensor, call: Affine) -> None:
        """A batch norm behind it, with this output, has been folded into its call."""
        self.folded = call
        self._add(output)

    def _add(self, tensor: Tensor) -> None:
        self.edges.append(get_gradient_edge(tensor))
        self.values.append(tensor.detach().clone())  # the model may overwrite it

    def masked(self, arrived: Sequence[Tensor | None], samples: int) -> list[Tensor | None]:
        """What passes, of the gradients that arrived at the tensors."""
        gradients = list(arrived)
        if self.folded is not None and self.folded.tapped is not None:
            # Shown to observers of the convolution, but counted at the batch norm already.
            gradients[0] = None if gradients[0] is None else gradients[0] - self.folded.tapped
            self.folded.tapped = None
        return [None if g is None else self._mask(g, samples) for g in gradients]

    def _mask(self, gradient: Tensor, samples: int) -> Tensor:
        if isinstance(self.condition, AttentionHead):
            return self.condition.masked(gradient, samples)
        assert isinstance(self.condition, Channels)
        assert self.layer is not None
        return self.condition.masked(self.layer, gradient)

    def relevance(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Of the tensors together."""
        parts = [wide(v) * g for v, g in zip(self.values, gradients, strict=True) if g is not None]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


class Interrupted(Propagation):
    """Takes down the passages when the network gets there."""

    scope: ModuleScope

    def __init__(self, composite: Composite, passages: Sequence[Passage]) -> None:
        super().__init__(composite)
        self._passages = passages
        self._reached: list[Passage] = []
        self.on_attention = self._reach_attention

    def reach_layer(self, layer: Layer, values: Tensor) -> None:
        """To be called with every layer's output."""
        for passage in self._passages:
            if passage.layer is not None and passage.layer.name == layer.name:
                self._reach(passage, values)

    def _reach_attention(self, values: Tensor) -> None:
        for passage in self._passages:
            if (
                isinstance(passage.condition, AttentionHead)
                and passage.condition.module in self.scope.running
            ):
                if passage in self._reached:
                    raise ModelError(
                        f"{passage.condition.module!r} computes several attentions; name the module "
                        "within it that computes the one"
                    )
                self._reach(passage, values)

    def _reach(self, passage: Passage, values: Tensor) -> None:
        passage.reach(values)
        self._reached.append(passage)

    def operate(self, name: str, func: Operation, args: Arguments, kwargs: Record) -> Any:
        """See `Propagation.operate`."""
        before = None
        if name == "batch_norm" and isinstance(args[0], Tensor) and args[0].requires_grad:
            before = cast(Affine | None, provenance.call_behind(args[0]))
        result = super().operate(name, func, args, kwargs)
        if before is not None and before.scale is None:
            for passage in self._reached:
                if passage.tensor is args[0]:
                    passage.fold(result, before)
        return result

    def passages_from_above(self) -> list[Passage]:
        """In the order in which a backward pass meets them, once the network has run."""
        missed = [p.condition.place for p in self._passages if p not in self._reached]
        if missed:
            raise ModelError(
                f"{missed[0]!r} computes no attention; name the attention's module, such as 'blocks.0.attn'"
            )
        for passage in self._reached:
            passage.tensor = None
        passages = self._reached[::-1]
        late = [p.condition.place for p in passages[1:] if isinstance(p.condition, Direction)]
        if late:
            raise InputError(
                f"{passages[0].condition.place!r} lies above the direction in {late[0]!r}, where relevance "
                "begins; take conditions below it"
            )
        return passages


def wide(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
