"""LRP by operation as an attribution method: relevance of the input or of a layer from one backward pass."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from shortcutscope.attribution.gradient import Explanation, Method, MethodCheck
from shortcutscope.attribution.lrp import Composite, Propagation, default_composite, get_composite
from shortcutscope.attribution.slope import Explained, differentiate
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer


@dataclass(frozen=True)
class Lrp(Method):
    """Layer-wise relevance propagation (Bach et al. 2015) with rules by operation.

    Attributes
    ----------
    composite
        A name of `shortcutscope.attribution.lrp.COMPOSITES`, a `Composite`, or None for the one that the
        network's operations ask for.
    attention, epsilon
        In place of the composite's own, see `Composite`.
    """

    composite: str | Composite | None = None
    attention: Literal["cp", "attn"] | None = None
    epsilon: float | None = None
    dispensable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.composite is not None:
            get_composite(self.composite)
        if self.attention not in (None, "cp", "attn"):
            raise InputError(f"attention is {self.attention!r}; allowed are 'cp' and 'attn'")

    def resolved(self, model: nn.Module, x: Tensor) -> Lrp:
        """The same with its composite chosen for the model; `x` is one image."""
        return dataclasses.replace(self, composite=self._composite(model, x), attention=None, epsilon=None)

    @property
    def name(self) -> str:
        """As in ``method="lrp:<composite>"``."""
        composite = self.composite
        if composite is None:
            return "lrp"
        return f"lrp:{composite.name if isinstance(composite, Composite) else composite}"

    def explain(self, model: nn.Module, x: Tensor, explained: Explained, layer: Layer | None) -> Explanation:
        """See `Method`."""
        composite = self._composite(model, x[:1])
        if layer is not None:
            # The rule of the first layer is for the input alone; the graph starts at the layer here, so
            # whatever follows it would be taken for the first.
            composite = dataclasses.replace(composite, first=None)
        run = Propagation(composite)
        slope = differentiate(model, x, explained, layer, forward=run)
        relevance = run.input_relevance(slope.values, slope.gradient) if layer is None else slope.relevance
        return Explanation(relevance, slope.score, slope.target)

    def examine(self, model: nn.Module, x: Tensor, explained: Explained) -> MethodCheck:
        """See `Method`."""
        from shortcutscope.attribution.checks import check_lrp

        checks = check_lrp(model, x, self._composite(model, x[:1]), explained)
        return MethodCheck(() if checks.passed else checks.reasons, checks)

    def _composite(self, model: nn.Module, x: Tensor) -> Composite:
        composite = default_composite(model, x) if self.composite is None else get_composite(self.composite)
        return dataclasses.replace(
            composite,
            attention=composite.attention if self.attention is None else self.attention,
            epsilon=composite.epsilon if self.epsilon is None else self.epsilon,
        )
