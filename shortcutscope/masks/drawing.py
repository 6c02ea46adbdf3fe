"""One image's mask: where the evidence points, and which pixels there are unlike the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.masks.area_prior import AreaPrior, grown
from shortcutscope.masks.contrast import (
    SIGNS,
    ContrastChoice,
    ImageStatistics,
    choose_contrast,
    cut,
    planes,
    separation,
)
from shortcutscope.masks.evidence import PATCHES, Evidence, Vectors, resized
from shortcutscope.masks.exemplars import Exemplars, signal, voted
from shortcutscope.masks.fine_edges import are_fine, weighed_cut, with_edges
from shortcutscope.masks.fusion import fused, map_weights, region_of, smoothed
from shortcutscope.masks.mask_files import Maps, Mask
from shortcutscope.masks.patch_detector import TaughtDetector
from shortcutscope.masks.presence import Presence
from shortcutscope.masks.thresholds import Threshold
from shortcutscope.masks.usual_place import UsualPlace
from shortcutscope.models.layers import Layer
from shortcutscope.retrieval.signals import is_signal, pictured, whole_spans
from shortcutscope.types import Array, Floats, Ints

#: Images that pass through the network at once while a predictor is fitted.
BATCH = 64
#: A mask below this confidence is flagged for review.
UNSURE = 0.5
#: What is said of samples that may carry the concept or not, and of masks whose place has no support.
WHETHER, WHERE = "cannot tell whether it is there", "cannot tell where it is"
#: Areas within this factor (as a logarithm) are never far apart.
LEAST_SPREAD = 0.2


@dataclass(frozen=True, eq=False)
class MaskPrediction:
    """What was drawn of one image, in the frame of the model's input.

    Attributes
    ----------
    mask, heat
        (*size) bool, and float32 from 0 to 1.
    present
        Probability that the image carries the concept at all.
    confidence
        From 0 to 1.
    doubt
        What cannot be told: whether there is anything to draw, or where; None where nothing speaks against
        the mask.
    """

    mask: Mask
    heat: Maps
    present: float
    confidence: float
    doubt: str | None = None


def needs_review(drawn: MaskPrediction, value: float) -> bool:
    """Whether a person should look: the mask is in doubt, or contradicts what is known (1, 0 or NaN)."""
    contradicts = bool(np.isfinite(value)) and bool(drawn.mask.any()) != (value == 1)
    return contradicts or drawn.doubt is not None or drawn.confidence < UNSURE


@dataclass(frozen=True, eq=False)
class MaskPredictor:
    """What draws masks; fitted on samples of other patients than those whose masks it draws.

    Attributes
    ----------
    evidence
        Maps of where the concept shows.
    weights
        Of each of them.
    statistics, choice
        What is usual at each pixel, and the contrast that is looked at inside a region.
    threshold
        Of the contrast inside the region.
    areas
        Of the masks of carriers, which a mask's own is compared with.
    presence
        Whether there is anything to draw, see `calibrated`.
    place
        The same by the evidence at single positions alone: whether that is more than what samples without the
        concept show.
    units
        What is ordinary of each measure, whoever carries the concept; predictors are compared in these units.
    prior
        Areas of masks that a person accepted; they count more.
    exemplars
        Masks of carriers, where these are alike; see `Exemplars`.
    usual
        Where carriers have more evidence than others.
    """

    evidence: Evidence
    weights: dict[str, float]
    statistics: ImageStatistics
    choice: ContrastChoice
    threshold: Threshold
    areas: Areas
    presence: Presence | None = None
    place: Presence | None = None
    units: Mapping[str, float] = field(default_factory=dict)
    prior: AreaPrior | None = None
    exemplars: Exemplars | None = None
    usual: UsualPlace | None = None

    @classmethod
    def fit(
        cls,
        model: nn.Module,
        vectors: Vectors,
        layers: tuple[Layer, ...],
        images: Tensor,
        concept: Floats,
        labels: Array,
        threshold: Threshold = "otsu",
        patches: TaughtDetector | None = None,
    ) -> MaskPredictor:
        """From images (N, C, *size) whose concept (N,) is known; it draws once it is `calibrated`."""
        carriers, others = concept == 1, concept == 0
        evidence = vectors.located(model, images[others], layers)
        if patches is not None:
            evidence = replace(evidence, patches=patches.detector)
        parts = [evidence.maps(model, images[k : k + BATCH]) for k in range(0, len(images), BATCH)]
        leads = is_signal(images)
        joined = {name: np.concatenate([part[name] for part in parts]) for name in evidence.names}
        maps = {name: smoothed(values, leads=leads) for name, values in joined.items()}
        peaks = {name: _peaks(values) for name, values in maps.items()}
        known = {} if patches is None else {PATCHES: patches.auroc}
        weights = map_weights(peaks, concept, labels, known)
        names = [name for name, weight in weights.items() if weight > 0]
        evidence, maps, peaks = (
            evidence.only(names),
            {k: maps[k] for k in names},
            {k: peaks[k] for k in names},
        )
        array = pictured(images).cpu().float().numpy()
        statistics = ImageStatistics.fit(array[others], leads=leads)
        fusion = _full_size(fused(maps, weights), array.shape[2:])
        choice = choose_contrast(array[carriers], array[others], fusion[carriers], statistics, threshold)
        regions = [region_of(values, choice.share) for values in fusion]
        contrast = choice.contrast.of(array, statistics)
        outlines = [outline(v, r, threshold, leads=leads) for v, r in zip(contrast, regions, strict=True)]
        if array.ndim == 4 and not leads:
            choice = _edges_looked_at(choice, array, contrast, fusion, outlines, np.flatnonzero(carriers))
        exemplars = None if leads else _exemplars(contrast, fusion, outlines, np.flatnonzero(carriers))
        outlines = [_as_voted(*of, exemplars) for of in zip(contrast, fusion, outlines, strict=True)]
        sizes = [
            int(contour.mask.sum()) for contour, carries in zip(outlines, carriers, strict=True) if carries
        ]
        areas = Areas.fit(sizes)
        usual = UsualPlace.fit(fusion[carriers], fusion[others])
        return cls(evidence, weights, statistics, choice, threshold, areas, exemplars=exemplars, usual=usual)

    def features(self, model: nn.Module, images: Tensor) -> dict[str, Array]:
        """What tells carriers among images (N, C, *size), by name, (N,) each, in `units`."""
        parts = [self._look(model, images[k : k + BATCH]).features for k in range(0, len(images), BATCH)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def with_units(self, features: Mapping[str, Array]) -> MaskPredictor:
        """The same in units of the ordinary sample among some that were :meth:`features`.

        Probabilities have no unit; half-way between carriers and others their median may be either's.
        """
        units = {name: 1.0 if name == PATCHES else _ordinary(values) for name, values in features.items()}
        return replace(self, units=units)

    def calibrated(
        self,
        features: Mapping[str, Array],
        score: Floats,
        concept: Floats,
        folds: Array,
    ) -> MaskPredictor:
        """The same, knowing how high the evidence is of samples with and without the concept.

        Parameters
        ----------
        features
            See :meth:`features`; of samples (N,), by predictors that were not fitted on them.
        score, concept, folds
            As in `Presence.fit`.
        """
        presence = Presence.fit(features, score, concept, folds)
        return replace(self, presence=presence, place=Presence.fit(features, None, concept, folds))

    def _look(self, model: nn.Module, x: Tensor) -> MaskEvidence:
        leads = is_signal(x)
        maps = {name: smoothed(v, leads=leads) for name, v in self.evidence.maps(model, x).items()}
        images = pictured(x).cpu().float().numpy()
        fusion = _full_size(fused(maps, self.weights), images.shape[2:])
        contrast = self.choice.contrast.of(images, self.statistics)
        outlines = [
            outline(values, region_of(where, self.choice.share), self.threshold, leads=leads)
            for values, where in zip(contrast, fusion, strict=True)
        ]
        peaks = {name: _peaks(values) for name, values in maps.items()}
        in_place = {} if self.usual is None else self.usual.features(fusion, contrast)
        measured = peaks | _contour_features(outlines) | in_place
        features = {k: values / self.units.get(k, 1.0) for k, values in measured.items()}
        return MaskEvidence(fusion, contrast, outlines, features)

    def predict(self, model: nn.Module, x: Tensor, score: Floats) -> list[MaskPrediction]:
        """Masks of a batch (N, C, *size); empty where the concept is absent, or may be."""
        assert self.presence is not None, "calibrated() comes first"
        assert self.place is not None
        look = self._look(model, x)
        present = self.presence.probability(look.features, score)
        placed = self.place.probability(look.features, None)
        values = planes(pictured(x).cpu().float().numpy(), leads=is_signal(x))[:, self.choice.contrast.plane]
        predictions = []
        for k, probability in enumerate(present):
            contour, doubt = look.outlines[k], None
            if probability <= self.presence.limit:
                mask, sure = np.zeros_like(contour.mask), 1 - float(probability)
                doubt = WHETHER if probability >= self.presence.absent else None
            elif self.choice.fine and self.prior is None:
                mask, sure = self._to_the_edges(values[k], look.contrast[k], look.fusion[k], contour)
                sure *= float(probability)
                if placed[k] <= self.place.limit:
                    doubt, sure = WHERE, sure * float(placed[k])
            else:
                # Only now: whether it is there is asked of the image alone, and votes would draw it on any.
                contour = _as_voted(look.contrast[k], look.fusion[k], contour, self.exemplars)
                mask, sure = self._inside(look.contrast[k], contour)
                if placed[k] <= self.place.limit:
                    doubt, sure = WHERE, sure * float(placed[k])
            heat = heat_map(look.fusion[k], look.contrast[k], contour.region)
            predictions.append(
                MaskPrediction(mask, heat, float(probability), float(np.clip(sure, 0, 1)), doubt)
            )
        return predictions

    def _to_the_edges(self, image: Maps, contrast: Maps, where: Maps, contour: Outline) -> tuple[Mask, float]:
        """The mask of something with fine edges, and its confidence: do two ways to draw it agree?"""
        sign = SIGNS[self.choice.contrast.sign]
        mask, other = (
            with_edges(image, core, sign)
            for core in (weighed_cut(contrast, where, contour.region), contour.mask)
        )
        agreement = float((mask & other).sum() / max(1, int((mask | other).sum())))
        likeness = self.areas.likeness(int(contour.mask.sum()))
        return mask, float(np.sqrt(contour.separation * likeness * agreement))

    def _inside(self, contrast: Maps, contour: Outline) -> tuple[Mask, float]:
        """The mask of a sample that carries the concept, and its confidence."""
        rim = self.choice.rim
        if self.prior is None:
            likeness = self.areas.likeness(int(contour.mask.sum()))
            return grown(contour.mask, contour.region, rim), contour.separation * likeness
        cut_out = self.prior.cut(contrast, contour.region, contour.mask, rim)
        mask = grown(cut_out, contour.region, rim)
        return mask, separation(contrast, contour.region, cut_out) * self.prior.likeness(float(mask.mean()))


@dataclass(frozen=True, eq=False)
class MaskEvidence:
    """What a predictor sees in a batch.

    Attributes
    ----------
    fusion, contrast
        (N, *size).
    outlines
        Of each image.
    features
        By name what tells carriers, (N,).
    """

    fusion: Maps
    contrast: Maps
    outlines: list[Outline]
    features: dict[str, Array]


@dataclass(frozen=True)
class Areas:
    """Areas of masks, as median and spread of their logarithms."""

    middle: float
    spread: float

    @classmethod
    def fit(cls, sizes: Sequence[int]) -> Areas:
        """From pixel counts; empty masks do not count."""
        logs = np.log([size for size in sizes if size > 0] or [1])
        middle = float(np.median(logs))
        return cls(middle, max(LEAST_SPREAD, 1.4826 * float(np.median(np.abs(logs - middle)))))

    def likeness(self, size: int) -> float:
        """1 for an ordinary area, less for one that is unlike the others; 0 for an empty mask."""
        if size == 0:
            return 0.0
        return float(np.exp(-0.5 * ((np.log(size) - self.middle) / (3 * self.spread)) ** 2))


@dataclass(frozen=True, eq=False)
class Outline:
    """A region, the mask in it, and how far that stands out.

    Attributes
    ----------
    region, mask
        (*size).
    height
        Mean contrast of the mask above that of the rest of the region.
    separation
        See :func:`shortcutscope.masks.contrast.separation`.
    """

    region: Mask
    mask: Mask
    height: float
    separation: float


def outline(contrast: Maps, region: Mask, threshold: Threshold = "otsu", *, leads: bool = False) -> Outline:
    """Cut the mask of one image, or of a signal (leads, time), out of its region."""
    mask = cut(contrast, region, threshold)
    return _measured(contrast, region, whole_spans(mask) if leads else mask)


def _measured(contrast: Maps, region: Mask, mask: Mask) -> Outline:
    """A mask of one image in its region, and how far it stands out there."""
    rest = region & ~mask
    height = float(contrast[mask].mean() - contrast[rest].mean()) if mask.any() and rest.any() else 0.0
    return Outline(region, mask, max(height, 0.0), separation(contrast, region, mask))


def _edges_looked_at(
    choice: ContrastChoice,
    images: Maps,
    contrast: Maps,
    fusion: Maps,
    outlines: Sequence[Outline],
    carriers: Ints,
) -> ContrastChoice:
    """The choice, knowing whether edges are fine by the clearer half of the carriers."""
    clear = sorted(carriers.tolist(), key=lambda k: -outlines[k].separation)[: -(-len(carriers) // 2)]
    plane = planes(images[clear])[:, choice.contrast.plane]
    masks = [weighed_cut(contrast[k], fusion[k], outlines[k].region) for k in clear]
    fine = are_fine(list(plane), masks, SIGNS[choice.contrast.sign], rim=choice.rim > 0)
    return replace(choice, fine=fine)


def _exemplars(contrast: Maps, fusion: Maps, outlines: Sequence[Outline], carriers: Ints) -> Exemplars | None:
    """Of the masks (N, *size) of carriers, by row."""
    signals = np.stack([signal(contrast[k], fusion[k], outlines[k].mask) for k in carriers])
    masks = np.stack([outlines[k].mask for k in carriers])
    return Exemplars.fit(signals, masks, np.array([outlines[k].separation for k in carriers]))


def _as_voted(contrast: Maps, where: Maps, contour: Outline, exemplars: Exemplars | None) -> Outline:
    """What is drawn of one image once the masks of other carriers have voted."""
    if exemplars is None:
        return contour
    votes = exemplars.votes(signal(contrast, where, contour.mask))
    region, mask = voted(contrast, contour.region, contour.mask, votes)
    return _measured(contrast, region, mask)


def heat_map(where: Maps, contrast: Maps, region: Mask) -> Maps:
    """Fused evidence and contrast (*size) in one map, from 0 to 1."""
    low, high = (float(v) for v in np.quantile(contrast[region], (0, 0.99))) if region.any() else (0, 1)
    share = ((contrast - max(low, 0)) / max(high - max(low, 0), 1e-9)).clip(0, 1)
    heat = np.sqrt((where / max(float(where.max()), 1e-9)) * (0.1 + 0.9 * share))
    return np.asarray(heat, np.float32)


def _contour_features(outlines: Sequence[Outline]) -> dict[str, Array]:
    return {
        "height": np.array([contour.height for contour in outlines]),
        "separation": np.array([contour.separation for contour in outlines]),
    }


def _ordinary(values: Array) -> float:
    """Median, or mean of what is mostly zero; 1 of what is zero."""
    return float(np.median(values)) or float(values.mean()) or 1.0


def _peaks(maps: Maps) -> Array:
    return np.asarray(maps.reshape(len(maps), -1).max(1))


def _full_size(maps: Maps, size: tuple[int, ...]) -> Maps:
    return resized(torch.from_numpy(maps), tuple(size)).numpy()
