"""Random changes of images that leave the label as it is, for images, volumes and signals."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone reads)
from torch import Tensor

from shortcutscope.debias.callables import Transform, transformed
from shortcutscope.debias.training.settings import Augmentation

__all__ = ["augmented", "shifted", "strongly_changed", "symmetric"]

#: Largest shift in pixels of ``"shifts"``.
SHIFTS = 2
#: Largest changes of ``"strong"``: degrees, scale, shift as a share of each side, and contrast, brightness
#: and noise as shares of an image's own standard deviation.
DEGREES, SCALE, SHIFT = 10.0, 0.1, 0.08
CONTRAST, BRIGHTNESS, NOISE = 0.2, 0.2, 0.05


def augmented(
    images: Tensor, kind: Augmentation | Transform, generator: torch.Generator, part: slice, n: int
) -> Tensor:
    """One process's share of an augmented batch.

    Parameters
    ----------
    images
        (len(part), C, *spatial), the rows `part` of the whole batch.
    kind
        See :class:`shortcutscope.debias.training.settings.Training`.
    generator
        On the CPU, in the same state in all processes, so that a sample is changed in the same way
        whichever of them gets it.
    part, n
        Which rows of the whole batch these are, and how many it has.
    """
    if callable(kind):
        return transformed(kind, images)
    if kind == "shifts":
        return shifted(images, SHIFTS, generator)
    if kind == "symmetries":
        return symmetric(images, generator, part, n)
    return strongly_changed(images, generator, part, n) if kind == "strong" else images


def shifted(batch: Tensor, shifts: int, generator: torch.Generator) -> Tensor:
    """Move a batch (N, C, *spatial) by one random offset per spatial axis, repeating the border."""
    if shifts == 0 or batch.dim() < 3:
        return batch
    axes = batch.dim() - 2
    padded = F.pad(batch, (shifts, shifts) * axes, mode="replicate")
    for axis, start in enumerate(torch.randint(0, 2 * shifts + 1, (axes,), generator=generator).tolist()):
        padded = padded.narrow(axis + 2, start, batch.shape[axis + 2])
    return padded


def symmetric(
    images: Tensor, generator: torch.Generator, part: slice | None = None, n: int | None = None
) -> Tensor:
    """Mirror every sample (N, C, *spatial), turn it by right angles, and roll it about its edges.

    Pictures are turned by right angles where they are square, else by half a turn, which mirroring along all
    axes is; signals and volumes are mirrored and rolled alone.

    Parameters
    ----------
    images, generator, part, n
        As in :func:`augmented`; without `part` the batch is whole.
    """
    n = len(images) if n is None else n
    part = slice(0, n) if part is None else part
    spatial = images.shape[2:]
    shares = torch.rand(n, 2 * len(spatial) + 1, generator=generator)[part]
    square = len(spatial) == 2 and spatial[0] == spatial[1]
    out = torch.empty_like(images)
    for i, (image, drawn) in enumerate(zip(images, shares.tolist(), strict=True)):
        mirrored = [axis + 1 for axis in range(len(spatial)) if drawn[axis] < 0.5]
        moved = image.flip(mirrored) if mirrored else image
        if square and drawn[-1] < 0.5:  # with both mirrors these are all eight symmetries
            moved = moved.transpose(1, 2)
        amounts = [int(drawn[len(spatial) + axis] * side) for axis, side in enumerate(spatial)]
        out[i] = moved.roll(amounts, [axis + 1 for axis in range(len(spatial))]) if spatial else moved
    return out


def strongly_changed(
    images: Tensor, generator: torch.Generator, part: slice | None = None, n: int | None = None
) -> Tensor:
    """Change every sample in its own way: place, contrast, brightness, and light noise.

    Images are turned, scaled and shifted; volumes and signals are only shifted, since their axes are not
    alike. What comes in from outside repeats the border.

    Parameters
    ----------
    images, generator, part, n
        As in :func:`augmented`; without `part` the batch is whole.
    """
    n = len(images) if n is None else n
    part = slice(0, n) if part is None else part
    changes = (2 * torch.rand(n, 7, generator=generator) - 1)[part].to(images)
    noise_seed = int(torch.randint(2**62, (1,), generator=generator))
    moved = _moved(images, changes[:, :5]) if images.dim() in (3, 4, 5) else images
    columns = (-1, *(1,) * (images.dim() - 1))
    inside = tuple(range(1, images.dim()))
    mean, spread = moved.mean(inside, keepdim=True), moved.std(inside, correction=0, keepdim=True)
    contrast, brightness = (changes[:, i].view(columns) for i in (5, 6))
    # On the images' device, where so many numbers are drawn fast; for the whole batch, as all else.
    on_device = torch.Generator(images.device).manual_seed(noise_seed)
    noise = torch.randn(
        (n, *images.shape[1:]), generator=on_device, device=images.device, dtype=images.dtype
    )[part]
    shift = mean + spread * (BRIGHTNESS * brightness + NOISE * noise)
    return (moved - mean) * (1 + CONTRAST * contrast) + shift


def _moved(images: Tensor, changes: Tensor) -> Tensor:
    """Resample images (N, C, *spatial) by changes (N, 5) in [-1, 1]: shifts by axis, angle, scale."""
    if images.dim() == 3:  # a signal (N, C, L) as an image of one row
        return _moved(images.unsqueeze(2), changes * changes.new_tensor([1, 0, 0, 0, 0])).squeeze(2)
    axes = images.dim() - 2
    matrix = torch.zeros(len(images), axes, axes + 1, dtype=images.dtype, device=images.device)
    matrix[:, :, :axes] = torch.eye(axes, dtype=images.dtype, device=images.device)
    matrix[:, :, axes] = 2 * SHIFT * changes[:, :axes]  # a side is 2 long in these coordinates
    if axes == 2:
        angle, scale = math.radians(DEGREES) * changes[:, 3], 1 + SCALE * changes[:, 4]
        ratio = images.shape[2] / images.shape[3]  # else an oblong image would be sheared
        matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos() * scale
        matrix[:, 0, 1] = -angle.sin() * scale * ratio
        matrix[:, 1, 0] = angle.sin() * scale / ratio
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
