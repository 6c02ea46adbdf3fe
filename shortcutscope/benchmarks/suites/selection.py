"""Is the best of several students chosen where few samples go against the shortcut?

Students of several recipes are trained once a setting, on biased samples with a planted artifact. From the
test samples, in which the artifact is in half of either class, small validation sets are drawn again and
again: 2 to 16 samples that go against the correlation, half of either class, and 100 that agree with it. One
student is chosen on each by `shortcutscope.compare.choosing.choice_among`, and one by its worst-group
accuracy there, ties by its mean accuracy over the groups.

- ``regret_worst_group``, ``regret_robust``: how far the chosen one is below the best one, in worst-group
accuracy
  and robust AUROC on all test samples; ``_rival`` of the choice by worst-group accuracy.
- ``coverage``: share of the draws in which the interval of the difference between the best and the next best
holds
  the difference on all test samples.
- ``decided``, ``wrong``: share of the draws in which the interval leaves out zero, and in which it does
although the
  next best is the better one.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

import numpy as np
import pandas as pd

from shortcutscope.benchmarks.debias_networks import NetworkStore, store_of
from shortcutscope.benchmarks.models import tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.compare.choosing import GroupSides, choice_among, smoothed_accuracies
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.files import read_frame, write_frame
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.stats.metrics import robust_auroc, worst_group_accuracy
from shortcutscope.types import Floats, Ints, Record

#: Of whose students one is chosen.
STUDENTS = (
    "erm", "clean-only", "finetune", "pooled", "group-balanced", "group-dro", "balanced-finetune", "jtt",
    "mixup", "lisa",
)  # fmt: skip
CONFLICTING = (2, 4, 8, 16)
ALIGNED, DRAWS = 100, 200
#: What the share of intervals that hold the difference is held to.
COVERAGE = 0.93, 0.97


def cases(settings: Settings) -> list[Case]:
    """Two tasks x two artifacts x one or two seeds x 2 to 16 samples against the correlation."""
    names = tasks(settings)[1:] if settings.quick else tasks(settings)
    return [
        {
            "task": task, "kind": kind, "seed": seed, "correlation": 0.95, "clean_fraction": 0.05,
            "conflicting": n,
        }
        for task in names
        for kind in (("tag",) if settings.quick else ("tag", "noise"))
        for seed in range(settings.seed, settings.seed + (2 if settings.full else 1))
        for n in CONFLICTING
    ]  # fmt: skip


def run_case(case: Case, settings: Settings) -> Case:
    """Regret and coverage over the draws of one setting."""
    frame = student_margins(store_of(case, settings))
    labels, carries = (frame[c].to_numpy(np.int64) for c in ("label", "carries"))
    margins = {name: frame[name].to_numpy(np.float64) for name in STUDENTS}
    truth = {
        "worst_group": {n: float(worst_group_accuracy(labels, carries, m > 0)) for n, m in margins.items()},
        "robust": {n: float(robust_auroc(labels, carries, m)) for n, m in margins.items()},
    }
    smoothed = smoothed_accuracies(margins, GroupSides.of(labels, carries, np.arange(len(labels))))
    rows = [_draw(margins, labels, carries, case, k, truth, smoothed) for k in range(DRAWS)]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _draw(
    margins: dict[str, Floats],
    labels: Ints,
    carries: Ints,
    case: Case,
    k: int,
    truth: dict[str, dict[str, float]],
    smoothed: dict[str, float],
) -> dict[str, float]:
    rng = np.random.default_rng([case["seed"], case["conflicting"], k])
    rows = _validation_rows(labels, carries, case["conflicting"], rng)
    y, a = labels[rows], carries[rows]
    some = {name: values[rows] for name, values in margins.items()}
    choice = choice_among(some, GroupSides.of(y, a, rows))
    assert choice is not None
    accuracies = {name: _group_accuracies(values, y, a) for name, values in some.items()}
    rival = max(STUDENTS, key=lambda name: (min(accuracies[name]), np.mean(accuracies[name]), rng.random()))
    low, high = choice.interval
    true_difference = smoothed[choice.best] - smoothed[choice.next_best]
    regrets = {f"regret_{key}": max(of.values()) - of[choice.best] for key, of in truth.items()}
    regrets |= {f"regret_{key}_rival": max(of.values()) - of[rival] for key, of in truth.items()}
    return {
        **regrets,
        "coverage": float(low <= true_difference <= high),
        "decided": float(choice.decided),
        "wrong": float(choice.decided and true_difference < 0),
    }


def _validation_rows(labels: Ints, carries: Ints, n: int, rng: np.random.Generator) -> Ints:
    """So many rows against the correlation and `ALIGNED` with it, half of either class."""
    parts = [
        rng.choice(np.flatnonzero((labels == y) & (carries == a)), size // 2, replace=False)
        for y in (0, 1)
        for a, size in ((y, ALIGNED), (1 - y, n))
    ]
    return np.concatenate(parts)


def _group_accuracies(margins: Floats, labels: Ints, carries: Ints) -> list[float]:
    right = (margins > 0) == (labels == 1)
    return [float(right[(labels == y) & (carries == a)].mean()) for y in (0, 1) for a in (0, 1)]


@lru_cache(maxsize=1)
def student_margins(store: NetworkStore) -> pd.DataFrame:
    """Label, concept and the margin of every student on the test samples; made once, kept in the cache."""
    spec, test = store.spec, store.cohort.test
    key = json.dumps([STUDENTS, store.cohort.biased.fingerprint(), test.fingerprint(), repr(store.training)])
    digest = hashlib.sha256(key.encode()).hexdigest()[:24]
    path = store.settings.cache / "selection" / f"{spec.task}-{spec.kind}-{digest}.parquet"
    if not path.exists():
        columns: Record = {
            "label": test.frame["label"].to_numpy(),
            "carries": test.frame[spec.kind].to_numpy().astype(int),
        }
        problem = store.problem(audited=False)
        for name in STUDENTS:
            network = store.biased() if name == "erm" else RECIPES[name](problem).model
            logits = predict_logits(network, test).double().numpy()
            columns[name] = logits[:, 1] - logits[:, 0]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_frame(path, pd.DataFrame(columns))
    return read_frame(path)


def summarize(finished: list[Case]) -> Record:
    """Means over the settings by how many samples go against the correlation, and which bars are met."""
    names = [
        "regret_worst_group", "regret_worst_group_rival", "regret_robust", "regret_robust_rival", "coverage",
        "decided", "wrong",
    ]  # fmt: skip
    rows = []
    for n in CONFLICTING:
        members = [case for case in finished if case["conflicting"] == n]
        if members:
            means = {name: float(np.mean([case[name] for case in members])) for name in names}
            rows.append({"conflicting": n, "settings": len(members), **means})
    met = {}
    for row in rows:
        number = row["conflicting"]
        met[f"regret, {number}"] = row["regret_worst_group"] < row["regret_worst_group_rival"]
        met[f"coverage, {number}"] = COVERAGE[0] <= row["coverage"] <= COVERAGE[1]
    return {"by_conflicting": rows, "bars": {"coverage": list(COVERAGE)}, "met": met}


SUITE = Suite(
    name="selection",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=(
        "task",
        "kind",
        "conflicting",
        "regret_worst_group",
        "regret_worst_group_rival",
        "regret_robust",
        "regret_robust_rival",
        "coverage",
        "decided",
        "wrong",
    ),
)
