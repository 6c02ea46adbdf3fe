"""Reading one image file to an array with channels first, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shortcutscope.data.readers.array_files import read_npy
from shortcutscope.data.readers.dicom import DICOM_SUFFIXES, is_dicom, read_dicom
from shortcutscope.data.readers.dicom_window import NeedsWindowError, Window
from shortcutscope.data.readers.nifti import is_nifti, read_nifti
from shortcutscope.data.readers.picture_files import read_picture
from shortcutscope.data.readers.size_limit import MAX_PIXELS
from shortcutscope.data.readers.waveforms import HEADER_SUFFIX, is_waveform, read_waveform
from shortcutscope.errors import InputError
from shortcutscope.extras import MissingExtraError
from shortcutscope.types import Array

Mode = Literal["L", "RGB"]
Size = int | tuple[int, ...]

IMAGE_SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".webp", ".npy"),
        *DICOM_SUFFIXES,
        HEADER_SUFFIX,
    }
)
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as PIL's convert("L")


class UnreadableImageError(InputError):
    """A file or item that cannot be decoded: missing, truncated, or of no known format."""


def is_image_name(path: Path) -> bool:
    """Whether a file is an image by its ending."""
    return path.suffix.lower() in IMAGE_SUFFIXES or is_nifti(path)


def read_image(
    path: str | Path,
    mode: Mode | None = None,
    size: Size | None = None,
    *,
    dims: int | None = None,
    channels_last: bool = False,
    window: Window = "file",
    max_pixels: int = MAX_PIXELS,
) -> Array:
    """Read an image, volume or signal from a file.

    PNG, JPEG, BMP, PNM, WebP, GIF and TIFF keep their bit depth (8 or 16 bits, 32-bit float) and their EXIF
    orientation is applied. Palette, CMYK and the like become RGB; an alpha channel is dropped; where the
    lowest value is white (TIFF) it is inverted. A TIFF of several equal pages is a volume, or has as many
    channels where it says so (OME, ImageJ); animations are refused. ``.npy`` arrays are taken as stored
    (numbers only, no pickled objects). DICOM files are
    shown through their window (:func:`shortcutscope.data.readers.dicom.read_dicom`), NIfTI files are turned
    to canonical orientation (:func:`shortcutscope.data.readers.nifti.read_nifti`), WFDB records are signals
    (leads, samples) in their physical unit (:func:`shortcutscope.data.readers.waveforms.read_waveform`); the
    three need the extra ``medical``.

    Parameters
    ----------
    path
        The file.
    mode
        ``"L"`` (one channel) or ``"RGB"`` (three); None keeps what the file has.
    size
        Side length, or one length per spatial axis: ``(height, width)``. The aspect ratio is not kept.
    dims
        Number of spatial axes of an array file, see :func:`channels_first`.
    channels_last
        The array file has its channels on the last axis.
    window
        Of DICOM files: ``"file"``, ``"bits"``, ``(centre, width)``, or None for physical values.
    max_pixels
        Most values that a file may have: pixels or voxels times channels.

    Returns
    -------
    array of shape (C, *spatial)
        In the file's own dtype and units.

    Raises
    ------
    UnreadableImageError
        Naming the file, when it is missing, truncated, not an image, or larger than `max_pixels`.
    InputError
        When a DICOM file cannot be shown without a window that is given, the channels do not fit `mode`, the
        axes do not fit `dims`, or an extra is not installed.
    """
    path = Path(path)
    array, dims, channels_last = _decode_or_name(path, dims, channels_last, window, max_pixels)
    try:
        return resize(to_mode(channels_first(array, dims, channels_last=channels_last), mode), size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _decode_or_name(
    path: Path, dims: int | None, channels_last: bool, window: Window, max_pixels: int
) -> tuple[Array, int | None, bool]:
    """As `_decode`; its errors name the file."""
    try:
        return _decode(path, dims, channels_last, window, max_pixels)
    except MemoryError:
        raise
    except (NeedsWindowError, MissingExtraError) as error:
        raise type(error)(f"{path}: {error}") from error
    except (
        Exception
    ) as error:  # decoders raise anything on broken bytes: struct.error, SyntaxError, IndexError
        missing = isinstance(error, FileNotFoundError)
        reason = "no such file" if missing else str(error).rstrip(".") or type(error).__name__
        raise UnreadableImageError(
            f"cannot read the image {str(path)!r}: {reason}. Replace or remove the file, "
            'or leave unreadable images out with verify(on_unreadable="skip").'
        ) from error


def _decode(
    path: Path, dims: int | None, channels_last: bool, window: Window, max_pixels: int
) -> tuple[Array, int | None, bool]:
    """Array of the file, its number of spatial axes where known, and whether channels are last."""
    if is_nifti(path):
        return read_nifti(path, dims, max_pixels)
    if is_dicom(path):
        return read_dicom(path, window, max_pixels)
    if is_waveform(path):
        return read_waveform(path, max_pixels), 1, False
    if path.suffix.lower() == ".npy":
        return read_npy(path, max_pixels), dims, channels_last
    return read_picture(path, dims, max_pixels)


def channels_first(array: Array, dims: int | None = None, *, channels_last: bool = False) -> Array:
    """Give an array its channel axis in front.

    Parameters
    ----------
    array
        One sample.
    dims
        Number of spatial axes. None: an array of one or two axes has no channel axis, (L,) or (H, W); one
        with more has it, (C, H, W) or (C, D, H, W). Say 1 for signals (C, L) and 3 for volumes (D, H, W).
    channels_last
        The channel axis, where there is one, is the last.

    Returns
    -------
    array of shape (C, *spatial)

    Raises
    ------
    InputError
        When the array has neither `dims` nor ``dims + 1`` axes.
    """
    spatial = dims if dims is not None else (array.ndim if array.ndim <= 2 else array.ndim - 1)
    if array.ndim == spatial and spatial > 0:
        return array[None]
    if array.ndim == spatial + 1 and spatial > 0:
        return np.moveaxis(array, -1, 0) if channels_last else array
    raise InputError(
        f"an array of shape {array.shape} is not an image with {spatial} spatial axes; "
        f"allowed are {spatial} axes, or {spatial + 1} with channels. Set dims to the number of spatial axes."
    )


def to_mode(array: Array, mode: Mode | None) -> Array:
    """One channel (``"L"``, luma of ITU-R 601) or three (``"RGB"``) from an array (C, *spatial).

    A fourth channel is taken to be alpha and dropped. The dtype is kept.

    Raises
    ------
    InputError
        When there are not 1, 3 or 4 channels, or the mode is unknown.
    """
    if mode is None:
        return array
    if mode not in ("L", "RGB"):
        raise InputError(f'mode must be "L", "RGB" or None, not {mode!r}')
    channels = array.shape[0]
    if channels not in (1, 3, 4):
        raise InputError(
            f"{channels} channels cannot become mode {mode!r}: only 1, 3 or 4 can. Use mode=None."
        )
    if mode == "RGB":
        return np.repeat(array, 3, axis=0) if channels == 1 else array[:3]
    if channels == 1:
        return array
    return _as_dtype(np.tensordot(_LUMA, array[:3].astype(np.float64), axes=1)[None], array.dtype)


def resize(array: Array, size: Size | None) -> Array:
    """Resample an array (C, *spatial) linearly, antialiased when it shrinks; the dtype is kept.

    Raises
    ------
    InputError
        When `size` does not give one positive length per spatial axis.
    """
    if size is None:
        return array
    spatial = array.ndim - 1
    target = (size,) * spatial if isinstance(size, int) else tuple(int(side) for side in size)
    if len(target) != spatial or min(target) < 1:
        raise InputError(
            f"size={size!r} does not fit an array with {spatial} spatial axes; give one length, or {spatial}"
        )
    if array.shape[1:] == target:
        return array
    if spatial == 2:
        pixels = torch.from_numpy(array.astype(np.float32))[None]
        smaller = functional.interpolate(pixels, target, mode="bilinear", align_corners=False, antialias=True)
        return _as_dtype(smaller[0].numpy(), array.dtype)
    from skimage.transform import resize as skimage_resize

    resample: Callable[..., Array] = skimage_resize

    shrinks = any(new < old for new, old in zip(target, array.shape[1:], strict=True))
    out = resample(
        array.astype(np.float32),
        (array.shape[0], *target),
        order=1,
        anti_aliasing=shrinks,
        preserve_range=True,
    )
    return _as_dtype(out, array.dtype)


def _as_dtype(values: Array, dtype: np.dtype) -> Array:
    if dtype == np.bool_:
        return values >= 0.5
    return (np.rint(values) if dtype.kind in "iu" else values).astype(dtype)


def to_float(array: Array, value_range: tuple[float, float]) -> Tensor:
    """Float32 tensor in the declared units.

    Unsigned 8- and 16-bit integers and booleans have no unit of their own: their full scale (0 to 255, 0 to
    65535, False to True) is mapped to `value_range`. Floats and signed integers (Hounsfield units, say) are
    physical values and stay as they are.
    """
    low, high = value_range
    full_scale = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}.get(array.dtype.name)
    values = array.astype(np.float32)
    if full_scale is not None and (low, high) != (0.0, full_scale):
        values = values * np.float32((high - low) / full_scale) + np.float32(low)
    return torch.from_numpy(np.ascontiguousarray(values))
