"""SELF: the last layer fine-tuned on held-out samples of which a weaker network thinks otherwise."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from shortcutscope.allowed import Count, Number, Positive
from shortcutscope.debias.baselines.held_out_head import (
    HELD_OUT_SHARE,
    HeldOutHead,
    HeldOutShare,
    held_out_head,
    log_probabilities,
)
from shortcutscope.debias.budget import budget, train
from shortcutscope.debias.objective import CrossEntropy, cross_entropy
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.training.randomness import OBJECTIVE, generator_of
from shortcutscope.errors import InputError
from shortcutscope.scan.predictions import predict_logits

By = Literal["dropout", "early-stop", "misclassification"]

#: Of a batch, the momentum and the weight decay of the fine-tuning in the authors' code.
BATCH_SIZE, MOMENTUM, WEIGHT_DECAY = 32, 0.9, 1e-4


def selective_finetuning(
    problem: DebiasProblem,
    *,
    by: By | None = None,
    samples: Count = 100,
    head_steps: Count = 250,
    head_lr: Positive = 1e-2,
    dropout: Annotated[float, Number(0, 1, whole=False, above=True, below=True)] = 0.5,
    first_share: Annotated[float, Number(0, 1, whole=False, above=True, below=True)] = 0.1,
    held_out_share: HeldOutShare = HELD_OUT_SHARE,
) -> Outcome:
    """Selective last-layer fine-tuning (LaBonte et al. 2023, SELF), on what two networks see differently.

    Sees labels only. Of the held-out samples of each class, those are taken on which the network and a weaker
    one differ most (`disagreements`), as many of every class; the last layer is fine-tuned on them from the
    weights that it has. The defaults are values of the authors' search.

    Parameters
    ----------
    problem
        Its `validation` samples are the held-out ones; without them a share of `train` is, see
        `shortcutscope.debias.baselines.held_out_head.held_out_head`.
    by
        The weaker network: the same with ``"dropout"`` before its last layer, or one whose training was
        stopped early (``"early-stop"``), which only a training from new weights has; ``"misclassification"``
        takes the samples of largest loss instead. None stops early with ``start="fresh"``, else dropout.
    samples
        To fine-tune on, over all classes; 20, 100 or 500 in the paper.
    head_steps, head_lr
        Steps and rate of the fine-tuning, by SGD.
    dropout
        Of the inputs of the last layer; .5, .7 or .9 in the paper.
    first_share
        Of the steps, after which the early-stopped network is taken.
    held_out_share
        Of the training samples.

    Raises
    ------
    InputError
        When the last layer is no ``nn.Linear``; for a class with too few held-out samples; for early stopping
        from the model.
    """
    by = by or ("early-stop" if problem.start == "fresh" else "dropout")
    if by == "early-stop" and problem.start != "fresh":
        raise InputError(
            "by='early-stop' compares a network with itself earlier in its training, which the model does "
            "not tell; give start='fresh' (training=Retraining(start='fresh')), or by='dropout'"
        )
    head = held_out_head(problem, "self", held_out_share)
    costs, extra = _costs(problem, head, by, dropout, first_share)
    rows = largest_of_classes(costs, head.labels, samples)
    weight, bias = _finetuned(head, rows, head_steps, head_lr, problem.seed)
    share = float(head.wrong[rows].double().mean())
    note = (
        f"the last layer is fine-tuned on {len(rows)} held-out samples chosen by {by}, as many of every "
        f"class; the network gets {share:.0%} of them wrong"
    )
    return head.outcome(weight, bias, (note, *extra), {"by": by, "chosen": len(rows)})


def disagreements(log_probabilities: Tensor, weaker: Tensor) -> Tensor:
    """KL(network || weaker) of every sample (N,), of two (N, K) of log-probabilities."""
    return (log_probabilities.exp() * (log_probabilities - weaker)).sum(1)


def largest_of_classes(costs: Tensor, labels: Tensor, samples: int) -> Tensor:
    """Rows of the largest costs, as many of every class as of the others, `samples` of all where there are.

    Parameters
    ----------
    costs, labels
        (N,).
    samples
        Over all classes; at least one of each is taken.

    Returns
    -------
    rows
        Ascending.
    """
    rows = [torch.nonzero(labels == label)[:, 0] for label in sorted(set(labels.tolist()))]
    each = min(max(1, samples // len(rows)), *map(len, rows))
    return (
        torch.cat([of[costs[of].argsort(descending=True, stable=True)[:each]] for of in rows]).sort().values
    )


def _costs(
    problem: DebiasProblem, head: HeldOutHead, by: By, dropout: float, first_share: float
) -> tuple[Tensor, tuple[str, ...]]:
    """(N,) by which samples are chosen, and what is to be said of the weaker network."""
    if by == "misclassification":
        return -head.log_probabilities.gather(1, head.labels[:, None])[:, 0], ()
    if by == "dropout":
        generator = generator_of(problem.seed, OBJECTIVE)
        drawn = torch.rand(head.features.shape, generator=generator, dtype=head.features.dtype)
        dropped = head.features * (drawn >= dropout) / (1 - dropout)
        weaker = dropped @ head.weight.T + head.bias
        return disagreements(head.log_probabilities, log_probabilities(weaker)), ()
    steps = max(1, round(first_share * budget(problem).n_steps(len(head.trained_on))))
    early = train(
        problem, CrossEntropy(), "self, stopped early", table=head.trained_on,
        training=problem.schedule().but(steps=steps), part="early", validate=False,
    )  # fmt: skip
    weaker = predict_logits(early.model, head.table, batch_size=problem.training.batch_size).double()
    note = f"the early-stopped network was trained for {steps} steps of its own, beyond those counted"
    return disagreements(head.log_probabilities, log_probabilities(weaker)), (note,)


def _finetuned(head: HeldOutHead, rows: Tensor, steps: int, lr: float, seed: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of the last layer after SGD on some held-out samples, in random batches."""
    weight, bias = (x.clone().requires_grad_(True) for x in (head.weight, head.bias))
    optimizer = torch.optim.SGD([weight, bias], lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    generator = generator_of(seed, OBJECTIVE, 1)
    for _ in range(steps):
        batch = rows[torch.randperm(len(rows), generator=generator)[:BATCH_SIZE]]
        optimizer.zero_grad()
        loss = cross_entropy(head.features[batch] @ weight.T + bias, head.labels[batch])
        torch.autograd.backward(loss)
        optimizer.step()
    return weight.detach(), bias.detach()
