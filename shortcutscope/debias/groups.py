"""Groups of samples by label and concepts, the weights that follow from them, and groups that are empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.errors import InputError
from shortcutscope.types import Bools, Floats, Ints


@dataclass(frozen=True)
class Groups:
    """The group (label, concept, or all concepts that are unlearnt together) of every row of a table.

    Attributes
    ----------
    labels
        (N,) int64.
    carries
        (N,) the concept: 1, 0, or NaN where it is not known.
    classes
        Labels that occur, ascending.
    index
        (N,) int64, ``states * position of the label in classes + carries``, of several concepts their bits,
        the first one's lowest; -1 where a concept is not known.
    concepts
        What the groups are by, for their names.
    """

    labels: Ints
    carries: Floats
    classes: tuple[int, ...]
    index: Ints
    concepts: tuple[str, ...] = ("the concept",)

    @property
    def states(self) -> int:
        """Groups of one label."""
        return 1 << len(self.concepts)

    @property
    def known(self) -> Bools:
        """(N,) where the concept is known."""
        return self.index >= 0

    @property
    def counts(self) -> Ints:
        """(G,) samples of each group."""
        size = self.states * len(self.classes)
        return np.bincount(self.index[self.known], minlength=size).astype(np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """Each group in words."""
        return tuple(
            f"label {label} {how}" for label in self.classes for how in map(self._how, range(self.states))
        )

    def _how(self, state: int) -> str:
        names = enumerate(self.concepts)
        return ", ".join(f"{'with' if state >> k & 1 else 'without'} {name}" for k, name in names)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of samples without a group."""
        unknown = int((~self.known).sum())
        if not unknown:
            return ()
        return (
            f"the concept of {unknown} of {len(self.index)} samples is not known: they weigh 1, the mean, "
            "and take no part in group statistics",
        )

    def tensor(self) -> Tensor:
        """`index` for an objective to look up."""
        return torch.from_numpy(self.index)


def group_by(
    labels: npt.ArrayLike, carries: npt.ArrayLike, beside: Mapping[str, Floats] | None = None
) -> Groups:
    """Groups from labels (N,) and a concept (N,) of 1, 0 and NaN; with others, by the crossing of all.

    Raises
    ------
    InputError
        Different lengths, or a concept that is neither 1, 0 nor NaN.
    """
    y = np.array(labels, dtype=np.int64)
    a = np.array(carries, dtype=np.float64)
    if y.shape != a.shape or y.ndim != 1:
        raise InputError(f"carries has shape {a.shape} and the labels {y.shape}; give one value per sample")
    finite = np.isfinite(a)
    if not np.isin(a[finite], (0, 1)).all() or np.isinf(a).any():
        wrong = next(value for value in a.tolist() if value not in (0, 1) and not np.isnan(value))
        raise InputError(
            f"carries holds {wrong}; allowed are 1 (carries the concept), 0 (does not) and NaN (not known)"
        )
    classes, position = np.unique(y, return_inverse=True)
    every = np.stack([a, *(beside or {}).values()])
    concepts = ("the concept", *(beside or {}))
    code = (np.nan_to_num(every).T @ (1 << np.arange(len(every)))) + position * (1 << len(every))
    index = np.where(np.isfinite(every).all(0), code, -1).astype(np.int64)
    return Groups(y, a, tuple(int(label) for label in classes), index, concepts)


def training_groups(problem: DebiasProblem, recipe: str, *, filled: bool = True) -> Groups:
    """The groups of the training samples.

    Parameters
    ----------
    problem
        With `carries`.
    recipe
        Who asks, for messages.
    filled
        Refuse an empty group.

    Raises
    ------
    InputError
        Without concept labels; with an empty group.
    """
    if problem.carries is None:
        raise InputError(
            f"{recipe} needs the concept of the training samples and carries is None: give carries=, 1, 0 or "
            "NaN per sample, for instance as retrieved from a few marked examples, or choose a recipe "
            "without concept labels (dfr, jtt, lff, distillation)"
        )
    groups = _of(problem, problem.carries)
    if filled:
        require_filled(groups, recipe)
    return groups


def has_conflicting(problem: DebiasProblem) -> bool:
    """Whether every group of label and shortcut is known to have a training sample."""
    if problem.carries is None:
        return False
    return bool((_of(problem, problem.carries).counts > 0).all())


def _of(problem: DebiasProblem, carries: Floats) -> Groups:
    groups = group_by(problem.train.frame["label"].to_numpy(), carries, problem.beside)
    return replace(groups, concepts=problem.names) if problem.beside else groups


def require_filled(groups: Groups, recipe: str) -> None:
    """Refuse empty groups.

    Raises
    ------
    InputError
        Names the empty groups; with one, the recipe is not defined (100 % correlation).
    """
    empty = [name for name, count in zip(groups.names, groups.counts, strict=True) if count == 0]
    if empty:
        raise InputError(
            f"{recipe} is not defined here: no training sample is of the group "
            f"{' or '.join(map(repr, empty))}. Add such samples (conflicting ones, against the "
            "correlation), or choose a recipe that needs none: distillation from a teacher, dfr or finetune, "
            "with a clean subset"
        )


def reweighing_weights(groups: Groups) -> Tensor:
    """P(y) P(a) / P(y, a) of every sample, (N,) float32 of mean 1; 1 where the concept is not known.

    Kamiran & Calders 2012, "Data preprocessing techniques for classification without discrimination",
    reweighing: under these weights label and concept are independent, with their own frequencies.
    Probabilities are over the samples whose concept is known.
    """
    joint = groups.counts.reshape(len(groups.classes), groups.states) / groups.counts.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return _per_sample(groups, (independent / joint).ravel())


def balanced_weights(groups: Groups, draws: Tensor | None = None) -> Tensor:
    """N / (G n_g) of every sample, (N,) float32 of mean 1; 1 where the concept is not known.

    Every group weighs the same, so that every class does, and half of every class carries the concept.
    Where samples are not drawn alike, `draws` (N,) says how often, and n_g is what is drawn of a group.
    """
    often = np.ones(len(groups.index)) if draws is None else draws.numpy().astype(np.float64)
    grouped = groups.known
    counts = np.bincount(groups.index[grouped], often[grouped], minlength=groups.states * len(groups.classes))
    return _per_sample(groups, counts.sum() / (len(counts) * counts))


def _per_sample(groups: Groups, by_group: Floats) -> Tensor:
    weights = np.where(groups.known, by_group[groups.index], 1.0)
    return torch.from_numpy(weights.astype(np.float32))
