"""Masks of a localized finding for any number of images, each drawn by what other patients taught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm.auto import tqdm

from shortcutscope.annotate.drawing import Drawer
from shortcutscope.annotate.evidence import Vectors, reduced, responses
from shortcutscope.annotate.mask_writer import MaskWriter
from shortcutscope.annotate.maskset import MaskSet
from shortcutscope.annotate.thresholds import Threshold, check_threshold
from shortcutscope.data.sample_geometry import image_name
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import Layer
from shortcutscope.probes.cav import cross_fit_cav
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.scan.batches import batches
from shortcutscope.scan.reading import Scan

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

#: Samples that vectors are fitted on, and that a drawer looks at pixel by pixel.
FIT_SAMPLES, PIXEL_SAMPLES = 2000, 240
#: Fewest samples with and without the concept.
MIN_SAMPLES = 10
#: Depths of the early layers whose maps are evidence.
DEPTHS = (0.25, 0.5)


@dataclass(frozen=True, eq=False)
class Drawers:
    """A drawer for each fold of patients, fitted on the others.

    Attributes
    ----------
    drawers
        One a fold.
    folds
        (N,) fold of each sample of the scan.
    scores
        (N,) out-of-fold score of the concept.
    layers
        The early layers.
    """

    drawers: tuple[Drawer, ...]
    folds: Ints
    scores: Floats
    layers: tuple[Layer, ...]


def fit_drawers(
    model: nn.Module,
    scan: Scan,
    table: ImageTable,
    concept: Concept,
    *,
    threshold: Threshold = "otsu",
    n_folds: int = 3,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = True,
    relevance: bool = True,
) -> Drawers:
    """Fit what draws masks.

    Parameters
    ----------
    model
        As `shortcutscope.models.frozen.frozen` lends it out.
    scan, table
        Of the same samples in the same order.
    concept
        Which of them carry the artifact.
    n_folds, seed
        Folds of whole patients.
    relevance
        Whether concept-conditioned relevance is among the evidence.

    Raises
    ------
    InputError
        For too few samples with or without the concept.
    """
    values = concept.aligned_to(scan.samples["sample_id"]).values
    labels, groups = scan.samples["label"].to_numpy(), scan.samples["group"].to_numpy()
    require_enough(values, concept.name)
    folds = make_folds(labels, groups, values, n_folds, seed)
    layers = early_layers(scan)
    scores = _scores(scan, values, labels, folds)
    generator = np.random.default_rng([seed, 17])
    chosen = balanced(values, labels, np.arange(len(values)), FIT_SAMPLES, generator)
    pooled = _pooled(table, chosen, batch_size, progress)
    peaks = {layer.name: scan.activation(layer, "max") for layer in layers}
    drawers = []
    for fold in tqdm(range(n_folds), desc="learning", disable=not progress):
        taught = folds[chosen] != fold
        rows = chosen[taught]
        vectors = Vectors.fit(
            (pooled[0][taught], pooled[1][taught]),
            {name: peak[rows] for name, peak in peaks.items()},
            values[rows],
            labels[rows],
            relevance=relevance,
        )
        looked_at = balanced(values, labels, rows, PIXEL_SAMPLES, generator)
        images = torch.stack([table[int(row)][0] for row in looked_at])
        known = (values[looked_at], labels[looked_at], scores[looked_at])
        drawers.append(Drawer.fit(model, vectors, layers, images, *known, threshold))
    return Drawers(tuple(drawers), folds, scores, layers)


def annotate(
    model: nn.Module,
    scan: Scan,
    table: ImageTable,
    concept: Concept,
    samples: Sequence[str] | None = None,
    *,
    out: str | Path,
    threshold: Threshold = "otsu",
    extent: str | None = None,
    n_folds: int = 3,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = True,
) -> MaskSet:
    """Draw the masks of a concept's carriers.

    Parameters
    ----------
    model
        The network that was scanned; given back as it was.
    scan
        Of the samples.
    table
        The images that were scanned, with at least the scan's samples.
    concept
        Which samples carry the artifact: known, marked, or found.
    samples
        Ids of those whose masks are wanted; None for all of the scan.
    out
        Folder of the masks. An interrupted run there goes on.
    threshold
        Inside the region that the evidence points to: ``"otsu"``, ``"quantile"`` or a share of the range.
    extent
        What the audit found. A diffuse concept has no mask.
    n_folds, seed
        Folds of whole patients: no image's own value takes part in drawing its mask.
    batch_size
        Images at once.
    progress
        Show a bar.

    Raises
    ------
    InputError
        For a diffuse concept, unknown samples, too few samples with or without the concept.
    StaleRunError
        When the folder holds masks that were made in another way.
    """
    check_threshold(threshold)
    refuse_diffuse(extent, concept.name)
    ids = scan.samples["sample_id"].astype(str).to_numpy()
    own = _in_order(table, ids)
    wanted = _rows(ids, samples)
    told = {"concept": concept.fingerprint(), "method": "fusion", "threshold": threshold, "seed": seed}
    with frozen(model), MaskWriter(out, concept.name, told) as writer:
        left = [row for row in wanted if not writer.done(ids[row])]
        if not left:
            return writer.close()
        options: dict[str, Any] = {
            "threshold": threshold,
            "n_folds": n_folds,
            "seed": seed,
            "batch_size": batch_size,
        }
        fitted = fit_drawers(model, scan, own, concept, progress=progress, **options)
        order = sorted(left, key=lambda row: int(fitted.folds[row]))
        with tqdm(total=len(order), desc="masks", disable=not progress) as bar:
            for fold, drawer in enumerate(fitted.drawers):
                rows = [row for row in order if fitted.folds[row] == fold]
                if not rows:
                    continue
                part = own.take(rows)
                for x, _, places in batches(part, batch_size):
                    at = [rows[int(place)] for place in places]
                    for row, drawn in zip(at, drawer.draw(model, x, fitted.scores[at]), strict=True):
                        geometry = own.geometry(row)
                        writer.append(
                            ids[row],
                            geometry.to_source(drawn.mask),
                            image=image_name(own, row),
                            confidence=drawn.confidence,
                            flagged=False,
                            orientation=geometry.orientation,
                        )
                    bar.update(len(at))
    return MaskSet.open(out)


def refuse_diffuse(extent: str | None, name: str) -> None:
    """Raise InputError for a diffuse concept."""
    if extent == "diffuse":
        raise InputError(
            f"{name!r} is diffuse: it is spread over the whole image, so there is no part of it that a mask "
            "could name. Debias the model instead, or give extent=None to draw masks all the same"
        )


def require_enough(values: Floats, name: str) -> None:
    """Raise InputError for too few samples with or without the concept."""
    counts = {word: int((values == value).sum()) for word, value in (("with", 1), ("without", 0))}
    if min(counts.values()) < MIN_SAMPLES:
        raise InputError(
            f"{name!r} is known of {counts['with']} samples with and {counts['without']} without it; "
            f"at least {MIN_SAMPLES} of each are needed to learn what it looks like"
        )


def early_layers(scan: Scan) -> tuple[Layer, ...]:
    """The spatial layers at a quarter and at half of the depth, where artifacts are plain."""
    spatial = [layer for layer in scan.layers if len(layer.grid) >= 2]
    found = [min(spatial, key=lambda layer: abs(layer.depth - depth)) for depth in DEPTHS if spatial]
    return tuple(dict.fromkeys(found))


def balanced(
    values: Floats, labels: npt.NDArray[Any], rows: Ints, count: int, generator: np.random.Generator
) -> Ints:
    """Up to `count` of the rows whose concept is known, as even as can be over class and concept."""
    cells = [
        generator.permutation(rows[(values[rows] == value) & (labels[rows] == label)])
        for label in np.unique(labels)
        for value in (0, 1)
    ]
    filled = [cell for cell in cells if len(cell)]
    chosen = [cell[: -(-count // max(1, len(filled)))] for cell in filled]
    return np.sort(np.concatenate(chosen)).astype(np.intp)


def _scores(scan: Scan, values: Floats, labels: npt.NDArray[Any], folds: Ints) -> Floats:
    early = [layer for layer in scan.layers if layer.depth <= max(DEPTHS)] or [scan.layers[0]]
    features = np.concatenate([scan.features(layer) for layer in early], axis=1)
    return np.nan_to_num(cross_fit_cav("logistic", features, values, labels, folds))


def _pooled(table: ImageTable, rows: Ints, batch_size: int, progress: bool) -> tuple[Floats, Floats]:
    means, peaks = [], []
    for x, _, _ in batches(table.take(rows), batch_size):
        filtered = responses(reduced(x)).flatten(2)
        means.append(filtered.mean(2).numpy())
        peaks.append(filtered.amax(2).numpy())
    return np.concatenate(means), np.concatenate(peaks)


def _in_order(table: ImageTable, ids: npt.NDArray[Any]) -> ImageTable:
    position = {str(name): k for k, name in enumerate(table.frame["sample_id"])}
    missing = [name for name in ids if name not in position]
    if missing:
        raise InputError(
            f"the table lacks {len(missing)} of {len(ids)} scanned samples, among them {missing[:5]}"
        )
    return table.take([position[name] for name in ids])


def _rows(ids: npt.NDArray[Any], samples: Sequence[str] | None) -> list[int]:
    if samples is None:
        return list(range(len(ids)))
    position = {name: k for k, name in enumerate(ids)}
    unknown = [str(name) for name in samples if str(name) not in position]
    if unknown:
        raise InputError(f"{len(unknown)} samples were not scanned, among them {unknown[:5]}")
    return [position[str(name)] for name in samples]
