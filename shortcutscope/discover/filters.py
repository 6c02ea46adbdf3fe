"""A bank of filters on the model's input: a few dozen numbers an image, with no network involved.

What a person adds to an image (a marker, a border, noise, another detector) changes the statistics of some
band of it, whatever the network makes of that. So the bank sees artifacts of every extent before a network
has mixed them with the label. What a program draws into an image (a label, a box, a blanked part) may be of
one value: it shows less in any band than in how little the flattest place of the image varies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.progress import SHARE, progress_bar
from shortcutscope.scan.batches import batches
from shortcutscope.types import Array, Floats

#: Standard deviation of the finest Gaussian, in pixels; each further one is twice as wide.
FINEST = 0.7
#: The widest Gaussian has at most this part of the shorter side as its standard deviation.
COARSEST = 1 / 11
#: Cells along each axis of the blurred image.
GRID = 4
QUANTILES = (0.1, 0.5, 0.9)
#: Smallest image in which two bands and the grid make sense.
SMALLEST_SIDE = 16
#: Channels, rows and columns: volumes have more axes, signals fewer.
IMAGE_AXES = 3


@dataclass(frozen=True)
class Bank:
    """Responses of the filter bank.

    Attributes
    ----------
    values
        (N, F) float32.
    names
        F names, such as ``"band 1.4 max"`` (standard deviation of the band's wider Gaussian, in pixels).
    """

    values: Floats
    names: tuple[str, ...]


def refusal(shape: Sequence[int]) -> str | None:
    """Why an input of this shape (C, *spatial) has no filter bank, or None where it has one."""
    if len(shape) != IMAGE_AXES:
        return (
            f"the filter bank reads images (C, H, W), not inputs of shape {tuple(shape)}: "
            "proposals come from the network alone"
        )
    if min(shape[1:]) < SMALLEST_SIDE:
        return f"images of {shape[1]} x {shape[2]} pixels are too small for bands of several widths"
    return None


def image_bank(
    table: ImageTable,
    *,
    flat: bool = False,
    batch_size: int = 64,
    workers: int | None = None,
    progress: bool = True,
    taken_for: float = SHARE,
) -> Bank:
    """Filter bank of every image of a table, as the model gets it, one batch in memory at a time.

    Parameters
    ----------
    table
        Of images.
    flat
        Whether it has the flattest places, too.
    batch_size, workers, progress
        How images are read.
    taken_for
        See `shortcutscope.progress.progress_bar`.

    Raises
    ------
    InputError
        For inputs that are no images (C, H, W) of at least 16 pixels.
    """
    reason = refusal(table.shape)
    if reason is not None:
        raise InputError(reason)
    rows: list[Floats] = []
    names: tuple[str, ...] = ()
    total = -(-len(table) // batch_size)
    bar = progress_bar(
        batches(table, batch_size, workers=workers),
        total=total,
        desc="filters",
        progress=progress,
        taken_for=taken_for,
    )
    for images, _, _ in bar:
        values, names = filter_bank(images.numpy(), flat=flat)
        rows.append(values)
    return Bank(np.concatenate(rows), names)


def filter_bank(images: Array, *, flat: bool = False) -> tuple[Floats, tuple[str, ...]]:
    """Responses (n, F) of images (n, C, H, W), and what each of them is.

    Bands (differences of Gaussians, an octave apart), gradients, intensities and a coarse grid of the mean
    over channels, and, where asked for, its flattest places; of colour images also how each channel differs
    from that mean.
    """
    images = np.asarray(images, np.float32)
    grey = np.asarray(images.mean(1), np.float32)
    responses = [*_bands(grey), *_gradients(grey), *_intensities(grey), *(_flattest(grey) if flat else ())]
    if images.shape[1] > 1:
        for k in range(images.shape[1]):
            responses += _moments(images[:, k] - grey, f"channel {k}")
    names = tuple(name for name, _ in responses)
    values = np.stack([value for _, value in responses], axis=1)
    return values.astype(np.float32), names


def widths(height: int, width: int) -> list[float]:
    """Standard deviations of the Gaussians in pixels, at least two."""
    limit = max(COARSEST * min(height, width), 2 * FINEST)
    count = 1 + int(np.log2(limit / FINEST) + 1e-9)
    return [FINEST * 2.0**k for k in range(count)]


Response = tuple[str, Array]


def _bands(grey: Floats) -> list[Response]:
    responses: list[Response] = []
    previous = grey
    for sigma in widths(*grey.shape[1:]):
        blurred = gaussian_filter(grey, (0, sigma, sigma), mode="nearest")
        band = previous - blurred
        name = f"band {sigma:g}"
        centred = band - band.mean((1, 2), keepdims=True)
        responses += [
            (f"{name} size", np.abs(band).mean((1, 2))),
            *_moments(band, name)[1:],
            (f"{name} tail", (centred**4).mean((1, 2)) ** 0.25),
        ]
        previous = blurred
    return responses + _cells(previous)


def _cells(blurred: Floats) -> list[Response]:
    """The most blurred image in the middle of each cell of a grid."""
    rows, columns = (((np.arange(GRID) + 0.5) * n / GRID).astype(int) for n in blurred.shape[1:])
    return [(f"cell {i},{j}", blurred[:, y, x]) for i, y in enumerate(rows) for j, x in enumerate(columns)]


def _gradients(grey: Floats) -> list[Response]:
    responses: list[Response] = []
    for axis, name in ((1, "down"), (2, "across")):
        steps = np.abs(np.diff(grey, axis=axis))
        responses += [(f"step {name} size", steps.mean((1, 2))), (f"step {name} max", steps.max((1, 2)))]
    return responses


def _intensities(grey: Floats) -> list[Response]:
    quantiles = np.quantile(grey.reshape(len(grey), -1), QUANTILES, axis=1)
    quantile_responses = [(f"quantile {q:g}", value) for q, value in zip(QUANTILES, quantiles, strict=True)]
    return _moments(grey, "grey") + quantile_responses


def _flattest(grey: Floats) -> list[Response]:
    """The smallest range of values in any window, of those brighter than the image's mean and of the others.

    The two are apart since an empty background is flat in every image, and is on one side.
    """
    responses: list[Response] = []
    mean = grey.mean((1, 2), keepdims=True)
    limit = COARSEST * min(grey.shape[1:])
    radii = [1, *(2**k for k in range(1, 16) if 2**k <= limit)]
    for radius in radii:
        size, inside = (1, 2 * radius + 1, 2 * radius + 1), np.s_[:, radius:-radius, radius:-radius]
        high, low = maximum_filter(grey, size)[inside], minimum_filter(grey, size)[inside]
        span, bright = high - low, high + low >= 2 * mean
        for name, side in (("bright", bright), ("dark", ~bright)):
            # Where no window is on this side, nothing is flat on it.
            smallest = np.where(side, span, span.max((1, 2), keepdims=True)).min((1, 2))
            responses.append((f"flattest {2 * radius + 1} {name}", smallest))
    return responses


def _moments(values: Array, name: str) -> list[Response]:
    axes = (1, 2)
    return [
        (f"{name} mean", values.mean(axes)),
        (f"{name} sd", values.std(axes)),
        (f"{name} max", values.max(axes)),
        (f"{name} min", -values.min(axes)),
    ]
