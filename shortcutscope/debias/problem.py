"""The debiasing problem that a recipe is given, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from shortcutscope.allowed import check_options
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.training.settings import Start, Training
from shortcutscope.errors import InputError
from shortcutscope.models.copying import copied
from shortcutscope.models.seeding import seeded
from shortcutscope.probes.concept import Concept
from shortcutscope.types import JSON, Floats

#: What recipes may need beside the biased samples and their labels.
Need = Literal["clean", "groups", "masks", "concept", "conflicting", "images"]


@dataclass(frozen=True)
class DebiasProblem:
    """A biased network and what recipes may draw on to mend it; each says which parts it needs.

    Attributes
    ----------
    model
        The biased network. No recipe changes it.
    train
        The biased samples, without the clean ones.
    clean
        Samples in which the shortcut tells nothing of the label.
    carries
        (N,) the concept of every row of `train`: 1, 0, or NaN where it is not known.
    clean_carries
        (M,) the same of `clean`; None where nobody looked.
    beside
        Of further findings that are unlearnt with it, by name: (N,) as `carries`.
    masks
        From a row of `train` to the artifact's pixels in the model's input, (*spatial) bool; None where
        the row has no mask.
    layers
        Layers that the audit chose, and their weights, which sum to 1.
    validation
        Held-out biased samples for the rule of selection, without concept labels.
    judged_on, concept
        Held-out samples with the concept (a column, or values by id), to see whether a teacher uses it.
    positive
        The class that the concept goes with.
    start
        Where students begin: ``"model"``, the biased network, or ``"fresh"`` (`initial`, else new weights).
    initial
        Makes a network with new weights, from a seed; None draws new weights for `model`.
    training
        The budget that all recipes share.
    seed
        Of new weights.
    out
        Folder of the checkpoints and logs of the student's training; None keeps nothing.
    progress
        Show bars.
    """

    model: nn.Module
    train: ImageTable
    clean: ImageTable | None = None
    carries: Floats | None = None
    clean_carries: Floats | None = None
    beside: Mapping[str, Floats] = field(default_factory=dict)
    masks: Callable[[int], Tensor | None] | None = None
    layers: Mapping[str, float] | None = None
    validation: ImageTable | None = None
    judged_on: ImageTable | None = None
    concept: str | Concept | None = None
    positive: int = 1
    start: Start = "model"
    initial: Callable[[int], nn.Module] | None = None
    training: Training = field(default_factory=Training)
    seed: int = 0
    out: Path | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_options({"start": str(self.start)})

    @property
    def names(self) -> tuple[str, ...]:
        """What is unlearnt."""
        first = self.concept.name if isinstance(self.concept, Concept) else self.concept
        return (first or "the concept", *self.beside)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def with_out(self, folder: Path | None) -> DebiasProblem:
        """The same, with a folder for checkpoints and logs."""
        return replace(self, out=folder)

    def example(self, n: int = 2) -> Tensor:
        """The first inputs of the training table, on the model's device, for finding layers."""
        return torch.stack([self.train[i][0] for i in range(n)]).to(self.device)

    def schedule(self, start: Start | None = None) -> Training:
        """The budget, with the learning rate for where a training begins; None is `start`."""
        start = start or self.start
        if self.training.lr is None and start == "fresh" and self.initial is not None:
            return self.training.beginning(start, self.initial(self.seed))
        return self.training.beginning(start, self.model)

    def network(self, start: Start | None = None) -> nn.Module:
        """A network of one's own to train, on the model's device, with all parameters trainable."""
        if (start or self.start) == "model":
            network = copied(self.model)
        elif self.initial is not None:
            network = self.initial(self.seed)
        else:
            network = renewed(self.model, self.seed)
        return network.requires_grad_(True).to(self.device)


@dataclass(frozen=True)
class Outcome:
    """What a recipe hands back.

    Attributes
    ----------
    model
        The network, in evaluation mode; a wrapper around the biased one where nothing was trained.
    steps
        Optimiser steps taken on the biased samples.
    history
        Of the last training.
    notes
        Choices that were made on the way, and fallbacks with their reason.
    details
        Figures of the recipe, for ``metrics.json``.
    """

    model: nn.Module
    steps: int = 0
    history: tuple[dict[str, float], ...] = ()
    notes: tuple[str, ...] = ()
    details: JSON = field(default_factory=dict)

    def with_notes(self, notes: Sequence[str] = (), details: JSON | None = None) -> Outcome:
        """The same with notes before its own, and with further figures."""
        return replace(self, notes=(*notes, *self.notes), details={**self.details, **(details or {})})


def renewed(model: nn.Module, seed: int) -> nn.Module:
    """A copy of a network with new weights, drawn as its modules draw them.

    Raises
    ------
    InputError
        When a module has weights of its own and no ``reset_parameters``.
    """
    network = copied(model)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    with seeded(seed):
        for name, module in network.named_modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            direct = dict(module.named_parameters(name, recurse=False))
            if callable(reset):
                reset()
            # A reset that draws what is computed (as under weight_norm) leaves the parameters as they were.
            undrawn = any(_same_draw(value, before[key]) for key, value in direct.items())
            if undrawn or (direct and not callable(reset)):
                raise InputError(
                    f"{name or type(module).__name__} ({type(module).__name__}) has weights but no "
                    "reset_parameters that draws them, so no new network can be drawn; give initial=, a "
                    "function from a seed to a network, or start from the model"
                )
    return network


def _same_draw(value: Tensor, before: Tensor) -> bool:
    """Whether a parameter was not drawn anew; constants, as of batch norm, tell nothing."""
    return torch.equal(value, before) and bool((value != value.flatten()[:1]).any())
