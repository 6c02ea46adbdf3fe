"""From the pixels of a model's input back to those of the image, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from shortcutscope.data.readers.orientation import Orientation
from shortcutscope.errors import InputError
from shortcutscope.types import Array, Bools

Frame = Literal["displayed", "stored"]
Pairs = tuple[tuple[float, float], ...]
_ROUNDING = 1e-7  # pixels


@dataclass(frozen=True)
class Geometry:
    """Where the pixels of a model's input lie in the image that they come from.

    Resizing, cropping and padding leave axes straight, so that per axis ``u = scale * x + offset``, with
    ``x`` in pixels of the image and ``u`` in pixels of the input, both counted from the outer edge of the
    first pixel (so its centre is at 0.5, as all resampling here has it).

    The image's own frame is the *displayed* one: a photograph as its EXIF orientation turns it, a NIfTI
    volume in canonical orientation. COCO, CVAT and every viewer show that frame, so masks are kept in it.
    The *stored* frame, of the array as it lies in the file, is had with ``frame="stored"``.

    Attributes
    ----------
    size
        Of the image in the displayed frame: (H, W), (D, H, W), or (length,).
    input_size
        Of the model's input, likewise.
    scale, offset
        One number per axis, see above.
    window
        Per axis the part of the image, from ``low`` to ``high`` in its pixels, that is left in the input:
        what was cropped away and then padded again is outside.
    orientation
        From the stored to the displayed frame.
    """

    size: tuple[int, ...]
    input_size: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    window: Pairs
    orientation: Orientation

    @classmethod
    def of(cls, size: tuple[int, ...], orientation: Orientation | None = None) -> Geometry:
        """An image of the displayed size `size` that goes to the model as it is."""
        size = tuple(int(side) for side in size)
        dims = len(size)
        return cls(
            size,
            size,
            (1.0,) * dims,
            (0.0,) * dims,
            tuple((0.0, float(side)) for side in size),
            Orientation.identity(dims) if orientation is None else orientation,
        )

    @property
    def stored_size(self) -> tuple[int, ...]:
        """Size of the array in the file."""
        return self.orientation.stored_size(self.size)

    def with_leads(self, count: int) -> Geometry:
        """Geometry (leads, time) of a signal, from that of its time: each lead is a row of its own."""
        if len(self.size) != 1:
            raise InputError(f"leads are those of a signal, which has one axis, not {len(self.size)}")
        backwards = self.orientation.flips[0]
        return Geometry(
            (count, *self.size),
            (count, *self.input_size),
            (1.0, *self.scale),
            (0.0, *self.offset),
            ((0.0, float(count)), *self.window),
            Orientation((0, 1), (False, backwards)),
        )

    # Following what is done to the image

    def resized(self, size: tuple[int, ...]) -> Geometry:
        """Geometry after the input was resampled to another size."""
        self._check(size, "size")
        ratio = [new / old for new, old in zip(size, self.input_size, strict=True)]
        return replace(
            self,
            input_size=tuple(int(side) for side in size),
            scale=tuple(s * r for s, r in zip(self.scale, ratio, strict=True)),
            offset=tuple(o * r for o, r in zip(self.offset, ratio, strict=True)),
        )

    def cropped(self, start: tuple[int, ...], size: tuple[int, ...]) -> Geometry:
        """Geometry after cutting `size` pixels out of the input from `start` on.

        A negative start, or an end beyond the input, pads.
        """
        self._check(size, "size")
        self._check(start, "start", lowest=None)
        window = []
        axes = zip(start, size, self.input_size, self.scale, self.offset, self.window, strict=True)
        for begin, length, before, scale, offset, (low, high) in axes:
            begin_edge = (max(0, begin) - offset) / scale
            end_edge = (min(before, begin + length) - offset) / scale
            window.append((max(low, begin_edge), max(begin_edge, min(high, end_edge))))
        return replace(
            self,
            input_size=tuple(int(side) for side in size),
            offset=tuple(o - s for o, s in zip(self.offset, start, strict=True)),
            window=tuple(window),
        )

    def _check(self, values: tuple[int, ...], what: str, lowest: int | None = 1) -> None:
        if len(values) != len(self.size) or (lowest is not None and min(values) < lowest):
            raise InputError(f"{what}={values} does not fit an input of size {self.input_size}")

    # There and back

    def to_source(self, values: Array | Tensor, *, fill: float = 0.0, frame: Frame = "displayed") -> Array:
        """A mask or a map of the model's input, on the pixels of the image.

        Parameters
        ----------
        values : input_size
            A boolean mask goes to the nearest pixel; anything else is a map, interpolated linearly, and
            averaged where the image has fewer pixels than the input.
        fill
            Value of the pixels that the model did not see. A mask is False there.
        frame
            ``"displayed"`` or ``"stored"``, see the class.

        Returns
        -------
        array of the size of the image
            bool for masks, float32 for maps.

        Raises
        ------
        InputError
            When the values are not of the input's size.
        """
        array = _values(values, self.input_size, "input")
        low, high = np.array(self.window).T
        out = array
        for axis, side in enumerate(self.size):
            centres = np.arange(side) + 0.5
            where = self.scale[axis] * centres + self.offset[axis]
            visible = (centres > low[axis]) & (centres < high[axis])
            bounds = [self.scale[axis] * edge + self.offset[axis] for edge in (low[axis], high[axis])]
            out = _resampled(out, axis, where, self.scale[axis], bounds, visible, fill)
        return self._framed(out, frame)

    def from_source(self, values: Array | Tensor, *, fill: float = 0.0, frame: Frame = "displayed") -> Array:
        """A mask or a map on the pixels of the image, as the model's input has it.

        The inverse of :meth:`to_source`; `fill` is the value of padding.

        Raises
        ------
        InputError
            When the values are not of the image's size.
        """
        whole = self.stored_size if frame == "stored" else self.size
        array = _values(values, whole, f"image ({frame} frame)")
        out = self.orientation.apply(array) if frame == "stored" else array
        for axis, side in enumerate(self.input_size):
            low, high = self.window[axis]
            where = (np.arange(side) + 0.5 - self.offset[axis]) / self.scale[axis]
            visible = (where > low) & (where < high)
            out = _resampled(out, axis, where, 1 / self.scale[axis], (0, self.size[axis]), visible, fill)
        return np.ascontiguousarray(out)

    def seen(self, *, frame: Frame = "displayed") -> Bools:
        """Pixels of the image that the model gets to see, boolean."""
        return self.to_source(np.ones(self.input_size, dtype=np.bool_), frame=frame)

    def _framed(self, array: Array, frame: Frame) -> Array:
        if frame not in ("displayed", "stored"):
            raise InputError(f'frame must be "displayed" or "stored", not {frame!r}')
        return np.ascontiguousarray(self.orientation.undo(array) if frame == "stored" else array)


def _values(values: Array | Tensor, size: tuple[int, ...], whose: str) -> Array:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.shape != size:
        raise InputError(
            f"a mask or map of shape {array.shape} is not of the size of the {whose}, {size}; "
            "resample it to that size first"
        )
    return array if array.dtype == np.bool_ else array.astype(np.float32)


def _resampled(
    values: Array,
    axis: int,
    where: Array,
    spacing: float,
    bounds: Sequence[float],
    visible: Array,
    fill: float,
) -> Array:
    """Values along one axis at the edge coordinates `where`, `fill` where not `seen`.

    `spacing` is the distance of neighbouring new pixels in old ones; the linear filter widens with it, as
    antialiasing does. Values outside `bounds` (old edge coordinates) take no part.
    """
    length = values.shape[axis]
    if values.dtype == np.bool_:
        # A centre on the edge of two pixels belongs to the later, whatever rounding made of it.
        nearest = np.clip(np.floor(where + _ROUNDING).astype(int), 0, length - 1)
        out: Array = np.take(values, nearest, axis=axis)
        out[(slice(None),) * axis + (~visible,)] = False
        return out
    centres = np.arange(length) + 0.5
    weights = np.maximum(0.0, 1 - np.abs(where[:, None] - centres) / max(1.0, spacing))
    weights[:, (centres < bounds[0]) | (centres > bounds[1])] = 0
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0).astype(np.float32)
    out = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
    out[(slice(None),) * axis + (~visible | (total[:, 0] == 0),)] = fill
    return out
