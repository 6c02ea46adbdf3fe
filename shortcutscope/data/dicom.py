"""DICOM images: values as a viewer shows them, or in their physical unit."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shortcutscope.errors import InputError
from shortcutscope.extras import require

Array = npt.NDArray[Any]
#: "file" is the window that the file asks for, None no window, and a pair its centre and width.
Window = Literal["file"] | tuple[float, float] | None

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
_FULL_SCALE = 65535
_PREAMBLE = 128


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its ending, or, without an ending that tells, by its first bytes."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # names are often UIDs: 1.2.840.113619
        return False
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def read_dicom(path: str | Path, window: Window = "file") -> tuple[Array, int, bool]:
    """Pixels of a DICOM file.

    Grey images: the modality's rescale (or lookup table) gives physical values, the window (or VOI lookup
    table) what a viewer shows of them; MONOCHROME1, where low values are bright, is inverted. Colour images
    become RGB. Several frames make a volume.

    Parameters
    ----------
    path
        The file.
    window
        ``"file"``: the first window that the file names, else the full range of its bits: uint16, of which
        0 is black and 65535 white, and which a table scales to its value range. ``(centre, width)``: that
        window instead, in physical values. None: physical values (Hounsfield units, say) as float32.

    Returns
    -------
    array : (H, W), (frames, H, W), (H, W, 3) or (frames, H, W, 3)
    dims : int
        Number of spatial axes.
    channels_last : bool
        Whether there is a colour axis, at the end.

    Raises
    ------
    InputError
        When the window is none of these, or pydicom is missing. Broken files raise what pydicom raises.
    """
    pydicom = require("pydicom", "medical", "reading DICOM files")
    pixels = require("pydicom.pixels", "medical", "reading DICOM files")
    with _quiet():
        data = pydicom.dcmread(path)
        _refuse_without_pixels(data)
        array: Array = pixels.pixel_array(data)
        colour = int(data.get("SamplesPerPixel", 1)) > 1
        if data.PhotometricInterpretation == "PALETTE COLOR":
            array, colour = pixels.apply_color_lut(array, data), True
            array = array[..., :3]
        if not colour:
            array = _grey(array, data, pixels, checked_window(window))
    return array, array.ndim - colour, colour


def checked_window(window: Any) -> Window:
    """InputError unless a window is "file", None, or centre and positive width."""
    if window is None or window == "file":
        return window  # type: ignore[no-any-return]
    with contextlib.suppress(TypeError, ValueError):
        centre, width = (float(value) for value in window)
        if np.isfinite(centre) and np.isfinite(width) and width > 0:
            return centre, width
    raise InputError(f'window must be "file", None or (centre, width) with a positive width, not {window!r}')


def _refuse_without_pixels(data: Any) -> None:
    if "PixelData" not in data and "FloatPixelData" not in data and "DoubleFloatPixelData" not in data:
        kind = data.get("Modality", "") or "DICOM"
        raise InputError(f"a {kind} object without pixels is no image")


def _grey(stored: Array, data: Any, pixels: Any, window: Window) -> Array:
    inverted = data.PhotometricInterpretation == "MONOCHROME1"
    values = np.asarray(pixels.apply_rescale(stored, data), dtype=np.float64)
    if window is None:
        if inverted:  # about the middle of what the bits can hold, in the physical unit
            values = sum(_bounds(stored, data, pixels)) - values
        return values.astype(np.float32)
    if window == "file":
        if "WindowCenter" in data or "VOILUTSequence" in data:
            shown = np.asarray(
                pixels.apply_voi_lut(values.astype(int) if "VOILUTSequence" in data else values, data),
                dtype=np.float64,
            )
            low, high = _shown_bounds(data, pixels, stored)
        else:
            shown, (low, high) = values, _bounds(stored, data, pixels)
    else:
        shown, (low, high) = values, (window[0] - window[1] / 2, window[0] + window[1] / 2)
    share = np.clip((shown - low) / (high - low), 0, 1)
    return np.rint((1 - share if inverted else share) * _FULL_SCALE).astype(np.uint16)


def _bounds(stored: Array, data: Any, pixels: Any) -> tuple[float, float]:
    """Lowest and highest physical value that the stored bits can hold."""
    if stored.dtype.kind == "f":
        low, high = float(stored.min()), float(stored.max())
        return low, high if high > low else low + 1
    bits = int(data.BitsStored)
    signed = int(data.get("PixelRepresentation", 0)) == 1
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    physical = np.asarray(pixels.apply_rescale(ends, data), dtype=np.float64)
    return float(physical.min()), float(physical.max())


def _shown_bounds(data: Any, pixels: Any, stored: Array) -> tuple[float, float]:
    """Range that pydicom's windowing fills: the outputs of the lookup table, or of the stored bits."""
    if "VOILUTSequence" in data:
        return 0.0, float(2 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    return _bounds(stored, data, pixels)


def dicom_size(path: Path) -> tuple[int, ...]:
    """Size of an image from the header alone: (H, W), or (frames, H, W).

    Broken files raise what pydicom raises.
    """
    pydicom = require("pydicom", "medical", "reading DICOM files")
    with _quiet():
        data = pydicom.dcmread(path, stop_before_pixels=True)
    frames = int(data.get("NumberOfFrames", 1) or 1)
    size = (int(data.Rows), int(data.Columns))
    return (frames, *size) if frames > 1 else size


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Files in use break the standard in many small ways, of which pydicom warns one by one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
