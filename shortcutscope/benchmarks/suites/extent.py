"""Is a planted shortcut's extent recognised, from its true carriers and from ten marked samples?

Every kind of the catalogue is planted in 95 % of one class and 5 % of the other, a thin network is
trained on it, and held-out samples are audited: half of
either class carriers where the carriers are known; 90 % and 10 % of them where ten carriers were marked,
in the class in which they are rare. A concept that is not in the image must stay undetermined.
Beside it: how well a concept activation vector fitted on the *biased training samples* tells carriers
among the held-out ones, for the naive vector and for those that take the label into account.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shortcutscope.benchmarks.models import Case as Trained
from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable
from shortcutscope.facade import Audit, audit
from shortcutscope.options import Running, Statistics
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import plant
from shortcutscope.probes.cav import CAV, Balance, logistic_cav, pattern_cav, ridge_cav
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import ProbeSettings, availability, make_folds
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan
from shortcutscope.stats.metrics import auroc
from shortcutscope.types import Record

#: Kinds that nobody could mistake: a wrong verdict on one of them is a defect.
UNMISTAKABLE = ("noise", "tag")
#: Concept activation vectors by name: how they are fitted, and how they are balanced against the label.
CAVS: dict[str, tuple[Callable[..., CAV], Balance]] = {
    "cav_naive_pattern": (pattern_cav, None),
    "cav_class_pattern": (pattern_cav, "class"),
    "cav_group_ridge": (ridge_cav, "group"),
    "cav_group_logistic": (logistic_cav, "group"),
}
QUICK_KINDS = ("tag", "ruler", "noise", "brightness", "large_patch")


def cases(settings: Settings) -> list[Case]:
    """All kinds x two tasks x two seeds (borderline ones: one), from the truth and once from marks; nulls."""
    kinds = QUICK_KINDS if settings.quick else tuple(CATALOGUE)
    names = tasks(settings)[1:] if settings.quick else tasks(settings)
    result: list[Case] = []
    for task in names:
        for kind in kinds:
            group = CATALOGUE[kind].extent
            decided = group != "borderline"
            for seed in range(settings.seed, settings.seed + (1 if settings.quick or not decided else 2)):
                case = {"task": task, "kind": kind, "group": group, "seed": seed}
                result.append({**case, "source": "truth"})
                if decided and seed == settings.seed:
                    result.append({**case, "source": "marks"})
        nulls = ("random half", "random tenth")
        result += [
            {"task": task, "kind": k, "group": "null", "seed": settings.seed, "source": "truth"}
            for k in nulls
        ]
    return result


def run_case(case: Case, settings: Settings) -> Case:
    """Audit one planted model, and say what the verdict on the extent is."""
    artifact = case["kind"] if case["group"] != "null" else "tag"
    study = make_case(Recipe(case["task"], (artifact,), case["seed"]), settings)
    carriers = {0: 0.1, 1: 0.9} if case["source"] == "marks" else {0: 0.5, 1: 0.5}
    held_out = plant(study.held_out, CATALOGUE[artifact], prevalence=carriers, seed=case["seed"] + 1000)
    if case["group"] == "null":
        generator = np.random.default_rng([case["seed"], 5])
        share = 0.5 if case["kind"] == "random half" else 0.1
        held_out = held_out.with_columns(
            **{case["kind"]: (generator.random(len(held_out)) < share).astype(int)}
        )
    with tempfile.TemporaryDirectory() as folder:
        result = _audit(case, study, held_out, Path(folder))
        finding = result.findings[0]
        best = result.profile.sort_values("auroc").iloc[-1]
    layers = [v["verdict"] for v in _layer_verdicts(result, finding.name)]
    return {
        "statistic": finding.extent_statistic,
        "interval": finding.extent_interval,
        "verdict": finding.extent,
        "reason": finding.extent_reason,
        "participation": finding.evidence["participation"],
        "layer_verdicts": layers,
        "called": finding.verdict,
        "availability": float(best["auroc"]),
        "use": finding.used.get("effect"),
        "robust_auroc": finding.effect.get("robust_auroc", {}).get("value"),
        **(
            _held_out_cavs(study, held_out, artifact)
            if case["source"] == "truth" and case["group"] != "null"
            else {}
        ),
    }


def _audit(case: Case, study: Trained, held_out: ImageTable, folder: Path) -> Audit:
    concept: str | Concept = case["kind"]
    run = folder / "run"
    if case["source"] == "marks":
        new_scan = scan(
            study.model,
            held_out,
            folder / "scan",
            scanning=Scanning(relevance=False),
            running=Running(progress=False),
        )
        frame = held_out.frame
        rare = frame["sample_id"].to_numpy()[((frame[case["kind"]] == 1) & (frame["label"] == 0)).to_numpy()]
        marked = np.random.default_rng([case["seed"], 7]).permutation(rare)[:10]
        concept = Concept.from_marks(new_scan, list(marked), name=case["kind"], seed=case["seed"])
    return audit(
        study.model,
        held_out,
        run,
        concepts=[concept],
        train=study.train,
        running=Running(progress=False),
        statistics=Statistics(seed=case["seed"]),
    )


def _layer_verdicts(result: Audit, name: str) -> list[Record]:
    rows = result.profile[result.profile["concept"] == name]
    return [{"layer": r.layer, "verdict": r.extent} for r in rows.itertuples()]


def _held_out_cavs(study: Trained, held_out: ImageTable, column: str) -> dict[str, float]:
    """Held-out AUROC of CAVs fitted on biased training samples, at the layer that knows most there."""
    with tempfile.TemporaryDirectory() as folder:
        plain: Record = {"scanning": Scanning(relevance=False), "running": Running(progress=False)}
        fit = scan(study.model, study.train.take(np.arange(800)), Path(folder) / "fit", **plain)
        test = scan(study.model, held_out, Path(folder) / "test", **plain)
        concept, labels = fit.samples[column].to_numpy(float), fit.samples["label"].to_numpy()
        groups = fit.samples["group"].to_numpy()
        folds = make_folds(labels, groups, concept)
        by_layer = {
            layer.name: availability(
                fit.features(layer.name),
                concept[:, None],
                labels,
                groups,
                folds,
                settings=ProbeSettings(n_permutations=0, n_bootstrap=0),
            )
            .table["auroc"]
            .iloc[0]
            for layer in fit.layers
        }
        best = max(by_layer, key=lambda name: by_layer[name])
        truth = test.samples[column].to_numpy(float)
        return {
            name: float(
                auroc(truth, fit_cav(fit.features(best), concept, labels, balance).score(test.features(best)))
            )
            for name, (fit_cav, balance) in CAVS.items()
        }


def summarize(finished: list[Case]) -> Record:
    """Shares decided right, undetermined and wrong, by group and source; availability of the CAVs."""
    summary: Record = {}
    for source in ("truth", "marks"):
        decided = [c for c in finished if c["source"] == source and c["group"] in ("localized", "diffuse")]
        open_ended = [c for c in finished if c["source"] == source and c["group"] in ("borderline", "null")]
        if decided:
            summary[source] = {
                "models": len(decided),
                "right": _share(c["verdict"] == c["group"] for c in decided),
                "undetermined": _share(c["verdict"] == "undetermined" for c in decided),
                "wrong": _share(c["verdict"] not in (c["group"], "undetermined") for c in decided),
                "wrong_unmistakable": sum(
                    c["verdict"] not in (c["group"], "undetermined")
                    for c in decided
                    if c["kind"] in UNMISTAKABLE
                ),
            }
        if open_ended:
            summary.setdefault(source, {}).update(
                borderline_and_null=len(open_ended),
                borderline_and_null_undetermined=_share(c["verdict"] == "undetermined" for c in open_ended),
            )
    members = [c for c in finished if "cav_class_pattern" in c and c["group"] in ("localized", "diffuse")]
    kinds = sorted({c["kind"] for c in members})
    if kinds:
        summary["availability"] = {
            name: _share(np.mean([c[name] for c in members if c["kind"] == kind]) >= 0.95 for kind in kinds)
            for name in CAVS
        }
    called = [c for c in finished if c["source"] == "truth" and c["group"] != "null"]
    summary["called_shortcut"] = _share(c["called"] == "shortcut" for c in called)
    return summary


def _share(values: Any) -> float | None:
    flags = [bool(v) for v in values]
    return sum(flags) / len(flags) if flags else None


SUITE = Suite(
    name="extent",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("task", "kind", "group", "seed", "source", "statistic", "verdict", "called"),
)
