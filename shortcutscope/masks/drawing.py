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
    planes,
    separation,
)
from shortcutscope.masks.evidence import DRAWN, PATCHES, Evidence, Vectors, resized
from shortcutscope.masks.exemplars import Exemplars, overlap
from shortcutscope.masks.fine_edges import are_fine, weighed_cut, with_edges
from shortcutscope.masks.fusion import fused, map_weights, region_of, smoothed
from shortcutscope.masks.mask_files import Maps, Mask
from shortcutscope.masks.outlines import Areas, Outline, as_voted, exemplars_of, heat_map, outline, votes_on
from shortcutscope.masks.patches.detector import TaughtDetector
from shortcutscope.masks.presence import Presence
from shortcutscope.masks.support import meeting, support
from shortcutscope.masks.thresholds import Threshold
from shortcutscope.masks.usual_place import UsualPlace
from shortcutscope.models.layers import Layer
from shortcutscope.retrieval.signals import is_signal, pictured
from shortcutscope.types import Array, Floats, Ints

#: Images that pass through the network at once while a predictor is fitted.
BATCH = 64
#: A mask below this confidence is flagged for review.
UNSURE = 0.5
#: Lowest probability of a position, and lowest against it, that are told from lower ones; least spread of the
#: logarithm of odds that is a unit.
LEAST_ODDS, NARROWEST = 1e-4, 0.1
#: Intersection over union of two ways to draw a mask below which they disagree on which pixels it has, and
#: share of the smaller that lies in the larger below which they disagree on where it is.
AGREEING, MEETING = 0.5, 0.5
#: Where pixels were drawn over, the region reaches down to this share of Otsu's threshold.
DRAWN_REGION = 0.5
#: What is said of samples that may carry the concept or not, and of masks whose place has no support.
WHETHER, WHERE = "cannot tell whether it is there", "cannot tell where it is"


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
        What is ordinary of each measure, whoever carries the concept, and how far its logarithm is spread;
        predictors are compared in these units.
    prior
        Areas of masks that a person accepted; they count more.
    exemplars
        Masks of carriers, where these are alike; see `Exemplars`.
    usual
        Where carriers have more evidence than others.
    by_pixels
        Whether what single pixels say draws the mask although its edges are not fine, see `_by_pixels`.
    """

    evidence: Evidence
    weights: dict[str, float]
    statistics: ImageStatistics
    choice: ContrastChoice
    threshold: Threshold
    areas: Areas
    presence: Presence | None = None
    place: Presence | None = None
    units: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    prior: AreaPrior | None = None
    exemplars: Exemplars | None = None
    usual: UsualPlace | None = None
    by_pixels: bool = False

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
        exemplars = None if leads else exemplars_of(contrast, fusion, outlines, np.flatnonzero(carriers))
        outlines = [
            as_voted(values, contour, votes_on(values, where, contour, exemplars))
            for values, where, contour in zip(contrast, fusion, outlines, strict=True)
        ]
        sizes = [
            int(contour.mask.sum()) for contour, carries in zip(outlines, carriers, strict=True) if carries
        ]
        areas = Areas.fit(sizes)
        usual = UsualPlace.fit(fusion[carriers], fusion[others])
        predictor = cls(
            evidence, weights, statistics, choice, threshold, areas, exemplars=exemplars, usual=usual
        )
        if evidence.patches is None or choice.fine or exemplars is not None:
            return predictor
        drawn = _full_size(np.concatenate([part[DRAWN] for part in parts]), array.shape[2:])
        look = MaskEvidence(fusion, contrast, outlines, {}, drawn)
        return replace(predictor, by_pixels=predictor._by_pixels(look, array, np.flatnonzero(carriers)))

    def _by_pixels(self, look: MaskEvidence, images: Maps, carriers: Ints) -> bool:
        """Whether both ways to draw carriers (rows) disagree on where it is: single places decide then."""
        values = planes(images)[:, self.choice.contrast.plane]
        pairs = [self._ways(look, int(k), values[k]) for k in carriers]
        return float(np.mean([overlap(one, two) for one, two, _ in pairs if two is not None])) < AGREEING

    def features(self, model: nn.Module, images: Tensor) -> dict[str, Array]:
        """What tells carriers among images (N, C, *size), by name, (N,) each, in `units`."""
        parts = [self._look(model, images[k : k + BATCH]).features for k in range(0, len(images), BATCH)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def with_units(self, features: Mapping[str, Array]) -> MaskPredictor:
        """The same in units of some samples, whose :meth:`features` these are, as many carriers in each fold.

        Odds of single places are near nothing or near certainty. How sure one network is beside another shows
        in their mean and spread; their median may be a carrier's or another's.
        """
        units = {name: (_ordinary(values), 1.0) for name, values in features.items()}
        if PATCHES in features:
            logs = np.log(features[PATCHES])
            units[PATCHES] = float(np.exp(logs.mean())), max(float(logs.std()), NARROWEST)
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
        found = self.evidence.maps(model, x)
        images = pictured(x).cpu().float().numpy()
        drawn = _full_size(found.pop(DRAWN), images.shape[2:]) if DRAWN in found else None
        maps = {name: smoothed(values, leads=leads) for name, values in found.items()}
        fusion = _full_size(fused(maps, self.weights), images.shape[2:])
        contrast = self.choice.contrast.of(images, self.statistics)
        outlines = [
            outline(values, region_of(where, self.choice.share), self.threshold, leads=leads)
            for values, where in zip(contrast, fusion, strict=True)
        ]
        peaks = {name: _peaks(values) for name, values in maps.items()}
        if PATCHES in peaks:
            peaks[PATCHES] = _odds(peaks[PATCHES])
        in_place = {} if self.usual is None else self.usual.features(fusion, contrast)
        measured = peaks | _contour_features(outlines) | in_place
        return MaskEvidence(fusion, contrast, outlines, self.in_units(measured), drawn)

    def in_units(self, features: Mapping[str, Array]) -> dict[str, Array]:
        """Features (N,) by name in :attr:`units`; as they are before these are known."""
        known = {name: self.units.get(name, (1.0, 1.0)) for name in features}
        return {name: (of / known[name][0]) ** (1 / known[name][1]) for name, of in features.items()}

    def predict(self, model: nn.Module, x: Tensor, score: Floats) -> list[MaskPrediction]:
        """Masks of a batch (N, C, *size); empty where the concept is absent, or may be."""
        assert self.presence is not None, "calibrated() comes first"
        assert self.place is not None
        look = self._look(model, x)
        present = self.presence.probability(look.features, score)
        placed = self.place.probability(look.features, None)
        values = planes(pictured(x).cpu().float().numpy(), leads=is_signal(x))[:, self.choice.contrast.plane]
        predictions = []
        for k, probability in enumerate(present.tolist()):
            doubt = None
            if probability <= self.presence.limit:
                mask, sure = np.zeros_like(look.outlines[k].mask), 1 - probability
                doubt = WHETHER if probability >= self.presence.absent else None
            else:
                mask, sure, doubt = self._assessed(look, k, values[k], probability)
                if placed[k] <= self.place.limit:
                    doubt, sure = WHERE, sure * float(placed[k])
            heat = heat_map(look.fusion[k], look.contrast[k], look.outlines[k].region)
            predictions.append(MaskPrediction(mask, heat, probability, float(np.clip(sure, 0, 1)), doubt))
        return predictions

    def _assessed(
        self, look: MaskEvidence, k: int, image: Maps, probability: float
    ) -> tuple[Mask, float, str | None]:
        """The mask of a carrier, how sure it is, and what cannot be told."""
        contrast, votes = look.contrast[k], None
        # Only now: whether it is there is asked of the image alone, and votes would draw it on any.
        if self.prior is not None or not self.choice.fine:
            votes = votes_on(contrast, look.fusion[k], look.outlines[k], self.exemplars)
        if self.prior is not None:
            return *self._like_accepted(
                contrast, as_voted(contrast, look.outlines[k], votes), self.prior
            ), None
        mask, other, contour = self._ways(look, k, image, votes)
        if look.drawn is not None and other is not None:
            said = [look.drawn[k]] if votes is None else [look.drawn[k], votes]
            sure = support(image, contrast, said, mask) * probability
            return mask, sure, WHERE if meeting(mask, other) < MEETING else None
        sure = contour.separation * self.areas.likeness(int(contour.mask.sum()))
        if other is not None:
            sure = float(np.sqrt(sure * overlap(mask, other))) * probability
        return mask, sure, None

    def _ways(
        self, look: MaskEvidence, k: int, image: Maps, votes: Maps | None = None
    ) -> tuple[Mask, Mask | None, Outline]:
        """The mask of a carrier, another way to draw it if there is one, and the contour they come from."""
        contrast, sign = look.contrast[k], SIGNS[self.choice.contrast.sign]
        contour = as_voted(contrast, look.outlines[k], votes)
        other = None
        if self.choice.fine:
            mask = with_edges(image, weighed_cut(contrast, look.fusion[k], contour.region), sign)
            if look.drawn is None:
                other = with_edges(image, contour.mask, sign)
        else:
            mask = grown(contour.mask, contour.region, self.choice.rim)
        if look.drawn is not None:
            region = region_of(look.drawn[k], DRAWN_REGION)
            other = with_edges(image, weighed_cut(contrast, look.drawn[k], region), sign)
            if self.exemplars is None and (self.choice.fine or self.by_pixels) and other.any():
                mask, other = other, mask
        return mask, other, contour

    def _like_accepted(self, contrast: Maps, contour: Outline, prior: AreaPrior) -> tuple[Mask, float]:
        """The mask whose area is most like that of accepted ones, and its confidence."""
        cut_out = prior.cut(contrast, contour.region, contour.mask, self.choice.rim)
        mask = grown(cut_out, contour.region, self.choice.rim)
        return mask, separation(contrast, contour.region, cut_out) * prior.likeness(float(mask.mean()))


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
    drawn
        (N, *size) which pixels were drawn over; None where that was not learnt.
    """

    fusion: Maps
    contrast: Maps
    outlines: list[Outline]
    features: dict[str, Array]
    drawn: Maps | None = None


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


def _odds(probabilities: Array) -> Array:
    inside = probabilities.astype(np.float64).clip(LEAST_ODDS, 1 - LEAST_ODDS)
    return np.asarray(inside / (1 - inside))


def _full_size(maps: Maps, size: tuple[int, ...]) -> Maps:
    return resized(torch.from_numpy(maps), tuple(size)).numpy()
