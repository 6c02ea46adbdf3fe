"""SpurBreast (Won et al. 2025): near-perfect in validation, near chance in test, for want of a tumour.

In training and validation a feature of the scan goes with the label, in test it does not. Which of over a
hundred metadata columns is it, how far does the accuracy fall, does the network's uncertainty tell, is it
easier to attack, and what does an audit of the network say?
"""

from __future__ import annotations

import numpy as np
import torch

from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.papers.protocol import Protocol
from shortcutscope.benchmarks.papers.spurbreast.claims import claims
from shortcutscope.benchmarks.papers.spurbreast.data import PATIENTS, Cohort, available, check, has_patients
from shortcutscope.benchmarks.papers.spurbreast.figure import draw
from shortcutscope.benchmarks.papers.spurbreast.measures import (
    N_ATTACKED,
    attack,
    judge,
    screen,
    uncertainty,
    verdict,
)
from shortcutscope.benchmarks.papers.spurbreast.networks import FULL, THIN, NetworkStore, store_of
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.types import Record

#: Networks of an ensemble.
MEMBERS = 3
#: Beside full correlation, in the long version on phantoms.
WEAKER = (0.75, 0.9, 0.95)
SPLITS = ("train", "val", "test")


def cases(settings: Settings) -> list[Case]:
    """Screen, networks and audits of both features and without one; three seeds, quick one, full five."""
    features = available(settings.data)
    n_seeds = 1 if settings.quick else 5 if settings.full else 3
    seeds = range(settings.seed, settings.seed + n_seeds)
    cohorts: list[Case] = [
        {"feature": feature, "correlation": 0.5 if feature == "none" else 1.0, "seed": seed}
        for seed in seeds
        for feature in features
    ]
    networks = [cohort | {"architecture": name, "full": False} for cohort in cohorts for name in THIN]
    if settings.full:
        networks += [cohort | {"architecture": name, "full": True} for cohort in cohorts for name in FULL]
        networks += [] if settings.data else _weaker(seeds)
    result = [{"part": "network", **network} for network in networks]
    if has_patients(settings.data):
        screenable = [cohort for cohort in cohorts if _has_column(cohort, settings)]
        screens = [
            {"part": "metadata", **cohort, "architecture": None, "full": False} for cohort in screenable
        ]
        # Last: they need a network that another process may be at.
        audits = [{"part": "audit", **network} for network in networks if _has_column(network, settings)]
        result = [*screens, *result, *audits]
    return result


def _weaker(seeds: range) -> list[Case]:
    return [
        {"feature": name, "correlation": share, "seed": seed, "architecture": architecture, "full": False}
        for seed in seeds
        for name in ("field_strength", "orientation")
        for share in WEAKER
        for architecture in THIN
    ]


def _has_column(cohort: Case, settings: Settings) -> bool:
    """The orientation of the published images is nowhere written down."""
    return settings.data is None or cohort["feature"] != "orientation"


def run_case(case: Case, settings: Settings) -> Case:
    """Screen the metadata of a cohort, train and judge its networks, or audit one."""
    cohort = Cohort.of(case)
    if case["part"] == "metadata":
        return screen(cohort, cohort.table(settings).where(split="train"), quick=settings.quick)
    store = store_of(case, settings)
    if case["part"] == "audit":
        return verdict(store)
    return _network(store, 1 if case["full"] and settings.data is None else MEMBERS)


def _network(store: NetworkStore, n_members: int) -> Case:
    cohort = store.cohort
    tables = {name: store.split(name) for name in SPLITS}
    members = [store.member(number) for number in range(n_members)]
    result = judge(members[0], cohort, tables)
    for split in ("val", "test"):
        table = tables[split]
        logits = torch.stack([predict_logits(member, table) for member in members])
        sure = uncertainty(torch.softmax(logits.double(), 2).numpy(), table.frame["label"].to_numpy(np.int64))
        n = N_ATTACKED // 2 if store.settings.quick else N_ATTACKED
        attacked = attack(members[0], table, cohort.seed, n)
        result |= {f"{split}_{name}": value for name, value in {**sure, **attacked}.items()}
    return result


def summarize(finished: list[Case]) -> Record:
    """Mean and 95 % interval over seeds of every number, by part, feature, correlation and architecture."""
    keys = ("part", "feature", "correlation", "architecture", "full")
    rows = []
    for setting in dict.fromkeys(tuple(case[key] for key in keys) for case in finished):
        members = [case for case in finished if tuple(case[key] for key in keys) == setting]
        names = [
            name
            for name, value in members[0].items()
            if name not in (*keys, "seed", "seconds", "error") and isinstance(value, int | float | None)
        ]
        row = {**dict(zip(keys, setting, strict=True)), "cases": len(members)}
        rows.append(row | {name: mean_with_interval([case.get(name) for case in members]) for name in names})
    return {"means": rows}


PROTOCOL = Protocol(
    suite=Suite(
        name="spurbreast",
        cases=cases,
        run_case=run_case,
        summarize=summarize,
        columns=(
            "part",
            "feature",
            "correlation",
            "architecture",
            "seed",
            "rank",
            "val_accuracy",
            "test_accuracy",
            "verdict",
        ),
        command="reproduce",
        draw=draw,
    ),
    paper=(
        "Won, De Neve, Vankerschaver, Ozbulak 2025. SpurBreast: A curated dataset for investigating spurious "
        "correlations in real-world breast MRI classification. MICCAI, LNCS 15975:555-564"
    ),
    data=(
        "Without data: phantom slices of breast MRI with over 100 metadata columns. --data: the folder of "
        f"SpurBreast with field_strength/, vertical_flip/ and baseline_high/; with {PATIENTS} (patient_id, "
        "field_strength in tesla, whatever else is known) the metadata are screened and the networks audited."
    ),
    claims=claims,
    check=check,
)
