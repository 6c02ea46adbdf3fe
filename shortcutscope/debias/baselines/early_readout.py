"""Early readouts: a sample that an early layer gets confidently wrong weighs more."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from shortcutscope.allowed import NotNegative, Number, Positive, Share
from shortcutscope.debias.budget import train
from shortcutscope.debias.objective import (
    Batch,
    Objective,
    cross_entropies,
    cross_entropy,
    forward_with_layers,
)
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.teacher import train_teacher
from shortcutscope.errors import InputError
from shortcutscope.models.copying import copied
from shortcutscope.models.heads.targets import count_scores, find_logits, two_scores
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.models.seeding import seeded


class EarlyReadout(Objective):
    """Cross-entropy and distillation, each sample weighted by how confidently an early readout is wrong.

    After Tiwari et al. 2024 ("Using early readouts to mediate featural bias in distillation", DeDiER). A
    small network reads the label out of an early layer, without changing it; where it errs, the sample's
    loss (1 - share) CE + share T^2 KL(teacher || student) is multiplied by exp(beta m^alpha), m being the
    readout's confidence margin, the probability of its answer minus that of the next; elsewhere by 1. Until
    `warmup` of the training is done, all weigh alike. The weights are those of the current step, whereas the
    paper renews them every few epochs.

    Parameters
    ----------
    layer
        The early layer.
    n_scores
        Scores of the model: 1 for a binary task with one.
    alpha, beta
        Of the weight.
    warmup
        Share of the training in which the readout is only learnt.
    teacher
        Distilled from; None for cross-entropy alone.
    share, temperature
        Of the distillation.
    hidden
        Width of the readout.
    seed
        Of its weights.
    """

    def __init__(
        self,
        layer: Layer,
        n_scores: int,
        *,
        alpha: float = 1.0,
        beta: float = 2.0,
        warmup: float = 0.2,
        teacher: nn.Module | None = None,
        share: float = 0.5,
        temperature: float = 4.0,
        hidden: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.layer, self.alpha, self.beta, self.warmup = layer, alpha, beta, warmup
        self.share, self.temperature = share, temperature
        # In a tuple, so that the teacher is no part of what is trained and kept in checkpoints.
        self._teacher = (teacher,)
        with seeded(seed):
            self.readout = nn.Sequential(
                nn.Linear(layer.channels, hidden), nn.ReLU(), nn.Linear(hidden, n_scores)
            )

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        logits, outputs = forward_with_layers(model, batch.images, [self.layer])
        values = outputs[self.layer.name].detach()
        early = self.readout((values.flatten(2).mean(2) if values.dim() > 2 else values).float())
        losses = cross_entropies(logits, batch.labels)
        weights = torch.ones_like(losses)
        if batch.progress >= self.warmup:
            weights = readout_weights(early, batch.labels, self.alpha, self.beta).to(losses.dtype)
        terms = {"readout": cross_entropy(early, batch.labels)}
        (teacher,) = self._teacher
        if teacher is None:
            return {"ce": (weights * losses).mean(), **terms}
        with torch.no_grad():
            goal = find_logits(teacher(batch.images))
        distilled = distillation_losses(logits, goal, self.temperature)
        terms["ce"] = (1 - self.share) * (weights * losses).mean()
        terms["distillation"] = self.share * (weights * distilled).mean()
        return terms


@torch.no_grad()
def readout_weights(early: Tensor, labels: Tensor, alpha: float, beta: float) -> Tensor:
    """exp(beta m^alpha) where the readout's logits (N, K) or (N, 1) err by the margin m, else 1; (N,)."""
    probabilities = two_scores(early.float()).softmax(1)
    top = probabilities.topk(2, dim=1)
    margin = top.values[:, 0] - top.values[:, 1]
    wrong = top.indices[:, 0] != labels
    return torch.where(wrong, torch.exp(beta * margin**alpha), 1.0)


def distillation_losses(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of every sample (N,) (Hinton et al. 2015), of (N, K) or (N, 1) logits."""
    student = (two_scores(logits.float()) / temperature).log_softmax(1)
    teacher = (two_scores(teacher_logits.float()) / temperature).log_softmax(1)
    divergence = nn.functional.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    return temperature**2 * divergence


def dedier(
    problem: DebiasProblem,
    *,
    teacher: nn.Module | Literal["specialist"] | None = None,
    alpha: Positive = 1.0,
    beta: NotNegative = 2.0,
    warmup: Annotated[float, Number(0, 1, whole=False, below=True)] = 0.2,
    layer: str | Annotated[float, Number(0, 1, whole=False, above=True)] = 0.25,
    share: Share = 0.5,
    temperature: Positive = 4.0,
) -> Outcome:
    """Weights by the confident errors of an early readout (Tiwari et al. 2024, DeDiER).

    Sees labels only; with ``teacher="specialist"`` those of the clean samples, too. The defaults of `alpha`
    and `beta` are this package's, not the paper's, which chooses them per data set.

    Parameters
    ----------
    problem
        Biased samples and labels are enough.
    teacher
        Network to distil from, never changed; ``"specialist"`` trains one on the clean subset, see
        `shortcutscope.debias.teacher.train_teacher`; None weighs the cross-entropy alone.
    alpha, beta
        A confident error weighs up to exp(beta); a larger `alpha` spares the unsure ones.
    warmup
        Share of the training before any sample weighs more.
    layer
        The early layer by name, or the first at this depth (in (0, 1]).
    share, temperature
        Weight of the distillation against the labels, and its temperature.

    Raises
    ------
    InputError
        For a teacher with other classes, and a specialist without clean samples.
    """
    readout_layer = _early_layer(problem, layer)
    n_scores = count_scores(problem.model, problem.example())
    objective = EarlyReadout(
        readout_layer,
        n_scores,
        alpha=alpha,
        beta=beta,
        warmup=warmup,
        teacher=_teacher_network(problem, teacher, n_scores),
        share=share,
        temperature=temperature,
        seed=problem.seed,
    )
    return train(problem, objective, "dedier").with_notes(details={"layer": readout_layer.name})


def _teacher_network(
    problem: DebiasProblem, teacher: nn.Module | Literal["specialist"] | None, n_scores: int
) -> nn.Module | None:
    if teacher == "specialist":
        teacher = train_teacher(problem).model
    if teacher is None:
        return None
    network = copied(teacher).to(problem.device).eval().requires_grad_(False)
    if (n_teacher := count_scores(network, problem.example())) != n_scores:
        raise InputError(
            f"the teacher gives {n_teacher} scores and the model {n_scores}; they need the same classes"
        )
    return network


def _early_layer(problem: DebiasProblem, layer: str | float) -> Layer:
    if isinstance(layer, str):
        return find_layers(problem.model, problem.example(), [layer])[0]
    layers = find_layers(problem.model, problem.example())
    return next((deep for deep in layers if deep.depth >= layer), layers[-1])
