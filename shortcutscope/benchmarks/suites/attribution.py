"""Is relevance right on the architectures of the field, and does it say so where it is not? Its cost?

Two groups of cases. *Rightness*: every architecture, with random and with briefly trained weights, explained
by LRP under several composites, and by zennit and captum as their users would.

- ``conservation_error``: sum over samples of |R - score| / sum of |score|, in float64 with biases zeroed, the
  largest over the input (``conservation_error_input``) and all ``cuts``, the blocks through which all of the
  score passes. References: the input.
- ``absorbed``: with real biases, the share of the score that named operations absorbed (the signed sum over
  operations); ``worst_operation`` absorbed most; ``remainder``: what no named operation explains. References:
  all that did not arrive, which they cannot attribute.
- ``forward_error``: of the logits, in float64, relative to the largest.
- ``outcome``: what a user of `attribute` gets in float32: ``ok``, ``fallback`` (gradient x input, with the
  ``reason``) or ``refused``. captum has no checks: ``unchecked`` where it returned anything.
- ``right``: finite, and conserved within the bar. ``unsaid``: not right, given out as a result, and the loss
  is not accounted for by named constants that are no biases (``absorbed_without_biases``).

*Cost*: the scan of all layers under LRP's rules on resnet18, resnet50, vgg16 and a vision transformer, as
in the suite ``scan``: CPU time on one thread, calls alternated, median over the rounds of the ratio
to one forward pass and gradient (``cost_fb``); zennit's forward and backward pass, which yields the relevance
of the input alone, to the scan (``zennit_to_scan``); what the forward pass keeps for the backward pass
(``saved_memory``) and the peak of the whole process (``peak_memory``), relative to those of the plain ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from shortcutscope.benchmarks.architectures import ARCHITECTURES, prepare
from shortcutscope.benchmarks.attributions.conservation import conserved
from shortcutscope.benchmarks.attributions.propagation_costs import propagation_costs
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.types import Record

METHODS = ("lrp", "lrp:epsilon_gamma", "zennit:epsilon_plus", "captum:lrp")
ATTENTION_METHOD = "lrp:attn"
QUICK = ("resnet18", "mobilenet_v2", "timm resnet18", "timm vit_tiny", "resnet1d", "hand-written")
QUICK_METHODS = ("lrp", "lrp:epsilon_gamma", "zennit:epsilon_plus", "captum:lrp")

#: Model, image size, batch.
COSTS = (("resnet18", 64, 16), ("resnet50", 224, 2), ("vgg16", 128, 2), ("timm vit_tiny", 224, 2))
COST_METHODS = ("lrp", "lrp:epsilon_gamma", "lrp:gamma")

#: Rightness: upper bounds. Attention and gamma have the looser one.
CONSERVATION_BAR = 1e-3
LOOSE_CONSERVATION_BAR = 1e-2
FORWARD_BAR = 1e-12
REMAINDER_BAR = 1e-8
#: Cost: upper bounds, but for zennit.
COST_BAR, COST_STRETCH, GAMMA_COST_BAR, ATTENTION_COST_BAR = 1.8, 1.5, 3.0, 1.5
MEMORY_BAR = 1.2
ZENNIT_BAR = 2.0


def cases(settings: Settings) -> list[Case]:
    """Every architecture x weights x method, then the costs."""
    names = QUICK if settings.quick else tuple(ARCHITECTURES)
    methods = QUICK_METHODS if settings.quick else (*METHODS, ATTENTION_METHOD)
    # By method first, so that processes beside each other do not train the same network.
    result: list[Case] = [
        {"group": "rightness", "model": name, "weights": weights, "method": method}
        for method in methods
        for name in names
        if method != ATTENTION_METHOD or ARCHITECTURES[name].attention
        for weights in (("random",) if settings.quick else ("random", "trained"))
    ]
    for name, size, batch in COSTS[:1] if settings.quick else COSTS:
        result += [
            {"group": "cost", "model": name, "weights": "random", "method": m, "input": size, "batch": batch}
            for m in COST_METHODS
        ]
    return result


def run_case(case: Case, settings: Settings) -> Case:
    """Measure one case."""
    if case["group"] == "cost":
        return propagation_costs(case, settings)
    network = prepare(case["model"], case["weights"], settings.seed, settings.cache)
    figures = conserved(network, case["method"])
    bar = _conservation_bar(case["model"], figures.get("composite"))
    error = figures["conservation_error"]
    right = bool(figures["finite"] and error is not None and error <= bar)
    unsaid = bool(figures["outcome"] in ("ok", "unchecked") and not (right or _named(figures, bar)))
    training = {"training_steps": network.steps, "accuracy": network.accuracy}
    return {**figures, "conservation_bar": bar, "right": right, "unsaid": unsaid, **training}


def _named(figures: Case, bar: float) -> bool:
    """Whether all that was lost without biases is accounted for by other constants, named by the audit."""
    error, constants = figures["conservation_error"], figures["absorbed_without_biases"]
    return bool(figures["finite"] and None not in (error, constants) and error - abs(constants) <= bar)


def _conservation_bar(model: str, composite: str | None) -> float:
    loose = ARCHITECTURES[model].attention or "gamma" in (composite or "") or composite == "attn"
    return LOOSE_CONSERVATION_BAR if loose else CONSERVATION_BAR


def summarize(finished: list[Case]) -> Record:
    """Figures of every method; every bar with the worst value, and whether it is met (None: not measured)."""
    rightness = [c for c in finished if c["group"] == "rightness"]
    costs = [c for c in finished if c["group"] == "cost"]
    lrp = [c for c in rightness if c["method"].startswith("lrp")]
    bars = {**_rightness_bars(lrp), **_cost_bars(costs)}
    met = [bar["met"] for bar in bars.values()]
    return {
        "methods": {
            method: _figures([c for c in rightness if c["method"] == method])
            for method in dict.fromkeys(c["method"] for c in rightness)
        },
        "bars": bars,
        "bars_met": False if False in met else None if None in met else True,
        "cost_stretch_met": _bar(_values(_default_costs(costs, attention=False), "cost_fb"), COST_STRETCH)[
            "met"
        ],
        "not_right": [
            {k: c[k] for k in ("model", "weights", "method", "conservation_error", "outcome", "reason")}
            for c in rightness
            if not c["right"]
        ],
    }


def _figures(members: list[Case]) -> Record:
    return {
        "cases": len(members),
        "right": sum(c["right"] for c in members),
        **{
            outcome: sum(c["outcome"] == outcome for c in members)
            for outcome in ("ok", "fallback", "refused", "unchecked")
        },
        "wrong_unsaid": sum(c["unsaid"] for c in members),
        "right_but_not_used": sum(c["outcome"] in ("fallback", "refused") and c["right"] for c in members),
        "worst_conservation_error": max(_values(members, "conservation_error"), default=None),
    }


def _rightness_bars(lrp: list[Case]) -> Record:
    default = [c for c in lrp if c["method"] == "lrp"]
    used = [c for c in lrp if c["outcome"] == "ok"]
    # AttnLRP's expansion of the softmax has a constant that keeps relevance: its figures stand by themselves.
    conserving = [c for c in used if c["composite"] != "attn" and c["conservation_error"] is not None]
    relative = [c["conservation_error"] / c["conservation_bar"] for c in conserving]
    return {
        "default composite right, share of models": _bar(
            [sum(c["right"] and c["outcome"] == "ok" for c in default) / len(default)] if default else [],
            1.0,
            below=False,
        ),
        "conservation error / its bar, where used": _bar(relative, 1.0),
        "wrong without saying so": _bar([_figures(lrp)["wrong_unsaid"]] if lrp else [], 0),
        "forward error": _bar(_values(lrp, "forward_error"), FORWARD_BAR),
        "remainder, where used": _bar(_values(used, "remainder"), REMAINDER_BAR),
        "NaN, where used": _bar([sum(not c["finite"] for c in used)] if used else [], 0),
    }


def _cost_bars(costs: list[Case]) -> Record:
    gamma = [c for c in costs if c["method"] == "lrp:gamma" and not ARCHITECTURES[c["model"]].attention]
    plain = _default_costs(costs, attention=False)
    return {
        "LRP scan / FB": _bar(_values(plain, "cost_fb"), COST_BAR),
        "LRP scan / FB, transformer": _bar(
            _values(_default_costs(costs, attention=True), "cost_fb"), ATTENTION_COST_BAR
        ),
        "LRP scan / FB, gamma": _bar(_values(gamma, "cost_fb"), GAMMA_COST_BAR),
        "zennit / LRP scan": _bar(_values(plain, "zennit_to_scan"), ZENNIT_BAR, below=False),
        "saved memory / FB": _bar(
            _values([c for c in costs if c["method"] == "lrp"], "saved_memory"), MEMORY_BAR
        ),
    }


def _default_costs(costs: list[Case], *, attention: bool) -> list[Case]:
    return [c for c in costs if c["method"] == "lrp" and ARCHITECTURES[c["model"]].attention == attention]


def _bar(values: Sequence[float], bar: float, *, below: bool = True) -> Record:
    """The worst value beside its bar."""
    if not values:
        return {"worst": None, "bar": bar, "met": None}
    worst = (max if below else min)(values)
    return {"worst": worst, "bar": bar, "met": worst <= bar if below else worst >= bar}


def _values(members: list[Case], key: str) -> list[float]:
    return [case[key] for case in members if case.get(key) is not None]


SUITE = Suite(
    name="attribution",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=(
        "model",
        "weights",
        "method",
        "composite",
        "conservation_error",
        "absorbed",
        "forward_error",
        "outcome",
        "right",
        "cost_fb",
        "zennit_to_scan",
        "saved_memory",
    ),
    serial=lambda case: case["group"] == "cost",
)
