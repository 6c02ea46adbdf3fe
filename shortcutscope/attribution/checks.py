"""Whether a relevance can be trusted on this very model: the checks that run on the first batch.

They ask no more than what every relevance by the rules has to keep. The network computes what it always
computes; nothing is NaN; and the score arrives at the input, but for what named biases and constants took.
What no operation accounts for bypassed the rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from shortcutscope.attribution.lrp import Composite, audit_defects, get_composite, propagation
from shortcutscope.attribution.lrp.audit import Defects
from shortcutscope.errors import ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.targets import Target, find_logits, select_target

#: Images of the batch that the checks run on: the audit keeps every intermediate tensor.
N_IMAGES = 3
COLUMNS = ("module", "operation", "kind", "absorbed")


@dataclass(frozen=True)
class Tolerance:
    """How much may be missing, relative to the scores.

    Attributes
    ----------
    forward
        Of the logits, relative to the largest one.
    rules
        Sum of what each operation absorbs by its rule, or by having none. Rules that conserve lose their
        stabiliser, 1e-6 of the mean denominator, which adds up to less than 1e-3 over the deepest networks;
        rules that do not conserve lose several percent in the first layer that they do not suit. The
        tolerance lies between.
    remainder
        What no operation accounts for: rounding.
    """

    forward: float = 1e-4
    rules: float = 0.02
    remainder: float = 1e-3

    @classmethod
    def of(cls, precision: torch.dtype) -> Tolerance:
        """The default for activations of this type."""
        if precision == torch.float64:
            return cls(forward=1e-10, remainder=1e-8)
        if precision in (torch.float16, torch.bfloat16):
            # A sum of a few hundred terms of either sign loses some ten times the precision.
            coarse = 10 * float(torch.finfo(precision).eps)
            return cls(forward=coarse, rules=max(0.02, coarse), remainder=coarse)
        return cls()


@dataclass(frozen=True)
class Checks:
    """What was found, relative to the explained scores.

    Attributes
    ----------
    method
        What was checked.
    forward_error
        Largest difference of the logits with the rules and without them, relative to the largest logit.
    finite
        No relevance is NaN or infinite.
    conservation
        Relevance of the input / score, over the samples; 1 where nothing was absorbed.
    absorbed_by_biases
        By biases and constants: sum over operations of |absorbed|.
    absorbed_by_rules
        By rules that do not conserve and operations that have none: sum over operations of |absorbed|.
    remainder
        |What no operation accounts for|.
    operations
        What each operation absorbed, the most first: ``module``, ``operation``, ``kind``, ``absorbed``
        (relative, with its sign).
    passed, reasons
        The verdict, and what failed, in words that say what to do.
    """

    method: str
    forward_error: float
    finite: bool
    conservation: float
    absorbed_by_biases: float
    absorbed_by_rules: float
    remainder: float
    operations: pd.DataFrame
    passed: bool
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For run.json: what is not a number is None; the ten operations that absorbed most."""
        worst = self.operations.head(10).to_dict("records")
        return {
            "method": self.method,
            "forward_error": _or_none(self.forward_error),
            "finite": self.finite,
            "conservation": _or_none(self.conservation),
            "absorbed_by_biases": _or_none(self.absorbed_by_biases),
            "absorbed_by_rules": _or_none(self.absorbed_by_rules),
            "remainder": _or_none(self.remainder),
            "operations": [{**row, "absorbed": _or_none(row["absorbed"])} for row in worst],
            "passed": self.passed,
            "reasons": list(self.reasons),
        }


def require_passed(checks: Checks) -> None:
    """Refuse a relevance that did not pass.

    Raises
    ------
    ModelError
        With the reasons.
    """
    if not checks.passed:
        raise ModelError(f"{checks.method} cannot be trusted on this model: {'; '.join(checks.reasons)}")


def check_lrp(
    model: nn.Module,
    x: Tensor,
    composite: str | Composite,
    *,
    target: Target = "predicted",
    labels: Tensor | None = None,
    task: str = "auto",
    output: str | int | None = None,
    autocast: torch.dtype | None = None,
    tolerance: Tolerance | None = None,
) -> Checks:
    """Check LRP by operation on a few images.

    Parameters
    ----------
    model
        Comes back unchanged, also after an exception.
    x
        A batch (N, ...), of which the first `N_IMAGES` are used.
    composite
        The rules.
    target, labels, task, output
        What is explained, see `shortcutscope.models.targets`.
    autocast
        Precision of the forward pass, as in the scan.
    tolerance
        By default `Tolerance.of` the precision of the logits.

    Returns
    -------
    checks
        Errors that the rules run into are failed checks, too.

    Raises
    ------
    InputError
        Unknown composite; a target that the model does not have.
    """
    composite = get_composite(composite)
    some = x[:N_IMAGES].detach()
    with frozen(model), _autocast(model, some.device.type, autocast):
        with torch.no_grad():
            logits = find_logits(model(some.clone()), output)
        # Errors in what the caller asked for surface here, before the rules come in.
        score, chosen = select_target(logits, *_first(target, labels), task)
        limits = tolerance or Tolerance.of(logits.dtype)
        method = f"lrp:{composite.name}"
        if not bool(torch.isfinite(logits).all()):
            return _failed(
                method, "the model returns NaN or infinite scores without any rule; check its weights"
            )
        try:
            run = _propagate(model, some, composite, chosen, task, output)
            defects = audit_defects(model, some, composite, target=chosen, task=task, output=output)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # anything that a network does under the rules is a finding about them
            return _failed(method, _in_words(error))
    return _judged(method, logits, score, run, defects, limits)


@dataclass(frozen=True)
class _Run:
    logits: Tensor
    relevance: Tensor


def _propagate(
    model: nn.Module, x: Tensor, composite: Composite, chosen: Tensor, task: str, output: str | int | None
) -> _Run:
    leaf = x.clone().requires_grad_()
    with torch.enable_grad():
        with propagation(composite) as run:
            result = model(leaf.view_as(leaf))
        assert run is not None
        logits = find_logits(result, output)
        score, _ = select_target(logits, chosen, None, task)
        if not score.requires_grad:
            raise ModelError("the model's scores have no gradient with respect to its input")
        (gradient,) = torch.autograd.grad(score.sum(), leaf, allow_unused=True)
    return _Run(logits.detach(), run.input_relevance(leaf.detach(), gradient))


def _judged(
    method: str, logits: Tensor, score: Tensor, run: _Run, defects: Defects, limits: Tolerance
) -> Checks:
    total = float(score.double().abs().sum())
    operations = defects.table.assign(absorbed=defects.table["absorbed"] / total)
    size = operations["absorbed"].abs()
    additive = operations["kind"].isin(("bias", "constant"))
    remainder = abs(defects.remainder) / total
    forward_error = _forward_error(logits, run.logits)
    finite = bool(torch.isfinite(run.relevance).all()) and math.isfinite(remainder)
    by_rules = float(size[~additive].sum())
    reasons = []
    if not forward_error <= limits.forward:
        reasons.append(
            f"the logits differ by {forward_error:.2g} of the largest one from those of the model without "
            "rules: an operation in place does not reach its tensor, or the model draws random numbers"
        )
    if not finite:
        reasons.append(f"the relevance holds NaN or infinite values{_first_bad(operations)}")
    if not by_rules <= limits.rules and math.isfinite(by_rules):
        reasons.append(_by_rules(method, operations[~additive]))
    if not remainder <= limits.remainder and math.isfinite(remainder):
        reasons.append(
            f"{_percent(remainder)} of the score bypassed the rules: the model holds scripted or compiled "
            "code, a custom autograd.Function or checkpointing; use the original Python modules"
        )
    return Checks(
        method,
        forward_error,
        finite,
        _conservation(score, run.relevance),
        float(size[additive].sum()),
        by_rules,
        remainder,
        operations,
        not reasons,
        tuple(reasons),
    )


def _forward_error(plain: Tensor, modified: Tensor) -> float:
    plain, modified = plain.double(), modified.double()
    return float((plain - modified).abs().max() / plain.abs().max().clamp(min=1e-300))


def _conservation(score: Tensor, relevance: Tensor) -> float:
    """Along the sign of each score, so that samples of either sign do not cancel."""
    arrived = relevance.double().flatten(1).sum(1)
    score = score.detach().double()
    return float((score.sign() * arrived).sum() / score.abs().sum())


def _by_rules(method: str, operations: pd.DataFrame) -> str:
    worst = operations.iloc[0]
    where = f"{worst['operation']} in {worst['module'] or 'the model itself'}"
    figure = _percent(abs(worst["absorbed"]))
    if worst["kind"] == "no rule":
        return f"{where} has no rule, and {figure} of the score is lost in it: use gradient x activation"
    return f"{where} absorbs {figure} of the score under {method}: use composite epsilon_gamma"


def _first_bad(operations: pd.DataFrame) -> str:
    return ""


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _failed(method: str, reason: str) -> Checks:
    nan = math.nan
    nothing = pd.DataFrame(columns=list(COLUMNS))
    return Checks(method, nan, False, nan, nan, nan, nan, nothing, False, (reason,))


def _first(target: Target, labels: Tensor | None) -> tuple[Target, Tensor | None]:
    some = target if isinstance(target, str | int) else target[:N_IMAGES]
    return some, None if labels is None else labels[:N_IMAGES]


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@contextmanager
def _autocast(model: nn.Module, device: str, precision: torch.dtype | None) -> Iterator[None]:
    """Autocast in the model's forward pass alone: backward passes run outside, as they should."""
    if precision is None:
        yield
        return
    mixed = torch.autocast(device, dtype=precision)

    def enter(*arguments: Any) -> None:
        mixed.__enter__()

    def leave(*arguments: Any) -> None:
        mixed.__exit__(None, None, None)

    handles = (
        model.register_forward_pre_hook(enter),
        model.register_forward_hook(leave, always_call=True),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


__all__ = ["Checks", "Tolerance", "check_lrp", "require_passed"]
