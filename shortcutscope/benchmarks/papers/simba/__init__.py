"""Stanley et al. 2024 and 2025 (SimBA): groups that a known bias sets apart, and where it is encoded.

Heads differ by subject, by disease and by a bias that goes with the disease; every head can be rendered
without the bias. Networks are trained on biased heads without a remedy and with each, and on the same heads
without the bias. Judged is how far the true- and false-positive rates of the biased and the unbiased group
lie apart, how many predictions the bias alone flips, and at which layers the bias is encoded and used.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import cast, get_args

from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.papers.protocol import Protocol
from shortcutscope.benchmarks.papers.simba.claims import claims, draw
from shortcutscope.benchmarks.papers.simba.data import NO_BIAS, Cohort, Scenario, check, generated, phantoms
from shortcutscope.benchmarks.papers.simba.measures import judge, layers_of
from shortcutscope.benchmarks.papers.simba.networks import METHODS, PAPER_METHODS, Networks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.types import Record

__all__ = ["PROTOCOL"]

#: Methods in 3-D, where a network takes ten times as long.
FEW = ("no bias", "erm", "reweighing")
#: Training and test heads in 2-D and in 3-D, and with ``--quick``.
SIZES = {2: (800, 1000), 3: (500, 500)}
QUICK = (500, 600)
#: Of a case, what tells networks apart but for the seed.
COHORT = ("bias", "dims")


def cases(settings: Settings) -> list[Case]:
    """Every method in every cohort: three seeds in 2-D, one in 3-D; quick one cohort, full five seeds."""
    if settings.data is not None:
        methods = METHODS if (settings.data / NO_BIAS).is_dir() else METHODS[1:]
        n_seeds = 3 if settings.full else 1
        return [
            {"bias": "generated", "dims": 3, "seed": seed, "method": method}
            for seed in range(settings.seed, settings.seed + n_seeds)
            for method in methods
        ]
    seeds = range(settings.seed, settings.seed + (5 if settings.full else 3))
    if settings.quick:
        return [_case("morphology", 2, settings.seed, method) for method in PAPER_METHODS]
    result, single = [], get_args(Scenario)[:2]
    for seed in seeds:
        for bias in single:
            result += [_case(bias, 2, seed, method) for method in METHODS]
            if settings.full or seed == settings.seed:
                result += [_case(bias, 3, seed, method) for method in (METHODS if settings.full else FEW)]
        result.append(_case("both", 2, seed, "erm"))
    return result


def _case(bias: Scenario, dims: int, seed: int, method: str) -> Case:
    return {"bias": bias, "dims": dims, "seed": seed, "method": method}


def run_case(case: Case, settings: Settings) -> Case:
    """Train by one method, judge it, and look where it has the bias."""
    cohort = _cohort(case["bias"], case["dims"], case["seed"], settings)
    cache = settings.cache / "reproduce" / "simba"
    networks = Networks(cohort, case["seed"], cache, full_size=settings.data is not None and settings.full)
    classifier = networks.train(case["method"])
    metrics = judge(classifier, cohort, without=case["method"] == "no bias")
    return {**metrics, **layers_of(classifier, cohort, case["seed"])}


@lru_cache(maxsize=1)
def _cohort(bias: str, dims: int, seed: int, settings: Settings) -> Cohort:
    if settings.data is not None:
        return generated(Path(settings.data), full_size=settings.full)
    n_train, n_test = QUICK if settings.quick else SIZES[dims]
    return phantoms(cast(Scenario, bias), dims, seed, n_train, n_test)


def summarize(finished: list[Case]) -> Record:
    """Mean and 95 % interval over seeds of every method in every kind of cohort."""
    measures = ("accuracy", "delta_tpr", "delta_fpr", "gap", "largest_gap", "flips", "gap_intensity")
    rows = []
    for setting in dict.fromkeys((*(case[key] for key in COHORT), case["method"]) for case in finished):
        members = [case for case in finished if (*(case[key] for key in COHORT), case["method"]) == setting]
        row: Record = {**dict(zip((*COHORT, "method"), setting, strict=True)), "cases": len(members)}
        rows.append(
            row | {name: mean_with_interval([case.get(name) for case in members]) for name in measures}
        )
    return {"methods": rows}


PROTOCOL = Protocol(
    suite=Suite(
        name="simba",
        cases=cases,
        run_case=run_case,
        summarize=summarize,
        columns=("bias", "dims", "seed", "method", "accuracy", "delta_tpr", "delta_fpr", "gap", "flips"),
        command="reproduce",
        draw=draw,
    ),
    paper=(
        "Stanley, Souza, Winder, Gulve, Amador, Wilms, Forkert 2024. Towards objective and systematic "
        "evaluation of bias in artificial intelligence for medical imaging. JAMIA 31:2613. Stanley, Souza, "
        "Wilms, Forkert 2025. Where, why, and how is bias learned in medical image analysis models? A study "
        "of bias encoding within convolutional networks using synthetic data. eBioMedicine 111:105501"
    ),
    data=(
        "Without data: SimBA-style phantom heads in 2-D and 3-D. --data: the folder of an experiment of the "
        "generator (github.com/estanley16/SimBA), best with the same subjects without the bias in "
        f"{NO_BIAS}/."
    ),
    claims=claims,
    check=check,
)
