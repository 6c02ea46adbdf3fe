"""Are shortcuts in signals and volumes found, placed and drawn as those in images are?

ECG-like signals with a defective lead or static noise, read by a 1-D ResNet, and heads of 32^3 voxels whose
bias is one of shape or of contrast, read by the 3-D CNN of SimBA at a quarter of its width. Each network is
trained on samples in which the artifact goes with the class, and audited on others, of other patients: of
signals, samples in which it does not; of heads, which are made with their bias, samples in which it does. A
localized one is drawn, and its masks are compared with exactly what changed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from torch import Tensor, nn

from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.splits import holdout
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.training.classifier import Optimizing, train_classifier
from shortcutscope.masks.annotation import annotate_finding
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.options import Running, Statistics
from shortcutscope.planting.artifacts import SIGNALS
from shortcutscope.planting.phantoms import bias_mask, ecgs, heads
from shortcutscope.planting.phantoms.heads import Bias, HeadRecipe
from shortcutscope.planting.planting import artifact_mask, plant
from shortcutscope.planting.thin import simba_cnn3d, thin_resnet1d
from shortcutscope.types import Record

__all__ = ["KINDS", "SUITE", "Planted", "make_planted", "overlaps"]

#: What is planted in what, and what it is by construction.
KINDS = {
    "defective_lead": ("ecg", "localized"),
    "static_noise": ("ecg", "diffuse"),
    "morphology": ("heads", "localized"),
    "intensity": ("heads", "diffuse"),
}
#: Samples to train on and to audit, and share of the carriers of the planted artifact in class 1.
TRAINED, AUDITED, CORRELATION = 600, 500, 0.95
#: Classes of signals are made harder to tell than they are, or nothing would be left for the shortcut.
DIFFICULTY = 2.0
P_DISEASE_GIVEN_BIAS = 0.9
#: Carriers whose masks are drawn.
DRAWN = 60


@dataclass(frozen=True)
class Planted:
    """A network that learnt with a shortcut, and samples.

    Attributes
    ----------
    model
        Trained, in evaluation mode.
    train, held_out
        Samples of other patients.
    column
        That says which samples carry the artifact.
    truth
        From a table and a row to exactly what the artifact changed.
    """

    model: nn.Module
    train: ImageTable
    held_out: ImageTable
    column: str
    truth: Callable[[ImageTable, int], Tensor]

    @property
    def carriers(self) -> list[int]:
        """Rows of the held-out samples that carry it."""
        return np.flatnonzero(self.held_out.frame[self.column] == 1).tolist()


def make_planted(kind: str, seed: int, *, epochs: int = 8) -> Planted:
    """Make samples with an artifact of `KINDS`, and train on them."""
    if KINDS[kind][0] == "ecg":
        train, held_out = _signals(kind, seed)
        model = train_classifier(
            thin_resnet1d(seed=seed), train, epochs=epochs, shifts=0, seed=seed, progress=False
        )
        return Planted(model, train, held_out, kind, artifact_mask)
    count = TRAINED + AUDITED
    table = heads(
        count,
        HeadRecipe(bias=cast(Bias, kind), seed=seed),
        p_disease_given_bias=P_DISEASE_GIVEN_BIAS,
        splits={"train": TRAINED / count, "test": AUDITED / count},
    )
    train, held_out = table.where(split="train"), table.where(split="test")
    network = simba_cnn3d(width=8, activation="relu", seed=seed)
    model = train_classifier(
        network, train, epochs=epochs, seed=seed, optimizing=Optimizing(lr=1e-3), progress=False
    )
    return Planted(model, train, held_out, "bias", bias_mask)


def _signals(kind: str, seed: int) -> tuple[ImageTable, ImageTable]:
    table = ecgs(TRAINED + AUDITED, difficulty=DIFFICULTY, seed=seed)
    apart = holdout(table.frame["group"], table.frame["label"], AUDITED / len(table), seed=seed)
    train, held_out = table.take(np.flatnonzero(~apart)), table.take(np.flatnonzero(apart))
    artifact = SIGNALS[kind]
    return (
        plant(train, artifact, correlation=CORRELATION, seed=seed),
        plant(held_out, artifact, correlation=0.5, seed=seed),
    )


def overlaps(planted_case: Planted, masks: MaskSet, rows: Sequence[int]) -> list[float]:
    """Intersection over union of masks with the truth, of carriers."""
    ious = []
    for row in rows:
        mask = masks.mask(str(planted_case.held_out.frame["sample_id"].iloc[row]))
        truth = planted_case.truth(planted_case.held_out, row).numpy()
        ious.append(float((mask & truth).sum() / max(1, int((mask | truth).sum()))))
    return ious


def cases(settings: Settings) -> list[Case]:
    """All kinds, of three seeds; of one if it is to be quick."""
    seeds = range(settings.seed, settings.seed + (1 if settings.quick else 3))
    return [
        {"data": data, "kind": kind, "group": extent, "seed": seed}
        for seed in seeds
        for kind, (data, extent) in KINDS.items()
    ]


def run_case(case: Case, settings: Settings) -> Case:
    """Train, audit, and draw where the audit does not say diffuse."""
    planted_case = make_planted(case["kind"], case["seed"])
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        result = audit(
            planted_case.model,
            planted_case.held_out,
            Path(folder) / "run",
            concepts=[planted_case.column],
            train=planted_case.train,
            statistics=Statistics(seed=case["seed"]),
            running=Running(progress=False),
        )
        spent = {
            "audited": len(planted_case.held_out),
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
        }
        finding = result[planted_case.column]
        mask_figures: Record = {}
        if case["group"] == "localized" and finding.extent != "diffuse":
            rows = planted_case.carriers[:DRAWN]
            names = [str(planted_case.held_out.frame["sample_id"].iloc[row]) for row in rows]
            masks = annotate_finding(
                finding, planted_case.model, planted_case.held_out, names, running=Running(progress=False)
            )
            ious = overlaps(planted_case, masks, rows)
            mask_figures = {"iou": float(np.mean(ious)), "missed": float(np.mean(np.array(ious) == 0))}
    return {
        "called": finding.verdict,
        "verdict": finding.extent,
        "statistic": finding.extent_statistic,
        "interval": finding.extent_interval,
        "participation": finding.evidence.get("participation"),
        "reason": finding.extent_reason,
        "robust_auroc": finding.effect.get("robust_auroc", {}).get("value"),
        **spent,
        **mask_figures,
    }


def summarize(finished: list[Case]) -> Record:
    """Of each kind: verdicts right, undetermined and wrong, overlap of the masks, time of an audit."""
    summary: Record = {}
    for kind, (_, extent) in KINDS.items():
        members = [case for case in finished if case["kind"] == kind]
        if not members:
            continue
        verdicts = [case["verdict"] for case in members]
        overlap = [case["iou"] for case in members if case.get("iou") is not None]
        summary[kind] = {
            "networks": len(members),
            "called_shortcut": sum(case["called"] == "shortcut" for case in members),
            "right": verdicts.count(extent),
            "undetermined": verdicts.count("undetermined"),
            "wrong": len(members) - verdicts.count(extent) - verdicts.count("undetermined"),
            "iou": float(np.mean(overlap)) if overlap else None,
            "cpu_seconds": float(np.mean([case["cpu_seconds"] for case in members])),
        }
    return summary


SUITE = Suite(
    name="geometry",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("data", "kind", "seed", "called", "verdict", "statistic", "iou", "seconds", "cpu_seconds"),
)
