"""Saab et al. 2022: a network that is told where a finding is uses less of what lies elsewhere.

The same network learns from image labels, boxes or masks while a spurious feature goes with the label. Judged
is the robust AUROC: over the samples in which the feature goes against the label. Then the number of masks
falls, with and without pseudo-labels for the rest, and two measures of the data are held against the gain.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.papers.protocol import Protocol
from shortcutscope.benchmarks.papers.saab import siim as saab_siim
from shortcutscope.benchmarks.papers.saab.claims import claims, draw
from shortcutscope.benchmarks.papers.saab.data import Cohort, phantoms, taught_pixels
from shortcutscope.benchmarks.papers.saab.measures import positive_variance, spurious_information
from shortcutscope.benchmarks.papers.saab.networks import Arm, has_unet, judge, train
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.types import Record

#: Cohorts of phantoms: where the lesions lie, and what goes with them. The first is the paper's.
COHORTS = (
    ("anywhere", "tube"),
    ("anywhere", "tag"),
    ("one quadrant", "tag"),
    ("one quadrant", "patch"),
)
SUPERVISIONS = ("binary", "box", "segmentation")
#: Numbers of positive samples with a mask, beside all of them.
MASKS = (20, 50, 100)
N_TRAIN, N_TEST = 1600, 800
#: Training radiographs where the whole set is not asked for.
MOST = 2000


def cases(settings: Settings) -> list[Case]:
    """Supervisions in every cohort, few masks in the first; three seeds; quick one, full five and a U-Net."""
    cohorts: tuple[tuple[str, str], ...] = COHORTS
    if settings.data is not None:
        cohorts = tuple(("as they lie", kind) for kind in saab_siim.kinds(settings.data))
    if settings.quick:
        cohorts = cohorts[:1]
    n_seeds = 1 if settings.quick else 5 if settings.full else 3
    supervisions = [
        {"place": place, "kind": kind, "seed": seed, **_described(arm)}
        for number, (place, kind) in enumerate(cohorts)
        for seed in range(settings.seed, settings.seed + n_seeds)
        for arm in _arms(settings, number)
    ]
    return sorted(
        supervisions, key=lambda case: bool(case["masks"] != "all")
    )  # what the claims rest on comes first


def _arms(settings: Settings, number: int) -> list[Arm]:
    """What is trained in a cohort: boxes in the first two, or in all; few masks and the U-Net in the "
    "first.
    """
    first = number == 0
    arms = [Arm(name) for name in SUPERVISIONS if name != "box" or number < 2 or settings.full]
    if first:
        arms.insert(0, Arm("classifier"))
        few = MASKS[1:2] if settings.quick else MASKS
        arms += [Arm("segmentation", masks, rest) for masks in few for rest in ("leave", "pseudo")]
    if first and settings.full and has_unet():
        arms += [Arm(name, architecture="unet") for name in SUPERVISIONS]
    return arms


def _described(arm: Arm) -> Case:
    entry: Case = {"supervision": arm.supervision, "masks": "all" if arm.masks is None else arm.masks}
    return entry | {"unmasked": arm.unmasked, "architecture": arm.architecture}


def run_case(case: Case, settings: Settings) -> Case:
    """Train one network, judge it, and measure what its supervision calls positive."""
    cohort = _cohort(case, settings)
    masks = None if case["masks"] == "all" else case["masks"]
    arm = Arm(case["supervision"], masks, case["unmasked"], case["architecture"])
    metrics = judge(train(cohort, arm, case["seed"]), cohort)
    return {**metrics, **(_measured(cohort, arm) if arm == Arm(arm.supervision) else {})}


def _cohort(case: Case, settings: Settings) -> Cohort:
    if settings.data is not None:
        most = None if settings.full else MOST
        return saab_siim.radiographs(Path(settings.data), case["kind"], case["seed"], most)
    n_train, n_test = (N_TRAIN // 2, N_TEST // 2) if settings.quick else (N_TRAIN, N_TEST)
    return phantoms(case["place"], case["kind"], case["seed"], n_train, n_test, settings.cache)


def _measured(cohort: Cohort, arm: Arm) -> Case:
    if arm.supervision not in SUPERVISIONS:
        return {}
    positive = taught_pixels(cohort.train, arm.supervision)
    images = np.stack([cohort.train.image(row)[0].numpy() for row in range(len(cohort.train))])
    result: Case = {"variance": positive_variance(images, positive)}
    if cohort.spurious is not None:
        result["information"] = spurious_information(positive, cohort.spurious)
    return result


def summarize(finished: list[Case]) -> Record:
    """Mean and 95 % interval over seeds of every network and measure."""
    keys = ("place", "kind", "supervision", "masks", "unmasked", "architecture")
    metrics = ("robust_auroc", "balanced_auroc", "aligned_auroc", "variance", "information")
    rows = []
    for setting in dict.fromkeys(tuple(case[key] for key in keys) for case in finished):
        members = [case for case in finished if tuple(case[key] for key in keys) == setting]
        row: Record = {**dict(zip(keys, setting, strict=True)), "cases": len(members)}
        rows.append(
            row | {name: mean_with_interval([case.get(name) for case in members]) for name in metrics}
        )
    return {"networks": rows}


PROTOCOL = Protocol(
    suite=Suite(
        name="saab",
        cases=cases,
        run_case=run_case,
        summarize=summarize,
        columns=(
            "place",
            "kind",
            "seed",
            "supervision",
            "masks",
            "unmasked",
            "robust_auroc",
            "balanced_auroc",
        ),
        command="reproduce",
        draw=draw,
    ),
    paper=(
        "Saab, Hooper, Chen, Zhang, Rubin, Ré 2022. Reducing reliance on spurious features in medical image "
        "classification with spatial specificity. MLHC, PMLR 182:760-784"
    ),
    data=(
        "Without data: phantom radiographs with planted tubes, tags and patches. --data: the folder of "
        f"SIIM-ACR Pneumothorax, with {saab_siim.TUBES} (ImageId, tube) where chest tubes are labelled; "
        "without it a tube is planted."
    ),
    claims=claims,
    check=saab_siim.check,
)
