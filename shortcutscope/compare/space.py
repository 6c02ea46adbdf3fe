"""Availability and use per layer, fitted anew in each network's own latent space.

Directions that were fitted in one network, or activations that were cached from it, say nothing about
another one: each is scanned, probed and intervened on by itself. Folds, halves and evaluated samples depend
on the data alone, so that two networks are compared on the same patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from shortcutscope.audit.audited_data import TrainingData, audited_data
from shortcutscope.audit.context import Context, ExamineSettings
from shortcutscope.audit.interventions.use_and_extent import use_by_layer
from shortcutscope.audit.record import AuditRecord
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.audit.stages import audit
from shortcutscope.compare.estimate import Estimate, not_measurable, resample
from shortcutscope.compare.setup import ComparisonSetup
from shortcutscope.models.frozen import device_of, frozen
from shortcutscope.models.heads.head import Head
from shortcutscope.models.layers import LayerChoice
from shortcutscope.models.mixed_precision import autocast_forward
from shortcutscope.options import Running, Statistics
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import ProbeSettings, cross_fitted_scores, make_folds
from shortcutscope.probes.usage import class_contrast, within_class_spread
from shortcutscope.scan.plan import Scanning, autocast_dtype
from shortcutscope.scan.scanner import Scan
from shortcutscope.stats.bootstrap import cluster_weights
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import JSON, Floats


@dataclass(frozen=True)
class Space:
    """What the audit of one network says of the concept, and the estimates per layer.

    Attributes
    ----------
    audit
        Of this network, on the main table.
    layers
        Names, from input to output.
    estimates
        Availability and use at each of them, or why they are not there.
    """

    audit: AuditRecord
    layers: tuple[str, ...]
    depths: tuple[float, ...]
    estimates: tuple[Estimate, ...]


def measure_space(
    model: nn.Module,
    setup: ComparisonSetup,
    folder: Path,
    *,
    head: Head,
    layers: LayerChoice,
    train: TrainingData,
    statistics: Statistics,
    running: Running,
) -> Space:
    """Audit a network for the concept and all others, and measure its layers with resamples.

    Parameters
    ----------
    folder
        Run directory of the network; an interrupted one goes on.
    head, layers, train, statistics, running
        Of the audit, see `shortcutscope.audit.stages.audit`.
    """
    table, concepts = setup.tables[setup.main], [setup.joint_concept, *setup.others]
    record = audit(
        model,
        table,
        folder,
        concepts=concepts,
        discover=False,
        train=train,
        head=head,
        scanning=Scanning(layers, measure=False),
        statistics=replace(statistics, positive=setup.positive),
        running=running,
    )
    n_bootstrap, seed = statistics.n_bootstrap, statistics.seed
    scan, finding = record.scan, record[setup.name]
    names, depths = tuple(x.name for x in scan.layers), tuple(x.depth for x in scan.layers)
    if finding.verdict == "not testable":
        gone = [not_measurable("layer", m, finding.reason, n) for n in names for m in ("availability", "use")]
        return Space(record, names, depths, tuple(gone))
    testable = [c for c in concepts if record[c.name].verdict != "not testable"]
    aligned = [c.aligned_to(scan.samples["sample_id"]) for c in testable]
    concept = setup.concept[setup.main].aligned_to(scan.samples["sample_id"])
    estimates = _availability(scan, concept, aligned, n_bootstrap=n_bootstrap, seed=seed)
    space = Space(record, names, depths, ())
    with space_context(model, space, setup, folder, train, statistics, running) as context:
        estimates += _use(context, concept, setup.positive)
    return replace(space, estimates=tuple(estimates))


@contextmanager
def space_context(
    model: nn.Module,
    space: Space,
    setup: ComparisonSetup,
    folder: Path,
    train: TrainingData,
    statistics: Statistics,
    running: Running,
) -> Iterator[Context]:
    """What measurements in a network's own space share, with the network lent out.

    Parameters
    ----------
    space
        Its audit in `folder`; the others are those of `measure_space`.
    """
    scan, table = space.audit.scan, setup.tables[setup.main]
    with frozen(model, running.device) as network, _as_scanned(network, running):
        yield Context.of(
            network,
            scan,
            scan.rows_of(table),
            audited_data(table, TrainingData.of(train)),
            RunDirectory(folder, space.audit.run["inputs"]),
            ExamineSettings.of(replace(statistics, positive=setup.positive), running, scan.head),
        )


def _as_scanned(model: nn.Module, running: Running) -> AbstractContextManager[None]:
    """The model's forward passes in the precision of the scan."""
    device = device_of(model)
    return autocast_forward(model, device.type, autocast_dtype(running.precision, device))


def matching_layers(before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    """Name in `after` to name in `before`, for the layers that are the same.

    A wrapper puts its own name in front. The decision layers match in any case.

    Examples
    --------
    >>> matching_layers(["stem", "layer1.0"], ["model.stem", "model.layer1.0"])
    {'model.stem': 'stem', 'model.layer1.0': 'layer1.0'}
    """
    matches = {}
    for name in after:
        ends = [old for old in before if name == old or name.endswith(f".{old}")]
        if ends:
            matches[name] = max(ends, key=len)
    if after[-1] not in matches and before[-1] not in matches.values():
        matches[after[-1]] = before[-1]
    return matches


def _availability(
    scan: Scan, concept: Concept, tested: Sequence[Concept], *, n_bootstrap: int, seed: int
) -> list[Estimate]:
    """Cross-fitted AUROC within class at every layer, as the audit measures it."""
    labels, groups = scan.samples["label"].to_numpy(np.int64), scan.samples["group"].to_numpy()
    columns = np.column_stack([c.values for c in tested])
    folds = make_folds(labels, groups, columns, n_folds=ProbeSettings().n_folds, seed=seed)
    finite = concept.known
    weights = cluster_weights(groups[finite], n_bootstrap, seed)
    estimates = []
    for layer in scan.layers:
        scores = cross_fitted_scores(scan.features(layer), concept.values, labels, folds, centre=True)

        def area(w: Floats, scores: Floats = scores) -> Any:
            return within_class_auroc(concept.values[finite], scores[finite], labels[finite], w)

        value, resampled = resample(area, weights, len(np.unique(groups[finite])))
        estimates.append(Estimate("layer", "availability", None, value, resampled, layer.name))
    return estimates


def _use(context: Context, concept: Concept, positive: int) -> list[Estimate]:
    """Effect on the logit of taking the concept out of each layer, with the resamples of its interval."""
    effects = use_by_layer(context, concept, positive)
    return [use_estimate(context, concept, record, positive, name) for name, record in effects.items()]


def use_estimate(
    context: Context, concept: Concept, record: JSON, positive: int, detail: str = ""
) -> Estimate:
    """What `use_by_layer` says of a layer, with its resamples."""
    labels, groups, settings = context.labels, context.groups, context.settings
    rows, change = np.asarray(record["samples"], np.int64), np.asarray(record["change"], np.float64)
    if not len(rows):
        return not_measurable("layer", "use", "too few samples in each half", detail)
    spread = within_class_spread(context.scan.margin(positive).astype(np.float64), labels)
    t, y, units = concept.values[rows], labels[rows], groups[rows]

    def effect(w: Floats) -> Floats:
        return np.asarray(class_contrast(change / spread, t, y, w), np.float64)

    weights = cluster_weights(units, settings.n_bootstrap, settings.seed)
    value, resampled = resample(effect, weights, len(np.unique(units)))
    return Estimate("layer", "use", "zero", value, resampled, detail)
