"""What a person would say of a signal: its level and size, noise, wander and hum, flat and cut-off parts."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

from shortcutscope.types import Array, Floats

#: Fewest samples in time of which anything is measured.
FEWEST = 32
#: Cycles over the whole signal up to which a change is slow.
SLOW = 3
_EPS = 1e-9


def trace_properties(signal: Array, value_range: tuple[float, float]) -> dict[str, float]:
    """Property, see `shortcutscope.discover.naming.words`, to its value; means over the leads.

    Parameters
    ----------
    signal
        ``(leads, time)``.
    value_range
        Lowest and highest value that it can have.

    Returns
    -------
    dict
        Empty for what is no signal, is too short, or holds values that are not finite.

    Examples
    --------
    >>> beat = np.sin(np.arange(200) / 5)[None]
    >>> round(trace_properties(beat, (-1.0, 1.0))["amplitude"], 2)
    0.35
    """
    if signal.ndim != 2 or signal.shape[1] < FEWEST or not np.isfinite(signal).all():
        return {}
    low, high = value_range
    traces = (np.asarray(signal, np.float64) - low) / (high - low)
    spread = traces.std(1)
    steps = np.diff(traces, axis=1)
    flat = np.abs(steps) <= 1e-6
    ends = (traces == traces.max(1, keepdims=True)) | (traces == traces.min(1, keepdims=True))
    return {
        "level": float(np.median(traces, axis=1).mean()),
        "amplitude": float(spread.mean()),
        "signal noise": float((_noise(traces) / (spread + _EPS)).mean()),
        "steepest slopes": float((np.quantile(np.abs(steps), 0.99, axis=1) / (spread + _EPS)).mean()),
        "flat share": float(flat.mean()),
        "clipped share": float(np.maximum(ends.mean(1) - 2 / traces.shape[1], 0).mean()),
        **_spectrum(traces),
    }


def _noise(traces: Floats) -> Floats:
    """Standard deviation of the noise of each lead, by the median of its third differences."""
    rough = np.diff(traces, 3, axis=1)
    deviation: Floats = np.median(np.abs(rough), axis=1) / 0.6745 / np.sqrt(20)
    return deviation


def _spectrum(traces: Floats) -> dict[str, float]:
    """Share of slow changes, and how far one frequency of the upper half stands out of those around it."""
    window = np.hanning(traces.shape[1])
    power = np.abs(np.fft.rfft((traces - traces.mean(1, keepdims=True)) * window, axis=1)) ** 2
    total = power.sum(1) + _EPS
    logs = np.log10(power.mean(0) + _EPS)
    above = logs - median_filter(logs, 15, mode="nearest")
    upper = above[max(SLOW + 1, len(above) // 10) :]
    return {
        "baseline wander": float((power[:, 1 : SLOW + 1].sum(1) / total).mean()),
        "hum": float(upper.max()) if len(upper) else 0.0,
    }
