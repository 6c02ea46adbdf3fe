"""Which part of a grey DICOM image's values becomes black to white."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import numpy as np

from shortcutscope.errors import InputError

#: "file" is the window that the file asks for, "bits" the full range of its bits, None no window, and a pair
#: its centre and width.
Window = Literal["file", "bits"] | tuple[float, float] | None

#: What to do where a file does not say what is black and what is white.
CHOICES = (
    "give one window for all with window=(centre, width) (--window 40,400), or take the values as they are "
    "with window=None (--window none) and value_range=(low, high)"
)


class NeedsWindowError(InputError):
    """A file that is whole, whose grey values cannot be shown without a window that is given."""


def checked_window(window: Any) -> Window:
    """InputError unless a window is "file", "bits", None, or centre and positive width."""
    if window is None or (isinstance(window, str) and window in ("file", "bits")):
        return window  # type: ignore[return-value]
    with contextlib.suppress(TypeError, ValueError):
        centre, width = (float(value) for value in window)
        if np.isfinite(centre) and np.isfinite(width) and width > 0:
            return centre, width
    raise InputError(
        f'window must be "file", "bits", None or (centre, width) with a positive width, not {window!r}'
    )
