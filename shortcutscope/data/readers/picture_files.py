"""PNG, JPEG, TIFF and the like in their own bit depth: by Pillow, and by others where it loses bits."""

from __future__ import annotations

import re
import struct
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from shortcutscope.data.readers.orientation import Orientation
from shortcutscope.data.readers.pillow import from_pillow
from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.data.readers.tiff import read_tiff
from shortcutscope.errors import InputError
from shortcutscope.types import Array

__all__ = ["FORMATS", "opened_picture", "read_picture"]


#: Of all that Pillow opens; some of the others run programs, or lose bits without a word.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "PPM", "WEBP", "GIF")
EXIF_TAG = 0x0112
_IHDR = slice(24, 26)  # bits a sample, and the kind of colour
_GREY = 0
_PPM_HEAD = re.compile(rb"P[36](?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+(\d+)\s")


def read_picture(
    path: Path, dims: int | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[Array, int | None, bool]:
    """Pixels of a file of :data:`FORMATS`.

    Parameters
    ----------
    path
        The file.
    dims
        Number of spatial axes of a TIFF with pages: 3 by default.
    max_pixels
        Most values that it may have.

    Returns
    -------
    array : (H, W), (3, H, W), (pages, H, W) or (3, pages, H, W)
    dims : int or None
        Number of spatial axes.
    channels_last : bool
        Always False.

    Raises
    ------
    InputError
        For an animation, and for what the file says that cannot be. Broken files raise what decoders raise.
    """
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours
        image = opened_picture(file, max_pixels)
        if image is None or image.format == "TIFF":
            return read_tiff(image, path, dims, max_pixels)
        frames = int(getattr(image, "n_frames", 1))
        if frames > 1 and image.format != "MPO":  # of which the others are thumbnails and the like
            raise InputError(
                f"it has {frames} frames; save the one that is meant, or a TIFF of pages for a volume"
            )
        head = _head(file, 1024)
        if image.format == "PNG":
            image.verify()  # compares the checksums, which reading alone does not
            image = opened_picture(file, max_pixels)
            assert image is not None
        if image.format == "PNG" and head[_IHDR][0] == 16 and head[_IHDR][1] != _GREY:
            return _deep_png(path, image), 2, False
        depth = _PPM_HEAD.match(head) if image.format == "PPM" else None
        if depth and int(depth[1]) > 255:
            raise InputError("it is a PPM of colours deeper than 8 bits; save it as PNG or TIFF")
        return from_pillow(image), 2, False


def opened_picture(file: IO[bytes], max_pixels: int = MAX_PIXELS) -> Image.Image | None:
    """An image of which the header is read; None where a TIFF is of a kind that Pillow does not know.

    Pillow gets no name, by which it would map an uncompressed TIFF into memory, and scramble it where EXIF
    turns it by a quarter; and the limit is ours rather than Pillow's, which is one for the whole process.

    Raises
    ------
    InputError
        When it is none of :data:`FORMATS`, or larger than `max_pixels`.
    """
    Image.init()
    head = _head(file, 16)
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        accepted = accept is None or accept(head)
        if not accepted or isinstance(accepted, str):  # a text says why not
            continue
        file.seek(0)
        try:
            image = factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error, Image.DecompressionBombError) as error:
            if name == "TIFF":
                return None
            raise InputError(f"it begins as {name} and cannot be read as one ({error})") from error
        check_size((image.height, image.width), max_pixels)
        return image
    raise InputError(f"it is none of {', '.join(FORMATS)}, whatever its ending says")


def _head(file: IO[bytes], count: int) -> bytes:
    place = file.tell()
    file.seek(0)
    head = file.read(count)
    file.seek(place)
    return head


def _deep_png(path: Path, image: Image.Image) -> Array:
    """Colours of 16 bits, of which Pillow keeps 8; alpha is left out."""
    import torch
    from torchvision.io import ImageReadMode, decode_png

    stored = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    channels: Array = decode_png(stored, ImageReadMode.UNCHANGED).numpy()
    channels = channels[: 1 if len(channels) <= 2 else 3]
    turn = Orientation.from_exif(int(image.getexif().get(EXIF_TAG, 1)))
    upright = np.stack([turn.apply(channel) for channel in channels])
    return upright if len(upright) > 1 else upright[0]
