"""Signals as pictures: a row for each lead, a column for each moment.

A mask of a signal says which leads and when. What evidence and contrast do for pixels is done along time
only: leads lie beside each other in no meaningful order, so none is a neighbour of another. Two things
replace what an image shows at once. An electrode that fell off, or one that picks up noise, has no unusual
value at any moment; it is *quiet* or *loud* for a while. And layers of a network know time only; what they
say holds for all leads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import median_filter, minimum_filter1d, uniform_filter1d
from torch import Tensor

from shortcutscope.types import Bools

Signals = npt.NDArray[np.float32]
_AXES = 3  # samples, leads, time

#: Windows in which loudness is measured and in which it is typical, as shares of the signal's length.
WINDOW, TYPICAL = 1 / 64, 1 / 16
#: Spans and gaps shorter than this share of the longest span are none.
SHORT = 0.25
#: Longest signal that evidence is computed on; longer ones are averaged down to it.
WORKING_LENGTH = 1024
#: Loudness that counts as none, as a share of the median one.
QUIETEST = 0.02


def is_signal(x: Tensor) -> bool:
    """Whether a batch is one of signals (N, leads, time), not of images or volumes."""
    return x.ndim == _AXES


def pictured(x: Tensor) -> Tensor:
    """Signals (N, leads, time) as pictures of one channel (N, 1, leads, time); anything else as it is."""
    return x[:, None] if is_signal(x) else x


def beside(values: Tensor, leads: int) -> Tensor:
    """What is known of moments (N, time), for each of the leads: (N, leads, time)."""
    return values[:, None].expand(-1, leads, -1)


def by_lead(apply: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Do to each lead of (N, 1, leads, time) what `apply` does to (M, 1, time); gives (N, F, leads, time)."""
    count, _, leads, length = x.shape
    features = apply(x.reshape(count * leads, 1, length))
    return features.view(count, leads, -1, length).transpose(1, 2)


def loudness(values: Signals) -> Signals:
    """Logarithm of the standard deviation in the quietest window around each moment.

    A moment is in many windows. Taking the quietest of them keeps edges where they are: what is quiet for a
    while is quiet up to its ends, and what is loud is loud up to its ends.

    Parameters
    ----------
    values : (N, leads, time)
    """
    width = 2 * max(1, round(WINDOW * values.shape[-1] / 2)) + 1
    precise = values.astype(np.float64)
    precise -= precise.mean(-1, keepdims=True)
    mean = uniform_filter1d(precise, width, axis=-1, mode="nearest")
    square = uniform_filter1d(precise**2, width, axis=-1, mode="nearest")
    spread = np.sqrt((square - mean**2).clip(0))
    # The unit is that of all leads, since a lead that is flat throughout has none of its own.
    unit = np.median(spread, axis=(1, 2), keepdims=True)
    level = np.log(spread + QUIETEST * unit + 1e-9)
    return np.asarray(minimum_filter1d(level, width, axis=-1, mode="nearest"), np.float32)


def loudness_planes(values: Signals) -> Signals:
    """(N, 2, leads, time): :func:`loudness`, and what is typical of it around each moment.

    The typical one is a running median: what is loud in passing, as a heart beat is, does not count.
    """
    loud = loudness(values)
    width = 2 * max(1, round(TYPICAL * values.shape[-1] / 2)) + 1
    return np.stack([loud, running_median(loud, width)], axis=1)


def running_median(values: Signals, width: int) -> Signals:
    """Median along the last axis in a window of odd width; ends are repeated."""
    half = width // 2
    lines = np.pad(values.reshape(-1, values.shape[-1]), ((0, 0), (half, half)), mode="edge")
    # All lines in one, since SciPy is many times faster on a single axis.
    medians: Signals = median_filter(lines.ravel(), width, mode="nearest").reshape(lines.shape)
    return medians[:, half : half + values.shape[-1]].reshape(values.shape)


def whole_spans(mask: Bools) -> Bools:
    """A mask (leads, time) without gaps and spans that are short beside its longest span.

    What is wrong with a signal is wrong for a while. Heart beats make holes in what is too quiet, and stand
    out by themselves beside what is too loud.
    """
    longest = max((stop - start for _, start, stop in spans(mask)), default=0)
    result = mask.copy()
    for lead, start, stop in spans(mask):
        result[lead, start:stop] = stop - start >= SHORT * longest
    for lead, start, stop in spans(~result):
        result[lead, start:stop] = start > 0 and stop < mask.shape[1] and stop - start < SHORT * longest
    return result


def spans(mask: Bools) -> list[tuple[int, int, int]]:
    """Lead, start and stop of the spans inside a mask (leads, time), from 0; stop is the first outside."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, stops = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return [(int(lead), int(a), int(b)) for (lead, a), (_, b) in zip(starts, stops, strict=True)]


def signal_responses(x: Tensor, filters: Callable[[Tensor], Tensor]) -> Tensor:
    """Input-level filters (N, F, leads, time) of signals (N, 1, leads, time), along time.

    To `filters` of one lead, loudness and quietness are added, since maxima are taken of both.
    """
    loud = torch.from_numpy(loudness_planes(x[:, 0].numpy()))
    return torch.cat([by_lead(filters, x), loud, -loud], 1)
