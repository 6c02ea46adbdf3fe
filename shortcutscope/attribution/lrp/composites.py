"""Which rule for which operation: composites under zennit's names, and the choice for a network."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from shortcutscope.attribution.lrp.rules import AlphaBeta, Epsilon, FirstRule, Flat, Gamma, Rule, ZBox, ZPlus
from shortcutscope.errors import InputError


@dataclass(frozen=True)
class Composite:
    """Rules for the operations of a network.

    Attributes
    ----------
    name
        For the record.
    convolution, linear
        Rules of convolutions and of linear layers.
    first
        Rule of the map that reads the image, for relevance at the input; None treats it as any other.
    attention
        ``"cp"``: attention weights are constants (CP-LRP, Ali et al. 2022); ``"attn"``: relevance goes
        through the softmax as well (AttnLRP, Achtibat et al. 2024).
    epsilon
        Stabiliser of the rules, relative to a sample's mean absolute denominator.
    """

    name: str
    convolution: Rule = field(default_factory=Epsilon)
    linear: Rule = field(default_factory=Epsilon)
    first: FirstRule | None = None
    attention: Literal["cp", "attn"] = "cp"
    epsilon: float = 1e-6


#: Linear layers of ``gamma`` have the smaller value that AttnLRP found best for vision transformers.
COMPOSITES: Mapping[str, Composite] = MappingProxyType(
    {
        composite.name: composite
        for composite in (
            Composite("epsilon"),
            Composite("epsilon_plus", ZPlus()),
            Composite("epsilon_plus_flat", ZPlus(), first=Flat()),
            Composite("epsilon_gamma", Gamma(0.25)),
            Composite("epsilon_gamma_box", Gamma(0.25), first=ZBox()),
            Composite("gamma", Gamma(0.25), Gamma(0.05)),
            Composite("epsilon_alpha2_beta1", AlphaBeta(2, 1)),
            Composite("epsilon_alpha2_beta1_flat", AlphaBeta(2, 1), first=Flat()),
            Composite("attn", Gamma(0.25), attention="attn"),
        )
    }
)

#: Operations whose outputs the next layer sees are never negative.
RECTIFIERS = frozenset({"relu", "threshold"})
#: Operations with outputs of both signs, on which z+ does not conserve.
SIGNED = frozenset(
    {"gelu", "silu", "mish", "hardswish", "elu", "selu", "celu", "leaky_relu", "prelu", "rrelu", "tanh"}
    | {"softplus", "scaled_dot_product_attention", "multi_head_attention_forward", "layer_norm", "group_norm"}
)


def get_composite(name: str | Composite) -> Composite:
    """The composite of that name, or the one given.

    Parameters
    ----------
    name
        A key of `COMPOSITES`; other settings with ``dataclasses.replace``.

    Raises
    ------
    InputError
        Unknown name.
    """
    if isinstance(name, Composite):
        return name
    if name not in COMPOSITES:
        raise InputError(f"composite {name!r} is unknown; allowed are {', '.join(COMPOSITES)}")
    return COMPOSITES[name]


def composite_for(operations: Collection[str]) -> Composite:
    """The default for a network that consists of these operations.

    z+ is conservative and robust where inputs are never negative, which is what a network of ReLUs gives;
    for depthwise convolutions of signed inputs it is not conservative at all, and gamma is.
    """
    plain = RECTIFIERS & set(operations) and not SIGNED & set(operations)
    return COMPOSITES["epsilon_plus" if plain else "epsilon_gamma"]
