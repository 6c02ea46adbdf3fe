"""Which attribution a scan uses: the one asked for, or gradient x activation where LRP's check fails.

LRP is silently wrong on networks with operations that its rules do not reach, so it is used only after it
has proved itself on the first images of the very model (see `shortcutscope.attribution.checks`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn

from shortcutscope.attribution.checks import Checks, check_lrp
from shortcutscope.attribution.lrp import COMPOSITES, Composite, default_composite, get_composite
from shortcutscope.attribution.methods import METHODS
from shortcutscope.attribution.slope import Explained
from shortcutscope.errors import InputError, ModelError
from shortcutscope.types import JSON, Record

GRADIENT = "gradient_x_activation"
LRP = "lrp"
#: No relevance at all: the scores have no gradient.
NONE = "none"
#: Names in files, on the command line and in reports, where they are others than in Python.
_STORED = {GRADIENT: "gradient"}
_FROM_STORED = {stored: name for name, stored in _STORED.items()}


@dataclass(frozen=True)
class AttributionChoice:
    """The attribution of a scan, and why it is this one.

    Attributes
    ----------
    requested
        ``"gradient_x_activation"``, ``"lrp"`` or ``"lrp:<composite>"``.
    used
        ``"gradient_x_activation"``, ``"lrp:<composite>"``, or ``"none"`` where the scores have no gradient.
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
    checks: JSON | None = None
    composite: Composite | None = field(default=None, repr=False, compare=False)

    @property
    def is_gradient(self) -> bool:
        """Whether relevance is gradient x activation, and the plain gradient known besides."""
        return self.used == GRADIENT

    @property
    def warning(self) -> str | None:
        """What whoever asked for another attribution must know."""
        if self.reason is None:
            return None
        if self.used == NONE:
            return f"no relevance was measured: {self.reason}; no verdict depends on it"
        return (
            f"the relevances are gradient x activation, although attribution={self.requested!r} was asked "
            f"for: {self.reason}"
        )

    def to_json(self) -> Record:
        """For manifest and run.json: requested, used, reason, checks."""
        return {
            "requested": stored_name(self.requested),
            "used": stored_name(self.used),
            "reason": self.reason,
            "checks": None if self.checks is None else dict(self.checks),
        }

    @classmethod
    def from_json(cls, record: JSON | None) -> Self:
        """Undo `to_json`; a scan that says nothing was made with gradient x activation."""
        names = {key: from_stored(str((record or {}).get(key, GRADIENT))) for key in ("requested", "used")}
        return cls(**{**(record or {}), **names})

    def __str__(self) -> str:
        if self.used == NONE:
            return "none"
        return "gradient x activation" if self.is_gradient else f"LRP ({self.used.removeprefix('lrp:')})"


def stored_name(attribution: str) -> str:
    """The name of an attribution in files."""
    return _STORED.get(attribution, attribution)


def from_stored(name: str) -> str:
    """Undo `stored_name`; also of what is typed on the command line."""
    return _FROM_STORED.get(name, name)


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
        choices = ", ".join(map(repr, (GRADIENT, LRP, *(f"{LRP}:{name}" for name in COMPOSITES))))
        text = f"attribution is {requested!r}; allowed are {choices}"
        if requested in _FROM_STORED:
            text += f"; say {from_stored(requested)!r}"
        elif requested in METHODS:
            text += (
                f". A scan reads all layers off one backward pass, which {requested} does not give; for "
                f"single images call shortcutscope.attribute(model, x, method={requested!r})"
            )
        raise InputError(text)


def choose_attribution(
    model: nn.Module,
    x: Tensor,
    requested: str,
    explained: Explained,
    attempt: Callable[[Composite], object],
    *,
    strict: bool = False,
    autocast: torch.dtype | None = None,
) -> AttributionChoice:
    """Take the attribution that was asked for if it holds on the first images, else gradient x activation.

    Parameters
    ----------
    model
        Lent out by `frozen`.
    x
        The first images as the model takes them.
    requested
        ``"gradient_x_activation"``, ``"lrp"`` (a composite that fits the network's operations) or
        ``"lrp:<composite>"``.
    explained
        The scores of these images that are explained.
    attempt
        Scans these images with a composite; raises where LRP gives no finite relevance.
    strict
        Refuse instead of falling back.
    autocast
        As in `capture_batch`.

    Raises
    ------
    InputError
        An unknown attribution, or images that do not fit into the device's memory.
    ModelError
        With ``strict=True``, where LRP does not hold; says why.
    """
    check_attribution(requested)
    if requested == GRADIENT:
        return AttributionChoice()
    composite, checks, reason = _checked(model, x, requested, explained, attempt, autocast)
    figures = None if checks is None else checks.to_json()
    if reason is None and composite is not None:
        return AttributionChoice(requested, f"{LRP}:{composite.name}", None, figures, composite)
    if strict:
        raise ModelError(
            f"attribution={requested!r} does not hold on this model: {reason}; use attribution={GRADIENT!r}, "
            "or strict=False to fall back to it"
        )
    return AttributionChoice(requested, GRADIENT, reason, figures)


def _checked(
    model: nn.Module,
    x: Tensor,
    requested: str,
    explained: Explained,
    attempt: Callable[[Composite], object],
    autocast: torch.dtype | None,
) -> tuple[Composite | None, Checks | None, str | None]:
    """The composite and its checks, as far as it came, and why it does not hold; see `choose_attribution`."""
    composite, checks, reason = None, None, None
    try:
        composite = _composite(requested, model, x)
        checks = check_lrp(model, x, composite, explained, autocast=autocast)
        if checks.passed:
            attempt(composite)
        else:
            reason = f"the check of {checks.method} failed ({'; '.join(checks.reasons)})"
    except InputError:
        raise
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"checking LRP on {len(x)} images of shape {tuple(x.shape[1:])}, for which every intermediate "
            f"tensor is kept, does not fit into the memory of {x.device}; choose a smaller batch_size, or "
            f"attribution={GRADIENT!r}"
        ) from error
    except (ModelError, RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = f"LRP cannot be run on this model ({first_line})"
    return composite, checks, reason


def _composite(requested: str, model: nn.Module, x: Tensor) -> Composite:
    """The rules that were asked for.

    Without the one of the first layer: it says how the pixels share that layer's relevance, and no recorded
    layer's own depends on it.
    """
    name = requested.partition(":")[2]
    return replace(get_composite(name) if name else default_composite(model, x), first=None)
