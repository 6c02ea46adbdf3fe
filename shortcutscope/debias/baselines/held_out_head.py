"""A network and held-out samples that its last layer is fitted to again: before AFR, SELF and EVaLS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.allowed import Number
from shortcutscope.data.splits import holdout
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines.last_layer import last_features, last_linear, with_last
from shortcutscope.debias.budget import train
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.errors import InputError
from shortcutscope.models.heads.targets import predicted_class, two_scores
from shortcutscope.types import Bools, Ints

#: Share of the training samples that is held out where there are no other held-out samples, as in AFR.
HELD_OUT_SHARE = 0.2
HeldOutShare = Annotated[float, Number(0, 1, whole=False, above=True, below=True)]


@dataclass(frozen=True)
class HeldOutHead:
    """A trained network, and what its last layer is given for held-out samples.

    Attributes
    ----------
    model
        The network.
    name
        Of its last layer.
    table
        The held-out samples.
    trained_on
        Those of its training.
    features, labels
        (N, F) inputs of the last layer and (N,) classes of the held-out samples, on the CPU.
    weight, bias
        (K, F) and (K,) of the last layer; K is 1 for a binary task with one score.
    trained
        How the network was trained; without steps where it is the biased network itself.
    notes
        Where the held-out samples are from.
    """

    model: nn.Module
    name: str
    table: ImageTable
    trained_on: ImageTable
    features: Tensor
    labels: Tensor
    weight: Tensor
    bias: Tensor
    trained: Outcome
    notes: tuple[str, ...]

    @property
    def logits(self) -> Tensor:
        """(N, K) scores of the held-out samples."""
        return self.features @ self.weight.T + self.bias

    @property
    def log_probabilities(self) -> Tensor:
        """(N, max(K, 2)) of the classes."""
        return log_probabilities(self.logits)

    @property
    def wrong(self) -> Tensor:
        """(N,) bool, where the network errs."""
        return predicted_class(self.logits) != self.labels

    def outcome(
        self,
        weight: Tensor,
        bias: Tensor,
        notes: Sequence[str] = (),
        details: dict[str, object] | None = None,
    ) -> Outcome:
        """What a recipe hands back that ends with these weights of the last layer."""
        model = with_last(self.model, self.name, weight.numpy(), bias.numpy())
        n, wrong = len(self.labels), int(self.wrong.sum())
        counted = f"the network gets {wrong} of the {n} samples wrong that its last layer is fitted to again"
        about = {"held_out": n, "held_out_wrong": wrong, **(details or {})}
        all_notes = (*self.notes, counted, *notes, *self.trained.notes)
        return Outcome(model, self.trained.steps, self.trained.history, all_notes, about)


def held_out_head(problem: DebiasProblem, recipe: str, share: float = HELD_OUT_SHARE) -> HeldOutHead:
    """The network of the first stage and its view of the held-out samples.

    With ``start="model"`` it is the biased network as it is; with ``"fresh"`` one that is trained by
    cross-entropy, as in the papers. The held-out samples are those of `DebiasProblem.validation`; without
    them a share of the training samples, whole patients at a time, which a fresh network is not trained on.

    Raises
    ------
    InputError
        When the last layer is no ``nn.Linear``, or a class has fewer than two held-out samples.
    """
    fresh = problem.start == "fresh"
    if problem.training.own and not fresh:
        raise InputError(
            f"recipe {recipe!r} refits the last layer of the model as it is and takes no steps of an "
            f"optimizer, so {problem.training.own[0]}= means nothing; leave it out, or train a network first "
            "(start='fresh')"
        )
    network = problem.network() if fresh else problem.model
    name = last_linear(network, problem.example())
    rest, table, notes = _split(problem, share)
    _require_classes(problem.train, table, recipe)
    trained = Outcome(network)
    if fresh:
        trained = train(
            problem,
            CrossEntropy(),
            f"{recipe}, first",
            table=rest,
            model=network,
            part="first",
            validate=False,
        )
    features = torch.from_numpy(last_features(trained.model, table, name, problem.training.batch_size))
    labels = torch.as_tensor(table.frame["label"].to_numpy(copy=True), dtype=torch.long)
    weight, bias = _last_weights(trained.model.get_submodule(name))
    return HeldOutHead(trained.model, name, table, rest, features, labels, weight, bias, trained, notes)


def _last_weights(last: nn.Module) -> tuple[Tensor, Tensor]:
    """Weights and bias in double precision on the CPU; a bias of zeros where the layer has none."""
    state = {name: value.detach().double().cpu() for name, value in last.named_parameters()}
    weight = state["weight"]
    return weight, state.get("bias", torch.zeros(len(weight), dtype=weight.dtype))


def _split(problem: DebiasProblem, share: float) -> tuple[ImageTable, ImageTable, tuple[str, ...]]:
    """Samples of the first stage and held-out ones, and what is to be said of them."""
    if problem.validation is not None:
        return problem.train, problem.validation, ()
    frame = problem.train.frame
    held_out = holdout(frame["group"].to_numpy(), frame["label"].to_numpy(), share, problem.seed)
    rest, table = (problem.train.take(np.flatnonzero(rows)) for rows in (~held_out, held_out))
    if problem.start == "fresh":
        return rest, table, (f"{len(table)} of the training samples were held out for the last layer",)
    note = (
        f"the last layer is refitted on {len(table)} of the training samples, which the network has learnt "
        "if they are its own: where it remembers them it errs less than it would. Samples that it never saw "
        "(validation=) or start='fresh' are what the paper asks for"
    )
    return rest, table, (note,)


def _require_classes(train_table: ImageTable, table: ImageTable, recipe: str) -> None:
    counts = table.frame["label"].value_counts()
    for label in sorted(train_table.frame["label"].unique()):
        if counts.get(label, 0) < 2:
            raise InputError(
                f"{recipe}: class {label} has {counts.get(label, 0)} held-out samples, and 2 or more of "
                "every class are needed; give more of them (validation=), or a larger held_out_share"
            )


def log_probabilities(logits: Tensor) -> Tensor:
    """(N, max(K, 2)) of the classes, from (N, K) scores, where one score is that of class 1."""
    return two_scores(logits).log_softmax(1)


def worst_group(right: Bools, labels: Ints, groups: Ints) -> tuple[float, float]:
    """Least accuracy over the groups of label and `groups` that occur, and the mean of them all."""
    pairs = {(label, group) for label, group in zip(labels.tolist(), groups.tolist(), strict=True)}
    each = [right[(labels == label) & (groups == group)].mean() for label, group in sorted(pairs)]
    return float(min(each)), float(np.mean(each))
