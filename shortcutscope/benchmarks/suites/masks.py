"""Are the masks of localized artifacts right, to the pixel?

Every localized kind of the catalogue is planted in 95 % of one class and 5 % of the other, and a thin network
is trained on it. Half of either class of held-out images then carry the artifact, and their masks are drawn;
truth is exactly the visible pixels. Which images carry it is known (``truth``), or found from ten marks and
45 answers on the training images (``marks``), as in the suite ``retrieval``.

- ``iou``, ``pixel_auroc``: means over the images that carry it; one that got no mask counts with 0.
- ``false_mask_rate``: share of images without it that got a mask.
- ``spearman``: of confidence and intersection over union, over the masks drawn on carriers; none where all
  are equally good.
- ``wrong``, ``wrong_flagged``, ``right_flagged``: share of these masks with an intersection over union below
  .5, and share of those, and of the others, that a person is asked to look at.
- ``cost_fb``: CPU time of drawing a batch beside a forward and backward pass.

Rivals: the plain recipe (``clarc``), Grad-CAM of the last layer, integrated gradients (both of the predicted
class, smoothed), and the input-level evidence alone, each cut by Otsu's threshold and told which images carry
the artifact.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from shortcutscope.attribution.attribute import attribute
from shortcutscope.benchmarks.figures.intervals import mean_over
from shortcutscope.benchmarks.models import Case as Trained
from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.benchmarks.suites.retrieval import retrieve_planted
from shortcutscope.benchmarks.suites.scan import FrozenBatch, cpu_times, ratio
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.masks.clarc import ClarcMaskPredictor
from shortcutscope.masks.drawing import MaskPrediction, MaskPredictor, needs_review
from shortcutscope.masks.fusion import fused, smoothed
from shortcutscope.masks.learning import CrossFitPredictors, Drawing, Method, fit_predictors
from shortcutscope.masks.thresholds import threshold_of
from shortcutscope.models.frozen import frozen
from shortcutscope.options import Running
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import artifact_mask, plant
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan
from shortcutscope.stats.metrics import auroc
from shortcutscope.types import Array, Ints, Record

RIVALS = ("clarc", "grad_cam", "integrated_gradients", "input")
QUICK_KINDS = ("tag", "patch")
#: Images on which a rival is judged, and that a cost is measured on.
JUDGED, TIMED = 60, 32
#: What the suite is held to; the last two are upper bounds.
BARS = {"iou": 0.62, "pixel_auroc": 0.98, "spearman": 0.4, "false_mask_rate": 0.05, "cost_fb": 3.5}
UPPER = ("false_mask_rate", "cost_fb")
KIND_BARS = {"tag": 0.70, "random_tag": 0.70, "ruler": 0.70, "patch": 0.45, "tube": 0.45}
#: A mask below this intersection over union is wrong.
WRONG = 0.5
#: Marks may cost this much of the intersection over union.
MARKS_LOSS = 0.05


def cases(settings: Settings) -> list[Case]:
    """Localized kinds x two tasks x two seeds; quick: two kinds, one task, one seed, no rivals but one."""
    kinds = [k for k, artifact in CATALOGUE.items() if artifact.extent == "localized"]
    ways = [("truth", "fusion"), ("marks", "fusion"), *(("truth", rival) for rival in RIVALS)]
    names: tuple[str, ...] = tasks(settings)
    if settings.quick:
        kinds, ways, names = [k for k in kinds if k in QUICK_KINDS], ways[:3], names[1:]
    seeds = range(settings.seed, settings.seed + (1 if settings.quick else 2))
    return [
        {"task": task, "kind": kind, "seed": seed, "source": source, "method": method}
        for task in names
        for kind in kinds
        for seed in seeds
        for source, method in ways
    ]


def run_case(case: Case, settings: Settings) -> Case:
    """Draw the masks of one planted model's held-out images in one way."""
    kind, seed = case["kind"], case["seed"]
    study = make_case(Recipe(case["task"], (kind,), seed), settings)
    held_out = plant(study.held_out, CATALOGUE[kind], prevalence={0: 0.5, 1: 0.5}, seed=seed + 1000)
    if case["method"] in ("grad_cam", "integrated_gradients"):
        return _attributed(study, held_out, kind, case["method"])
    concept = known(held_out, kind)
    if case["source"] == "marks":
        concept = retrieved(study, held_out, kind, seed)
    method: Method = "clarc" if case["method"] == "clarc" else "fusion"
    with tempfile.TemporaryDirectory() as folder, frozen(study.model):
        scanning, quiet = Scanning(relevance=False), Running(progress=False)
        new_scan = scan(study.model, held_out, Path(folder) / "scan", scanning=scanning, running=quiet)
        drawing = Drawing(method, seed=seed)
        predictors = fit_predictors(study.model, new_scan, held_out, concept, drawing, progress=False)
        if case["method"] in RIVALS:
            return _rival(study, held_out, kind, predictors)
        predictions = drawn(study.model, held_out, predictors)
        return {**figures(held_out, kind, predictions), "cost_fb": _cost(study, held_out, predictors)}


def known(table: ImageTable, kind: str) -> Concept:
    """The planted column as a concept."""
    frame = table.frame
    return Concept(kind, frame[kind].to_numpy(float), "planted", frame["sample_id"].to_numpy(np.str_))


def retrieved(study: Trained, table: ImageTable, kind: str, seed: int) -> Concept:
    """Ten marks and 45 answers on the training images, and what they say of the table's."""
    retrieval = retrieve_planted(study.model, study.train, kind, seed)
    scores = retrieval.score(study.model, table, running=Running(progress=False)).to_numpy()
    names = table.frame["sample_id"].to_numpy(np.str_)
    try:
        return Concept.from_scores(kind, scores, names, labels=table.frame["label"].to_numpy())
    except InputError:  # no two groups: the classifier's own border decides
        return Concept(kind, (scores > 0).astype(float), "marked", names)


def figures(table: ImageTable, kind: str, predictions: list[MaskPrediction]) -> Case:
    """What is measured of masks drawn of all samples of a table."""
    carries = table.frame[kind].to_numpy() == 1
    overlaps, aurocs = _against_truth(table, kind, np.flatnonzero(carries), lambda row: predictions[row])
    has_mask = np.array([bool(one.mask.any()) for one in predictions])
    sure = np.array([one.confidence for one in predictions])[carries]
    on_carriers = has_mask[carries]
    order = np.argsort(sure[on_carriers])
    halves = np.array_split(overlaps[on_carriers][order], 2)
    wrong = overlaps[on_carriers] < WRONG
    flagged = np.array([needs_review(one, 1.0) for one in predictions])[carries][on_carriers]
    return {
        "iou": float(overlaps.mean()),
        "pixel_auroc": float(aurocs.mean()),
        "false_mask_rate": float(has_mask[~carries].mean()),
        "missed": float(1 - on_carriers.mean()),
        "spearman": _correlation(sure[on_carriers], overlaps[on_carriers]),
        "iou_unsure_half": float(halves[0].mean()),
        "iou_sure_half": float(halves[1].mean()),
        "wrong": float(wrong.mean()),
        "wrong_flagged": float(flagged[wrong].mean()) if wrong.any() else None,
        "right_flagged": float(flagged[~wrong].mean()) if not wrong.all() else None,
    }


def _correlation(sure: Array, overlaps: Array) -> float | None:
    """Of ranks; None where all masks are equally good, or equally sure."""
    if len(sure) < 2 or not np.ptp(sure) or not np.ptp(overlaps):
        return None
    return float(spearmanr(sure, overlaps)[0])


def _against_truth(
    table: ImageTable, kind: str, rows: Ints, of: Callable[[int], MaskPrediction]
) -> tuple[Array, Array]:
    overlaps, aurocs = [], []
    for row in rows.tolist():
        truth, prediction = artifact_mask(table, row, kind).numpy(), of(row)
        overlaps.append((prediction.mask & truth).sum() / max(1, (prediction.mask | truth).sum()))
        aurocs.append(float(auroc(truth.ravel().astype(float), prediction.heat.ravel())))
    return np.array(overlaps), np.array(aurocs)


def drawn(model: nn.Module, table: ImageTable, predictors: CrossFitPredictors) -> list[MaskPrediction]:
    """What is drawn of every sample of a table, each by the predictor of its fold."""
    by_row: dict[int, MaskPrediction] = {}
    for fold, predictor in enumerate(predictors.predictors):
        rows = np.flatnonzero(predictors.folds == fold)
        for part in np.array_split(rows, max(1, len(rows) // 64)):
            batch = predictor.predict(model, _images(table, part), predictors.scores[part])
            by_row |= dict(zip(part.tolist(), batch, strict=True))
    return [by_row[row] for row in range(len(table))]


def _rival(study: Trained, table: ImageTable, kind: str, predictors: CrossFitPredictors) -> Case:
    """Heat maps of the plain recipe or of the input-level evidence, on carriers that it is told of."""

    def heat(row: int) -> Array:
        predictor, x = predictors.predictors[predictors.folds[row]], _images(table, np.array([row]))
        if isinstance(predictor, ClarcMaskPredictor):
            return np.asarray(predictor.heat(study.model, x)[0])
        maps = predictor.evidence.maps(study.model, x)
        inputs = {name: smoothed(maps[name]) for name in predictor.evidence.inputs if name in maps}
        return np.asarray(fused(inputs, predictor.weights)[0])

    return _heat_metrics(table, kind, heat)


def _attributed(study: Trained, table: ImageTable, kind: str, method: str) -> Case:
    """Heat maps of an attribution of the predicted class."""
    options: Record = {"steps": 16} if method == "integrated_gradients" else {"layer": "blocks.7"}

    def heat(row: int) -> Array:
        x = _images(table, np.array([row]))
        attribution = attribute(study.model, x, method=method, **options)
        return np.asarray(smoothed(attribution.on_pixels().clamp_min(0).cpu().numpy().astype(np.float32))[0])

    return _heat_metrics(table, kind, heat)


def _heat_metrics(table: ImageTable, kind: str, heat: Callable[[int], Array]) -> Case:
    def cut(row: int) -> MaskPrediction:
        values = np.asarray(heat(row), np.float32)
        return MaskPrediction(values > threshold_of(values), values, 1.0, 1.0)

    rows = np.flatnonzero(table.frame[kind].to_numpy() == 1)[:JUDGED]
    overlaps, aurocs = _against_truth(table, kind, rows, cut)
    return {"iou": float(overlaps.mean()), "pixel_auroc": float(aurocs.mean())}


def _cost(study: Trained, table: ImageTable, predictors: CrossFitPredictors) -> float:
    predictor = predictors.predictors[0]
    assert isinstance(predictor, MaskPredictor)
    rows = np.arange(min(TIMED, len(table)))
    x, scores = _images(table, rows), predictors.scores[rows]
    with FrozenBatch(study.model, x) as bench:
        plain = cpu_times({"fb": bench.forward_backward}, rounds=7)["fb"]
    drawing = cpu_times({"draw": lambda: predictor.predict(study.model, x, scores)}, rounds=7)["draw"]
    return ratio(drawing, plain)


def _images(table: ImageTable, rows: Ints) -> Tensor:
    return torch.stack([table[int(row)][0] for row in rows])


def summarize(finished: list[Case]) -> Record:
    """Means over the models by source and method, by kind, and which bars are met."""
    summary: Record = {}
    for source, method in sorted({(c["source"], c["method"]) for c in finished}):
        members = [c for c in finished if (c["source"], c["method"]) == (source, method)]
        kinds = sorted({c["kind"] for c in members})
        summary[f"{source} {method}"] = {
            "models": len(members),
            **{key: value for key in BARS if (value := mean_over(members, key)) is not None},
            "iou_by_kind": {
                kind: mean_over([c for c in members if c["kind"] == kind], "iou") for kind in kinds
            },
        }
    fusion, marked = summary.get("truth fusion"), summary.get("marks fusion")
    met: dict[str, bool] = {}
    if fusion:
        for key, bar in BARS.items():
            if key in fusion:
                met[key] = fusion[key] <= bar if key in UPPER else fusion[key] >= bar
        by_kind = fusion["iou_by_kind"]
        met |= {f"iou of {kind}": by_kind[kind] >= bar for kind, bar in KIND_BARS.items() if kind in by_kind}
    if fusion and marked:
        met["iou from marks"] = marked["iou"] >= fusion["iou"] - MARKS_LOSS
    bars = {**BARS, "iou_by_kind": KIND_BARS, "marks_loss": MARKS_LOSS}
    return {**summary, "bars": bars, "met": met}


SUITE = Suite(
    name="masks",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=(
        "task",
        "kind",
        "seed",
        "source",
        "method",
        "iou",
        "pixel_auroc",
        "false_mask_rate",
        "spearman",
        "cost_fb",
    ),
)
