"""zennit's composites (Anders et al. 2021) by name, for comparison with papers that used them.

zennit gives rules to modules by their class, so it knows no inline sums, functional activations or attention,
and says nothing where it meets them. Its composites therefore run here behind checks: the canonized copy
computes what the model computes, relevance is conserved once biases are zero, and nothing is NaN.

Under zennit the *gradient* that arrives at a module's output is that output's relevance (in
`shortcutscope.attribution.lrp` it is gradient x activation). The backward pass therefore starts with the
explained score itself. zennit modifies modules while it runs, so it is only ever given a copy of the model.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from shortcutscope.attribution.gradient import Explanation, Method, MethodCheck
from shortcutscope.attribution.hooks import visiting
from shortcutscope.attribution.slope import Explained, require_gradient
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.copying import copied
from shortcutscope.models.layers import Layer
from shortcutscope.types import Record

#: Difference of the copy's scores to the model's, relative to the largest score: 1000 roundings.
FORWARD_TOLERANCE = 1e3
#: Input relevance / score may be this far from one once biases are zero.
CONSERVATION_TOLERANCE = 0.05


@cache
def reference_composites() -> Mapping[str, type[Any]]:
    """The registered composites of zennit that propagate relevance.

    Those that modify gradients (deconvnet, guided backpropagation, smoothed ReLUs) conserve nothing that
    could be checked; they are told apart by having no denominators to stabilise.
    """
    from zennit.composites import COMPOSITES

    return {
        name: composite
        for name, composite in sorted(COMPOSITES.items())
        if "stabilizer" in inspect.signature(composite).parameters
    }


@dataclass(frozen=True)
class ZennitReference(Method):
    """LRP by one of zennit's composites.

    Attributes
    ----------
    composite
        A key of `reference_composites`.
    epsilon, stabilizer, gamma
        Of the rules, absolute; None for zennit's own defaults.
    low, high
        Range of the model's input for the box rule; None for each channel's own range
        in each image, as in `shortcutscope.attribution.lrp`.
    """

    composite: str
    epsilon: float | None = None
    stabilizer: float | None = None
    gamma: float | None = None
    low: float | None = None
    high: float | None = None
    dispensable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        composites = reference_composites()
        if self.composite not in composites:
            raise InputError(
                f"zennit has no relevance composite {self.composite!r}; allowed are {', '.join(composites)}"
            )
        takes = inspect.signature(composites[self.composite]).parameters
        for option in ("epsilon", "stabilizer", "gamma", "low", "high"):
            if getattr(self, option) is not None and option not in takes:
                raise InputError(f"zennit's composite {self.composite!r} takes no {option}")

    def explain(self, model: nn.Module, x: Tensor, explained: Explained, layer: Layer | None) -> Explanation:
        """See `Method`.

        Raises
        ------
        ModelError
            zennit fails on the model.
        """
        with self._applied(model, x) as canonized:
            return _propagate(canonized, x, explained, layer)

    def examine(self, model: nn.Module, x: Tensor, explained: Explained) -> MethodCheck:
        """See `Method`."""
        with torch.no_grad():
            expected = explained.logits(model(x.clone()))
        try:
            with self._applied(model, x) as canonized:
                with torch.no_grad():
                    logits = explained.logits(canonized(x.clone()))
                error = float((logits - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
                real = _propagate(canonized, x, explained, None)
            with self._conserving()._applied(model, x, without_biases=True) as canonized:
                conserving = _propagate(canonized, x, explained, None)
        except ModelError as refused:
            return MethodCheck((str(refused),))
        if not (torch.isfinite(real.relevance).all() and torch.isfinite(conserving.relevance).all()):
            return MethodCheck(("relevance is NaN or infinite",))
        reasons = []
        if error > FORWARD_TOLERANCE * torch.finfo(expected.dtype).eps:
            reasons.append(f"the canonized model's scores differ from the model's by {error:.1e}")
        sums = conserving.relevance.flatten(1).sum(1)
        conservation = float(sums.abs().sum() / conserving.score.abs().sum().clamp_min(1e-30))
        wrong = (sums - conserving.score).abs().sum() / conserving.score.abs().sum().clamp_min(1e-30)
        if wrong > CONSERVATION_TOLERANCE:
            reasons.append(
                f"input relevance is {conservation:.3g} times the score once biases are zero, where it "
                "should be 1: some operations of this network have no rule in zennit, or its absolute "
                "stabilizer is large beside the activations (options stabilizer, epsilon)"
            )
        return MethodCheck(tuple(reasons))

    def _conserving(self) -> ZennitReference:
        """The composite that must conserve relevance exactly where zennit knows all of the network.

        A bias keeps relevance, rightly, so the network is checked without its biases. The alpha-beta rule
        gives more than it got where a neuron has no negative contributions, so z+ stands in for it.
        """
        if "alpha2_beta1" not in self.composite:
            return self
        return ZennitReference(self.composite.replace("alpha2_beta1", "plus"))

    @contextmanager
    def _applied(self, model: nn.Module, x: Tensor, without_biases: bool = False) -> Iterator[nn.Module]:
        """A copy of the model with canonizers and rules on it."""
        from zennit.canonizers import CompositeCanonizer, SequentialMergeBatchNorm
        from zennit.torchvision import ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer

        # The ResNet canonizers match torchvision's classes and leave every other module alone.
        canonizers = [SequentialMergeBatchNorm(), ResNetBottleneckCanonizer(), ResNetBasicBlockCanonizer()]
        composite = reference_composites()[self.composite](
            canonizers=[CompositeCanonizer(canonizers)], **self._settings(x)
        )
        try:
            canonized = _twin(model)
            composite.register(canonized)
        except Exception as error:
            raise ModelError(f"zennit cannot prepare the model: {type(error).__name__}: {error}") from error
        for handle in composite.handles:
            # zennit reduces a merged batch norm to the identity but leaves its eps, by which scores differ
            # from the model's (up to 1.6e-4 on torchvision's networks, in any precision).
            norm = getattr(handle, "batch_norm", None)
            if norm is not None:
                norm.eps = 0.0
        if without_biases:
            _zero_biases(canonized)
        try:
            yield canonized
        except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            if isinstance(error, ModelError | InputError):
                raise
            raise ModelError(f"zennit fails on the model: {type(error).__name__}: {error}") from error
        finally:
            composite.remove()

    def _settings(self, x: Tensor) -> Record:
        names = ("epsilon", "stabilizer", "gamma", "low", "high")
        settings = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        takes = inspect.signature(reference_composites()[self.composite]).parameters
        if "low" in takes:
            # Of each image by itself: its relevance must not depend on what else is in the batch.
            dims = tuple(range(2, x.dim()))
            limits = {"low": x.amin(dims, keepdim=True), "high": x.amax(dims, keepdim=True)}
            settings = limits | settings
        return settings


def _twin(model: nn.Module) -> nn.Module:
    """A copy with parameters and buffers of its own that share the model's memory.

    zennit replaces their data and never writes into it, so nothing large need be copied.
    """
    shared: dict[int, object] = {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in model.parameters()}
    shared |= {id(b): b.detach() for b in model.buffers()}
    return copied(model, shared)


def _zero_biases(model: nn.Module) -> None:
    """Set the biases that a canonized copy works with to zero, never in place: the memory is the model's."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and name.endswith("bias"):
                parameter.data = torch.zeros_like(parameter)
        for name, value in vars(module).items():
            # zennit 1.0 keeps a merged bias as a plain attribute, which hides the parameter of its name.
            if isinstance(value, Tensor) and name.endswith("bias"):
                object.__setattr__(module, name, torch.zeros_like(value))


def _propagate(model: nn.Module, x: Tensor, explained: Explained, layer: Layer | None) -> Explanation:
    """Relevance at the input or at a layer of a model that has zennit's rules on it."""
    arrived: list[Tensor] = []

    def follow(layer: Layer, values: Tensor) -> None:
        values.register_hook(lambda gradient: arrived.append(gradient.clone()))  # type: ignore[no-untyped-call]

    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        with visiting(model, [] if layer is None else [layer], follow):
            # Always from the input: zennit hooks a module's output only where it has a graph already.
            logits = explained.logits(model(leaf.clone()))
        score, target = explained.select(logits)
        require_gradient(score)
        # Under a single score z, class 0 is explained by -z, which then is the relevance of z.
        (direction,) = torch.autograd.grad(score.sum(), logits, retain_graph=True)
        start = (logits.detach() * direction * logits).sum(1)
        (at_input,) = torch.autograd.grad(start.sum(), leaf)
    if layer is not None and not arrived:
        require_gradient(score.detach(), layer)
    relevance = at_input if layer is None else arrived[0]
    full = torch.promote_types(relevance.dtype, torch.float32)
    return Explanation(relevance.to(full), score.detach(), target)
