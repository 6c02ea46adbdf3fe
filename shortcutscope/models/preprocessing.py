"""From an image to a model's input, as the library that the model comes from does it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shortcutscope.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Step = Callable[[Tensor], Tensor]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
#: Pictures on which a preprocessing is compared with its library's own: wide, high, odd, small; and how far
#: the inputs may lie apart, in 255ths of the range (a library that resamples eight bits rounds).
TRIED_SIZES, ROUNDING = ((301, 260), (200, 333), (97, 90), (512, 512)), 3.0


@dataclass(frozen=True)
class Resizing:
    """Resample an image (C, H, W), antialiased, within a range of values that it never leaves.

    Attributes
    ----------
    size
        ``(height, width)``, or the length of the shorter side, by which the aspect is kept.
    interpolation
        One of `INTERPOLATIONS`.
    value_range
        To which overshoots are cut.
    levels
        Steps of the range to which values are rounded, as those of pictures of eight bits are; None for none.
    """

    size: int | tuple[int, int]
    interpolation: str
    value_range: tuple[float, float]
    levels: int | None = None

    def __call__(self, image: Tensor) -> Tensor:
        """Image of the other size."""
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2.functional import resize

        how = InterpolationMode(self.interpolation)
        height, width = image.shape[-2:]
        if isinstance(self.size, int):  # as torchvision rounds the longer side
            short = min(height, width)
            target = [
                int(self.size * side / short) if side != short else self.size for side in (height, width)
            ]
        else:
            target = list(self.size)
        for size in (
            [height, target[1]],
            target,
        ):  # side by side, as pictures of eight bits are cut in between
            image = self._rounded(resize(image, size, interpolation=how, antialias=True))
        return image

    def _rounded(self, image: Tensor) -> Tensor:
        low, high = self.value_range
        image = image.clamp(low, high)
        if self.levels is None:
            return image
        step = (high - low) / self.levels
        # Halves go upwards, as Pillow rounds them, also where floats are a little below.
        return ((image - low) / step + 0.501).floor() * step + low


@dataclass(frozen=True)
class CenterCrop:
    """The middle of an image (C, H, W), which is padded with `fill` where it is smaller.

    Attributes
    ----------
    size
        ``(height, width)``.
    fill
        Of what is padded.
    rounded
        Whether half a pixel is rounded to the even number, as torchvision does; else it is cut off.
    """

    size: tuple[int, int]
    fill: float = 0.0
    rounded: bool = True

    def __call__(self, image: Tensor) -> Tensor:
        """Image (C, height, width)."""
        missing = [max(0, want - have) for want, have in zip(self.size, image.shape[-2:], strict=True)]
        top, left = (n // 2 for n in missing)
        sides = (left, missing[1] - left, top, missing[0] - top)
        padded = functional.pad(image, sides, value=self.fill) if any(missing) else image
        starts = [(have - want) / 2 for want, have in zip(self.size, padded.shape[-2:], strict=True)]
        y, x = (round(start) if self.rounded else int(start) for start in starts)
        return padded[..., y : y + self.size[0], x : x + self.size[1]]


@dataclass(frozen=True)
class MiddleSquare:
    """The largest square in the middle of an image (C, H, W)."""

    def __call__(self, image: Tensor) -> Tensor:
        """Image (C, side, side)."""
        side = min(image.shape[-2:])
        return CenterCrop((side, side), rounded=False)(image)


@dataclass(frozen=True)
class Standardization:
    """``(x - mean) / std`` by channel; one number stands for all channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: Tensor) -> Tensor:
        """Standardized image (C, *spatial)."""
        if len(self.mean) not in (1, image.shape[0]):
            raise InputError(
                f"the model's preprocessing has {len(self.mean)} channels and the image {image.shape[0]}; "
                'read the images with mode="L" or "RGB"'
            )
        shape = (-1,) + (1,) * (image.ndim - 1)
        mean, std = (image.new_tensor(values).view(shape) for values in (self.mean, self.std))
        return (image - mean) / std


@dataclass(frozen=True)
class Flipping:
    """Channels in the opposite order: BGR of RGB."""

    def __call__(self, image: Tensor) -> Tensor:
        """Image with its first channel last."""
        return image.flip(0)


@dataclass(frozen=True)
class Preprocessing:
    """How a model's own library makes its input of an image; a transform of a table.

    Attributes
    ----------
    origin
        The model that it belongs to, in words.
    mode
        ``"L"`` or ``"RGB"``, as `ImageTable` reads images; None for as many channels as the file has.
    value_range
        Lowest and highest value of an image before `mean` and `std`.
    resize
        ``(height, width)``, the length of the shorter side, or None.
    interpolation
        Of the resize.
    crop
        Size of the middle that is cut out after it, or of the middle square (``"square"``) before it.
    crop_rounded
        See `CenterCrop`.
    mean, std
        By channel, in units of the value range; None where nothing is standardized.
    bgr
        Whether the channels are in the order blue, green, red.
    levels
        See `Resizing`; None for a library that does not resize pictures of eight bits.

    Examples
    --------
    >>> import torch
    >>> own = Preprocessing("a test", resize=8, crop=(8, 8), mean=(0.5,), std=(0.25,))
    >>> own(torch.ones(1, 16, 24)).shape, str(own)
    (torch.Size([1, 8, 8]), 'values 0 to 1, shorter side to 8 (bilinear), middle 8 x 8, mean 0.5, std 0.25')
    """

    origin: str
    mode: str | None = None
    value_range: tuple[float, float] = (0.0, 1.0)
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"
    crop: tuple[int, int] | str | None = None
    crop_rounded: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    bgr: bool = False
    levels: int | None = 255

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"interpolation={self.interpolation!r}; allowed are {', '.join(INTERPOLATIONS)}")

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is done to an image, in order."""
        square = self.crop == "square"
        low = self.value_range[0]
        steps: list[Step | None] = [
            MiddleSquare() if square else None,
            None
            if self.resize is None
            else Resizing(self.resize, self.interpolation, self.value_range, self.levels),
            CenterCrop(self.crop, low, self.crop_rounded) if isinstance(self.crop, tuple) else None,
            Flipping() if self.bgr else None,
            None if self.mean is None or self.std is None else Standardization(self.mean, self.std),
        ]
        return tuple(step for step in steps if step is not None)

    def __call__(self, image: Tensor) -> Tensor:
        """Model input of an image (C, *spatial) in the value range."""
        for step in self.steps:
            image = step(image)
        return image

    def options(self) -> dict[str, Any]:
        """The options of `ImageTable` by which it reads images so: ``from_csv(file, **own.options())``."""
        return {"mode": self.mode, "value_range": self.value_range, "transform": self}

    def __str__(self) -> str:
        low, high = self.value_range
        parts = [self.mode or "", f"values {low:g} to {high:g}"]
        parts.append("middle square" if self.crop == "square" else "")
        if self.resize is not None:
            whole = isinstance(self.resize, tuple)
            size = " x ".join(map(str, self.resize)) if isinstance(self.resize, tuple) else self.resize
            parts.append(f"{'' if whole else 'shorter side '}to {size} ({self.interpolation})")
        parts.append(f"middle {self.crop[0]} x {self.crop[1]}" if isinstance(self.crop, tuple) else "")
        parts.append("blue channel first" if self.bgr else "")
        for name, values in (("mean", self.mean), ("std", self.std)):
            parts.append("" if values is None else f"{name} {', '.join(f'{v:.3g}' for v in values)}")
        return ", ".join(filter(None, parts))


def require_same(own: Preprocessing, reference: Callable[[Image], Tensor]) -> Preprocessing:
    """A preprocessing, where it does the same as its library does on pictures of several sizes.

    Parameters
    ----------
    own
        As it was understood.
    reference
        The library's own: from a picture of eight bits (PIL, RGB or L) to the input (C, H, W).

    Raises
    ------
    InputError
        Says that it is not known here, and what to do.
    """
    draw = np.random.default_rng(0)
    for height, width in TRIED_SIZES:
        rough = torch.from_numpy(
            draw.random((1, 1 if own.mode == "L" else 3, 1 + height // 8, 1 + width // 8))
        )
        smooth = functional.interpolate(rough, (height, width), mode="bicubic").clamp(0, 1)[0]
        pixels = (smooth * 255).round().to(torch.uint8)
        low, high = own.value_range
        why = _difference(own, reference, pixels, pixels.float() * ((high - low) / 255) + low)
        if why:
            raise InputError(f"the preprocessing of {own.origin} is not understood: {why}. {MEND}")
    return own


#: What to do about a preprocessing that cannot be taken over.
MEND = (
    "Open the table with size=, mode=, value_range= and a transform that do the same (--size, --mode, "
    "--mean, --std)"
)


def _difference(
    own: Preprocessing, reference: Callable[[Image], Tensor], pixels: Tensor, image: Tensor
) -> str:
    """How two inputs of one picture differ; empty where they do not."""
    from PIL import Image

    picture = Image.fromarray(pixels.movedim(0, -1).numpy().squeeze())
    size = f"a picture of {pixels.shape[2]} x {pixels.shape[1]} pixels"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = reference(picture).float()
        ours = own(image)
    except Exception as error:  # another library's code
        return f"on {size} it fails ({type(error).__name__}: {error})"
    if theirs.shape != ours.shape:
        return f"of {size} it makes {tuple(theirs.shape)} and not {tuple(ours.shape)}"
    low, high = own.value_range
    std = min(own.std or (1.0,))
    apart = float((ours - theirs).abs().max()) / (high - low) * std * 255
    return "" if apart <= ROUNDING else f"of {size} it makes other values, by {apart:.3g} of 255"
