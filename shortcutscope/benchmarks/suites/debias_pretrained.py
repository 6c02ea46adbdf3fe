"""Is a shortcut unlearnt from a pretrained network of full width, and is what it had learnt worth keeping?

Networks are pretrained on other images (`shortcutscope.benchmarks.pretraining`), then fine-tuned on a task in
which an artifact goes with the label in 95 % of the samples. The recipe that `recommend` names mends them:
from the model as it is, and from new weights. Judged on held-out samples with the artifact in half of either
class:

- ``gap_robust``, ``gap_worst_group``: share of the way from the biased network (0) to the reference (1), the
  same pretrained network fine-tuned on the same images without the correlation. Not given where that way is
  shorter than `SHORTEST`: there is nothing to close.
- ``balanced_change``: balanced AUROC less that of the biased network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shortcutscope.benchmarks.figures.intervals import mean_over, mean_with_interval
from shortcutscope.benchmarks.pretrained_networks import PretrainedStore, networks_to_mend, store_of
from shortcutscope.benchmarks.pretraining import ARCHITECTURES
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.debias.recommendation import recommend
from shortcutscope.debias.training.settings import Start
from shortcutscope.types import Record

#: What a student begins as, and with which share of clean samples.
STUDENTS: tuple[tuple[Start, float], ...] = (("model", 0.1), ("fresh", 0.1), ("model", 0.02))
FULL_STUDENTS = (*STUDENTS, ("fresh", 0.02))
#: Smallest way in AUROC, or accuracy, of which a share is given.
SHORTEST = 0.02
#: What students from the model are held to: mean shares with 10 and 2 % clean samples, and the largest loss
#: of balanced AUROC in any case.
BARS = {"gap_robust": 0.85, "gap_worst_group": 0.75}
FEW_CLEAN_BAR = {"gap_robust": 0.70}
BALANCED_LOSS = 0.01
METRICS = (
    "robust_auroc", "worst_group", "balanced_auroc", "gap_robust", "gap_worst_group", "balanced_change",
)  # fmt: skip


def cases(settings: Settings) -> list[Case]:
    """Three architectures x three artifacts x two seeds; quick: one of each, full: three seeds."""
    students = FULL_STUDENTS if settings.full else STUDENTS
    rows: list[tuple[str, Start | None, float]] = [("biased", None, 0.1), ("reference", None, 0.1)]
    rows += [("recommended", start, fraction) for start, fraction in students]
    return [
        {**network, "clean_fraction": fraction, "method": method, "start": start}
        for network in networks_to_mend(settings, list(ARCHITECTURES))
        for method, start, fraction in rows
    ]


def run_case(case: Case, settings: Settings) -> Case:
    """One network, held against the biased one and the reference."""
    store = store_of(case, settings)
    inputs = store.cohort.biased.fingerprint()
    biased = store.judged("biased", store.biased, inputs)
    reference = store.judged("reference", store.oracle, inputs)
    about: Case = {}
    if case["method"] == "recommended":
        metrics, about = _student(case, store)
    else:
        metrics = biased if case["method"] == "biased" else reference
    gaps = {
        f"gap_{short}": (metrics[name] - biased[name]) / (reference[name] - biased[name])
        for short, name in (("robust", "robust_auroc"), ("worst_group", "worst_group"))
        if reference[name] - biased[name] >= SHORTEST
    }
    change = metrics["balanced_auroc"] - biased["balanced_auroc"]
    return {**metrics, **gaps, "balanced_change": change, **about}


def _student(case: Case, store: PretrainedStore) -> tuple[dict[str, float], Case]:
    """The metrics of a student, and how it was trained."""
    problem = store.problem_from(case["start"])
    name = recommend(problem).recipe
    recipe = RECIPES[name]
    outcome = recipe(problem, **recipe.starting(case["start"]))
    about: Case = {
        "recipe": name,
        "lr": problem.schedule(case["start"]).lr,
        "n_clean": 0 if problem.clean is None else len(problem.clean),
        "steps": outcome.steps,
        "notes": list(outcome.notes),
    }
    return store.judge(outcome.model), about


def summarize(finished: list[Case]) -> Record:
    """Means and 95 % intervals by architecture, by artifact and over all, and which bars are met."""
    tables = []
    for by in ("network", "kind", None):
        for value in sorted({c[by] for c in finished}) if by else [None]:
            for key in dict.fromkeys(_key(c) for c in finished):
                those = [c for c in finished if _key(c) == key and (by is None or c[by] == value)]
                row: Record = {"over": f"{by} {value}" if by else "all", "cases": len(those)}
                row |= dict(zip(("method", "start", "clean_fraction"), key, strict=True))
                tables.append(row | {m: mean_with_interval([c.get(m) for c in those]) for m in METRICS})
    bars = {"10 % clean": BARS, "2 % clean": FEW_CLEAN_BAR, "balanced_loss": BALANCED_LOSS}
    return {"means": tables, "bars": bars, "met": _met(finished)}


def _key(case: Case) -> tuple[str, str | None, float]:
    return case["method"], case["start"], case["clean_fraction"]


def _met(finished: Sequence[Case]) -> dict[str, bool]:
    met: dict[str, bool] = {}
    for fraction, bars in ((0.1, BARS), (0.02, FEW_CLEAN_BAR)):
        members = [c for c in finished if _key(c) == ("recommended", "model", fraction)]
        for name, bar in bars.items() if members else ():
            met[f"{name}, {fraction:.0%} clean"] = (mean_over(members, name) or 0.0) >= bar
        if members:
            least = min(c["balanced_change"] for c in members)
            met[f"balanced AUROC kept, {fraction:.0%} clean"] = least >= -BALANCED_LOSS
    for network in sorted({c["network"] for c in finished}):
        model, fresh = (
            [c for c in finished if c["network"] == network and _key(c) == ("recommended", start, 0.1)]
            for start in ("model", "fresh")
        )
        if model and fresh:
            for name in ("robust_auroc", "worst_group"):
                mine, theirs = (float(np.mean([c[name] for c in those])) for those in (model, fresh))
                met[f"from the model at least as good as new weights, {network}, {name}"] = mine >= theirs
    return met


SUITE = Suite(
    name="debias-pretrained",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=(
        "network",
        "kind",
        "seed",
        "method",
        "start",
        "clean_fraction",
        "robust_auroc",
        "worst_group",
        "balanced_auroc",
        "gap_robust",
        "gap_worst_group",
    ),
)
