"""The artifact planted at random: masked pixels of carriers pasted onto others, until it tells nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shortcutscope.debias.budget import train
from shortcutscope.debias.groups import Groups, group_by
from shortcutscope.debias.materials import Floats, Materials, Outcome
from shortcutscope.debias.objective import Batch, Objective, at, cross_entropy
from shortcutscope.errors import InputError
from shortcutscope.models.targets import find_logits

#: What covers more of an image than this is no artifact that could be pasted without its picture.
LARGEST = 0.5


class Pasting(Objective):
    """Cross-entropy on images onto which artifacts of other samples are pasted.

    Parameters
    ----------
    images, masks
        (M, C, *spatial) images of carriers and (M, *spatial) bool, their artifacts' pixels.
    chances
        (N,) with which probability each row of the training table gets an artifact.
    """

    images: Tensor
    masks: Tensor

    def __init__(self, images: Tensor, masks: Tensor, chances: Tensor) -> None:
        super().__init__()
        self.register_buffer("images", images, persistent=False)
        self.register_buffer("masks", masks, persistent=False)
        self._chances = chances

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        return {"ce": cross_entropy(find_logits(model(self.pasted(batch))), batch.labels)}

    def pasted(self, batch: Batch) -> Tensor:
        """The batch's images, with artifacts (N, C, *spatial); draws from the batch's generator."""
        n, device = len(batch.rows), batch.images.device
        chosen = torch.randint(len(self.images), (n,), generator=batch.generator).to(device)
        drawn = torch.rand(n, generator=batch.generator).to(device) < at(self._chances, batch)
        where = self.masks[chosen] & drawn.reshape(-1, *[1] * (self.masks.dim() - 1))
        return torch.where(where.unsqueeze(1), self.images[chosen].to(batch.images.dtype), batch.images)


def artifact_augmentation(
    materials: Materials, *, share: float | None = None, n_artifacts: int = 256
) -> Outcome:
    """Copy-paste of the artifact, so that every class carries it equally often.

    Sees labels and the masks of the biased samples, and their concept where it is given; else a sample
    carries the artifact when it has a mask. Pasting is that of Ghiasi et al. 2021 ("Simple copy-paste is a
    strong data augmentation method"), without its scaling; planting a shortcut against the label follows the
    style augmentations that make a cue uninformative (Geirhos et al. 2019). A sample that does not carry the
    artifact gets one with the probability (share - c) / (1 - c), c being the share of carriers in its class,
    so that afterwards each class carries it in `share` of the samples. Defined at 100 % correlation, too.

    Parameters
    ----------
    materials
        With `masks` that cover at most half of an image.
    share
        Of every class; None for the largest among the classes.
    n_artifacts
        At most so many carriers give their artifacts, drawn by the seed.

    Raises
    ------
    InputError
        Without masks, with masks of another shape than the images, or of most of the image; for a `share`
        below that of a class.
    """
    if n_artifacts < 1:
        raise InputError(f"n_artifacts={n_artifacts} must be 1 or more")
    found = _artifacts(materials)
    labels = materials.train.frame["label"].to_numpy()
    carries = np.isin(np.arange(len(labels)), list(found)).astype(float)
    groups = group_by(labels, carries if materials.carries is None else materials.carries)
    chances, share, notes = _chances(groups, share)
    rows = sorted(np.random.default_rng(materials.seed).permutation(sorted(found))[:n_artifacts].tolist())
    images = torch.stack([materials.train[row][0] for row in rows])
    objective = Pasting(images, torch.stack([found[row] for row in rows]), chances)
    details = {"share": share, "artifacts": len(rows), "pasted": float(chances.mean())}
    return train(materials, objective, "artifact-augmentation", notes=notes, details=details)


def _chances(groups: Groups, share: float | None) -> tuple[Tensor, float, tuple[str, ...]]:
    """With what probability each sample gets an artifact (N,), and the share that every class then has."""
    counts = groups.counts.reshape(-1, 2)
    own = counts[:, 1] / np.maximum(counts.sum(1), 1)
    target = float(own.max()) if share is None else share
    if not own.max() <= target <= 1:
        raise InputError(
            f"share={share}: of class {groups.classes[int(own.argmax())]} already {own.max():.3f} carry the "
            "artifact; share must lie between that and 1"
        )
    missing = np.divide(target - own, 1 - own, out=np.zeros_like(own), where=own < 1)
    position = np.searchsorted(groups.classes, groups.labels)
    chances = np.where(groups.carries == 1, 0.0, missing[position])
    notes = [f"every class carries the artifact in {target:.1%} of its samples, by pasting"]
    unknown = int((~groups.known).sum())
    if unknown:
        notes.append(f"{unknown} samples of unknown concept are pasted upon like those without it")
    return torch.from_numpy(chances.astype(np.float32)), target, tuple(notes)


def _artifacts(materials: Materials) -> dict[int, Tensor]:
    """Row -> mask of every carrier that has one."""
    if materials.masks is None:
        raise InputError(
            "artifact-augmentation needs masks of the artifact and masks is None: give masks=, true ones or "
            "those drawn for the finding, or choose a recipe without masks"
        )
    shape = tuple(materials.train[0][0].shape[1:])
    found = {
        row: mask
        for row in _possible(materials.carries, len(materials.train))
        if (mask := _mask(materials.masks, row, shape)) is not None
    }
    if not found:
        raise InputError("artifact-augmentation: no sample that carries the concept has a mask with pixels")
    covered = float(np.median([float(mask.float().mean()) for mask in found.values()]))
    if covered > LARGEST:
        raise InputError(
            f"artifact-augmentation: the masks cover {covered:.0%} of an image (median), so pasting would "
            "replace the image and not only plant the artifact; it is for localized artifacts. For a diffuse "
            "one choose distillation, dfr or group-balanced-ce"
        )
    return found


def _possible(carries: Floats | None, n: int) -> list[int]:
    rows: npt.NDArray[np.int64] = np.arange(n) if carries is None else np.flatnonzero(carries == 1)
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
