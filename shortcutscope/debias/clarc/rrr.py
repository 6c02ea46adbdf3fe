"""Right for the right reasons: the slope of the output with respect to the image must not lie in a mask."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone reads)
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.budget import fit_student
from shortcutscope.debias.clarc.gradient_scale import GradientScale
from shortcutscope.debias.clarc.second_gradient import twice_differentiable
from shortcutscope.debias.objective import Batch, Objective, cross_entropy
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.training.augmentation import SHIFTS, shifted
from shortcutscope.debias.training.settings import Start
from shortcutscope.errors import InputError
from shortcutscope.models.heads.targets import find_logits

Slope = Literal["log-probabilities", "logits", "signed logits"]
BatchNorm = Literal["held", "trained"]


class RightReasons(Objective):
    """Cross-entropy, and the cosine between the absolute input gradient and the mask, over samples with one.

    Ross et al. 2017 penalise the gradient of the summed log-probabilities inside the mask; the cosine makes
    the penalty independent of the gradient's length, so that a network cannot please it by a flat output.

    Parameters
    ----------
    masks
        (M, C or 1, *spatial) bool, True on what must not matter.
    index
        (N,) for every training sample the number of its mask, -1 where it has none.
    scale
        Of the penalty.
    slope
        Of what the gradient is taken, see `rrr`.
    shifts
        Largest shift of a batch together with its masks, in pixels.
    """

    allows_augmentation = False  # a mask has to stay on its pixels, so that shifts are made here

    def __init__(
        self,
        masks: Tensor,
        index: Tensor,
        scale: GradientScale,
        *,
        slope: Slope = "log-probabilities",
        shifts: int = 0,
    ) -> None:
        super().__init__()
        self.scale = scale
        self._masks, self._index, self._slope, self._shifts = masks, index, slope, shifts

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        number = self._index[batch.rows]
        images, masks = self._shifted(batch, self._masks[number.clamp_min(0)].to(batch.images))
        if not bool((number >= 0).any()):
            task = cross_entropy(find_logits(model(images)), batch.labels)
            return {"ce": task, "rrr": torch.zeros_like(task)}
        images.requires_grad_()
        # A clone, since a model may normalise its input in place, which a leaf would refuse.
        with twice_differentiable():
            logits = find_logits(model(images.clone()))
        task = cross_entropy(logits, batch.labels)
        masked = torch.nonzero(number >= 0).flatten().to(images.device)
        score = explained(logits, self._slope, batch.generator)[masked].sum()
        (gradient,) = torch.autograd.grad(score, images, create_graph=True)
        penalty = absolute_cosine(gradient[masked], masks[masked]).mean()
        return {"ce": task, "rrr": self.scale(task, penalty, model.parameters())}

    def _shifted(self, batch: Batch, masks: Tensor) -> tuple[Tensor, Tensor]:
        channels = batch.images.shape[1]
        together = shifted(torch.cat([batch.images, masks], dim=1), self._shifts, batch.generator)
        return together[:, :channels].detach().clone(), together[:, channels:]


def explained(logits: Tensor, slope: Slope, generator: torch.Generator | None = None) -> Tensor:
    """What the gradient is taken of, (N,), from logits (N, K)."""
    if slope == "log-probabilities":
        if logits.shape[1] == 1:
            return (F.logsigmoid(logits) + F.logsigmoid(-logits))[:, 0]
        return logits.log_softmax(dim=1).sum(dim=1)
    if slope == "logits":
        return logits.sum(dim=1)
    signs = torch.randint(0, 2, logits.shape, generator=generator).to(logits) * 2 - 1
    return (signs * logits).sum(dim=1)


def absolute_cosine(gradient: Tensor, masks: Tensor) -> Tensor:
    """Cosine (N,) between |gradient| (N, C, *spatial) and masks (N, C or 1, *spatial)."""
    gradient = gradient.float() if gradient.dtype in (torch.bfloat16, torch.float16) else gradient
    masks = masks.to(gradient).expand_as(gradient)
    g, m = gradient.abs().flatten(1), masks.flatten(1)
    # The cosine does not know the length, but squares of tiny gradients would vanish.
    largest = g.detach().amax(dim=1, keepdim=True)
    g = g / torch.where(largest > 0, largest, 1)
    return (g * m).sum(1) / ((g.square().sum(1) + 1e-12).sqrt() * m.square().sum(1).sqrt().clamp_min(1e-12))


def rrr(
    problem: DebiasProblem,
    *,
    strength: float = 10.0,
    slope: Slope = "log-probabilities",
    start: Start = "model",
    batch_norm: BatchNorm | None = None,
    scale_batches: int = 8,
    scale_momentum: float | None = None,
) -> Outcome:
    """Train on with the artifact's masks, true or pseudo, until the input gradient avoids them.

    Parameters
    ----------
    problem
        With `masks`; samples without one, or with an empty one, take part with their cross-entropy alone.
    strength
        Weight of the penalty relative to the task loss, see `GradientScale`. A fitted network's task loss
        hardly pulls any more, so that a weight of 1 changes little; at 100 and above the task is lost.
    slope
        Of what the gradient is taken: the sum over classes of ``"log-probabilities"`` (Ross et al. 2017),
        of ``"logits"``, or of ``"signed logits"``, with a sign drawn for each. Cross-entropy changes only
        differences between logits, so that the plain sum of two opposite logits is blind to a shortcut.
    start
        The biased network by default, with the whole budget of steps.
    batch_norm
        ``"held"`` leaves batch norm as it is, in evaluation mode, as the authors' code does at and before a
        layer; ``"trained"`` lets it see the batch, whose statistics then carry a part of each sample's
        gradient that is not there when the network is used. None holds it in the biased network and trains
        it in a fresh one.
    scale_batches, scale_momentum
        See `GradientScale`.

    Raises
    ------
    InputError
        There are no masks, or they do not fit the images; an option out of range.
    """
    if batch_norm == "held" and start == "fresh":
        raise InputError("start='fresh' has no batch norm to hold; use batch_norm='trained'")
    scale = GradientScale(strength, batches=scale_batches, momentum=scale_momentum)
    masks, index = _gathered(problem)
    shifts = 0 if problem.training.augmentation == "none" else SHIFTS
    objective = RightReasons(masks, index, scale, slope=slope, shifts=shifts).to(problem.device)
    network = problem.network(start)
    n_fixed = hold_batch_norm(network) if batch_norm != "trained" and start == "model" else 0
    training = problem.schedule(start).but(augmentation="none")
    fit_result = fit_student(problem, network, objective, training, "rrr")
    fit_result.model.requires_grad_(True)
    notes = [*fit_result.notes, scale.note, *_notes(problem, len(masks), n_fixed, start)]
    return Outcome(
        fit_result.model, fit_result.steps, fit_result.history, tuple(notes), {"scale": scale.weight}
    )


def _notes(problem: DebiasProblem, n_masks: int, n_fixed: int, start: Start) -> list[str]:
    notes = [
        f"{n_masks} of {len(problem.train)} training samples have a mask; the others took part with their "
        "cross-entropy alone",
        f"started from {'the biased network' if start == 'model' else 'new weights'}",
    ]
    if n_fixed:
        notes.append(f"{n_fixed} layers of batch norm stayed as they were")
    if problem.training.augmentation == "strong":
        notes.append("augmented by shifts alone, which the masks can follow")
    return notes


def hold_batch_norm(model: nn.Module) -> int:
    """Take the gradient from all batch norm, which then stays in evaluation mode; how many layers there are.

    In training mode every sample's gradient passes through the statistics of its batch.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.requires_grad_(False)
    return len(norms)


def _gathered(problem: DebiasProblem) -> tuple[Tensor, Tensor]:
    """All masks that are not empty, and for every row the number of its mask or -1."""
    if problem.masks is None:
        raise InputError(
            "rrr needs masks of the artifact, and masks is None; annotate them, draw pseudo-masks from the "
            "audit's finding, or use a recipe that needs none"
        )
    table = problem.train
    shape = tuple(int(side) for side in table[0][0].shape)
    index = torch.full((len(table),), -1, dtype=torch.long)
    stack: list[Tensor] = []
    for row in range(len(table)):
        mask = problem.masks(row)
        if mask is None:
            continue
        mask = torch.as_tensor(mask).bool()
        if tuple(mask.shape) not in (shape, shape[1:]):
            raise InputError(_misfit(table, row, tuple(mask.shape), shape))
        if mask.any():
            index[row] = len(stack)
            stack.append(mask if mask.dim() == len(shape) else mask.unsqueeze(0))
    if not stack:
        raise InputError(
            f"rrr needs masks of the artifact, and none of the {len(table)} training samples has one with a "
            "pixel in it; annotate some of the samples that carry the artifact"
        )
    if len({len(mask) for mask in stack}) > 1:  # some for all channels, some for each of them
        stack = [mask.expand(shape) for mask in stack]
    return torch.stack(stack), index


def _misfit(table: ImageTable, row: int, mask: tuple[int, ...], image: tuple[int, ...]) -> str:
    return (
        f"the mask of sample {table.frame['sample_id'].iloc[row]!r} has shape {mask}, and the model's input "
        f"{image}; masks lie on the pixels of the model's input"
    )
