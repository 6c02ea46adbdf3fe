"""Fitting what draws masks: one predictor for each fold of patients, taught by the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.masks.area_prior import AreaPrior
from shortcutscope.masks.clarc import ClarcMaskPredictor
from shortcutscope.masks.drawing import MaskPredictor
from shortcutscope.masks.evidence import Vectors, filtered, reduced
from shortcutscope.masks.patches.detector import TaughtDetector
from shortcutscope.masks.presence import require_separable
from shortcutscope.masks.thresholds import Threshold, check_threshold
from shortcutscope.models.layers import Layer
from shortcutscope.options import OptionGroup
from shortcutscope.probes.cav import cross_fit_cav
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.progress import progress_bar
from shortcutscope.scan.batches import batches
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Array, Floats, Ints

Method = Literal["fusion", "clarc"]

#: Samples that vectors are fitted on, and that a predictor looks at pixel by pixel.
FIT_SAMPLES, PIXEL_SAMPLES = 2000, 240
#: Samples that teach what single places show, and the fewest with and without the concept: a network that
#: fewer taught misses carriers that are plain to the other maps.
DETECTOR_SAMPLES, LEAST_TAUGHT = 600, 100
#: Most pixels of all of these, and the fewest samples, whatever their size: volumes are large.
PIXELS, LEAST_SAMPLES = 240 * 512**2, 40
#: Fewest samples with and without the concept.
MIN_SAMPLES = 10
#: Depths of the early layers whose maps are evidence.
DEPTHS = (0.25, 0.5)


@dataclass(frozen=True)
class Drawing(OptionGroup):
    """How masks are drawn.

    Attributes
    ----------
    method
        ``"fusion"``: evidence from the input's filters, early layers and concept-conditioned relevance says
        where, the image's contrast which pixels. ``"clarc"``: the plain recipe of Pahde et al. 2025.
    threshold
        Inside the region that the evidence points to: ``"otsu"``, ``"quantile"`` or a share of the range.
    n_folds, seed
        Folds of whole patients: no image's own value takes part in drawing its mask.

    Raises
    ------
    InputError
        A value that is not allowed.

    Examples
    --------
    >>> ss.Drawing(threshold="otsu", n_folds=5).n_folds
    5
    """

    method: Method = "fusion"
    threshold: Threshold = "otsu"
    n_folds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold(self.threshold)


@dataclass(frozen=True, eq=False)
class CrossFitPredictors:
    """A predictor for each fold of patients, fitted on the others.

    Attributes
    ----------
    predictors
        One a fold.
    folds
        (N,) fold of each sample of the scan.
    scores
        (N,) out-of-fold score of the concept.
    layers
        The early layers.
    """

    predictors: tuple[MaskPredictor | ClarcMaskPredictor, ...]
    folds: Ints
    scores: Floats
    layers: tuple[Layer, ...]

    def with_prior(self, prior: AreaPrior | None) -> CrossFitPredictors:
        """The same with areas that masks ought to have; the plain recipe knows none."""
        predictors = tuple(
            replace(one, prior=prior) if isinstance(one, MaskPredictor) else one for one in self.predictors
        )
        return replace(self, predictors=predictors)


def fit_predictors(
    model: nn.Module,
    scan: Scan,
    table: ImageTable,
    concept: Concept,
    drawing: Drawing,
    *,
    batch_size: int = 64,
    progress: bool = True,
    relevance: bool = True,
) -> CrossFitPredictors:
    """Fit what draws masks.

    Parameters
    ----------
    model
        As `shortcutscope.models.frozen.frozen` lends it out.
    scan, table
        Of the same samples in the same order.
    concept
        Which of them carry the artifact.
    drawing
        How masks are drawn.
    relevance
        Whether concept-conditioned relevance is among the evidence.

    Raises
    ------
    InputError
        For too few samples with or without the concept, or none that could be told from the others.
    """
    threshold, n_folds, seed = drawing.threshold, drawing.n_folds, drawing.seed
    values = concept.aligned_to(scan.samples["sample_id"]).values
    labels, groups = scan.samples["label"].to_numpy(), scan.samples["group"].to_numpy()
    require_enough(values, concept.name)
    folds = make_folds(labels, groups, values, n_folds, seed)
    layers = early_layers(scan, len(table.shape) - 1)
    scores = _scores(scan, values, labels, folds)
    generator = np.random.default_rng([seed, 17])
    fit_rows = balanced(values, labels, np.arange(len(values)), FIT_SAMPLES, generator)
    fold_rows = [fit_rows[folds[fit_rows] != fold] for fold in range(n_folds)]
    if drawing.method == "clarc":
        plain = _clarc_predictors(scan, layers[-1], values, scores, fold_rows, threshold, concept.name)
        return CrossFitPredictors(plain, folds, scores, layers)
    pooled = _pooled(table, fit_rows, batch_size)
    peaks = {layer.name: scan.activation(layer, "max") for layer in layers}
    detectors = _detectors(table, values, labels, fit_rows, folds, n_folds, seed, progress=progress)
    predictors = []
    for fold, rows in enumerate(progress_bar(fold_rows, desc="learning", progress=progress)):
        members = np.isin(fit_rows, rows)
        vectors = Vectors.fit(
            (pooled[0][members], pooled[1][members]),
            {name: peak[rows] for name, peak in peaks.items()},
            values[rows],
            labels[rows],
            relevance=relevance,
        )
        looked_at, images = _images(table, values, labels, rows, generator)
        carries, classes = values[looked_at], labels[looked_at]
        predictors.append(
            MaskPredictor.fit(model, vectors, layers, images, carries, classes, threshold, detectors[fold])
        )
    cross_fit = CrossFitPredictors(tuple(predictors), folds, scores, layers)
    return calibrated(cross_fit, model, table, values, labels, generator, concept.name)


def _detectors(
    table: ImageTable,
    values: Floats,
    labels: Array,
    rows: Ints,
    folds: Ints,
    n_folds: int,
    seed: int,
    *,
    progress: bool,
) -> tuple[TaughtDetector | None, ...]:
    """For each fold what the others taught of single places, if there are enough images of either kind."""
    taught = balanced(values, labels, rows, DETECTOR_SAMPLES, np.random.default_rng([seed, 29]))
    counts = [int((values[taught] == value).sum()) for value in (0, 1)]
    both = all(len(np.unique(values[taught][folds[taught] != fold])) == 2 for fold in range(n_folds))
    if len(table.shape) != 3 or min(counts) < LEAST_TAUGHT or not both:
        return (None,) * n_folds
    images = torch.cat([reduced(x) for x, _, _ in batches(table.take(taught), 64)])
    return TaughtDetector.of_folds(
        images, values[taught], labels[taught], folds[taught], n_folds, seed, progress=progress
    )


def _clarc_predictors(
    scan: Scan,
    layer: Layer,
    values: Floats,
    scores: Floats,
    fold_rows: Sequence[Ints],
    threshold: Threshold,
    name: str,
) -> tuple[ClarcMaskPredictor, ...]:
    means, labels = scan.activation(layer, "mean"), scan.samples["label"].to_numpy()
    predictors = tuple(
        ClarcMaskPredictor.fit(layer, means[rows], values[rows], labels[rows], scores[rows], threshold)
        for rows in fold_rows
    )
    labelled = np.isfinite(values)
    require_separable(scores[labelled], values[labelled], name)
    return predictors


def calibrated(
    cross_fit: CrossFitPredictors,
    model: nn.Module,
    table: ImageTable,
    values: Floats,
    labels: Array,
    generator: np.random.Generator,
    name: str,
) -> CrossFitPredictors:
    """Tell each predictor how high the evidence is of samples that no predictor was fitted on.

    Every predictor measures samples of its own fold, and learns from what the others measured of theirs: the
    limit above which something is drawn is a quantile of samples that are known to be without the concept,
    as a predictor sees them that does not know them.

    Raises
    ------
    InputError
        When carriers cannot be told from others at all.
    """
    rows, parts, measuring = [], [], []
    for fold, predictor in enumerate(cross_fit.predictors):
        assert isinstance(predictor, MaskPredictor)
        own = np.flatnonzero(cross_fit.folds == fold)
        fold_rows, images = _images(table, values, labels, own, generator)
        rows.append(fold_rows)
        fold_features = predictor.features(model, images)
        # Predictors have filters, layers and contrasts of their own; without units nothing could be compared.
        measuring.append(predictor.with_units(fold_features))
        parts.append(measuring[-1].in_units(fold_features))
    # A map that one of the predictors left out says nothing that all of them can be compared by.
    names = [key for key in parts[0] if all(key in part for part in parts)]
    features = {key: np.concatenate([part[key] for part in parts]) for key in names}
    at = np.concatenate(rows)
    folds, concept, scores = cross_fit.folds[at], values[at], cross_fit.scores[at]
    predictors, probabilities = [], np.full(len(at), np.nan)
    for fold, predictor in enumerate(measuring):
        rest = folds != fold
        calibrated_predictor = predictor.calibrated(
            {key: feature[rest] for key, feature in features.items()},
            scores[rest],
            concept[rest],
            folds[rest],
        )
        assert calibrated_predictor.presence is not None
        test = {key: feature[~rest] for key, feature in features.items()}
        probabilities[~rest] = calibrated_predictor.presence.probability(test, scores[~rest])
        predictors.append(calibrated_predictor)
    require_separable(probabilities, concept, name)
    return replace(cross_fit, predictors=tuple(predictors))


def _images(
    table: ImageTable, values: Floats, labels: Array, rows: Ints, generator: np.random.Generator
) -> tuple[Ints, torch.Tensor]:
    """Which of the rows are looked at pixel by pixel, and their images."""
    count = voxels_allow(PIXEL_SAMPLES, table.shape[1:])
    looked_at = balanced(values, labels, rows, count, generator)
    return looked_at, torch.stack([table[int(row)][0] for row in looked_at])


def voxels_allow(count: int, size: tuple[int, ...]) -> int:
    """Samples of this size to look at pixel by pixel: `count`, or fewer when they are large."""
    return max(min(count, LEAST_SAMPLES), min(count, PIXELS // max(1, int(np.prod(size)))))


def require_enough(values: Floats, name: str) -> None:
    """Raise InputError for too few samples with or without the concept."""
    counts = {word: int((values == value).sum()) for word, value in (("with", 1), ("without", 0))}
    if min(counts.values()) < MIN_SAMPLES:
        raise InputError(
            f"{name!r} is known of {counts['with']} samples with and {counts['without']} without it; "
            f"at least {MIN_SAMPLES} of each are needed to learn what it looks like"
        )


def early_layers(scan: Scan, axes: int = 2) -> tuple[Layer, ...]:
    """The spatial layers at a quarter and at half of the depth, where artifacts are plain.

    Of images and volumes those whose positions are known on at least two axes; of signals (``axes=1``) those
    that know time.
    """
    spatial = [layer for layer in scan.layers if len(layer.grid) >= min(axes, 2)]
    layers = [min(spatial, key=lambda layer: abs(layer.depth - depth)) for depth in DEPTHS if spatial]
    return tuple(dict.fromkeys(layers))


def balanced(values: Floats, labels: Array, rows: Ints, count: int, generator: np.random.Generator) -> Ints:
    """Up to `count` of the rows whose concept is known, as even as can be over class and concept."""
    cells = [
        generator.permutation(rows[(values[rows] == value) & (labels[rows] == label)])
        for label in np.unique(labels)
        for value in (0, 1)
    ]
    filled = [cell for cell in cells if len(cell)]
    parts = [cell[: -(-count // max(1, len(filled)))] for cell in filled]
    return np.sort(np.concatenate(parts)).astype(np.intp)


def _scores(scan: Scan, values: Floats, labels: Array, folds: Ints) -> Floats:
    early = [layer for layer in scan.layers if layer.depth <= max(DEPTHS)] or [scan.layers[0]]
    features = np.concatenate([scan.features(layer) for layer in early], axis=1)
    return np.nan_to_num(cross_fit_cav("logistic", features, values, labels, folds))


def _pooled(table: ImageTable, rows: Ints, batch_size: int) -> tuple[Floats, Floats]:
    means, peaks = [], []
    for x, _, _ in batches(table.take(rows), batch_size):
        filter_maps = filtered(x).flatten(2)
        means.append(filter_maps.mean(2).numpy())
        peaks.append(filter_maps.amax(2).numpy())
    return np.concatenate(means), np.concatenate(peaks)
