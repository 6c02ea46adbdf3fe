"""Artifacts of signals: electrodes that fail, beats that stand out, drift and noise of the recording.

Each function maps a signal (C, L), all leads at once, float32 in 0..1, a generator and a strength to the
changed signal and the mask of what visibly changed, by lead and time. Signals have no unit here, so each
lead's own median stands for its zero line, and what is added is measured in the height of a typical lead.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from shortcutscope.planting.artifacts.artifact import signal_height, visible
from shortcutscope.types import Array

# Pahde et al. 2025 set 100 samples of a segment; of 400, as here, that is a quarter.
DEFECTIVE_SHARE = 1 / 4
# The third lead and the second beat, counted from 0.
AMPLIFIED_LEAD, AMPLIFIED_BEAT = 2, 1
# A beat reaches from this share of the time between two beats before its peak to what is left behind it.
BEFORE_PEAK = 1 / 3


def defective_lead(signal: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """The first quarter of one lead flat, at twice the largest deviation that the lead has there.

    After the defective lead of Pahde et al. 2025 (first 100 samples, twice the segment's maximum). Which
    lead it is, is drawn.
    """
    lead = int(generator.integers(len(signal)))
    part = (lead, slice(0, max(1, round(DEFECTIVE_SHARE * signal.shape[1]))))
    zero = np.median(signal[lead])
    level = zero + 2 * np.abs(signal[part] - zero).max()
    after = signal.astype(np.float64)
    after[part] += strength * (level - after[part])
    return _draw_result(signal, after)


def amplified_beat(signal: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """The second beat of the third lead three times as high (Pahde et al. 2025).

    Of fewer than three leads the last one is taken, of fewer than two beats the only one. A signal in
    which no beat is found stays as it is.
    """
    peaks = r_peaks(signal)
    after = signal.astype(np.float64)
    if len(peaks):
        lead = min(AMPLIFIED_LEAD, len(signal) - 1)
        start, stop = _beat(peaks, min(AMPLIFIED_BEAT, len(peaks) - 1), signal.shape[1])
        zero = np.median(signal[lead])
        after[lead, start:stop] += 2 * strength * (after[lead, start:stop] - zero)
    return _draw_result(signal, after)


def baseline_drift(signal: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """A slow sine wave, one to two periods long and .2 to .35 of a lead's height, in all leads, as of breath.

    The leads share its phase; each has a height of its own, at least half of the largest.
    """
    periods, phase = generator.uniform(1, 2), generator.uniform(0, 2 * np.pi)
    height = strength * generator.uniform(0.2, 0.35) * signal_height(signal)
    share = generator.uniform(0.5, 1.0, len(signal))[:, None]
    time = np.arange(signal.shape[1]) / signal.shape[1]
    return _draw_result(signal, signal + height * share * np.sin(2 * np.pi * periods * time + phase))


def static_noise(signal: Array, generator: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """White noise in all leads, of a standard deviation of .05 to .08 of a lead's height."""
    level = strength * generator.uniform(0.05, 0.08) * signal_height(signal)
    return _draw_result(signal, signal + level * generator.standard_normal(signal.shape))


def r_peaks(signal: Array) -> Array:
    """Positions of the heart beats of a signal (C, L), in samples, ascending.

    A beat is where all leads together are steepest, so no lead needs an upright peak. The time between two
    beats is taken from the autocorrelation of the steepness, so the sampling rate need not be known; up to
    half of the signal.
    """
    steep = np.abs(np.diff(signal.astype(np.float64), axis=1, append=signal[:, -1:])).sum(0)
    steep = uniform_filter1d(steep, 5)
    if np.ptp(steep) == 0:
        return np.empty(0, np.int64)
    steep = (steep - steep.min()) / np.quantile(steep - steep.min(), 0.99)
    peaks, _ = find_peaks(steep, height=0.4, distance=max(1, round(0.5 * _period(steep))))
    return np.asarray(peaks, np.int64)


def _period(steep: Array) -> int:
    """The lag at which the steepness is most like itself, beyond the width of one beat."""
    centred = steep - steep.mean()
    likeness = np.correlate(centred, centred, "full")[len(steep) - 1 :][: len(steep) // 2 + 1]
    below = np.flatnonzero(likeness < 0)
    first = int(below[0]) if len(below) else 1
    return first + int(likeness[first:].argmax())


def _beat(peaks: Array, which: int, length: int) -> tuple[int, int]:
    """Start and stop of a beat; of an only one, the whole signal."""
    if len(peaks) == 1:
        return 0, length
    before = peaks[which] - peaks[which - 1] if which else peaks[1] - peaks[0]
    after = peaks[which + 1] - peaks[which] if which + 1 < len(peaks) else before
    start = peaks[which] - round(BEFORE_PEAK * float(before))
    return max(0, int(start)), min(length, int(peaks[which] + round((1 - BEFORE_PEAK) * float(after))))


def _draw_result(before: Array, after: Array) -> tuple[Array, Array]:
    clipped = np.clip(after, 0, 1).astype(np.float32)
    return clipped, visible(before, clipped, signal_height(before))
