"""What a picture is like as a whole: its rim, how bright, how sharp, how noisy and how coloured it is."""

from __future__ import annotations

import numpy as np

from shortcutscope.types import Array, Floats

#: A row or column is constant up to this standard deviation, in shares of the value range: 2.5 of 255.
FLAT = 0.01
#: Fewest pixels a side, inside the rim, of which anything is measured.
FEWEST = 8
#: Sharpness and noise are measured on the middle of larger pictures, and volumes on this many slices.
MIDDLE, SLICES = 1024, 16
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601-2
_DIGITS = 5


def picture_properties(image: Array, value_range: tuple[float, float]) -> dict[str, float]:
    """The columns of `shortcutscope.data.properties.names.OF_PICTURES`.

    Parameters
    ----------
    image
        ``(C, H, W)`` or ``(C, D, H, W)``, before the transform.
    value_range
        Lowest and highest value that it can have.

    Returns
    -------
    dict
        Column to value, without what cannot be measured. Empty for signals, and where a value is not finite.

    Examples
    --------
    >>> picture = np.zeros((1, 40, 40))
    >>> picture[:, 10:] = np.random.default_rng(0).random((30, 40))
    >>> picture_properties(picture, (0.0, 1.0))["picture_border"]
    0.25
    """
    pixels = in_shares(image, value_range)
    if pixels is None:
        return {}
    if pixels.ndim == 4:
        depths = np.unique(np.linspace(0, pixels.shape[1] - 1, SLICES).astype(int))
        pixels = pixels[:, depths]
    grey = np.tensordot(LUMA, pixels, axes=1) if len(pixels) == 3 else pixels.mean(0)
    top, bottom = rim(grey, -2)
    left, right = rim(grey, -1)
    height, width = grey.shape[-2:]
    inside = (..., slice(top, height - bottom), slice(left, width - right))
    share = 1 - max(0, height - top - bottom) * max(0, width - left - right) / (height * width)
    values = {"picture_border": share, **_of_grey(grey[inside])}
    if len(pixels) == 3 and values.keys() > {"picture_border"}:
        values |= _of_colours(pixels[inside])
    return {name: round(float(value), _DIGITS) for name, value in values.items() if np.isfinite(value)}


def in_shares(image: Array, value_range: tuple[float, float]) -> Floats | None:
    """Pixels in shares of the value range; None for signals, and where a value is not finite."""
    if image.ndim not in (3, 4) or not np.isfinite(image).all():
        return None
    low, high = value_range
    return np.asarray((np.asarray(image, np.float32) - np.float32(low)) / np.float32(high - low))


def rim(grey: Floats, axis: int) -> tuple[int, int]:
    """Constant rows (axis -2) or columns (axis -1) at either edge."""
    kept = grey.ndim + axis
    ends = (grey.take(end, axis) for end in (0, -1))
    if all(end.std() > 1.01 * FLAT for end in ends):  # as of nearly all pictures
        return 0, 0
    spread = grey.std(axis=tuple(k for k in range(grey.ndim) if k != kept))
    busy = np.flatnonzero(spread > FLAT)
    return (int(busy[0]), len(spread) - 1 - int(busy[-1])) if len(busy) else (len(spread), 0)


def _of_grey(grey: Floats) -> dict[str, float]:
    if min(grey.shape[-2:]) < FEWEST:
        return {}
    height, width = (min(side, MIDDLE) for side in grey.shape[-2:])
    row, column = ((side - size) // 2 for side, size in zip(grey.shape[-2:], (height, width), strict=True))
    middle = grey[..., row : row + height, column : column + width]
    centre, rows, columns = (
        middle[..., 1:-1, 1:-1],
        middle[..., :-2, 1:-1] + middle[..., 2:, 1:-1],
        middle[..., 1:-1, :-2] + middle[..., 1:-1, 2:],
    )
    corners = middle[..., :-2, :-2] + middle[..., :-2, 2:] + middle[..., 2:, :-2] + middle[..., 2:, 2:]
    laplacian = rows + columns - 4 * centre
    residual = np.abs(corners - 2 * (rows + columns) + 4 * centre).mean(dtype=np.float64)
    spread = float(middle.var(dtype=np.float64))
    return {
        "picture_mean_grey": float(grey.mean(dtype=np.float64)),
        "picture_contrast": float(grey.std(dtype=np.float64)),
        "picture_sharpness": float(laplacian.var(dtype=np.float64)) / spread if spread > 0 else np.nan,
        "picture_noise": float(residual) * np.sqrt(np.pi / 2) / 6,
    }


def _of_colours(colours: Floats) -> dict[str, float]:
    brightest = colours.max(0)
    chroma = brightest - colours.min(0)
    saturation = np.divide(chroma, brightest, out=np.zeros_like(chroma), where=brightest > 0)
    return {
        "picture_saturation": float(saturation.mean(dtype=np.float64)),
        "picture_warmth": float(colours[0].mean(dtype=np.float64) - colours[2].mean(dtype=np.float64)),
    }
