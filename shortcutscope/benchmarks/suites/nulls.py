"""Does the audit accuse models that did nothing wrong, and what could it have found?

*clean*: unbiased models with concepts that they have no reason to use, random ones and metadata that
have nothing to do with the image. *encoded_unused*: models trained with an artifact that told nothing of
the label; in the audited samples it does go with the label, so that only the test of use can acquit.
*power*: shortcuts planted at falling correlations.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable
from shortcutscope.options import Running, Statistics
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import plant
from shortcutscope.types import Record

CLEAN_SEEDS = 10
UNUSED_KINDS = (
    "tag", "random_tag", "ruler", "tube", "timestamp",
    "noise", "contrast", "blur", "brightness", "grid",
)  # fmt: skip
POWER_KINDS = ("tag", "noise")
POWER_CORRELATIONS = (0.95, 0.8, 0.7, 0.6)
PREVALENCES = (0.5, 0.3, 0.2, 0.1)
RANDOM_PER_PREVALENCE = 5


def cases(settings: Settings) -> list[Case]:
    """20 clean models, 20 with an artifact that was useless to them, 16 at four correlations."""
    names = tasks(settings)[1:] if settings.quick else tasks(settings)
    result: list[Case] = []
    for task in names:
        seeds = range(settings.seed, settings.seed + (2 if settings.quick else CLEAN_SEEDS))
        result += [
            {"group": "clean", "task": task, "kind": None, "seed": s, "correlation": None} for s in seeds
        ]
        kinds = UNUSED_KINDS[::5] if settings.quick else UNUSED_KINDS
        result += [
            {"group": "encoded_unused", "task": task, "kind": k, "seed": settings.seed, "correlation": None}
            for k in kinds
        ]
        correlations = POWER_CORRELATIONS[1:2] if settings.quick else POWER_CORRELATIONS
        result += [
            {"group": "power", "task": task, "kind": k, "seed": settings.seed, "correlation": r}
            for k in POWER_KINDS
            for r in correlations
        ]
    return result


def run_case(case: Case, settings: Settings) -> Case:
    """Audit one model and list what was said of every concept."""
    recipe = Recipe(case["task"], (case["kind"],) if case["kind"] else (), case["seed"], case["correlation"])
    study = make_case(recipe, settings)
    table = study.held_out
    concepts: list[str] = []
    reference: ImageTable | None = None
    if case["group"] == "clean":
        table, concepts = with_null_columns(table, case["seed"])
    else:
        share = 0.8 if case["group"] == "encoded_unused" else 0.5
        table = plant(
            table, CATALOGUE[case["kind"]], prevalence={0: 1 - share, 1: share}, seed=case["seed"] + 1000
        )
        concepts = [case["kind"]]
        # Useless in training, associated here: only the test of use can acquit.
        reference = None if case["group"] == "encoded_unused" else study.train
    with tempfile.TemporaryDirectory() as folder:
        result = audit(
            study.model,
            table,
            Path(folder) / "run",
            concepts=concepts,
            train=reference,
            running=Running(progress=False),
            statistics=Statistics(seed=case["seed"]),
        )
    findings = result.findings
    return {
        "model": f"{case['task']}-{case['kind'] or 'clean'}-{case['seed']}",
        "concepts": len(findings),
        "called_shortcut": [f.name for f in findings if f.verdict == "shortcut"],
        "called_used": [f.name for f in findings if f.used.get("value")],
        "called_encoded": [f.name for f in findings if f.encoded.get("value")],
        "not_testable": [f.name for f in findings if f.verdict == "not testable"],
        "p_values": {f.name: f.encoded.get("p") for f in findings},
        "effects": {f.name: f.used.get("effect") for f in findings},
        "accuracy": result.run["performance"]["accuracy"],
    }


def with_null_columns(table: ImageTable, seed: int) -> tuple[ImageTable, list[str]]:
    """Add 20 random columns, and sex, room and handedness drawn per patient."""
    generator = np.random.default_rng([seed, 13])
    columns: Record = {}
    for share in PREVALENCES:
        for k in range(RANDOM_PER_PREVALENCE):
            columns[f"random {share} {k}"] = (generator.random(len(table)) < share).astype(int)
    patients, member = np.unique(table.frame["group"], return_inverse=True)
    for name, share in (("male", 0.5), ("second room", 0.35), ("left-handed", 0.12)):
        columns[name] = (generator.random(len(patients)) < share).astype(int)[member]
    return table.with_columns(**columns), list(columns)


def summarize(finished: list[Case]) -> Record:
    """Share of models accused, uniformity of the null p values, and power by correlation."""
    summary: Record = {}
    for group in ("clean", "encoded_unused"):
        members = [c for c in finished if c["group"] == group]
        if members:
            summary[group] = {
                "models": len(members),
                "any_called_shortcut": float(np.mean([bool(c["called_shortcut"]) for c in members])),
                "any_called_used": float(np.mean([bool(c["called_used"]) for c in members])),
                "any_called_encoded": float(np.mean([bool(c["called_encoded"]) for c in members])),
                "fewest_concepts": min(c["concepts"] for c in members),
            }
    p = [v for c in finished if c["group"] == "clean" for v in c["p_values"].values() if v is not None]
    if p:
        test = stats.kstest(p, "uniform")
        summary["null_p_values"] = {
            "count": len(p),
            "ks_statistic": float(test.statistic),
            "ks_p": float(test.pvalue),
            "share_below_05": float(np.mean(np.array(p) < 0.05)),
        }
    power = [c for c in finished if c["group"] == "power"]
    summary["power"] = {
        f"{r:g}": {
            "models": len(members),
            "called_shortcut": float(np.mean([bool(c["called_shortcut"]) for c in members])),
            "mean_effect": float(np.mean([next(iter(c["effects"].values())) for c in members])),
            "sd_effect": float(np.std([next(iter(c["effects"].values())) for c in members])),
        }
        for r in POWER_CORRELATIONS
        if (members := [c for c in power if c["correlation"] == r])
    }
    return summary


SUITE = Suite(
    name="nulls",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("group", "task", "kind", "seed", "correlation", "concepts", "called_shortcut", "called_used"),
)
