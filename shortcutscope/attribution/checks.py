"""Whether a relevance can be trusted on this very model: the checks that run on the first batch.

They ask no more than what every relevance by the rules has to keep. The network computes what it always
computes; nothing is NaN; and the score arrives at the input, but for what named biases and constants took.
What no operation accounts for bypassed the rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from shortcutscope.attribution.lrp import Composite, Defects, audit_defects, get_composite
from shortcutscope.attribution.lrp.rules import Epsilon, Gamma
from shortcutscope.attribution.slope import Explained
from shortcutscope.attribution.trial import Trial, checkpointed, propagate
from shortcutscope.errors import ModelError, ShortcutscopeError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Output, require_logits
from shortcutscope.models.heads.targets import Target, find_logits, select_target
from shortcutscope.models.mixed_precision import autocast_forward
from shortcutscope.models.plain import require_plain
from shortcutscope.types import Record

#: Images of the batch that the checks run on: the audit keeps every intermediate tensor.
N_IMAGES = 3
#: Operations to which the composite's rules apply.
MAPS = frozenset(
    {"linear", "batch_norm", "conv1d", "conv2d", "conv3d"}
    | {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
)


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

    def to_json(self) -> Record:
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


def check_lrp(
    model: nn.Module,
    x: Tensor,
    composite: str | Composite,
    explained: Explained | None = None,
    *,
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
    explained
        Which score; by default that of the predicted class.
    autocast, tolerance
        Precision of the forward pass, as in the scan; by default `Tolerance.of` that of the logits.

    Returns
    -------
    checks
        Errors that the rules run into are failed checks, too.

    Raises
    ------
    InputError
        Unknown composite; a target that the model does not have.
    """
    explained = explained or Explained()
    composite, output = get_composite(composite), explained.output
    method, some = f"lrp:{composite.name}", x[:N_IMAGES].detach()
    try:
        require_plain(model)
        require_logits(output)
    except ModelError as error:
        return _failed(method, str(error))
    with frozen(model), autocast_forward(model, some.device.type, autocast):
        with torch.no_grad():
            logits = find_logits(model(some.clone()), output)
        # Errors in what the caller asked for surface here, before the rules come in.
        score, classes = select_target(logits, *_first(explained.target, explained.labels), explained.task)
        if reason := _without_relevance(logits, score):
            return _failed(method, reason)
        limits = tolerance or Tolerance.of(logits.dtype)
        try:
            run, defects = _under_rules(
                model, some, composite, (classes, score), explained.task, output, limits
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a network does under the rules is a finding about them
            return _failed(method, _in_words(error))
        again = find_logits(model(some.clone()), output)
    return _judged(composite, _Plain(logits, again, score), run, defects, limits)


def _without_relevance(logits: Tensor, score: Tensor) -> str:
    """Why the scores themselves leave nothing to explain; empty where they do."""
    if not bool(torch.isfinite(logits).all()):
        return "the model's own scores are NaN or infinite; check its weights"
    return (
        ""
        if bool(score.any())
        else "the explained scores are zero, so there is no relevance; take another class"
    )


def _under_rules(
    model: nn.Module,
    x: Tensor,
    composite: Composite,
    explained: tuple[Tensor, Tensor],
    task: str,
    output: Output,
    limits: Tolerance,
) -> tuple[Trial, Defects]:
    """Relevance and where it is lost; with a diagnosis where it does not add up to the explained scores."""
    classes, score = explained
    run = propagate(model, x, composite, classes, task, output)
    defects = audit_defects(model, x, composite, target=classes, task=task, output=output)
    if not bool(torch.isfinite(run.relevance).all()) or not _is_accounted(defects, score, limits):
        run = propagate(model, x, composite, classes, task, output, diagnose=True)
    return run, defects


@dataclass(frozen=True)
class _Plain:
    """The scores without rules, of two runs."""

    logits: Tensor
    again: Tensor
    score: Tensor


def _is_accounted(defects: Defects, score: Tensor, limits: Tolerance) -> bool:
    return abs(defects.remainder) <= limits.remainder * float(score.double().abs().sum())


def _judged(composite: Composite, plain: _Plain, run: Trial, defects: Defects, limits: Tolerance) -> Checks:
    total = float(plain.score.double().abs().sum())
    operations = defects.table.assign(absorbed=defects.table["absorbed"] / total)
    additive = operations["kind"].isin(("bias", "constant"))
    size = operations["absorbed"].abs()
    by_rules, remainder = float(size[~additive].sum()), abs(defects.remainder) / total
    forward_error = _difference(plain.logits, run.logits)
    finite = bool(torch.isfinite(run.relevance).all()) and math.isfinite(remainder) and run.bad is None
    reasons = []
    if not forward_error <= limits.forward:
        random = _difference(plain.logits, plain.again) > limits.forward
        reasons.append(_RANDOM if random else _CHANGED.format(_percent(forward_error)))
    if not finite:
        behind = "" if run.bad is None else f", from the output of {_named(run.bad)} on backwards"
        reasons.append(
            f"relevance is NaN or infinite{behind}: an operation there divides by zero; use gradient x "
            "activation, or a larger epsilon of the composite"
        )
    if finite and by_rules > limits.rules:
        reasons.append(_by_rules(composite, operations[~additive].iloc[0], by_rules))
    if finite and remainder > limits.remainder:
        reasons.append(
            f"{_percent(remainder)} of the score is in no operation: something bypassed the rules (scripted "
            "code, a custom autograd.Function, checkpointing); use gradient x activation"
        )
    return Checks(
        method=f"lrp:{composite.name}",
        forward_error=forward_error,
        finite=finite,
        conservation=_conservation(plain.score, run.relevance),
        absorbed_by_biases=float(size[additive].sum()),
        absorbed_by_rules=by_rules,
        remainder=remainder,
        operations=operations,
        passed=not reasons,
        reasons=tuple(reasons),
    )


_RANDOM = (
    "two runs on the same images give different scores: the model draws random numbers in evaluation mode "
    "(for instance functional.dropout without training=self.training)"
)
_CHANGED = (
    "under the rules the scores differ by {} of the largest one: an operation in place does not reach its "
    "tensor; write it without in-place operations, or use gradient x activation"
)


def _difference(plain: Tensor, other: Tensor) -> float:
    plain, other = plain.double(), other.double()
    return float((plain - other).abs().max() / plain.abs().max().clamp(min=1e-300))


def _conservation(score: Tensor, relevance: Tensor) -> float:
    """Along the sign of each score, so that samples of either sign do not cancel."""
    arrived, score = relevance.double().flatten(1).sum(1), score.double()
    return float((score.sign() * arrived).sum() / score.abs().sum())


def _by_rules(composite: Composite, worst: pd.Series, total: float) -> str:
    operation, module = str(worst["operation"]), str(worst["module"])
    # A batch norm is folded into the convolution before it, which is then listed under its name.
    name = "the convolution with its batch_norm" if operation == "batch_norm" else operation
    verb = "absorbs" if worst["absorbed"] > 0 else "adds"
    text = f"{name} in {_named(module)} {verb} {_percent(abs(worst['absorbed']))} of the score"
    if worst["kind"] == "no rule":
        return f"{text}, since it has no rule; use gradient x activation"
    if total > 1.1 * abs(worst["absorbed"]):
        text = f"{text} ({_percent(total)} in all operations)"
    suits = isinstance(composite.convolution, Gamma | Epsilon) or operation not in MAPS
    advice = "gradient x activation" if suits else "composite epsilon_gamma"
    return f"{text} under {composite.name}, whose rule does not suit it; use {advice}"


def _named(module: str) -> str:
    return module or "the model itself"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _in_words(error: Exception) -> str:
    """The first sentences of an error, which in torch can run over pages."""
    if isinstance(error, CheckpointError):
        return checkpointed()
    if isinstance(error, ShortcutscopeError):
        return str(error)
    first = str(error).strip().split("\n", 1)[0]
    return (
        f"the network fails under the rules with {type(error).__name__}: {first[:300]}; "
        "use gradient x activation"
    )


def _failed(method: str, reason: str) -> Checks:
    nan, nothing = math.nan, pd.DataFrame(columns=["module", "operation", "kind", "absorbed"])
    return Checks(method, nan, False, nan, nan, nan, nan, nothing, False, (reason,))


def _first(target: Target, labels: Tensor | None) -> tuple[Target, Tensor | None]:
    return (
        target if isinstance(target, str | int | np.integer) else target[:N_IMAGES],
        None if labels is None else labels[:N_IMAGES],
    )


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


__all__ = ["Checks", "Tolerance", "check_lrp"]
