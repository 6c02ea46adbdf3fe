"""Whether an attribution is complete and repeatable: checks that take a whole explanation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from shortcutscope.attribution.attribute import Attribution, attribute
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import find_logits, select_target


@dataclass(frozen=True)
class Completeness:
    """Whether relevance adds up to the difference of the scores.

    Attributes
    ----------
    error
        Sum of |relevance - difference| / sum of |difference|, over the samples.
    table
        One row a sample: ``relevance`` (its sum), ``difference``, ``error`` (relative; NaN where there is no
        difference).
    passed, reason
        The verdict, and what to do if it failed (else empty).
    """

    error: float
    table: pd.DataFrame
    passed: bool
    reason: str


def completeness(
    model: nn.Module,
    x: Tensor,
    attribution: Attribution,
    *,
    baseline: float | Tensor = 0.0,
    task: str = "auto",
    output: Output = None,
    tolerance: float = 0.05,
) -> Completeness:
    """Compare the sum of relevance with score(x) - score(baseline).

    Parameters
    ----------
    model, x
        What was explained.
    attribution
        By integrated gradients, at the input.
    baseline
        The one that it started from.
    task, output
        As given to `attribute`; needed only for what was explained without checks.
    tolerance
        Of `Completeness.error`; Sundararajan et al. (2017, section 5) ask for 5 %.

    Raises
    ------
    InputError
        An attribution of a layer or of another batch.
    """
    if attribution.layer is not None or attribution.relevance.shape != x.shape:
        raise InputError(
            f"relevance of shape {tuple(attribution.relevance.shape)} for images of shape {tuple(x.shape)}; "
            "completeness is checked at the input: attribute(model, x, method='integrated_gradients')"
        )
    if attribution.head.settled:
        output, task = attribution.head, attribution.head.read_task
    start = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
    with frozen(model), torch.no_grad():
        scores = [
            select_target(find_logits(model(images.clone()), output), attribution.target, None, task)[0]
            for images in (x, start)
        ]
    difference = (scores[0].double() - scores[1].double()).cpu()
    total = attribution.relevance.double().flatten(1).sum(1).cpu()
    off = (total - difference).abs()
    error = float(off.sum() / difference.abs().sum())
    relative = torch.where(difference != 0, off / difference.abs(), torch.nan)
    table = pd.DataFrame({"relevance": total, "difference": difference, "error": relative})
    passed = error <= tolerance
    reason = (
        ""
        if passed
        else f"relevance misses the difference of the scores by {100 * error:.3g} %, more than "
        f"{100 * tolerance:.3g} %; take more steps"
    )
    return Completeness(error, table, passed, reason)


@dataclass(frozen=True)
class Determinism:
    """Whether two runs give the same relevance.

    Attributes
    ----------
    difference
        Largest difference relative to the largest relevance.
    passed, reason
        The verdict, and what to do if it failed (else empty).
    """

    difference: float
    passed: bool
    reason: str


def determinism(
    model: nn.Module, x: Tensor, method: str = "lrp", *, tolerance: float = 0.0, **options: Any
) -> Determinism:
    """Explain the same images twice.

    Parameters
    ----------
    model, x, method, **options
        As of `attribute`.
    tolerance
        Of the difference. Zero, but for accelerators whose sums come in any order.
    """
    options = {"check": False, **options}  # which would refuse what is to be measured here
    first, second = (attribute(model, x, method=method, **options).relevance for _ in range(2))
    largest = first.abs().max().clamp_min(torch.finfo(first.dtype).tiny)
    difference = float((first - second).abs().max() / largest)
    passed = difference <= tolerance
    reason = (
        ""
        if passed
        else f"two runs of {method} differ by {difference:.2g} of the largest relevance; set "
        "torch.use_deterministic_algorithms(True), and look for random numbers in the model"
    )
    return Determinism(difference, passed, reason)


__all__ = ["Completeness", "Determinism", "completeness", "determinism"]
