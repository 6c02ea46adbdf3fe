"""The profile: one row per concept and layer, saying what is encoded and how the logit responds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from shortcutscope.probes.cav import cross_fit_cav
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import availability, effective_rank, make_folds
from shortcutscope.probes.usage import derivative_test
from shortcutscope.scan.scanner import Scan
from shortcutscope.stats.metrics import auroc
from shortcutscope.stats.testing import permutation_p, permute_within

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

#: Columns of profile.parquet, in order.
COLUMNS = (
    "concept",
    "layer",
    "depth",
    "layout",
    "channels",
    "auroc",
    "auroc_low",
    "auroc_high",
    "naive_auroc",
    "null_mean",
    "null_high",
    "p",
    "q",
    "derivative",
    "derivative_p",
    "use",
    "use_low",
    "use_high",
    "use_p",
    "use_flip_rate",
    "extent_statistic",
    "extent",
    "participation",
    "effective_rank",
    "weight",
)


@dataclass(frozen=True)
class ProbeSettings:
    """How a concept is probed.

    Attributes
    ----------
    n_folds : int
        Folds of the cross-fitting, by patient.
    n_permutations, n_bootstrap : int
        Permutations of the concept within class, and bootstrap resamples of the patients.
    seed : int
        Seed of folds, permutations and resamples.
    positive : int
        Class that margins and derivatives point to.
    """

    n_folds: int = 4
    n_permutations: int = 200
    n_bootstrap: int = 300
    seed: int = 0
    positive: int = 1


def probe_concept(scan: Scan, concept: Concept, settings: ProbeSettings) -> dict[str, Any]:
    """Availability and directional derivative of one concept at every layer.

    Parameters
    ----------
    scan : Scan
        All layers of the model on the audited samples.
    concept : Concept
        Aligned to the scan's samples; at least one class holds both of its values.

    Returns
    -------
    dict
        ``rows`` (one per layer, with the profile's columns as far as they are known here), ``p`` (of the
        largest AUROC over layers against the same maximum over permuted concepts), ``layer`` (where it
        is), and ``scores`` (out of fold, at that layer).
    """
    labels = scan.samples["label"].to_numpy()
    groups = scan.samples["group"].to_numpy()
    known = np.isfinite(concept.values)
    folds = make_folds(labels, groups, concept.values, n_folds=settings.n_folds, seed=settings.seed)
    permuted = permute_within(concept.values, labels, groups, settings.n_permutations, settings.seed)
    margins = scan.margin(settings.positive)
    spread = within_class_spread(margins, labels)
    target = scan.samples["target"].to_numpy()[known]
    towards = np.where(target == settings.positive, 1.0, -1.0)
    rows, nulls, scores = [], [], {}
    for layer in scan.layers:
        features = scan.features(layer.name)
        result = availability(
            features,
            concept.values,
            labels,
            groups,
            folds,
            permutations=permuted,
            n_bootstrap=settings.n_bootstrap,
            seed=settings.seed,
        )
        pooled = scan.activation(layer.name)[known]
        derivative, derivative_p = derivative_test(
            scan.gradient(layer.name)[known],
            pooled,
            concept.values[known],
            permuted[known],
            labels[known],
            towards,
            spread,
        )
        naive = cross_fit_cav("pattern", features, concept.values, labels, folds, balance=None)
        rows.append(
            {
                "concept": concept.name,
                "layer": layer.name,
                "depth": layer.depth,
                "layout": layer.layout,
                "channels": layer.channels,
                **result.row,
                "naive_auroc": float(auroc(concept.values, naive)),
                "derivative": derivative,
                "derivative_p": derivative_p,
            }
        )
        nulls.append(result.null)
        scores[layer.name] = result.scores
    best = int(np.nanargmax([row["auroc"] for row in rows]))
    return {
        "rows": rows,
        "p": float(permutation_p(rows[best]["auroc"], np.max(nulls, axis=0))),
        "layer": rows[best]["layer"],
        "scores": scores[rows[best]["layer"]],
    }


def probe_rank(scan: Scan, concept: Concept, settings: ProbeSettings) -> dict[str, int | None]:
    """Directions to erase at every layer until the concept is at chance; None where it never gets there."""
    labels = scan.samples["label"].to_numpy()
    groups = scan.samples["group"].to_numpy()
    folds = make_folds(labels, groups, concept.values, n_folds=settings.n_folds, seed=settings.seed)
    return {
        layer.name: effective_rank(scan.activation(layer.name), concept.values, labels, folds)[0]
        for layer in scan.layers
    }


def within_class_spread(margins: FloatArray, labels: IntArray) -> float:
    """Standard deviation of the logit margin within a class, pooled over the classes."""
    return float(np.sqrt(np.mean([margins[labels == c].var() for c in np.unique(labels)]))) + 1e-12


def pattern_vectors(pooled: FloatArray, concept: FloatArray, labels: IntArray, folds: IntArray) -> FloatArray:
    """Class-stratified pattern CAVs (folds, C), each fitted without one fold (Pahde et al. 2025)."""
    vectors = []
    for fold in range(int(folds.max()) + 1):
        fit = np.isfinite(concept) & (folds != fold)
        differences = [
            pooled[fit & (labels == c) & (concept == 1)].mean(0) - pooled[fit & (labels == c) & (concept == 0)].mean(0)
            for c in np.unique(labels)
            if all((fit & (labels == c) & (concept == t)).any() for t in (0, 1))
        ]
        vectors.append(np.mean(differences, axis=0) if differences else np.zeros(pooled.shape[1]))
    return np.stack(vectors)


def assemble(
    probes: Mapping[str, Mapping[str, Any]],
    use: Mapping[str, Mapping[str, Mapping[str, Any]]],
    extents: Mapping[str, Mapping[str, Any]],
    ranks: Mapping[str, Mapping[str, int | None]],
    weights: Mapping[str, Mapping[str, float]],
    q: Sequence[float],
) -> pd.DataFrame:
    """Put the measurements of all stages into one tidy frame, one row per (concept, layer)."""
    rows = []
    for name, probe in probes.items():
        for row in probe["rows"]:
            layer = row["layer"]
            used = use.get(name, {}).get(layer, {})
            extent = extents.get(name, {}).get("layers", {}).get(layer, {})
            interval = used.get("interval") or (None, None)
            rows.append(
                {
                    **row,
                    "use": used.get("effect"),
                    "use_low": interval[0],
                    "use_high": interval[1],
                    "use_p": used.get("p"),
                    "use_flip_rate": used.get("flip_rate"),
                    "extent_statistic": extent.get("statistic"),
                    "extent": extent.get("verdict"),
                    "participation": extent.get("participation"),
                    "effective_rank": ranks.get(name, {}).get(layer),
                    "weight": weights.get(name, {}).get(layer, 0.0),
                }
            )
    frame = pd.DataFrame(rows, columns=[c for c in COLUMNS if c != "q"])
    frame["q"] = q
    numeric = [c for c in COLUMNS if c not in ("concept", "layer", "layout", "extent")]
    frame = frame[list(COLUMNS)]
    return frame.astype(dict.fromkeys(numeric, float))
