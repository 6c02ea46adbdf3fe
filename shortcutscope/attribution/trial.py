"""One run of LRP under observation, for the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shortcutscope.attribution.bypass import WatchedPropagation
from shortcutscope.attribution.lrp import Composite
from shortcutscope.attribution.lrp.scope import ModuleScope
from shortcutscope.errors import ModelError
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import find_logits, select_target


@dataclass(frozen=True)
class Trial:
    """What came out.

    Attributes
    ----------
    logits, relevance
        Scores (N, K) under the rules, and the input's relevance.
    bad
        Module at whose output the backward pass first met a gradient that is not finite; None if there is
        none, and where nobody asked (`propagate(diagnose=True)`).
    """

    logits: Tensor
    relevance: Tensor
    bad: str | None


def propagate(
    model: nn.Module,
    x: Tensor,
    composite: Composite,
    classes: Tensor,
    task: str,
    output: Output,
    *,
    diagnose: bool = False,
) -> Trial:
    """Forward and backward pass under the rules.

    Parameters
    ----------
    model
        Frozen.
    x
        A few images.
    composite, chosen, task, output
        The rules, and the explained class per sample (N,).
    diagnose
        Find out where gradients stop being finite.

    Raises
    ------
    ModelError
        Something bypasses the rules.
    """
    leaf = x.clone().requires_grad_()
    bad: list[str] = []
    with torch.enable_grad(), ModuleScope(model) as scope:
        with _notes_bad_gradients(model, bad) if diagnose else nullcontext():
            run = WatchedPropagation(composite, scope)
            with run:
                result = model(leaf.view_as(leaf))
        logits = find_logits(result, output)
        score, _ = select_target(logits, classes, None, task)
        _require_seen(run, score)
        (gradient,) = torch.autograd.grad(score.sum(), leaf, allow_unused=True)
    relevance = run.input_relevance(leaf.detach(), gradient)
    return Trial(logits.detach(), relevance, bad[0] if bad else None)


def _require_seen(run: WatchedPropagation, score: Tensor) -> None:
    if not score.requires_grad:
        raise ModelError(
            "the scores have no gradient with respect to the input: the model runs under no_grad, detaches "
            "its features or rounds them; without them no relevance can be propagated"
        )
    if run.checkpointed is not None:
        raise ModelError(checkpointed(run.checkpointed))
    unseen = run.unseen(score)
    if unseen is None:
        return
    if unseen.node == "CheckpointFunctionBackward":
        raise ModelError(checkpointed())
    raise ModelError(
        f"the rules do not see all that happens {unseen.place}: autograd has {unseen.node} there, of "
        "scripted code or a custom autograd.Function; write it with torch's own operations, or use "
        "gradient x activation"
    )


@contextmanager
def _notes_bad_gradients(model: nn.Module, bad: list[str]) -> Iterator[None]:
    """Write down the modules at whose output a gradient is not finite, in the order of the backward pass."""

    def follow(name: str) -> Callable[..., None]:
        def arrived(gradient: Tensor) -> None:
            if not bool(torch.isfinite(gradient).all()):
                bad.append(name)

        def hook(module: nn.Module, inputs: object, result: object) -> None:
            if isinstance(result, Tensor) and result.requires_grad:
                result.register_hook(arrived)  # type: ignore[no-untyped-call]

        return hook

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.enter_context(module.register_forward_hook(follow(name)))
        yield


def checkpointed(module: str = "") -> str:
    """Why a checkpointed module cannot be explained."""
    return (
        f"{module or 'the model'} is checkpointed, so that what it computes anew in the backward pass are "
        "not the tensors that the rules saved; switch checkpointing off (for instance "
        "model.gradient_checkpointing_disable() or set_grad_checkpointing(False)): nothing is trained here"
    )


__all__ = ["Trial", "checkpointed", "propagate"]
