"""How large a sample may be: what a file says of itself is checked before memory is taken for it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from shortcutscope.errors import InputError

#: Pixels, voxels or values of one sample: a picture of 16,384 by 16,384, or a CT of 1,024 slices.
MAX_PIXELS = 2**28


def checked_limit(max_pixels: int) -> int:
    """A limit as it is given; InputError unless it is a whole number above 0."""
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1:
        raise InputError(f"max_pixels must be a whole number above 0, not {max_pixels!r}")
    return max_pixels


def check_size(size: Iterable[int], max_pixels: int = MAX_PIXELS) -> tuple[int, ...]:
    """Sides of a sample, once they are known to be possible.

    A file of 200 bytes can say that it has a million by a million pixels.

    Parameters
    ----------
    size
        Sides, as a file says.
    max_pixels
        Their largest product.

    Raises
    ------
    InputError
        When a side is below 1, or there are more pixels than `max_pixels`.
    """
    sides = tuple(int(side) for side in size)
    text = " x ".join(map(str, sides))
    if min(sides, default=1) < 1:
        raise InputError(f"it says that its size is {text}; a side has at least one pixel")
    if math.prod(sides) > max_pixels:
        raise InputError(
            f"it says that its size is {text}, {math.prod(sides):,} values, and the limit is {max_pixels:,}; "
            "where that is right, raise the limit with max_pixels= (--max-pixels)"
        )
    return sides
