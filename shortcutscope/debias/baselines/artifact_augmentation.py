"""The artifact planted at random: masked pixels of carriers pasted onto others, until it tells nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.budget import train
from shortcutscope.debias.groups import Groups, group_by
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.errors import InputError
from shortcutscope.types import Floats, Ints

#: What covers more of an image than this is no artifact that could be pasted without its picture.
LARGEST = 0.5


@dataclass(frozen=True, eq=False)
class PastedSource:
    """A table's model inputs, some with the artifact of another sample.

    Attributes
    ----------
    table
        The samples.
    donors
        Row -> the row whose artifact is pasted onto it.
    masks
        Row of a donor -> its artifact's pixels, (*spatial) bool.
    """

    table: ImageTable
    donors: Mapping[int, int]
    masks: Mapping[int, Tensor]

    def __len__(self) -> int:
        return len(self.table)

    def read(self, i: int) -> Tensor:
        """Input `i`, (C, *spatial)."""
        image = self.table[i][0]
        if i not in self.donors:
            return image
        donor = self.donors[i]
        return torch.where(self.masks[donor], self.table[donor][0], image)

    def identity(self, i: int) -> str:
        """As the table's own images say, with the donor."""
        identity = self._identity(i)
        return f"{identity}|pasted {self._identity(self.donors[i])}" if i in self.donors else identity

    def _identity(self, row: int) -> str:
        return self.table.source.identity(int(self.table.rows[row]))


def artifact_augmentation(problem: DebiasProblem, *, share: float | None = None) -> Outcome:
    """Copy-paste of the artifact, so that every class carries it equally often.

    Sees labels and the masks of the biased samples, and their concept where it is given; else a sample
    carries the artifact when it has a mask. Pasting is that of Ghiasi et al. 2021 ("Simple copy-paste is a
    strong data augmentation method"), without its scaling. Of the samples of a class that do not carry the
    artifact as many get one as are missing to `share`. They are pasted upon once, before the training's own
    augmentation, which would otherwise tell a pasted artifact from a native one. Defined at 100 %
    correlation, too, where all samples then carry it.

    Parameters
    ----------
    problem
        With `masks` that cover at most half of an image.
    share
        Of carriers, in every class; None for the largest among the classes.

    Raises
    ------
    InputError
        Without masks, with masks of another shape than the images, or of most of the image; for a `share`
        below that of a class.
    """
    artifacts = _artifacts(problem)
    labels = problem.train.frame["label"].to_numpy()
    carries = np.isin(np.arange(len(labels)), list(artifacts)).astype(float)
    groups = group_by(labels, carries if problem.carries is None else problem.carries)
    recipients, share, notes = _recipients(groups, share, problem.seed)
    rng = np.random.default_rng([problem.seed, 1])
    donors = {row: int(rng.choice(sorted(artifacts))) for row in recipients}
    table = pasted_table(problem.train, donors, artifacts)
    details = {"share": share, "artifacts": len(artifacts), "pasted": len(donors)}
    outcome = train(problem, CrossEntropy(), "artifact-augmentation", table=table)
    return outcome.with_notes(notes, details)


def pasted_table(table: ImageTable, donors: Mapping[int, int], masks: Mapping[int, Tensor]) -> ImageTable:
    """The same samples as model inputs, with `donors`' artifacts, see `PastedSource`."""
    return ImageTable(
        table.frame,
        PastedSource(table, donors, masks),
        value_range=table.value_range,
        classes=table.classes,
        has_groups=table.has_groups,
    )


def _recipients(groups: Groups, share: float | None, seed: int) -> tuple[list[int], float, tuple[str, ...]]:
    """Ints that get an artifact, the share of carriers that every class then has, and notes."""
    counts = groups.counts.reshape(-1, 2)
    shares = counts[:, 1] / np.maximum(counts.sum(1), 1)
    target = float(shares.max()) if share is None else share
    if not shares.max() <= target <= 1:
        raise InputError(
            f"share={share}: of class {groups.classes[int(shares.argmax())]} already {shares.max():.3f} "
            "carry the artifact; share must lie between that and 1"
        )
    rng = np.random.default_rng([seed, 0])
    rows: list[int] = []
    for label, c in zip(groups.classes, shares, strict=True):
        free = np.flatnonzero((groups.labels == label) & (groups.carries != 1))
        n = round(len(free) * (target - c) / (1 - c)) if c < 1 else 0
        rows += sorted(rng.permutation(free)[:n].tolist())
    notes = [f"every class carries the artifact in {target:.1%} of its samples, {len(rows)} by pasting"]
    unknown = int((~groups.known).sum())
    if unknown:
        notes.append(f"{unknown} samples of unknown concept are pasted upon like those without it")
    return rows, target, tuple(notes)


def _artifacts(problem: DebiasProblem) -> dict[int, Tensor]:
    """Row -> mask of every carrier that has one."""
    if problem.masks is None:
        raise InputError(
            "artifact-augmentation needs masks of the artifact and masks is None: give masks=, true ones or "
            "those drawn for the finding, or choose a recipe without masks"
        )
    shape = tuple(problem.train[0][0].shape[1:])
    artifacts = {
        row: mask
        for row in _possible(problem.carries, len(problem.train))
        if (mask := _mask(problem.masks, row, shape)) is not None
    }
    if not artifacts:
        raise InputError("artifact-augmentation: no sample that carries the concept has a mask with pixels")
    covered = float(np.median([float(mask.float().mean()) for mask in artifacts.values()]))
    if covered > LARGEST:
        raise InputError(
            f"artifact-augmentation: the masks cover {covered:.0%} of an image (median), so pasting would "
            "replace the image and not only plant the artifact; it is for localized artifacts. For a diffuse "
            "one choose distillation, dfr or group-balanced-ce"
        )
    return artifacts


def _possible(carries: Floats | None, n: int) -> list[int]:
    rows: Ints = np.arange(n) if carries is None else np.flatnonzero(carries == 1)
    return [int(row) for row in rows]


def _mask(masks: Callable[[int], Tensor | None], row: int, shape: tuple[int, ...]) -> Tensor | None:
    mask = masks(row)
    if mask is None or not bool(mask.any()):
        return None
    if tuple(mask.shape) != shape:
        raise InputError(
            f"artifact-augmentation: the mask of row {row} is {tuple(mask.shape)} and the model's input "
            f"{shape}; masks are those of the input"
        )
    return mask.bool().cpu()
