"""What a transform does to the place of the pixels: known steps are followed, others are tried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.data.geometry import Geometry
from shortcutscope.data.transform import Normalize
from shortcutscope.errors import InputError
from shortcutscope.models.preprocessing import CenterCrop, MiddleSquare, Preprocessing, Resizing

Step = Callable[[Tensor], Tensor]

#: Steps, by class name, that resample the whole image to another size.
RESIZING = ("Resize",)
CROPPING = ("CenterCrop",)
PADDING = ("Pad",)


def follow(transform: Step | None, image: Tensor, geometry: Geometry) -> Geometry:
    """Geometry after a transform was applied to an image.

    Followed are :class:`shortcutscope.data.transform.Normalize`; a model's own
    :class:`shortcutscope.models.preprocessing.Preprocessing`; of torchvision (both generations)
    ``Compose``, ``Resize``, ``CenterCrop``, ``Pad`` and the presets of its weights; ``nn.Sequential``; and
    whatever leaves each pixel in its place, which is tried on the image: single pixels are changed, and the
    change must stay where it was made.

    Parameters
    ----------
    transform
        Of the table; None changes nothing.
    image : (C, *spatial)
        The image before the transform.
    geometry
        Of the image before the transform.

    Raises
    ------
    InputError
        For a step that moves pixels in a way that is not known, by its name.
    """
    if transform is None:
        return geometry
    for step in _steps(transform):
        before = image
        image = step(before)
        if not isinstance(image, Tensor):
            raise InputError(f"the transform's step {_name(step)} gives no tensor")
        geometry = _after(step, before, image, geometry)
    return geometry


def _steps(transform: Any) -> Iterator[Step]:
    """Steps of a composed transform, in order."""
    kind = type(transform)
    if isinstance(transform, nn.Sequential):
        parts: list[Any] = list(transform)
    elif isinstance(transform, Preprocessing):
        parts = list(transform.steps)
    elif kind.__name__ == "Compose" and hasattr(transform, "transforms"):
        parts = list(transform.transforms)
    elif kind.__module__ == "torchvision.transforms._presets" and kind.__name__ == "ImageClassification":
        parts = list(_preset(transform))
    else:
        yield transform
        return
    for part in parts:
        yield from _steps(part)


def _preset(transform: Any) -> Iterator[Step]:
    """Steps of the transform that comes with torchvision's weights."""
    from torchvision.transforms import v2

    yield v2.Resize(
        transform.resize_size, interpolation=transform.interpolation, antialias=transform.antialias
    )
    yield v2.CenterCrop(transform.crop_size)
    yield v2.ToDtype(torch.float32, scale=True)
    yield v2.Normalize(transform.mean, transform.std)


def _after(step: Step, before: Tensor, after: Tensor, geometry: Geometry) -> Geometry:
    size = tuple(after.shape[1:])
    kind = type(step).__name__ if type(step).__module__.startswith("torchvision.") else ""
    if isinstance(step, Normalize | Resizing) or kind in RESIZING:
        return geometry.resized(size)
    if isinstance(step, CenterCrop | MiddleSquare) or kind in CROPPING:
        return geometry.cropped(_crop_start(step, before), size)
    if kind in PADDING:
        left, top = _left_and_top(step)
        return geometry.cropped((-top, -left), size)
    if size != tuple(before.shape[1:]) or not _keeps_places(step, before, after):
        raise InputError(
            f"the transform's step {_name(step)} moves pixels in a way that is not known "
            f"({tuple(before.shape[1:])} to {size}), so that masks cannot be brought back to the image. "
            "Use Resize, CenterCrop and Pad of torchvision, Normalize(size=), or the table's size="
        )
    return geometry


def _crop_start(step: Step, before: Tensor) -> tuple[int, ...]:
    """First pixel of a crop, read off an image of pixel numbers; negative where the crop pads."""
    height, width = before.shape[1:]
    rows = torch.arange(1, height + 1, dtype=torch.float32)[:, None].expand(height, width)
    columns = torch.arange(1, width + 1, dtype=torch.float32)[None].expand(height, width)
    numbered = step(torch.stack([rows, columns])).round().to(torch.int64)
    start = []
    for line in (numbered[0].amax(dim=1), numbered[1].amax(dim=0)):
        first = int(torch.nonzero(line)[0])  # the padding before it is zero
        start.append(int(line[first]) - 1 - first)
    return tuple(start)


def _left_and_top(step: Any) -> tuple[int, int]:
    padding = step.padding
    if isinstance(padding, int):
        return padding, padding
    sides = [int(side) for side in padding]
    return (sides[0], sides[0]) if len(sides) == 1 else (sides[0], sides[1])


def _keeps_places(step: Step, before: Tensor, after: Tensor) -> bool:
    """Whether a change of single pixels shows there more than anywhere else."""
    size = before.shape[1:]
    spread = float(before.max() - before.min()) or 1.0
    for share in (0.2, 0.7):
        place = tuple(int(share * side) for side in size)
        changed = before.clone()
        # Towards the far end of the image's own values, so that no clamp hides the change.
        middle = float(before.min()) + spread / 2
        pixel = changed.movedim(0, -1)[place]
        pixel.copy_(torch.where(pixel > middle, before.min(), before.min() + spread))
        difference = (step(changed) - after).abs().amax(dim=0)
        top = float(difference.max())
        if not np.isfinite(top) or top <= 0 or float(difference[place]) < top:
            return False
    return True


def _name(step: object) -> str:
    return getattr(step, "__qualname__", type(step).__qualname__)
