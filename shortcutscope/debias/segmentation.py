"""Spatial specificity: a network that is told where the finding is relies less on what lies elsewhere.

Saab et al. 2022, "Reducing reliance on spurious features in medical image classification with spatial
specificity": the same network is trained with image labels, with bounding boxes or with masks of the finding,
and scores an image by the mean over pixels of the positive channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone reads)
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from shortcutscope.data.geometry import Geometry
from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform_geometry import follow
from shortcutscope.debias.budget import fit_student
from shortcutscope.debias.objective import Batch, Objective
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.segmenter import Segmenter, enlarged
from shortcutscope.debias.training.augmentation import SHIFTS, shifted
from shortcutscope.debias.training.fit import Fitted, fit
from shortcutscope.debias.training.settings import Start, Training
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.seeding import seeded
from shortcutscope.types import Bools, Ints

Supervision = Literal["binary", "box", "segmentation"]
Unmasked = Literal["leave", "pseudo"]
Masks = Callable[[int], Tensor | None]


def spatial_specificity(
    problem: DebiasProblem,
    *,
    supervision: Supervision = "segmentation",
    masks: Masks | None = None,
    unmasked: Unmasked = "leave",
    foreground: int = 1,
    width: int = 32,
    balance: bool = False,
    start: Start | None = None,
) -> Outcome:
    """Train a segmentation network on the finding, and classify by what it finds.

    Parameters
    ----------
    problem
        Whose training table has masks of the finding (not of the artifact); ``"binary"`` needs none.
    supervision
        ``"segmentation"`` by the masks, ``"box"`` by the bounding box of each of their connected parts,
        ``"binary"`` by the image's label at every pixel.
    masks
        From a row of the training table to the finding's pixels in the model's input, true or pseudo; by
        default the table's own masks.
    unmasked
        Samples of the foreground class without a mask are ``"leave"``: left out, or ``"pseudo"``: half of the
        steps are spent without them, and in the other half they are taught what the network then sees in them
        (self-training). While some are left out, those with a mask are drawn as often as the samples of the
        other class, whose mask is empty: else a network that sees few findings learns that there are none.
    foreground
        Class that has the finding.
    width
        Channels of the decoder.
    balance
        Weigh foreground and background pixels alike; plain cross-entropy as published otherwise.
    start
        Of the backbone; None is what `problem` says.

    Raises
    ------
    InputError
        No mask of the finding, masks that do not fit the images, more than two classes, a network without
        positions, or an option out of range.
    """
    targets = PixelTargets.of(problem.train, supervision, foreground, masks)
    with seeded(problem.seed):
        model = Segmenter.around(
            problem.network(start), problem.example(), width=width, foreground=foreground
        )
    steps, notes = problem.training.n_steps(len(problem.train)), targets.notes(supervision)
    training = problem.schedule(start).but(augmentation="none", epochs=1.0, steps=steps)
    targets, fit_result = _train(problem, model, targets, training, unmasked, balance)
    notes += [*fit_result.notes, *_calibrate(model, problem)]
    if problem.training.augmentation == "strong":
        notes.append("augmented by shifts alone, which the masks can follow")
    details = {
        "supervision": supervision,
        "masked": int((targets.has_target & targets.positive).sum()),
        "layers": [layer.name for layer in model.layers],
    }
    return Outcome(model.eval(), fit_result.steps, fit_result.history, tuple(notes), details)


def _train(
    problem: DebiasProblem,
    model: Segmenter,
    targets: PixelTargets,
    training: Training,
    unmasked: Unmasked,
    balance: bool,
) -> tuple[PixelTargets, Fitted]:
    """Train on the pixels; with pseudo-masks half of the steps are spent without what has no mask."""
    shifts = 0 if problem.training.augmentation == "none" else SHIFTS
    steps, missing = training.n_steps(len(problem.train)), np.flatnonzero(~targets.has_target)
    spent, notes = 0, []
    if unmasked == "pseudo" and len(missing):
        spent = max(1, steps // 2)
        fit(
            model,
            problem.train,
            PixelCrossEntropy.of(targets, shifts=shifts, balance=balance),
            training.but(steps=spent),
            name="segmentation, first half",
            progress=problem.progress,
        )
        targets = targets.completed(_predicted(model, problem, missing), missing)
        notes = [
            f"{spent} of {steps} steps were spent without the {len(missing)} samples that have no mask; then "
            "they were taught the network's own"
        ]
    objective = PixelCrossEntropy.of(targets, shifts=shifts, balance=balance)
    rest = training.but(steps=max(1, steps - spent))
    fit_result = fit_student(problem, model, objective, rest, "segmentation")
    return targets, replace(fit_result, steps=spent + fit_result.steps, notes=(*notes, *fit_result.notes))


@dataclass(frozen=True, eq=False)
class PixelTargets:
    """What the pixels are taught.

    Attributes
    ----------
    targets
        (N, *spatial) bool.
    has_target
        (N,) False where the sample has the finding and nobody drew it.
    positive
        (N,) whether the sample is of the foreground class.
    """

    targets: Tensor
    has_target: Bools
    positive: Bools

    @classmethod
    def of(
        cls, table: ImageTable, supervision: Supervision, foreground: int = 1, masks: Masks | None = None
    ) -> PixelTargets:
        """From a table's labels, and its masks or other ones.

        Raises
        ------
        InputError
            See `spatial_specificity`.
        """
        labels = table.frame["label"].to_numpy()
        if not set(np.unique(labels)) <= {0, 1}:
            raise InputError(
                f"the labels are {np.unique(labels).tolist()}; a segmentation network tells one finding from "
                "its absence, so there may be two classes, 0 and 1"
            )
        positive = labels == foreground
        size = tuple(int(side) for side in table[0][0].shape[1:])
        targets, has_target = torch.zeros((len(table), *size), dtype=torch.bool), ~positive
        for row in np.flatnonzero(positive).tolist():
            if supervision == "binary":
                targets[row], has_target[row] = True, True
                continue
            mask = _fitting(masks(row) if masks else finding_mask(table, row), size, table, row)
            if mask is not None and mask.any():
                targets[row] = boxes(mask) if supervision == "box" else mask
                has_target[row] = True
        if not (has_target & positive).any():
            raise InputError(
                f"supervision={supervision!r} needs masks of the finding, and none of the {positive.sum()} "
                f"training samples of class {foreground} has one: give the table masks (its role mask), or "
                "masks=, or use supervision='binary'"
            )
        return cls(targets, has_target, positive)

    def completed(self, targets: Tensor, rows: Ints) -> PixelTargets:
        """With other targets of some rows, which then count as known."""
        everything, has_target = self.targets.clone(), self.has_target.copy()
        everything[torch.from_numpy(rows)], has_target[rows] = targets, True
        return replace(self, targets=everything, has_target=has_target)

    def draws(self) -> Tensor | None:
        """How often each sample is drawn, (N,): both classes alike where some of one are left out."""
        if self.has_target.all():
            return None
        frequent = np.zeros(len(self.has_target))
        for side in (self.has_target & self.positive, ~self.positive):
            frequent[side] = 1 / max(1, int(side.sum()))
        return torch.from_numpy(frequent)

    def notes(self, supervision: Supervision) -> list[str]:
        """How many samples have a mask, and what becomes of the others."""
        if supervision == "binary":
            return ["every pixel was taught the label of its image"]
        n_masks, all_of_them = int((self.has_target & self.positive).sum()), int(self.positive.sum())
        sentence = f"{n_masks} of {all_of_them} samples with the finding have a mask of it ({supervision})"
        return [
            sentence if n_masks == all_of_them else f"{sentence}; they are drawn as often as those without it"
        ]


def finding_mask(table: ImageTable, row: int) -> Tensor | None:
    """A table's own mask of a sample, on the pixels of the model's input."""
    mask = table.mask(row)
    if mask is None or table.transform is None:
        return mask
    image = table.image(row)
    size = tuple(int(side) for side in image.shape[1:])
    if tuple(mask.shape) != size:
        return mask  # told to be wrong by its size
    return torch.from_numpy(follow(table.transform, image, Geometry.of(size)).from_source(mask.numpy()))


def boxes(mask: Tensor) -> Tensor:
    """The bounding box of every connected part of a mask, filled."""
    filled = np.zeros(tuple(mask.shape), bool)
    parts, _ = ndimage.label(mask.numpy(), structure=np.ones((3,) * mask.dim()))
    for box in ndimage.find_objects(parts):
        filled[box] = True
    return torch.from_numpy(filled)


def _fitting(mask: Tensor | None, size: tuple[int, ...], table: ImageTable, row: int) -> Tensor | None:
    if mask is None:
        return None
    mask = torch.as_tensor(mask).bool()
    if mask.dim() == len(size) + 1:  # of a signal, lead by lead
        mask = mask.any(dim=0)
    if tuple(mask.shape) != size:
        raise InputError(
            f"the mask of sample {table.frame['sample_id'].iloc[row]!r} has shape {tuple(mask.shape)}, and "
            f"the model's input {size}; masks lie on the pixels of the model's input"
        )
    return mask


class PixelCrossEntropy(Objective):
    """Cross-entropy over the pixels of the samples whose mask is known.

    Parameters
    ----------
    targets
        (N, *spatial) bool.
    has_target
        (N,) bool.
    shifts
        Largest shift of a batch together with its masks, in pixels.
    balance
        Foreground and background of a batch weigh the same.
    draws
        (N,) how often each sample is drawn; None for all alike.
    """

    allows_augmentation = False  # a mask has to stay on its pixels, so that shifts are made here

    def __init__(
        self,
        targets: Tensor,
        has_target: Bools,
        *,
        shifts: int = 0,
        balance: bool = False,
        draws: Tensor | None = None,
    ) -> None:
        super().__init__()
        self._targets, self._known = targets, torch.from_numpy(np.asarray(has_target, bool))
        self._shifts, self._balance, self._draws = shifts, balance, draws

    @classmethod
    def of(cls, targets: PixelTargets, *, shifts: int = 0, balance: bool = False) -> PixelCrossEntropy:
        """Of what the pixels are taught."""
        return cls(targets.targets, targets.has_target, shifts=shifts, balance=balance, draws=targets.draws())

    def draws(self) -> Tensor | None:  # noqa: D102
        return self._draws

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        assert isinstance(model, Segmenter)
        masks = self._targets[batch.rows].to(batch.images).unsqueeze(1)
        together = shifted(torch.cat([batch.images, masks], dim=1), self._shifts, batch.generator)
        images, target = together[:, :-1], together[:, -1].round().long()
        has_target = self._known[batch.rows].to(images.device)
        scores = enlarged(model.maps(images), images.shape[2:])
        scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
        losses = F.cross_entropy(scores, target, reduction="none")
        weights = has_target.view(-1, *[1] * (target.dim() - 1)).expand_as(losses).to(losses)
        if self._balance:
            weights = weights * _balancing(target, weights)
        return {"pixel ce": (losses * weights).sum() / weights.sum().clamp_min(1e-12)}


def _balancing(target: Tensor, weights: Tensor) -> Tensor:
    """Weights of pixels such that both values of the target weigh the same."""
    share = (weights * target).sum() / weights.sum().clamp_min(1)
    share = share.clamp(1e-4, 1 - 1e-4)
    return torch.where(target == 1, 0.5 / share, 0.5 / (1 - share))


def _predicted(model: Segmenter, problem: DebiasProblem, rows: Ints) -> Tensor:
    """Where the network sees the finding in samples that have it: at least in the pixel that is likeliest."""
    parts = []
    with frozen(model), torch.no_grad():
        for images in _images(problem, rows):
            maps = enlarged(model.maps(images), images.shape[2:]).float()
            margin = (maps[:, 1] - maps[:, 0]).flatten(1)
            foreground = (margin > 0) | (margin == margin.amax(dim=1, keepdim=True))
            parts.append(foreground.view(len(images), *images.shape[2:]).cpu())
    return torch.cat(parts)


def _calibrate(model: Segmenter, problem: DebiasProblem) -> list[str]:
    """Fit the step from log-odds to the class; monotone, so that it leaves the order of the images alone."""
    labels = problem.train.frame["label"].to_numpy() == model.foreground
    rows = np.arange(len(labels))
    with frozen(model), torch.no_grad():
        parts = [model.log_odds(images).double().cpu() for images in _images(problem, rows)]
    odds = torch.cat(parts).numpy()
    spread = max(float(odds.std()), 1e-12)
    fit = LogisticRegression(C=100.0, class_weight="balanced").fit((odds / spread)[:, None], labels)
    slope, offset = float(fit.coef_[0, 0]) / spread, float(fit.intercept_[0])
    note = "the step from the mean over pixels to the class was fitted on the training labels"
    if slope <= 0:
        slope = 1.0
        offset = -float(odds[labels].mean() + odds[~labels].mean()) / 2
        note += "; the score falls with the label there, so that only its middle was"
    model.slope.fill_(slope)
    model.offset.fill_(offset)
    return [note]


def _images(problem: DebiasProblem, rows: Ints) -> Iterator[Tensor]:
    size = problem.training.batch_size
    for start in range(0, len(rows), size):
        batch = [problem.train[int(row)][0] for row in rows[start : start + size]]
        yield torch.stack(batch).to(problem.device)
