"""The field's plain recipe for masks, as a rival: relevance of a concept vector, blurred, and Otsu.

Pahde et al. 2025, "Ensuring medical AI safety": the backward pass of LRP starts at a layer with max(a, 0) v,
v the pattern vector of the concept; the input's relevance is clamped at 0, blurred with a Gaussian (kernel 7,
sigma 8 at 224 pixels) and cut by Otsu's threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from shortcutscope.attribution.lrp.conditional import Direction, conditional_relevance
from shortcutscope.masks.contrast import separation
from shortcutscope.masks.drawing import WHETHER, MaskPrediction
from shortcutscope.masks.evidence import over_positions
from shortcutscope.masks.mask_files import Maps
from shortcutscope.masks.presence import Presence
from shortcutscope.masks.thresholds import Threshold, threshold_of
from shortcutscope.models.frozen import device_of
from shortcutscope.models.layers import Layer
from shortcutscope.probes.cav import pattern_cav
from shortcutscope.retrieval.signals import is_signal, pictured
from shortcutscope.types import Array, Floats

KERNEL, SIGMA, SIDE = 7, 8.0, 224


@dataclass(frozen=True, eq=False)
class ClarcMaskPredictor:
    """Draws masks by the plain recipe.

    Attributes
    ----------
    layer
        In which the vector lies.
    direction
        v (C,).
    presence
        Whether there is anything to draw, by an out-of-fold score alone.
    threshold
        Of the blurred map.
    """

    layer: Layer
    direction: Floats
    presence: Presence
    threshold: Threshold = "otsu"

    @classmethod
    def fit(
        cls,
        layer: Layer,
        activation: Array,
        concept: Floats,
        labels: Array,
        score: Floats,
        threshold: Threshold = "otsu",
    ) -> ClarcMaskPredictor:
        """From mean activations (N, C) of samples whose concept (N,) is known."""
        vector = pattern_cav(activation, concept, labels).signal
        return cls(layer, vector, Presence.fit({}, score, concept), threshold)

    def heat(self, model: nn.Module, x: Tensor) -> Maps:
        """Blurred relevance (N, *size) of a batch."""
        # Behind a rectifier max(a, 0) v and a v are the same start.
        start = Direction(self.layer.name, self.direction.astype(np.float32))
        relevance = conditional_relevance(model, x.to(device_of(model)), start, [self.layer]).input
        relevance_map = pictured(over_positions(relevance))[:, 0].clamp_min(0).cpu().numpy()
        return blurred(relevance_map, leads=is_signal(x))

    def predict(self, model: nn.Module, x: Tensor, score: Floats) -> list[MaskPrediction]:
        """Masks of a batch (N, C, *size); empty where the concept is absent."""
        present = self.presence.probability({}, score)
        predictions = []
        for heat, probability in zip(self.heat(model, x), present, strict=True):
            mask = heat > threshold_of(heat, self.threshold)
            sure = separation(heat, np.ones_like(mask), mask)
            doubt = None
            if probability <= self.presence.limit:
                mask, sure = np.zeros_like(mask), 1 - float(probability)
                doubt = WHETHER if probability >= self.presence.absent else None
            predictions.append(
                MaskPrediction(mask, heat / max(float(heat.max()), 1e-12), float(probability), sure, doubt)
            )
        return predictions


def blurred(maps: Array, *, leads: bool = False) -> Maps:
    """Maps (N, *size) after the recipe's Gaussian, scaled to their size; of signals along time."""
    if leads:
        return blurred(maps.reshape(-1, maps.shape[-1])).reshape(maps.shape)
    scale = min(maps.shape[1:]) / SIDE
    radius = max(1, round((KERNEL - 1) / 2 * scale))
    widths = (0.0, *[SIGMA * scale] * (maps.ndim - 1))
    return np.asarray(gaussian_filter(maps, widths, radius=(0, *[radius] * (maps.ndim - 1))), np.float32)
