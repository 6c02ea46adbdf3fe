"""GroupDRO: the worst group is trained on, by weights of the groups that follow their losses."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from shortcutscope.allowed import NotNegative, Positive
from shortcutscope.debias.budget import budget, train
from shortcutscope.debias.groups import Groups, balanced_weights, training_groups
from shortcutscope.debias.objective import Batch, Objective, at
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.models.heads.targets import find_logits


class GroupDRO(Objective):
    """The groups' mean losses, weighted by q, which rises exponentially with a group's loss.

    Sagawa et al. 2020 ("Distributionally robust neural networks for group shifts"), algorithm 1:
    q_g <- q_g exp(eta l_g), normalised, and the loss is sum_g q_g l_g. Of a group that is not in the batch
    the loss counts as 0, as in the authors' code. Samples without a group add their own mean, by their share
    of the batch.

    Parameters
    ----------
    groups
        Of the training table.
    eta
        Step size of q.
    adjustment
        C of the generalisation adjustment: C / sqrt(n_g) is added to the loss that q follows,
        for groups that generalise badly because they are small.
    """

    takes_loss = True
    q: Tensor
    _adjustment: Tensor

    def __init__(self, groups: Groups, *, eta: float = 0.01, adjustment: float = 0.0) -> None:
        super().__init__()
        counts = torch.from_numpy(groups.counts).float()
        self.register_buffer("q", torch.full((len(counts),), 1 / len(counts)))
        self.register_buffer("_adjustment", adjustment / counts.sqrt(), persistent=False)
        self.eta = eta
        self._index, self._draws = groups.tensor(), balanced_weights(groups)
        self._all_known = bool(groups.known.all())

    def draws(self) -> Tensor:
        """Every group alike, so that each batch has samples of the small ones."""
        return self._draws

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        losses = self.losses(find_logits(model(batch.images)), batch.labels)
        index = at(self._index, batch)
        member = (index == torch.arange(len(self.q), device=index.device).unsqueeze(1)).to(losses.dtype)
        sums, sizes = member @ losses, member.sum(1)
        whole = _whole_batch(torch.cat([sums.detach(), sizes, sums.new_tensor([len(losses)])]))
        whole_sums, whole_sizes = whole[: len(sums)], whole[len(sums) : -1].clamp(min=1)
        if self.training:
            self._follow(whole_sums / whole_sizes)
        # A process counts by its share of the batch; the groups' means are over all of the batch.
        by_group = whole[-1] / len(losses) * sums / whole_sizes
        known_share = whole[len(sums) : -1].sum() / whole[-1]
        terms = {"group_dro": known_share * (self.q.to(losses.dtype) @ by_group)}
        if not self._all_known:
            terms["ce_unknown"] = (losses * (index < 0)).mean()
        return terms

    def _follow(self, by_group: Tensor) -> None:
        with torch.no_grad():
            raised = self.q * torch.exp(self.eta * (by_group.to(self.q.dtype) + self._adjustment))
            self.q.copy_(raised / raised.sum())


def _whole_batch(values: Tensor) -> Tensor:
    """The sum over all processes that train together."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(values)
    return values


def group_dro(
    problem: DebiasProblem,
    *,
    eta: Positive = 0.01,
    weight_decay: NotNegative | None = 0.1,
    adjustment: NotNegative = 0.0,
) -> Outcome:
    """GroupDRO (Sagawa et al. 2020, algorithm 1), on group-balanced batches.

    Sees labels and the concept of the biased samples.

    Parameters
    ----------
    problem
        With `carries`.
    eta
        Step size of the groups' weights.
    weight_decay
        Strong, as the authors found it necessary for a network that can fit every sample; None for the
        training's own.
    adjustment
        C of the generalisation adjustment C / sqrt(n_g).

    Raises
    ------
    InputError
        Without concept labels, or with an empty group.
    """
    groups = training_groups(problem, "group-dro")
    objective = GroupDRO(groups, eta=eta, adjustment=adjustment)
    training = budget(problem)
    notes = groups.notes
    if weight_decay is not None:
        training = training.but(weight_decay=weight_decay)
        notes += (f"weight decay {weight_decay} instead of {problem.training.weight_decay}",)
    outcome = train(problem, objective, "group-dro", training=training)
    q = dict(zip(groups.names, objective.q.tolist(), strict=True))
    return outcome.with_notes(notes, {"q": q})
