"""TIFF files: pages, planes and depths, by Pillow where it keeps them and by tifffile where it does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from shortcutscope.data.readers.pillow import from_pillow
from shortcutscope.data.readers.size_limit import check_size
from shortcutscope.errors import InputError
from shortcutscope.types import Array

_SUBFILE, _BITS, _PHOTOMETRIC, _DESCRIPTION, _SAMPLES, _SAMPLE_FORMAT = 254, 258, 262, 270, 277, 339
_REDUCED_OR_MASK = 1 | 4
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _COLOUR_MAP = 0, 1, 2, 3
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_OME = re.compile(r'\bSize([CZT])="(\d+)"')
_IMAGEJ = re.compile(r"^(channels|slices|frames)=(\d+)", re.MULTILINE)
_IMAGEJ_AXES = {"channels": "C", "slices": "Z", "frames": "T"}


def read_tiff(
    image: Image.Image | None, path: Path, dims: int | None, max_pixels: int
) -> tuple[Array, int | None, bool]:
    """Pixels of a TIFF: of one page, or of equal pages as a volume, or as channels where the file says so.

    Smaller versions of the first page, and masks, are left out.

    Parameters
    ----------
    image
        As Pillow has opened it; None where it cannot.
    path, dims, max_pixels
        As in :func:`shortcutscope.data.readers.picture_files.read_picture`.

    Raises
    ------
    InputError
        For pages of different sizes, time points, and depths that have no full scale.
    """
    pages: list[Array] | None = None
    if image is not None:
        description = image.tag_v2.get(_DESCRIPTION)  # type: ignore[attr-defined]
        pages = _by_pillow(image, max_pixels)
    if image is None or pages is None:
        pages, description = _by_tifffile(path, max_pixels)
    first = pages[0]
    if len(pages) > 1 and all(_smaller(page, first) for page in pages[1:]):
        pages = pages[:1]
    sizes = {page.shape for page in pages}
    if len(sizes) > 1:
        raise InputError(
            f"its {len(pages)} pages have different sizes ({_listed(sizes)}); save the one that is meant"
        )
    if len(pages) == 1:
        return first, 2, False
    if _are_channels(str(description or ""), len(pages)):
        return np.concatenate([page.reshape(-1, *page.shape[-2:]) for page in pages]), 2, False
    return np.stack(pages, axis=first.ndim - 2), dims or 3, False


def _listed(sizes: set[tuple[int, ...]]) -> str:
    return ", ".join(" x ".join(map(str, size)) for size in sorted(sizes)[:5])


def _smaller(page: Array, first: Array) -> bool:
    """Whether a page may be the first one at another scale."""
    height, width = page.shape[-2:]
    whole = first.shape[-2:]
    scale = height / whole[0]
    return scale < 1 and page.ndim == first.ndim and abs(width - scale * whole[1]) <= 1 + scale


def _are_channels(description: str, count: int) -> bool:
    """Whether pages are channels, as OME and ImageJ say it; InputError where they are more than one thing."""
    if description.startswith("ImageJ="):
        sizes = {_IMAGEJ_AXES[name]: int(size) for name, size in _IMAGEJ.findall(description)}
    elif "<OME" in description or "<Pixels" in description:
        sizes = {}
        for name, size in _OME.findall(description):
            sizes.setdefault(name, int(size))
    else:
        return False
    axes = {name: size for name, size in sizes.items() if size > 1}
    if len(axes) > 1 or "T" in axes:
        words = ", ".join(f"{name} {size}" for name, size in axes.items())
        raise InputError(f"its {count} pages are several axes ({words}); save one volume, or its channels")
    return "C" in axes


def _by_pillow(image: Image.Image, max_pixels: int) -> list[Array] | None:
    """Pages, or None where Pillow would lose bits of one."""
    count = int(getattr(image, "n_frames", 1))
    check_size((count, image.height, image.width), max_pixels)
    pages = []
    for number, page in enumerate(ImageSequence.Iterator(image)):
        tags = page.tag_v2  # type: ignore[attr-defined]
        if number and int(tags.get(_SUBFILE, 0)) & _REDUCED_OR_MASK:
            continue
        check_size((count, page.height, page.width), max_pixels)
        bits, kind = _depth(tags.get(_BITS, 1)), _depth(tags.get(_SAMPLE_FORMAT, _UNSIGNED))
        whole = (bits == 16 and kind in (_UNSIGNED, _SIGNED)) or (bits, kind) == (32, _FLOAT)
        if bits > 8 and (not whole or int(tags.get(_SAMPLES, 1)) > 1):
            return None
        try:
            array = from_pillow(page)
        except Image.DecompressionBombError:  # Pillow's own limit, one for the whole process
            return None
        white = bits > 8 and int(tags.get(_PHOTOMETRIC, _MIN_IS_BLACK)) == _MIN_IS_WHITE
        pages.append(_inverted(array) if white else array)
    return pages


def _depth(value: Any) -> int:
    return max(value) if isinstance(value, tuple | list) else int(value)


def _inverted(array: Array) -> Array:
    """Values of which the lowest is white; Pillow turns those of 8 bits."""
    if array.dtype.kind != "u":
        raise InputError("its lowest value is white, which is not known of signed or floating-point values")
    return np.iinfo(array.dtype).max - array


def _by_tifffile(path: Path, max_pixels: int) -> tuple[list[Array], str]:
    import tifffile

    # OME files can name other files, which are left alone.
    with tifffile.TiffFile(path, is_ome=False) as file:
        file_pages: Any = file.pages
        first = file_pages[0]
        check_size((len(file_pages), *first.shape), max_pixels)
        pages = []
        for number, page in enumerate(file_pages):
            if number and int(page.subfiletype) & _REDUCED_OR_MASK:
                continue
            check_size((len(file_pages), *page.shape), max_pixels)
            pages.append(_placed(page))
        return pages, str(first.description)


def _placed(page: Any) -> Array:
    """Array (H, W) or (C, H, W) of a page of tifffile."""
    photometric, bits = int(page.photometric), int(page.bitspersample)
    if photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB):
        raise InputError(f"its colours are {page.photometric.name} of {bits} bits; save it as RGB")
    array: Array = page.asarray()
    if bits != 8 * array.dtype.itemsize or array.dtype.kind not in "uif":
        raise InputError(
            f"its values have {bits} bits of kind {array.dtype.kind!r}; save it with 8, 16 or 32"
        )
    axes = str(page.axes)
    if sorted(axes) not in (["X", "Y"], ["S", "X", "Y"]):
        raise InputError(f"its pages have the axes {axes}; save a picture, or a volume as pages")
    array = np.transpose(array, [axes.index(axis) for axis in "SYX" if axis in axes])
    if photometric == _RGB:
        array = array[:3]  # alpha
    return _inverted(array) if photometric == _MIN_IS_WHITE else array
