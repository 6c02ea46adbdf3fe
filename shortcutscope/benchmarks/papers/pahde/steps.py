"""The steps of the protocol `pahde`: identify, retrieve, localize, mitigate, and what each is judged by."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import nn

from shortcutscope.attribution.attribute import attribute
from shortcutscope.benchmarks.kept import kept_network
from shortcutscope.benchmarks.papers.pahde.data import Cohort, make_cohort, masks_of
from shortcutscope.benchmarks.papers.pahde.networks import FULL, THIN, network, weights_file
from shortcutscope.benchmarks.runner import Case, Settings
from shortcutscope.benchmarks.suites.retrieval import N_MARKS, answer
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines.erm import erm
from shortcutscope.debias.clarc.clarc import p_clarc, reactive_p_clarc, rr_clarc
from shortcutscope.debias.clarc.rrr import rrr
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.training.fit import fit
from shortcutscope.discover.clusters import cluster
from shortcutscope.discover.neurons import FEWEST, outlier_scores, profile_neurons
from shortcutscope.masks.annotation import annotate
from shortcutscope.masks.learning import Drawing, Method
from shortcutscope.models.frozen import device_of
from shortcutscope.models.layers import find_layers
from shortcutscope.options import Running
from shortcutscope.planting.planting import artifact_mask
from shortcutscope.probes.cav import cross_fit_cav
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.retrieval.retrieval import Retrieval
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.scan.reading import Scan
from shortcutscope.scan.scanner import scan
from shortcutscope.stats.metrics import auroc
from shortcutscope.types import Bools, Floats, Record

VERSION = 1
#: The class that the artifact is planted in.
ATTACKED = 1
#: Share of the first training's steps that a mitigation trains on, at the same learning rate.
SHARE = 0.5
#: Penalties relative to the task loss: orders of magnitude, as the authors' published grids have them.
STRENGTHS = {"rrr": (1.0, 10.0, 100.0), "rr-clarc": (10.0, 100.0, 1000.0)}
QUICK_STRENGTHS = {"rrr": (10.0,), "rr-clarc": (100.0,)}
#: Of the layers with positions, the last so many are tried, as in the authors' configuration.
LAYERS, QUICK_LAYERS = 3, 2
#: Test samples whose relevance is measured; training samples in which shortcuts are looked for.
RELEVANCE, LOOKED_AT = 128, 600
#: Samples at a time.
BATCH = 64


@dataclass(frozen=True)
class CaseSpec:
    """What the cases of one biased network share."""

    architecture: str
    artifact: str
    seed: int


class NetworkStore:
    """The samples of a setting and its biased network, which is trained once and kept."""

    def __init__(self, spec: CaseSpec, settings: Settings) -> None:
        s = self.spec = spec
        self.settings = settings
        self.thin = settings.data is None or settings.quick
        self.cohort: Cohort = make_cohort(s.artifact, s.architecture, s.seed, settings)
        training = THIN[s.architecture] if self.thin else FULL
        self.training = training.but(seed=s.seed)
        self.column = s.artifact

    def biased(self) -> nn.Module:
        """Trained by cross-entropy on the samples with the shortcut."""
        s, table = self.spec, self.cohort.train
        weights = None if self.thin else weights_file(s.architecture)
        inputs = [VERSION, s.architecture, s.seed, self.thin, repr(self.training), table.fingerprint()]
        inputs += [table.transform_fingerprint(), weights and weights.name]
        digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:24]
        folder = self.settings.cache / "reproduce" / "pahde"
        path = folder / f"{s.architecture}-{s.artifact}-{digest}.safetensors"
        model = network(s.architecture, table.shape, s.seed, thin=self.thin)

        def make() -> nn.Module:
            return fit(model, self.cohort.drawn, CrossEntropy(), self.training, progress=False).model

        return kept_network(path, model, make)

    def problem(self) -> DebiasProblem:
        """For a mitigation: the network, who carries the artifact, and where it is."""
        cohort = self.cohort
        steps = self.training.n_steps(len(cohort.train))
        training = self.training.but(steps=max(1, round(SHARE * steps)))
        return DebiasProblem(
            model=self.biased(),
            train=cohort.drawn,
            carries=cohort.train.frame[self.column].to_numpy(float),
            masks=masks_of(cohort.train, self.column) if cohort.artifact.localized else None,
            start="model",
            training=training,
            seed=self.spec.seed,
            progress=False,
        )

    def layers(self, model: nn.Module) -> list[str]:
        """The last layers with positions."""
        example = torch.stack([self.cohort.drawn[row][0] for row in range(2)]).to(device_of(model))
        names = [layer.name for layer in find_layers(model, example) if layer.spatial]
        return names[-(QUICK_LAYERS if self.settings.quick else LAYERS) :]

    def accuracies(self, model: nn.Module, part: str) -> dict[str, float]:
        """On the samples without the artifact, and with it on all of them."""
        return {
            "clean": _accuracy(model, self.cohort.clean(part)),
            "attacked": _accuracy(model, self.cohort.attacked(part)),
        }

    def judge(self, model: nn.Module) -> Case:
        """What a network is held to on the test samples."""
        result: Case = self.accuracies(model, "test")
        if self.cohort.artifact.localized:
            result |= artifact_relevance(model, self.cohort.attacked("test"), self.column)
        return result


@lru_cache(maxsize=1)
def _store(spec: CaseSpec, settings: Settings) -> NetworkStore:
    return NetworkStore(spec, settings)


def run_case(case: Case, settings: Settings) -> Case:
    """One step with one biased network."""
    spec = CaseSpec(**{field.name: case[field.name] for field in fields(CaseSpec)})
    store = _store(spec, settings)
    return STEPS[case["step"]](store)


def _accuracy(model: nn.Module, table: ImageTable) -> float:
    right = predict_logits(model, table).argmax(1).numpy() == table.frame["label"].to_numpy()
    return float(right.mean())


def artifact_relevance(model: nn.Module, table: ImageTable, column: str) -> Case:
    """Share of the absolute relevance of the predicted class that lies on the artifact, by LRP."""
    mask = masks_of(table, column)
    carriers = [(row, pixels) for row in range(len(table)) if (pixels := mask(row)) is not None][:RELEVANCE]
    shares, areas, methods = [], [], set()
    for start in range(0, len(carriers), BATCH):
        rows = carriers[start : start + BATCH]
        x = torch.stack([table[row][0] for row, _ in rows])
        explained = attribute(model, x, batch_size=BATCH, check=start == 0)
        methods.add(explained.method)
        total = explained.relevance.abs().double().cpu()
        masks = torch.stack([one for _, one in rows])
        # Of images one mask stands for all channels, of signals each lead has its own.
        inside = total * (masks if masks.shape == total.shape else masks[:, None])
        shares += (inside.flatten(1).sum(1) / total.flatten(1).sum(1).clamp_min(1e-300)).tolist()
        areas += masks.double().flatten(1).mean(1).tolist()
    return {
        "relevance": float(np.mean(shares)),
        "area": float(np.mean(areas)),
        "attribution": ", ".join(sorted(methods)),
    }


def _identify(store: NetworkStore) -> Case:
    """Would a person who looks at every cluster and every outlying neuron come across the carriers?

    ``data_auroc`` is the best agreement of a cluster of relevances in the attacked class (SpRAy, per layer)
    with the carriers, as the mean of sensitivity and specificity; ``model_auroc`` that of an outlying
    neuron's activation. Both are the best of many, so that .6 says nothing.
    """
    table = store.cohort.drawn
    rows = np.sort(np.random.default_rng([store.spec.seed, 3]).permutation(len(table))[:LOOKED_AT])
    subset = table.take(rows)
    in_class = subset.frame["label"].to_numpy() == ATTACKED
    truth = subset.frame[store.column].to_numpy(float)[in_class]
    data, model_side = 0.5, 0.5
    with tempfile.TemporaryDirectory() as folder:
        new_scan = scan(store.biased(), subset, Path(folder) / "scan", running=Running(progress=False))
        for layer in new_scan.layers:
            clusters = cluster(new_scan.relevance(layer.name)[in_class], seed=store.spec.seed)
            for members in (clusters.spectral, clusters.dense):
                data = max(data, *(_agreement(truth, members == k) for k in np.unique(members)))
            if layer.channels >= FEWEST:
                neurons = profile_neurons(new_scan, layer)
                for _, scores in outlier_scores(new_scan, neurons):
                    model_side = max(model_side, float(auroc(truth, scores[in_class])))
    found_by = "data" if data >= model_side else "model"
    return {
        "auroc": max(data, model_side),
        "data_auroc": data,
        "model_auroc": model_side,
        "found_by": found_by,
    }


def _agreement(truth: Floats, members: Bools) -> float:
    """Mean of sensitivity and specificity of a cluster for the carriers."""
    return float((members[truth == 1].mean() + 1 - members[truth == 0].mean()) / 2)


def _retrieve(store: NetworkStore) -> Case:
    """How well do the scores of concept vectors rank the carriers, out of fold, layer by layer?"""
    table = store.cohort.drawn
    frame = table.frame
    labels, groups = frame["label"].to_numpy(), frame["group"].to_numpy()
    truth, in_class = frame[store.column].to_numpy(float), frame["label"].to_numpy() == ATTACKED
    best_of: dict[str, tuple[float, float, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        new_scan = scan(
            store.biased(),
            table,
            Path(folder) / "scan",
            scanning=Scanning(relevance=False),
            running=Running(progress=False),
        )
        folds = make_folds(
            labels[in_class], groups[in_class], truth[in_class], n_folds=3, seed=store.spec.seed
        )
        for layer in new_scan.layers:
            features = new_scan.activation(layer.name, "max" if layer.spatial else "mean")[in_class]
            for kind in ("pattern", "logistic"):
                scores = cross_fit_cav(kind, features, truth[in_class], labels[in_class], folds)
                ap = float(average_precision_score(truth[in_class], scores))
                best_of[kind] = max(
                    best_of.get(kind, (0.0, 0.0, "")), (ap, float(auroc(truth[in_class], scores)), layer.name)
                )
        marked = _from_marks(new_scan, table, truth, in_class, store.spec.seed)
    best = {
        f"{kind}_{name}": v
        for kind, values in best_of.items()
        for name, v in zip(("ap", "auroc", "layer"), values, strict=True)
    }
    return {**best, **marked, "auroc": best_of["logistic"][1], "ap": best_of["logistic"][0]}


def _from_marks(new_scan: Scan, table: ImageTable, truth: Any, in_class: Any, seed: int) -> Case:
    """The iterative way: ten marked carriers, then three rounds of answers."""
    ids = table.frame["sample_id"].astype(str).to_numpy()
    carriers = np.flatnonzero(in_class & (truth == 1))
    marked = np.random.default_rng([seed, 7]).permutation(carriers)[:N_MARKS]
    retrieval = Retrieval.from_marks(
        new_scan, list(ids[marked]), images=table, seed=seed, running=Running(progress=False)
    )
    answer(retrieval, dict(zip(ids.tolist(), (truth == 1).tolist(), strict=True)))
    rest = in_class & ~np.isin(np.arange(len(ids)), marked)
    scores = retrieval.scores[rest]
    return {
        "marks_auroc": float(auroc(truth[rest], scores)),
        "marks_ap": float(average_precision_score(truth[rest], scores)),
    }


def _localize(store: NetworkStore) -> Case:
    """How well do drawn masks cover the artifact on held-out carriers?"""
    if not store.cohort.artifact.localized:
        return {"undefined": "a diffuse artifact has no mask"}
    table, column = store.cohort.half(), store.column
    ids = table.frame["sample_id"].astype(str).to_numpy()
    carries = table.frame[column].to_numpy(float)
    concept = Concept(column, carries, "planted", ids.astype(np.str_))
    figures: Case = {}
    ways: tuple[tuple[str, Method], ...] = (("iou_clarc", "clarc"), ("iou", "fusion"))
    with tempfile.TemporaryDirectory() as folder:
        model = store.biased()
        new_scan = scan(
            model,
            table,
            Path(folder) / "scan",
            scanning=Scanning(relevance=False),
            running=Running(progress=False),
        )
        for name, method in ways:
            out = Path(folder) / method
            drawing, quiet = Drawing(method, seed=store.spec.seed), Running(progress=False)
            masks = annotate(model, new_scan, table, concept, out=out, drawing=drawing, running=quiet)
            overlaps = []
            for row in np.flatnonzero(carries == 1).tolist():
                truth, mask = artifact_mask(table, row, column).numpy(), masks.mask(ids[row]).astype(bool)
                overlaps.append((mask & truth).sum() / max(1, (mask | truth).sum()))
            figures[name] = float(np.mean(overlaps))
    return figures


@dataclass(frozen=True)
class MitigationCandidate:
    """A mitigation with one choice of its options."""

    options: Record
    run: Callable[[], nn.Module]


def _mitigated(store: NetworkStore, candidates: Iterator[MitigationCandidate]) -> Case:
    """The candidate that does best on the validation samples, judged on the test samples.

    Best is the highest mean of the accuracies with the artifact on all samples and on none, so that neither
    a network that keeps the shortcut is chosen nor one that has lost the task.
    """
    best: tuple[float, nn.Module | None, Record] = (-1.0, None, {})
    tried = []
    for candidate in candidates:
        model = candidate.run()
        accuracies = store.accuracies(model, "validation")
        tried.append({**candidate.options, **accuracies})
        score = (accuracies["clean"] + accuracies["attacked"]) / 2
        if score > best[0]:
            best = (score, model, candidate.options)
    assert best[1] is not None
    before = {f"{key}_before": value for key, value in store.judge(store.biased()).items() if key in JUDGED}
    return {**store.judge(best[1]), **before, "chosen": best[2], "tried": tried}


JUDGED = ("clean", "attacked", "relevance")


def _vanilla(store: NetworkStore) -> Case:
    """Trained on for as many steps without any penalty."""
    return _mitigated(store, iter([MitigationCandidate({}, lambda: erm(store.problem()).model)]))


def _rrr(store: NetworkStore) -> Case:
    if not store.cohort.artifact.localized:
        return {"undefined": "a diffuse artifact has no mask"}
    problem = store.problem()
    return _mitigated(
        store,
        (
            MitigationCandidate({"strength": strength}, lambda s=strength: rrr(problem, strength=s).model)  # type: ignore[misc]
            for strength in _strengths(store, "rrr")
        ),
    )


def _rr_clarc(store: NetworkStore) -> Case:
    problem = store.problem()
    return _mitigated(
        store,
        (
            MitigationCandidate(
                {"layer": layer, "strength": strength},
                lambda x=layer, s=strength: rr_clarc(problem, layers=x, strength=s).model,  # type: ignore[misc]
            )
            for layer in store.layers(problem.model)
            for strength in _strengths(store, "rr-clarc")
        ),
    )


def _p_clarc(store: NetworkStore) -> Case:
    return _projected(store, p_clarc)


def _reactive_p_clarc(store: NetworkStore) -> Case:
    return _projected(store, reactive_p_clarc)


def _projected(store: NetworkStore, recipe: Callable[..., Any]) -> Case:
    problem = store.problem()
    return _mitigated(
        store,
        (
            MitigationCandidate({"layer": layer}, lambda x=layer: recipe(problem, layers=x).model)  # type: ignore[misc]
            for layer in store.layers(problem.model)
        ),
    )


def _strengths(store: NetworkStore, name: str) -> tuple[float, ...]:
    return (QUICK_STRENGTHS if store.settings.quick else STRENGTHS)[name]


#: In the order in which they are run; those from `vanilla` on are mitigations.
STEPS: dict[str, Callable[[NetworkStore], Case]] = {
    "identify": _identify,
    "retrieve": _retrieve,
    "localize": _localize,
    "vanilla": _vanilla,
    "rrr": _rrr,
    "rr-clarc": _rr_clarc,
    "p-clarc": _p_clarc,
    "reactive-p-clarc": _reactive_p_clarc,
}
MITIGATIONS = ("rrr", "rr-clarc", "p-clarc", "reactive-p-clarc")
