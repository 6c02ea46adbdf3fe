"""What a relevance conserves on one model: measured for LRP by operation, for zennit's and for captum's."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shortcutscope.attribution.attribute import Attribution, attribute
from shortcutscope.attribution.hooks import visiting
from shortcutscope.attribution.lrp import (
    Composite,
    audit_defects,
    default_composite,
    get_composite,
    propagation,
)
from shortcutscope.attribution.slope import Explained
from shortcutscope.benchmarks.architectures import Prepared, zero_biases
from shortcutscope.benchmarks.runner import Case
from shortcutscope.errors import ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.scan.capture import capture_batch


def conserved(network: Prepared, method: str) -> Case:
    """What a method conserves, absorbs and says.

    Parameters
    ----------
    network
        Model and samples.
    method
        As for `attribute`, or ``"captum:lrp"``.

    Returns
    -------
    measured
        ``composite, outcome, reason, finite, conservation_error, conservation_error_input, cuts, worst_cut,
        absorbed, absorbed_without_biases, remainder, worst_operation, forward_error, failure``; see
        the suite ``attribution``. None where there is nothing to measure, ``failure`` says why.
    """
    if method == "captum:lrp":
        return _NOTHING | _captum(network)
    measure = _zennit if method.startswith("zennit:") else _lrp
    return _NOTHING | measure(network, method)


def _lrp(network: Prepared, method: str) -> Case:
    """LRP by operation."""
    model, x = network.model, network.x
    _, _, name = method.partition(":")
    composite = get_composite(name) if name else default_composite(model, x[:1])
    figures = {"composite": composite.name, **outcome_of(model, x, method)}
    exact, images = copy.deepcopy(model).double(), x.double()
    with frozen(exact), frozen(zero_biases(exact)) as bare:
        try:
            return {**figures, **_accounts(exact, images, composite), **_conserved(bare, images, composite)}
        except ModelError as error:
            # Refused, as `attribute` does: there is no relevance that could be measured.
            return {**figures, "finite": False, "failure": str(error)}


_NOTHING: Case = {
    "composite": None,
    "conservation_error": None,
    "conservation_error_input": None,
    "cuts": 0,
    "worst_cut": None,
    "absorbed": None,
    "absorbed_without_biases": None,
    "remainder": None,
    "worst_operation": None,
    "forward_error": None,
    "failure": None,
}


def outcome_of(model: nn.Module, x: Tensor, method: str) -> Case:
    """What a user gets, as `attribute` and its checks say: ``outcome``, ``reason``, ``finite``."""
    try:
        with _quiet():
            attribution = attribute(model, x, method=method)
    except ModelError as error:
        return {"outcome": "refused", "reason": str(error), "finite": False}
    finite = bool(torch.isfinite(attribution.relevance).all())
    return {
        "outcome": "fallback" if attribution.reason else "ok",
        "reason": attribution.reason,
        "finite": finite,
    }


def _accounts(model: nn.Module, x: Tensor, composite: Composite) -> Case:
    """Forward error, and where relevance goes with real biases."""
    with torch.no_grad():
        plain = find_logits(model(x.clone()))
    with torch.enable_grad(), propagation(composite):
        ruled = find_logits(model(x.clone().requires_grad_().view_as(x))).detach()
    target = plain.argmax(1)
    total = float(plain.gather(1, target[:, None]).abs().sum())
    defects = audit_defects(model, x, composite, target=target)
    worst = defects.table.iloc[0] if len(defects.table) else None
    return {
        "forward_error": float((ruled - plain).abs().max() / plain.abs().max()),
        "absorbed": (defects.score - defects.input_relevance - defects.remainder) / total,
        "remainder": abs(defects.remainder) / total,
        "worst_operation": None
        if worst is None
        else {
            "module": worst["module"],
            "operation": worst["operation"],
            "kind": worst["kind"],
            "absorbed": float(worst["absorbed"]) / total,
        },
    }


def _conserved(bare: nn.Module, x: Tensor, composite: Composite) -> Case:
    """What is conserved at the input and at every cut."""
    cuts = cut_layers(bare, x)
    attribution = attribute(bare, x, method="lrp", composite=composite, check=False)
    at_input = _conservation_error(attribution)
    pools = capture_batch(bare, x, cuts, Explained(attribution.target), composite=composite)
    at_cuts = {
        layer.name: error_of(pools.relevances[layer.name]["sum"].sum(1), attribution.score) for layer in cuts
    }
    constants = audit_defects(bare, x, composite, target=attribution.target).absorbed("bias", "constant")
    worst = max(at_cuts, key=lambda name: _rank(at_cuts[name]), default=None)
    return {
        "conservation_error": max([at_input, *at_cuts.values()], key=_rank),
        "conservation_error_input": at_input,
        "absorbed_without_biases": constants / float(attribution.score.abs().sum()),
        "cuts": len(cuts),
        "worst_cut": worst,
    }


def cut_layers(model: nn.Module, x: Tensor) -> tuple[Layer, ...]:
    """The blocks through which all of the score passes: detach one's output, and no gradient is left.

    Parameters
    ----------
    model
        Frozen.
    x
        A batch.
    """

    def alone(layer: Layer) -> bool:
        leaf = x.detach().clone().requires_grad_()
        with torch.enable_grad(), visiting(model, [layer], lambda _, values: values.detach()):
            return not find_logits(model(leaf.view_as(leaf))).requires_grad

    return tuple(layer for layer in find_layers(model, x) if alone(layer))


def error_of(relevance: Tensor, score: Tensor) -> float:
    """Summed |relevance - score| of the samples relative to their summed |score|."""
    return float((relevance - score).abs().sum() / score.abs().sum())


def _conservation_error(attribution: Attribution) -> float:
    return error_of(attribution.relevance.flatten(1).sum(1), attribution.score)


def _rank(error: float) -> float:
    """NaN is the worst of all."""
    return math.inf if math.isnan(error) else error


def _zennit(network: Prepared, method: str) -> Case:
    """Relevance of the input as zennit gives it, and what its checks here say of it."""
    model, x = network.model, network.x
    figures = {"composite": method.partition(":")[2], **outcome_of(model, x, method)}
    exact, images = copy.deepcopy(model).double(), x.double()
    try:
        with _quiet():
            bare, real = (
                attribute(m, images, method=method, check=False) for m in (zero_biases(exact), exact)
            )
    except ModelError as error:
        return {**figures, "finite": False, "failure": str(error)}
    failure = bare.reason or real.reason
    if failure is not None:
        return {**figures, "finite": False, "failure": failure}
    return {**figures, **_reference_figures(_sums(bare), bare.score, _sums(real), real.score)}


def _captum(network: Prepared) -> Case:
    """LRP as captum's documentation uses it; it has no checks, so whatever it returns is what one gets."""
    from captum.attr import LRP

    exact, x = copy.deepcopy(network.model).double(), network.x.double()
    sums, scores = [], []
    for model in (zero_biases(exact), exact):
        with torch.no_grad():
            logits = find_logits(model(x.clone()))
        target = logits.argmax(1)
        try:
            with _quiet():
                relevance = LRP(model).attribute(x.clone().requires_grad_(), target=target)
        except Exception as error:  # whatever it raises is what its user meets
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            return {"outcome": "refused", "reason": reason, "finite": False}
        sums.append(relevance.detach().flatten(1).sum(1))
        scores.append(logits.gather(1, target[:, None])[:, 0])
    figures = _reference_figures(sums[0], scores[0], sums[1], scores[1])
    return {"outcome": "unchecked", "reason": None, **figures}


def _reference_figures(bare: Tensor, bare_score: Tensor, real: Tensor, real_score: Tensor) -> Case:
    error = error_of(bare, bare_score)
    return {
        "finite": bool(torch.isfinite(real).all() and torch.isfinite(bare).all()),
        "conservation_error": error,
        "conservation_error_input": error,
        "absorbed": float((real_score - real).sum() / real_score.abs().sum()),
    }


def _sums(attribution: Attribution) -> Tensor:
    return attribution.relevance.flatten(1).sum(1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings, which say what the record says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
