"""The profile: one row per concept and layer, saying what is encoded and how the logit responds.

The directional derivative needs the plain gradient, which a scan with LRP does not have: there it stays
empty, and nothing else depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shortcutscope.models.layers import Layer
from shortcutscope.probes.blocks import Blocks
from shortcutscope.probes.cav import cross_fit_patterns
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import Permutations, ProbeSettings, availability, make_folds
from shortcutscope.probes.derivative import derivative_tests
from shortcutscope.probes.rank import effective_ranks
from shortcutscope.probes.usage import within_class_spread
from shortcutscope.scan.scanner import Scan
from shortcutscope.stats.metrics import auroc
from shortcutscope.stats.testing import benjamini_hochberg, permutation_p
from shortcutscope.types import JSON, Floats, Ints, Record

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


@dataclass(frozen=True, eq=False)
class ProbeDesign:
    """Folds and permutations of some concepts, made once for all layers.

    Attributes
    ----------
    folds : ndarray
        (N,)
    permutations : Permutations
        Of the concepts, within label; drawn when asked for.
    """

    folds: Ints
    permutations: Permutations


def probe_design(scan: Scan, concepts: Sequence[Concept], settings: ProbeSettings) -> ProbeDesign:
    """Draw the folds and settle the permutations with which every layer is probed."""
    labels, groups = scan.samples["label"].to_numpy(), scan.samples["group"].to_numpy()
    values = np.column_stack([c.values for c in concepts])
    units = np.unique(groups, return_inverse=True)[1]
    return ProbeDesign(
        folds=make_folds(labels, groups, values, n_folds=settings.n_folds, seed=settings.seed),
        permutations=Permutations(values, labels, units, settings.n_permutations, settings.seed),
    )


def probe_layer(
    scan: Scan,
    layer: Layer,
    concepts: Sequence[Concept],
    positives: Sequence[int],
    design: ProbeDesign,
    settings: ProbeSettings,
) -> tuple[Record, Floats]:
    """Availability and directional derivative of every concept at one layer, on one Gram matrix.

    Parameters
    ----------
    scan : Scan
        All layers of the model on the audited samples.
    concepts : sequence of Concept
        Aligned to the scan's samples; in at least one class each of them takes both values.
    positives : sequence of int
        The class that each concept's margins and derivatives point to.
    design : ProbeDesign
        The same for every layer.

    Returns
    -------
    record : dict
        ``rows`` (one per concept, with the profile's columns as far as they are known here; no derivative
        without the plain gradient) and ``null`` (permutations, K).
    scores : ndarray
        (N, K) out-of-fold scores that do not use the sample's own label.
    """
    samples, values = scan.samples, design.permutations.values
    labels, groups = samples["label"].to_numpy(), samples["group"].to_numpy()
    features = Blocks.of(scan.feature_rows(layer))
    available = availability(
        features,
        concepts,
        labels,
        groups,
        design.folds,
        settings=settings,
        permutations=design.permutations,
    )
    naive = auroc(
        values, cross_fit_patterns(features, values, np.zeros(len(labels)), design.folds, balance=None)
    )
    derivatives: list[tuple[float | None, float | None]] = [(None, None)] * len(concepts)
    if scan.has_gradient:
        derivatives = [*_derivatives(scan, layer, positives, design)]
    rows = [
        _layer_row(layer, concept, available.table.iloc[k], float(naive[k]))
        | {"derivative": derivatives[k][0], "derivative_p": derivatives[k][1]}
        for k, concept in enumerate(concepts)
    ]
    return {"rows": rows, "null": available.null}, available.scores


def _layer_row(layer: Layer, concept: Concept, available: pd.Series, naive: float) -> Record:
    return {
        "concept": concept.name,
        "layer": layer.name,
        "depth": layer.depth,
        "layout": layer.layout,
        "channels": layer.channels,
        "auroc": available["auroc"],
        "auroc_low": available["low"],
        "auroc_high": available["high"],
        "naive_auroc": naive,
        "null_mean": available["null_mean"],
        "null_high": available["null_high"],
        "p": available["p"],
    }


def _derivatives(
    scan: Scan, layer: Layer, positives: Sequence[int], design: ProbeDesign
) -> list[tuple[float, float]]:
    """Directional derivative of each concept and its p."""
    labels, targets = scan.samples["label"].to_numpy(), scan.samples["target"].to_numpy()
    return derivative_tests(
        scan.gradient_rows(layer),
        scan.activation_rows(layer),
        design.permutations,
        np.where(targets[:, None] == np.asarray(positives), 1.0, -1.0),
        [within_class_spread(scan.margin(positive), labels) for positive in positives],
    )


def over_layers(by_layer: Sequence[JSON]) -> list[Record]:
    """Gather what the layers say of each concept, with a p value for the largest AUROC over the layers.

    The null of the maximum is the maximum over the layers of the same permutations, so that looking at
    many layers is paid for.

    Returns
    -------
    list of dict
        Per concept ``rows``, ``p`` and ``layer`` (where the AUROC is largest).
    """
    gathered = []
    for k in range(len(by_layer[0]["rows"])):
        rows = [layer["rows"][k] for layer in by_layer]
        best = int(np.argmax([row["auroc"] for row in rows]))
        null = np.max([np.asarray(layer["null"], dtype=float)[:, k] for layer in by_layer], axis=0)
        gathered.append(
            {
                "rows": rows,
                "p": float(permutation_p(rows[best]["auroc"], null)),
                "layer": rows[best]["layer"],
            }
        )
    return gathered


def probe_rank(
    scan: Scan, layer: Layer, of: Sequence[int], design: ProbeDesign, settings: ProbeSettings
) -> list[int | None]:
    """Directions to erase at a layer until a concept is at chance; None where it never gets there.

    Parameters
    ----------
    of : sequence of int
        Numbers of the design's concepts.
    """
    ranks = effective_ranks(
        scan.activation_rows(layer),
        design.permutations.values[:, list(of)],
        design.permutations.labels,
        design.folds,
        groups=design.permutations.groups,
        n_bootstrap=settings.n_bootstrap,
        seed=settings.seed,
    )
    return [rank for rank, _ in ranks]


def pattern_vectors(pooled: Floats, concept: Floats, labels: Ints, folds: Ints) -> Floats:
    """Class-stratified pattern CAVs (folds, C), each fitted without one fold (Pahde et al. 2025)."""
    vectors = []
    for fold in range(int(folds.max()) + 1):
        fit = np.isfinite(concept) & (folds != fold)
        differences = [
            pooled[fit & (labels == c) & (concept == 1)].mean(0)
            - pooled[fit & (labels == c) & (concept == 0)].mean(0)
            for c in np.unique(labels)
            if all((fit & (labels == c) & (concept == t)).any() for t in (0, 1))
        ]
        vectors.append(np.mean(differences, axis=0) if differences else np.zeros(pooled.shape[1]))
    return np.stack(vectors)


def assemble(
    probes: Mapping[str, JSON],
    use: Mapping[str, Mapping[str, JSON]],
    extents: Mapping[str, JSON],
    ranks: Mapping[str, Mapping[str, int | None]],
    weights: Mapping[str, Mapping[str, float]],
) -> pd.DataFrame:
    """Put the measurements of all stages into one tidy frame, one row per (concept, layer), with q values."""
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
    frame["q"] = benjamini_hochberg(frame["p"].astype(float))
    numeric = [c for c in COLUMNS if c not in ("concept", "layer", "layout", "extent")]
    frame = frame[list(COLUMNS)]
    return frame.astype(dict.fromkeys(numeric, float))
