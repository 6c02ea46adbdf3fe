"""From ten marked samples, is a planted artifact found in the other images, and after 45 answers?

Every kind of the catalogue is planted in 95 % of one class and 5 % of the other, and a thin network is
trained on it. Ten carriers of the class in which they are rare are marked in these training images; the
others are ranked. Then three rounds of 15 queries are answered by the truth.

The ten marks are left out of every figure; whoever was asked about later is scored by a model that did not
see the answer. ``auroc`` and ``ap`` (average precision) are taken in the class that was marked, in which 5 %
carry the artifact: over both classes, a score that reads the label ranks well. ``common_auroc`` is that of
the other class, of which nothing was marked, and ``all_auroc`` that of all samples. All are also taken on
held-out images that the saved classifier scores (``new_...``; 10 % and 90 % carriers), and with the network's
layers alone, without the filter bank on the images (``layers_...``). Localized kinds are also looked for by
the same ten marks with a box around what was planted (``boxed_auroc``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score
from torch import nn

from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import artifact_mask, plant
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.retrieval import Retrieval, RetrievalOptions
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan
from shortcutscope.stats.metrics import auroc
from shortcutscope.types import Array, Ints, Record

N_MARKS, ROUNDS, PER_ROUND = 10, 3, 15
#: Class in which carriers are rare.
RARE = 0
#: Length of the list whose precision is estimated.
TOP = 50
QUICK_KINDS = ("tag", "ruler", "noise", "brightness")
#: What the suite is judged by.
BARS = {
    "mean_auroc": 0.97,
    "diffuse_auroc": 0.98,
    "kind_auroc": 0.90,
    "boxed_kind_auroc": 0.90,
    "median_ap_after": 0.95,
}


def cases(settings: Settings) -> list[Case]:
    """Localized and diffuse kinds x two tasks x two seeds; quick: four kinds, one task, one seed."""
    kinds = [k for k, artifact in CATALOGUE.items() if artifact.extent != "borderline"]
    if settings.quick:
        kinds = [k for k in kinds if k in QUICK_KINDS]
    names = tasks(settings)[1:] if settings.quick else tasks(settings)
    seeds = range(settings.seed, settings.seed + (1 if settings.quick else 2))
    return [
        {"task": task, "kind": kind, "group": CATALOGUE[kind].extent, "seed": seed}
        for task in names
        for kind in kinds
        for seed in seeds
    ]


def run_case(case: Case, settings: Settings) -> Case:
    """Mark ten carriers of one planted model's training images, retrieve, answer 45 queries."""
    kind, seed = case["kind"], case["seed"]
    study = make_case(Recipe(case["task"], (kind,), seed), settings)
    fresh = plant(study.held_out, CATALOGUE[kind], prevalence={0: 0.1, 1: 0.9}, seed=seed + 1000)
    frame = study.train.frame
    carries = frame[kind].to_numpy(float)
    ids = frame["sample_id"].astype(str).to_numpy()
    marked = marked_rows(study.train, kind, seed)
    truth = dict(zip(ids.tolist(), (carries == 1).tolist(), strict=True))
    begin: RetrievalOptions = {"name": kind, "seed": seed, "running": Running(progress=False)}
    with tempfile.TemporaryDirectory() as folder:
        new_scan = scan(
            study.model,
            study.train,
            Path(folder) / "scan",
            scanning=Scanning(relevance=False),
            running=Running(progress=False),
        )
        seeing: RetrievalOptions = {**begin, "images": study.train}
        retrieval = Retrieval.from_marks(new_scan, list(ids[marked]), **seeing)
        layers = Retrieval.from_marks(new_scan, list(ids[marked]), **begin)
        boxed = None
        if case["group"] == "localized":
            boxed = Retrieval(new_scan, with_boxes(study.train, marked, kind), **seeing)
    rest = ~np.isin(np.arange(len(ids)), marked)

    def measure(suffix: str) -> Case:
        new = retrieval.score(study.model, fresh, running=Running(progress=False)).to_numpy()
        scored = {"": (retrieval.scores[rest], study.train.take(rest)), "new_": (new, fresh)}
        scored["layers_"] = (layers.scores[rest], study.train.take(rest))
        return {
            f"{prefix}{name}{suffix}": value
            for prefix, (scores, table) in scored.items()
            for name, value in _figures(table, kind, scores).items()
        }

    before = {**measure(""), "recovery": retrieval.recovery, "boxed_auroc": None}
    if boxed is not None:
        before["boxed_auroc"] = _figures(study.train.take(rest), kind, boxed.scores[rest])["auroc"]
    for loop in (retrieval, layers):
        answer(loop, truth)
    after = measure("_after")
    found_carriers = int((retrieval.marks.current["value"] == 1).sum()) - N_MARKS
    stopped, drifted = retrieval.advice.stop, retrieval.drift
    # The interval of the precision needs answers from all over the list.
    head = retrieval.next_queries(PER_ROUND, by="random", within=TOP)
    precision = retrieval.mark({name: truth[name] for name in head}).precision_at(TOP)
    return {
        **before,
        **after,
        "found": found_carriers,
        "stop": stopped,
        "overlap": None if drifted is None else drifted.overlap,
        "precision": float(carries[retrieval.order[:TOP]].mean()),
        "precision_interval": [precision.low, precision.high],
    }


def marked_rows(table: ImageTable, kind: str, seed: int) -> Ints:
    """Ten rows that carry an artifact, drawn from the class in which it is rare.

    Raises
    ------
    InputError
        When there are fewer, as at full correlation.
    """
    carries, labels = table.frame[kind].to_numpy(float), table.frame["label"].to_numpy()
    rare = np.flatnonzero((carries == 1) & (labels == RARE))
    if len(rare) < N_MARKS:
        raise InputError(f"{len(rare)} samples of the rare class carry it; {N_MARKS} are to be marked")
    return np.random.default_rng([seed, 7]).permutation(rare)[:N_MARKS]


def with_boxes(table: ImageTable, rows: Ints, kind: str) -> Marks:
    """Marks of carriers, each with a box around what was planted in it."""
    ids = table.frame["sample_id"].astype(str).to_numpy()[rows].tolist()
    boxes = {}
    for name, row in zip(ids, rows, strict=True):
        y, x = np.nonzero(artifact_mask(table, int(row), kind).numpy())
        boxes[name] = [(x.min(), y.min(), x.max() + 1, y.max() + 1)]
    return Marks.of(ids, boxes=boxes)


def answer(retrieval: Retrieval, truth: Mapping[str, bool]) -> None:
    """Answer three rounds of 15 queries by the truth, as a person would."""
    for _ in range(ROUNDS):
        retrieval.mark({name: truth[name] for name in retrieval.next_queries(PER_ROUND)})


def retrieve_planted(model: nn.Module, table: ImageTable, kind: str, seed: int) -> Retrieval:
    """Ten marks and 45 answers on the images of a table in which an artifact was planted."""
    ids = table.frame["sample_id"].astype(str).to_numpy()
    truth = dict(zip(ids.tolist(), (table.frame[kind] == 1).tolist(), strict=True))
    marked = marked_rows(table, kind, seed)
    with tempfile.TemporaryDirectory() as folder:
        new_scan = scan(
            model,
            table,
            Path(folder) / "scan",
            scanning=Scanning(relevance=False),
            running=Running(progress=False),
        )
        retrieval = Retrieval.from_marks(
            new_scan,
            list(ids[marked]),
            name=kind,
            seed=seed,
            images=table,
            running=Running(progress=False),
        )
        answer(retrieval, truth)
    return retrieval


def _figures(table: ImageTable, kind: str, scores: Array) -> dict[str, float]:
    truth, labels = table.frame[kind].to_numpy(float), table.frame["label"].to_numpy()
    inside = labels == RARE
    return {
        "auroc": float(auroc(truth[inside], scores[inside])),
        "ap": float(average_precision_score(truth[inside], scores[inside])),
        "common_auroc": float(auroc(truth[~inside], scores[~inside])),
        "all_auroc": float(auroc(truth, scores)),
    }


def summarize(finished: list[Case]) -> Record:
    """Means over models and kinds, each beside its bar, and how often the precision's interval held."""
    by_kind = _by_kind(finished, "auroc")
    boxed = _by_kind([c for c in finished if c["boxed_auroc"] is not None], "boxed_auroc")
    groups = {c["kind"]: c["group"] for c in finished}
    diffuse = [value for kind, value in by_kind.items() if groups[kind] == "diffuse"]
    figures = {
        "mean_auroc": float(np.mean([c["auroc"] for c in finished])),
        "diffuse_auroc": min(diffuse) if diffuse else None,
        "kind_auroc": min(by_kind.values()),
        "boxed_kind_auroc": min(boxed.values(), default=None),
        "median_ap_after": float(np.median([c["ap_after"] for c in finished])),
    }
    covered = [
        c["precision_interval"][0] - 1e-9 <= c["precision"] <= c["precision_interval"][1] + 1e-9
        for c in finished
    ]
    return {
        **figures,
        "bars": BARS,
        "met": {name: value is None or value >= BARS[name] for name, value in figures.items()},
        "auroc_by_kind": by_kind,
        "boxed_auroc_by_kind": boxed,
        **{
            name: float(np.mean([c[name] for c in finished]))
            for name in (
                "ap",
                "auroc_after",
                "ap_after",
                "common_auroc",
                "common_auroc_after",
                "all_auroc",
                "new_auroc",
                "new_ap_after",
                "layers_auroc",
            )
        },
        "layers_median_ap_after": float(np.median([c["layers_ap_after"] for c in finished])),
        "precision_covered": float(np.mean(covered)),
    }


def _by_kind(cases: list[Case], figure: str) -> dict[str, float]:
    kinds = sorted({c["kind"] for c in cases})
    return {kind: float(np.mean([c[figure] for c in cases if c["kind"] == kind])) for kind in kinds}


SUITE = Suite(
    name="retrieval",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("task", "kind", "group", "seed", "auroc", "boxed_auroc", "ap", "auroc_after", "ap_after"),
)
