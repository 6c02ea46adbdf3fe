"""NIfTI volumes in canonical orientation, and the way back to the array of the file."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shortcutscope.data.readers.orientation import Orientation
from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.errors import InputError
from shortcutscope.extras import require
from shortcutscope.types import Array

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

_SPATIAL = 3
#: Bytes of a file beside its values: header, extensions, what is appended.
_BESIDE = 2**26


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI by its ending."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_nifti(
    path: str | Path, dims: int | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[Array, int, bool]:
    """Values of a NIfTI file, its axes running to the right, the front and the top (RAS).

    As MONAI's ``Orientation("RAS")`` and TorchIO's ``ToCanonical`` have it; axes are exchanged and mirrored,
    nothing is interpolated. The file's slope and intercept are applied.

    Parameters
    ----------
    path
        The file.
    dims
        2 takes the only slice of a file with one; None or 3 gives a volume.
    max_pixels
        Most values that a file may have.

    Returns
    -------
    array : float32 (R, A, S) or (R, A, S, channels)
        In the file's unit, whatever type it stores.
    dims : int
        Number of spatial axes.
    channels_last : bool
        Whether there is a fourth axis, of time points, say, which become channels.

    Raises
    ------
    InputError
        When the file has other axes than `dims` allows, more than `max_pixels` values, or values that are no
        real numbers, or nibabel is missing. Broken files raise what nibabel raises.
    """
    image = _load(path)
    check_size(image.shape, max_pixels)
    kind = image.get_data_dtype()
    if kind.kind not in "biuf":
        raise InputError(
            f"its values are {'complex numbers' if kind.kind == 'c' else 'colours or records'} ({kind}); "
            "save it as real numbers, such as magnitudes, with a fourth axis for colours"
        )
    values = np.asarray(_whole(image, Path(path)).dataobj, dtype=np.float32)
    size, orientation = _frame(image, dims, str(path))
    while values.ndim > _SPATIAL + 1 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim > _SPATIAL + 1:
        raise InputError(f"a NIfTI file of shape {values.shape} has more than one axis beyond the spatial")
    channels = values.ndim > _SPATIAL
    values = values.reshape(*orientation.stored_size(size), *values.shape[_SPATIAL:])
    planes = np.moveaxis(values, -1, 0) if channels else values[None]
    planes = np.stack([orientation.apply(channel) for channel in planes], axis=-1)
    return (planes if channels else planes[..., 0]), len(size), channels


def nifti_frame(path: Path, dims: int | None = None) -> tuple[tuple[int, ...], Orientation]:
    """Size in canonical orientation and how the file's array lies in it, from the header alone.

    Broken files raise what nibabel raises.
    """
    return _frame(_load(path), dims, str(path))


def _load(path: str | Path) -> SpatialImage:
    image: SpatialImage = require("nibabel", "medical", "reading NIfTI files").load(path)
    return image


def _whole(image: Any, path: Path) -> Any:
    """The image from all bytes of a packed file, whose checksum is compared when its end is reached only.

    Raises
    ------
    InputError
        When it unpacks to far more than its header says.
    """
    if path.suffix.lower() != ".gz":
        return image
    most = int(np.prod(image.shape)) * image.get_data_dtype().itemsize + _BESIDE
    with gzip.open(path) as file:
        raw = file.read(most)
        if len(raw) == most:
            raise InputError(f"it unpacks to {most:,} bytes and more")
    return type(image).from_bytes(raw)


def _frame(image: SpatialImage, dims: int | None, name: str) -> tuple[tuple[int, ...], Orientation]:
    nibabel = require("nibabel", "medical", "reading NIfTI files")
    stored = (*image.shape[:_SPATIAL], *(1,) * (_SPATIAL - len(image.shape)))
    turn = nibabel.orientations.io_orientation(image.affine)
    if np.isnan(turn).any():
        raise InputError(f"the affine of {name} is singular: its axes have no direction")
    # Row k of `turn` says to which canonical axis the stored axis k goes, and whether it is mirrored.
    axes = tuple(int(k) for k in np.argsort(turn[:, 0]))
    orientation = Orientation(axes, tuple(bool(turn[k, 1] < 0) for k in axes))
    size = orientation.shown_size(stored)
    if dims in (None, _SPATIAL):
        return size, orientation
    if dims != 2 or 1 not in size:
        raise InputError(f"{name} is a volume of size {size}; dims can be 3, or 2 where it has one slice")
    return _without_slice(size, orientation)


def _without_slice(size: tuple[int, ...], orientation: Orientation) -> tuple[tuple[int, ...], Orientation]:
    """The same without the last shown axis of length one."""
    single = max(k for k, side in enumerate(size) if side == 1)
    remaining = [k for k in range(_SPATIAL) if k != single]
    axes = [orientation.axes[k] for k in remaining]
    return (
        tuple(size[k] for k in remaining),
        Orientation(
            tuple(int(k) for k in np.argsort(np.argsort(axes))),
            tuple(orientation.flips[k] for k in remaining),
        ),
    )
