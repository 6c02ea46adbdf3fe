"""Conditional relevance: of a score's relevance, what passes through chosen parts of the network.

Concept relevance propagation (CRP; Achtibat et al. 2023, Nature Machine Intelligence 5, 1006-1019) interrupts
the backward pass at a layer, keeps some of its channels, and goes on. Here the pass is taken in stages, from
the score to the uppermost condition, from there to the next one, and at last to the input. Each stage
computes only what lies between its ends, so all of them together cost one backward pass, and relevance that
goes around a condition, along a residual connection, is not mistaken for relevance that passes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from shortcutscope.attribution.hooks import Gradients, visiting
from shortcutscope.attribution.lrp.composites import Composite, get_composite
from shortcutscope.attribution.lrp.conditions import AttentionHead, Channels, Condition, Direction
from shortcutscope.attribution.lrp.interruption import Interrupted, Passage, wide
from shortcutscope.attribution.lrp.mode import default_composite
from shortcutscope.attribution.lrp.scope import ModuleScope
from shortcutscope.attribution.slope import Explained
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Output, require_logits
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.layers import Layer, LayerChoice, find_layers
from shortcutscope.models.layouts import channel_axis

__all__ = [
    "AttentionHead",
    "Channels",
    "Condition",
    "ConditionalRelevance",
    "Direction",
    "conditional_relevance",
]


@dataclass(frozen=True)
class ConditionalRelevance:
    """What passes through the conditions, and where it comes from.

    Attributes
    ----------
    input
        Relevance of the input (N, ...), at least float32.
    channels
        Layer name -> (N, C), relevance of each channel summed over all positions, prefix tokens included. Of
        layers above the conditions the relevance of the whole score, of those at or below them what passes.
        Zero for layers that neither lead to a condition nor to its outcome, as all above a `Direction`.
    maps
        Layer name -> (N, *grid), summed over the channels; empty unless asked for.
    start
        (N,) relevance that passes the lowermost condition, from which all below comes.
    kept
        (N,) share of the absolute relevance at the start that could be carried down: 1 but for a `Direction`
        with a reference, which see.
    target
        (N,) class explained; None for a `Direction`, whose score is its own.
    composite
        The rules.
    """

    input: Tensor
    channels: Mapping[str, Tensor]
    maps: Mapping[str, Tensor]
    start: Tensor
    kept: Tensor
    target: Tensor | None
    composite: Composite


def conditional_relevance(
    model: nn.Module,
    x: Tensor,
    condition: Condition | Sequence[Condition],
    layers: LayerChoice | Sequence[Layer] = "blocks",
    *,
    explained: Explained | None = None,
    composite: str | Composite | None = None,
    maps: bool = False,
) -> ConditionalRelevance:
    """Relevance of the input and of every layer's channels that passes through a condition.

    Parameters
    ----------
    model
        Any module; given back as it was.
    x
        A batch (N, ...).
    condition
        `Channels` or an `AttentionHead`, through which the score's relevance has to pass, or a `Direction`,
        with which it begins. Several have to be met one after the other, a `Direction` above all others.
    layers
        Whose relevance is wanted: what `find_layers` returned, or what it takes.
    explained
        Which score, by default that of the predicted class; without effect for a `Direction`.
    composite
        The rules; None for the network's default.
    maps
        Whether to keep the layers' maps.

    Raises
    ------
    InputError
        A condition names a layer, channel or head that the model does not have; two conditions at one
        place; no relevance gets from one condition to the next.
    ModelError
        A module named in a condition runs twice or never, or computes no attention, or several.
    """
    explained = explained or Explained()
    conditions = _distinct(model, condition)
    with frozen(model), torch.enable_grad():
        candidates = _find(model, x, layers, explained.output)
        concerned = _concerned(model, x, conditions, candidates, explained.output)
        rules = default_composite(model, x[:1]) if composite is None else get_composite(composite)
        leaf, recorder = x.detach().clone().requires_grad_(), _Recorder(maps)
        run = Interrupted(rules, [Passage(c, concerned.get(c.place)) for c in conditions])
        result = _forward(model, leaf, run, recorder, candidates, concerned)
        passages = run.passages_from_above()
        recorder.require_intact()
        classes = None
        if isinstance(passages[0].condition, Direction):
            descent = _Descent.at_direction(passages.pop(0), len(x), rules.epsilon, recorder)
        else:
            descent, classes = _from_score(result, explained)
        del result
        for passage in passages:
            descent.through(passage, recorder)
        relevance = run.input_relevance(leaf, descent.to_input(leaf))
    return ConditionalRelevance(
        wide(relevance.detach()),
        recorder.channels_of(candidates, x),
        {layer.name: recorder.map_of(layer, x) for layer in candidates} if maps else {},
        descent.total,
        descent.kept,
        classes,
        rules,
    )


def _forward(
    model: nn.Module,
    leaf: Tensor,
    run: Interrupted,
    recorder: _Recorder,
    candidates: Sequence[Layer],
    concerned: dict[str, Layer],
) -> object:
    """What the model returns, with the graph interrupted at the conditions and the layers followed."""
    followed = {layer.name: layer for layer in candidates}

    def visit(layer: Layer, values: Tensor) -> None:
        run.reach_layer(layer, values)
        if layer.name in followed:
            recorder.follow(layer, values)

    with ModuleScope(model) as run.scope, visiting(model, [*(followed | concerned).values()], visit), run:
        return model(leaf.clone())  # a copy, since a model may normalise its input in place


class _Recorder(Gradients):
    """Sums up every layer's relevance when its gradient arrives."""

    def __init__(self, keep_maps: bool) -> None:
        super().__init__(self._pool_relevance)
        self._keep_maps = keep_maps
        self._channels: dict[str, Tensor] = {}
        self._maps: dict[str, Tensor] = {}

    def record(self, layer: Layer, relevance: Tensor) -> None:
        """Take down a layer's relevance, given in its own layout."""
        axis = channel_axis(layer.layout) % relevance.dim()
        positions = [d for d in range(1, relevance.dim()) if d != axis]
        self._channels[layer.name] = relevance.sum(positions) if positions else relevance.clone()
        if self._keep_maps:
            self._maps[layer.name] = layer.channels_first(relevance).sum(1)

    def _pool_relevance(self, layer: Layer, values: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        self.record(layer, wide(values) * gradient)
        return {}

    def channels_of(self, layers: Sequence[Layer], x: Tensor) -> dict[str, Tensor]:
        """By layer, in the order given; zero where nothing arrived."""
        unused = {layer.name: wide(x.new_zeros(len(x), layer.channels)) for layer in layers}
        return unused | {name: self._channels[name] for name in unused if name in self._channels}

    def map_of(self, layer: Layer, x: Tensor) -> Tensor:
        """A layer's map, zero where nothing arrived."""
        relevance = self._maps.get(layer.name)
        return wide(x.new_zeros(len(x), *layer.grid)) if relevance is None else relevance


@dataclass
class _Descent:
    """How far the relevance has come.

    Attributes
    ----------
    edges, gradients
        The tensors where it is, and theirs.
    total, kept
        See `ConditionalRelevance`.
    place
        For messages.
    """

    edges: list[GradientEdge]
    gradients: list[Tensor]
    total: Tensor
    kept: Tensor
    place: str

    @classmethod
    def at_score(cls, score: Tensor) -> _Descent:
        if not score.requires_grad:
            raise ModelError("the model's scores have no gradient with respect to its input")
        total = wide(score.detach())
        edge = get_gradient_edge(score)
        return cls([edge], [torch.ones_like(score)], total, torch.ones_like(total), "the score")

    @classmethod
    def at_direction(cls, passage: Passage, samples: int, epsilon: float, recorder: _Recorder) -> _Descent:
        direction, layer = passage.condition, passage.layer
        assert isinstance(direction, Direction)
        assert layer is not None
        # Above the layer nothing takes part, so a batch norm behind it is not folded.
        edge, values = passage.edges[0], passage.values[0]
        gradient, part = direction.start(layer, values, epsilon)
        relevance = wide(values) * gradient
        recorder.record(layer, relevance)
        return cls([edge], [gradient], relevance.flatten(1).sum(1), part, repr(direction.place))

    def through(self, passage: Passage, recorder: _Recorder) -> None:
        """Go down to a passage, leaving behind what it does not let through."""
        arrived = torch.autograd.grad(
            self.edges, passage.edges, self.gradients, retain_graph=True, allow_unused=True
        )
        place = repr(passage.condition.place)
        if all(gradient is None for gradient in arrived):
            raise InputError(
                f"no relevance gets from {self.place} to {place}; name a layer that {self.place} depends on"
            )
        samples = len(self.total)
        passing = passage.masked(arrived, samples)
        relevance = passage.relevance(passing)
        if passage.layer is not None:
            recorder.record(passage.layer, relevance)
        self.total = relevance.reshape(samples, -1).sum(1)
        pairs = [(e, g) for e, g in zip(passage.edges, passing, strict=True) if g is not None]
        self.edges, self.gradients = [e for e, _ in pairs], [g for _, g in pairs]
        self.place = place

    def to_input(self, leaf: Tensor) -> Tensor | None:
        """Go down to the input; gives its gradient."""
        (gradient,) = torch.autograd.grad(self.edges, [leaf], self.gradients, allow_unused=True)
        return cast(Tensor | None, gradient)


def _from_score(result: object, explained: Explained) -> tuple[_Descent, Tensor]:
    """A descent from the explained score, and its class."""
    require_logits(explained.output)
    score, classes = explained.select(find_logits(result, explained.output))
    return _Descent.at_score(score), classes


def _distinct(model: nn.Module, condition: Condition | Sequence[Condition]) -> list[Condition]:
    """The conditions, each at a place of its own that the model has."""
    conditions = (
        [condition] if isinstance(condition, Channels | AttentionHead | Direction) else list(condition)
    )
    if not conditions:
        raise InputError(
            "no condition is given; allowed are Channels, AttentionHead and Direction, one or several"
        )
    modules = dict(model.named_modules(remove_duplicate=False))
    for condition in conditions:
        if condition.place not in modules:
            raise InputError(
                f"the model has no layer {condition.place!r}; `find_layers(model, batch)` lists them"
            )
    places = [condition.place for condition in conditions]
    twice = sorted({place for place in places if places.count(place) > 1})
    if twice:
        raise InputError(f"there are two conditions at {twice[0]!r}; put them into one")
    return conditions


def _find(
    model: nn.Module, x: Tensor, layers: LayerChoice | Sequence[Layer], output: Output
) -> tuple[Layer, ...]:
    if not isinstance(layers, str) and not callable(layers):
        ready = [layer for layer in layers if isinstance(layer, Layer)]
        if len(ready) == len(layers):
            return tuple(ready)
    return find_layers(model, x, cast(LayerChoice, layers), output=output)


def _concerned(
    model: nn.Module,
    x: Tensor,
    conditions: Sequence[Condition],
    candidates: Sequence[Layer],
    output: Output,
) -> dict[str, Layer]:
    """The layers under a condition, by name."""
    by_name = {layer.name: layer for layer in candidates}
    layers = {}
    for condition in conditions:
        if isinstance(condition, AttentionHead):
            continue
        name = condition.layer
        layer = by_name[name] if name in by_name else find_layers(model, x, [name], output=output)[0]
        condition.check(layer)
        layers[layer.name] = layer
    return layers
