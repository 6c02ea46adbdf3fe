"""One image's mask: where the evidence points, and which pixels there are unlike the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor, nn

from shortcutscope.annotate.contrast import Choice, Usual, choose_contrast, cut, separation
from shortcutscope.annotate.evidence import Evidence, Vectors, resized
from shortcutscope.annotate.fusion import fused, map_weights, region_of, smoothed
from shortcutscope.annotate.presence import Presence
from shortcutscope.annotate.thresholds import Threshold
from shortcutscope.models.layers import Layer

Floats = npt.NDArray[np.float64]
Maps = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: Images that pass through the network at once while a drawer is fitted.
BATCH = 64


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn of one image, in the frame of the model's input.

    Attributes
    ----------
    mask, heat
        (*size) bool, and float32 from 0 to 1.
    present
        Probability that the image carries the concept at all.
    confidence
        From 0 to 1.
    """

    mask: Mask
    heat: Maps
    present: float
    confidence: float


@dataclass(frozen=True, eq=False)
class Drawer:
    """What draws masks; fitted on samples of other patients than those whose masks it draws.

    Attributes
    ----------
    evidence
        Maps of where the concept shows.
    weights
        Of each of them.
    usual, choice
        What is usual at each pixel, and the contrast that is looked at inside a region.
    presence
        Whether there is anything to draw.
    threshold
        Of the contrast inside the region.
    """

    evidence: Evidence
    weights: dict[str, float]
    usual: Usual
    choice: Choice
    presence: Presence
    threshold: Threshold

    @classmethod
    def fit(
        cls,
        model: nn.Module,
        vectors: Vectors,
        layers: tuple[Layer, ...],
        images: Tensor,
        concept: Floats,
        labels: npt.NDArray[Any],
        score: Floats,
        threshold: Threshold = "otsu",
    ) -> Drawer:
        """From images (N, C, *size) whose concept (N,) is known; `score` as in `Presence`."""
        carriers, others = concept == 1, concept == 0
        evidence = vectors.located(model, images[others], layers)
        parts = [evidence.maps(model, images[k : k + BATCH]) for k in range(0, len(images), BATCH)]
        maps = {name: smoothed(np.concatenate([part[name] for part in parts])) for name in evidence.names}
        peaks = {name: _peaks(values) for name, values in maps.items()}
        weights = map_weights(peaks, concept, labels)
        array = images.cpu().float().numpy()
        usual = Usual.fit(array[others])
        fusion = _full_size(fused(maps, weights), array.shape[2:])
        regions = [region_of(values) for values in fusion[carriers]]
        choice = choose_contrast(array[carriers], array[others], regions, usual, threshold)
        contrast = choice.contrast.of(array, usual)
        shown = peaks | _shown(fusion, contrast, threshold)
        presence = Presence.fit(shown, score, concept)
        return cls(evidence, weights, usual, choice, presence, threshold)

    def draw(self, model: nn.Module, x: Tensor, score: Floats) -> list[Drawn]:
        """Masks of a batch (N, C, *size); empty where the concept is absent."""
        maps = {name: smoothed(values) for name, values in self.evidence.maps(model, x).items()}
        images = x.cpu().float().numpy()
        fusion = _full_size(fused(maps, self.weights), images.shape[2:])
        contrast = self.choice.contrast.of(images, self.usual)
        shown = {name: _peaks(values) for name, values in maps.items()}
        shown |= _shown(fusion, contrast, self.threshold)
        present = self.presence.probability(shown, score)
        found = []
        for where, values, probability in zip(fusion, contrast, present, strict=True):
            mask, heat = inside(where, values, self.threshold, self.choice.rim)
            sure = separation(values, region_of(where), mask)
            if probability < self.presence.limit:
                mask = np.zeros_like(mask)
            found.append(Drawn(mask, heat, float(probability), sure))
        return found


def inside(where: Maps, contrast: Maps, threshold: Threshold = "otsu", rim: int = 0) -> tuple[Mask, Maps]:
    """Mask and heat map (*size) of fused evidence and contrast (*size)."""
    region = region_of(where)
    mask = cut(contrast, region, threshold)
    if rim:
        mask = binary_dilation(mask, iterations=rim) & region
    low, high = (float(v) for v in np.quantile(contrast[region], (0, 0.99))) if region.any() else (0, 1)
    share = ((contrast - max(low, 0)) / max(high - max(low, 0), 1e-9)).clip(0, 1)
    heat = np.sqrt((where / max(float(where.max()), 1e-9)) * (0.1 + 0.9 * share))
    return mask, heat.astype(np.float32)


def _shown(fusion: Maps, contrast: Maps, threshold: Threshold) -> dict[str, npt.NDArray[Any]]:
    """How far the pixels chosen in each region stand out: height, and share of the variance."""
    heights, shares = [], []
    for where, values in zip(fusion, contrast, strict=True):
        region = region_of(where)
        mask = cut(values, region, threshold)
        rest = region & ~mask
        both = mask.any() and rest.any()
        heights.append(max(float(values[mask].mean() - values[rest].mean()), 0) if both else 0.0)
        shares.append(separation(values, region, mask))
    return {"height": np.array(heights), "share": np.array(shares)}


def _peaks(maps: Maps) -> npt.NDArray[Any]:
    return np.asarray(maps.reshape(len(maps), -1).max(1))


def _full_size(maps: Maps, size: tuple[int, ...]) -> Maps:
    return resized(torch.from_numpy(maps), tuple(size)).numpy()
