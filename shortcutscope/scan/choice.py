"""Which attribution a scan uses: the one asked for, or gradient x activation where LRP's check fails.

LRP is silently wrong on networks with operations that its rules do not reach, so it is used only after it
has proved itself on the first images of the very model (see `shortcutscope.attribution.checks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from shortcutscope.attribution.checks import Checks, check_lrp
from shortcutscope.attribution.lrp import COMPOSITES, Composite, default_composite, get_composite
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.targets import Target

GRADIENT = "gradient"
LRP = "lrp"


@dataclass(frozen=True)
class AttributionChoice:
    """The attribution of a scan, and why it is this one.

    Attributes
    ----------
    requested
        ``"gradient"``, ``"lrp"`` or ``"lrp:<composite>"``.
    used
        ``"gradient"`` (gradient x activation), or ``"lrp:<composite>"``.
    reason
        Why it is not what was asked for; None where it is.
    checks
        Figures of LRP's check as JSON values, also of one that failed; None where there was none.
    composite
        LRP's rules; None for gradient x activation, and for a scan read from the disk.
    """

    requested: str = GRADIENT
    used: str = GRADIENT
    reason: str | None = None
    checks: Mapping[str, Any] | None = None
    composite: Composite | None = field(default=None, repr=False, compare=False)

    @property
    def is_gradient(self) -> bool:
        """Whether relevance is gradient x activation, and the plain gradient known besides."""
        return self.used == GRADIENT

    @property
    def method(self) -> str:
        """The name by which `shortcutscope.attribution.attribute` knows it."""
        return "gradient_x_activation" if self.is_gradient else self.used

    @property
    def warning(self) -> str | None:
        """What whoever asked for another attribution must know."""
        if self.reason is None:
            return None
        return (
            f"the relevances are gradient x activation, although attribution={self.requested!r} was asked "
            f"for: {self.reason}"
        )

    def to_json(self) -> dict[str, Any]:
        """For manifest and run.json: requested, used, reason, checks."""
        return {
            "requested": self.requested,
            "used": self.used,
            "reason": self.reason,
            "checks": None if self.checks is None else dict(self.checks),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any] | None) -> Self:
        """Undo `to_json`; a scan that says nothing was made with gradient x activation."""
        return cls(**record) if record else cls()

    def __str__(self) -> str:
        return "gradient x activation" if self.is_gradient else f"LRP ({self.used.removeprefix('lrp:')})"


def check_attribution(requested: str) -> None:
    """Refuse the name of an attribution that there is not.

    Raises
    ------
    InputError
        Lists those that there are.
    """
    if requested in (GRADIENT, LRP):
        return
    kind, _, composite = str(requested).partition(":")
    if kind != LRP or composite not in COMPOSITES:
        known = ", ".join(map(repr, (GRADIENT, LRP, *(f"{LRP}:{name}" for name in COMPOSITES))))
        raise InputError(f"attribution is {requested!r}; allowed are {known}")


def choose_attribution(
    model: nn.Module,
    x: Tensor,
    requested: str,
    attempt: Callable[[Composite], object],
    *,
    strict: bool = False,
    labels: Tensor | None = None,
    target: Target = "predicted",
    task: str = "auto",
    output: str | int | None = None,
    autocast: torch.dtype | None = None,
) -> AttributionChoice:
    """Take the attribution that was asked for if it holds on the first images, else gradient x activation.

    Parameters
    ----------
    model
        Lent out by `frozen`.
    x, labels
        The first images as the model takes them, and their classes.
    requested
        ``"gradient"``, ``"lrp"`` (a composite that fits the network's operations) or ``"lrp:<composite>"``.
    attempt
        Scans these images with a composite; raises where LRP gives no finite relevance.
    strict
        Refuse instead of falling back.
    target, task, output, autocast
        As in `capture_batch`.

    Raises
    ------
    InputError
        An unknown attribution.
    ModelError
        With ``strict=True``, where LRP does not hold; says why.
    """
    check_attribution(requested)
    if requested == GRADIENT:
        return AttributionChoice()
    every = isinstance(target, str) and target == "every"
    explained: Target = "predicted" if every else target
    composite, checks = None, None
    try:
        name = requested.partition(":")[2]
        composite = get_composite(name) if name else default_composite(model, x)
        # A rule of the first layer says how the pixels share its relevance; no layer's own depends on it.
        composite = replace(composite, first=None)
        checks = check_lrp(
            model,
            x,
            composite,
            target=explained,
            labels=labels,
            task=task,
            output=output,
            autocast=autocast,
        )
        reason = None if checks.passed else _why(checks)
        if reason is None:
            attempt(composite)
    except (InputError, torch.OutOfMemoryError):
        raise
    except (ModelError, RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = f"LRP cannot be run on this model ({first_line})"
    if reason is None and composite is not None:
        used = f"{LRP}:{composite.name}"
        return AttributionChoice(requested, used, None, _figures(checks), composite)
    if strict:
        raise ModelError(
            f"attribution={requested!r} does not hold on this model: {reason}; use attribution='gradient', "
            "or strict=False to fall back to it"
        )
    return AttributionChoice(requested, GRADIENT, reason, _figures(checks))


def _why(checks: Checks) -> str:
    return f"the check of {checks.method} failed ({'; '.join(checks.reasons)})"


def _figures(checks: Checks | None) -> dict[str, Any] | None:
    return None if checks is None else checks.to_json()
