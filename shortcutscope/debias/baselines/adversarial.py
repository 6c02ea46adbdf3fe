"""Features from which the concept cannot be told: gradient reversal, or a confused adversary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone reads)
from torch import Tensor, nn

from shortcutscope.allowed import Count, Positive
from shortcutscope.debias.budget import train
from shortcutscope.debias.groups import Groups, balanced_weights, training_groups
from shortcutscope.debias.objective import Batch, Objective, at, forward_with_layers
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.models.seeding import seeded

Method = Literal["reversal", "confusion"]


class Reversal(torch.autograd.Function):
    """The identity, whose gradient is turned round (Ganin et al. 2016)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:  # noqa: D102
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: D102
        return -ctx.strength * gradients[0], None


def reversal_strength(progress: float, gamma: float = 10.0) -> float:
    """2 / (1 + exp(-gamma p)) - 1: from 0 at the start to 1 (Ganin et al. 2016)."""
    return 2 / (1 + math.exp(-gamma * progress)) - 1


class Adversarial(Objective):
    """Cross-entropy, and an adversary that tells the concept from a layer's mean features.

    ``"reversal"`` (DANN; Ganin et al. 2016): the adversary minimises its cross-entropy, and the
    network, through the reversed gradient, maximises it, by a strength that rises with the progress.
    ``"confusion"`` (Dinsdale et al. 2021): the adversary minimises its cross-entropy on
    features that it does not change, and the network minimises the confusion loss, the mean over both
    answers of their negative log-probability, under an adversary that does not change. The paper takes these
    steps one after the other; here they are one step, with the same gradients.

    Parameters
    ----------
    layer
        Whose features.
    groups
        Of the training table; samples of unknown concept do not count for the adversary.
    method, weight
        Kind and factor of the adversarial term.
    balanced
        Weigh the adversary's samples so that every (label, concept) group counts alike: it then cannot tell
        the concept from the label alone, and the network need not unlearn the label.
    rebalanced
        Draw every group alike, for the labels as well as for the adversary.
    hidden
        Width of the adversary.
    seed
        Of its weights.
    """

    takes_loss = True

    def __init__(
        self,
        layer: Layer,
        groups: Groups,
        *,
        method: Method = "reversal",
        weight: float = 1.0,
        balanced: bool = False,
        rebalanced: bool = False,
        hidden: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.layer, self.method, self.weight = layer, method, weight
        with seeded(seed):
            self.adversary = nn.Sequential(nn.Linear(layer.channels, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        mask = torch.from_numpy(groups.known).float()
        self._draws = balanced_weights(groups) if rebalanced else None
        # Where every group is drawn alike, weights would balance it twice.
        self._weights = mask * balanced_weights(groups) if balanced and not rebalanced else mask
        self._carries = torch.from_numpy(groups.carries).nan_to_num().float()

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        logits, outputs = forward_with_layers(model, batch.images, [self.layer])
        values = outputs[self.layer.name]
        features = (values.flatten(2).mean(2) if values.dim() > 2 else values).float()
        carries, weights = at(self._carries, batch), at(self._weights, batch)
        terms = {"ce": self.losses(logits, batch.labels).mean()}
        if self.method == "reversal":
            strength = self.weight * reversal_strength(batch.progress)
            answers = self.adversary(Reversal.apply(features, strength))
        else:
            answers = self.adversary(features.detach())
            fixed = {name: p.detach() for name, p in self.adversary.named_parameters()}
            terms["confusion"] = self.weight * _mean(confusion(self._answer(fixed, features)), weights)
        losses = F.binary_cross_entropy_with_logits(answers[:, 0].float(), carries, reduction="none")
        terms["adversary"] = _mean(losses, weights)
        return terms

    def draws(self) -> Tensor | None:  # noqa: D102
        return self._draws

    def _answer(self, parameters: Mapping[str, Tensor], features: Tensor) -> Tensor:
        answers: Tensor = torch.func.functional_call(self.adversary, dict(parameters), (features,))
        return answers[:, 0].float()


def confusion(answers: Tensor) -> Tensor:
    """-(log p + log(1 - p)) / 2 of every logit (N,); least where the adversary cannot tell (p = .5)."""
    return -(F.logsigmoid(answers) + F.logsigmoid(-answers)) / 2


def _mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean; 0 where nothing weighs, without asking the device."""
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)


def adversarial(
    problem: DebiasProblem,
    *,
    method: Method = "reversal",
    weight: Positive | None = None,
    layer: str | None = None,
    balanced: bool = False,
    rebalanced: bool = False,
    hidden: Count = 64,
) -> Outcome:
    """Adversarial unlearning of the concept (Ganin et al. 2016, DANN; Dinsdale et al. 2021, confusion).

    Sees labels and the concept of the biased samples. Where concept and label go together, unlearning the
    one unlearns the other, unless `balanced`.

    Parameters
    ----------
    problem
        With `carries`.
    method
        ``"reversal"`` or ``"confusion"``.
    weight
        Factor of the reversed gradient (None: 1, under the schedule) or of the confusion loss (None: 1).
    layer
        Whose features the adversary sees; None for the last block before the scores.
    balanced
        Weigh every (label, concept) group alike for the adversary; then no group may be empty.
    rebalanced
        Draw every group alike, for the labels as well as for the adversary: rebalancing together with
        disentanglement (after Mueller & Berens 2026). Then no group may be empty.
    hidden
        Width of the adversary.

    Raises
    ------
    InputError
        Without concept labels; when the known ones are all alike; `balanced` or `rebalanced` with an empty
        group.
    """
    factor = 1.0 if weight is None else weight
    groups = training_groups(problem, "adversarial", filled=balanced or rebalanced)
    without, carrying = groups.counts.reshape(-1, 2).sum(0)
    if not without or not carrying:
        raise InputError(
            f"adversarial needs samples with and without the concept; known are {carrying} with it and "
            f"{without} without"
        )
    block = last_block(problem, layer)
    objective = Adversarial(
        block, groups, method=method, weight=factor, balanced=balanced, rebalanced=rebalanced, hidden=hidden,
        seed=problem.seed,
    )  # fmt: skip
    unknown = int((~groups.known).sum())
    notes = (f"{unknown} samples of unknown concept do not count for the adversary",) if unknown else ()
    outcome = train(problem, objective, f"adversarial, {method}")
    return outcome.with_notes(notes, {"layer": block.name})


def last_block(problem: DebiasProblem, name: str | None = None) -> Layer:
    """The layer of that name, or the last one before the scores: spatial where there is one.

    Raises
    ------
    InputError
        When the model has no such layer, or none before its scores.
    """
    example = problem.example()
    if name is not None:
        return find_layers(problem.model, example, [name])[0]
    layers = find_layers(problem.model, example)
    blocks = [layer for layer in layers if layer.layout != "vector"] or list(layers[:-1])
    if not blocks:
        raise InputError(
            f"{type(problem.model).__name__} has no layer before its scores; name one with layer="
        )
    return blocks[-1]
