"""One map from several: a weighted geometric mean, and the region in which a mask may lie."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from shortcutscope.masks.mask_files import Maps, Mask
from shortcutscope.masks.thresholds import threshold_of
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Array

#: Standard deviation of the smoothing, in pixels of the maps.
SMOOTHING = 1.0
#: The same of signals, as a share of their length.
SMOOTHING_TIME = 1 / 48
#: Added to every map before the geometric mean, so that one map's zero is no veto.
EVEN = 0.01
#: Lowest 2 AUROC - 1 that counts, and lowest weight relative to the largest.
LEAST_SEPARATION, LEAST_WEIGHT = 0.01, 0.05


def smoothed(maps: Maps, *, leads: bool = False) -> Maps:
    """Maps (N, *size) after a Gaussian over each; of signals (N, leads, time) along time."""
    width = (0.0, *[SMOOTHING] * (maps.ndim - 1))
    if leads:
        width = (0.0, 0.0, SMOOTHING_TIME * maps.shape[-1])
    result: Maps = gaussian_filter(maps.astype(np.float32), width, mode="nearest")
    return result


def map_weights(
    peaks: Mapping[str, Array], concept: Array, labels: Array, known: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Weight of each map, by how well its peak tells carriers from the others within a class.

    A map that is no higher on carriers knows nothing of where the concept is. The weight is the cube of
    2 AUROC - 1; where that is small beside the largest, the map is left out.

    Parameters
    ----------
    peaks
        By map (N,).
    concept, labels
        (N,).
    known
        AUROC of maps whose own is known from samples that they were not taught by.
    """
    weights, taught = {}, known or {}
    for name, values in peaks.items():
        own = taught[name] if name in taught else within_class_auroc(concept, values, labels)
        separation = float(np.nan_to_num(own, nan=0.5))
        weights[name] = max(LEAST_SEPARATION, 2 * separation - 1) ** 3
    most = max(weights.values())
    return {name: weight if weight >= LEAST_WEIGHT * most else 0.0 for name, weight in weights.items()}


def fused(maps: Mapping[str, Maps], weights: Mapping[str, float]) -> Maps:
    """Geometric mean (N, *size) of smoothed maps, each above its own median and relative to its peak."""
    used = {name: weights[name] for name in maps if weights[name] > 0} or dict.fromkeys(maps, 1.0)
    total = sum(used.values())
    logs = sum(weight * np.log(_relative(maps[name]) + EVEN) for name, weight in used.items())
    return np.asarray(np.exp(logs / total), np.float32)


def _relative(maps: Maps) -> Maps:
    axes = tuple(range(1, maps.ndim))
    above = (maps - np.median(maps, axis=axes, keepdims=True)).clip(0)
    top = above.max(axis=axes, keepdims=True)
    return np.asarray(above / np.where(top > 0, top, 1), np.float32)


def region_of(values: Array, share: float) -> Mask:
    """Pixels of one map (*size) above this share of Otsu's threshold, and those beside them."""
    limit = share * threshold_of(values)
    return np.asarray(binary_dilation(values > limit), np.bool_)
